//! Host names and origins: each is read into the one way of writing it that counts, or not at all.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use toml::de::DeValue;

use super::value::Value;

/// A name or an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A name, in lower case and without a final dot.
    Name(String),
    /// An address.
    Address(IpAddr),
}

/// A host with its port, where one was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// The host.
    pub host: Host,
    /// The port.
    pub port: Option<u16>,
}

/// A web page's origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Whether it is `https`.
    pub secure: bool,
    /// Where it was had from; the port is left out where it is the scheme's own.
    pub authority: Authority,
}

impl Authority {
    /// Reads `host` or `host:port`; `None` for anything else, a user or a final dot included.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (inside, after) = rest.split_once(']')?;
                let address: Ipv6Addr = inside.parse().ok()?;
                let port = if after.is_empty() { None } else { Some(after.strip_prefix(':')?) };
                (Host::Address(address.into()), port)
            }
            None => {
                let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
                (name(host)?, port)
            }
        };
        let plain = |port: &str| !port.starts_with('0') && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = match port {
            None => None,
            Some(digits) => Some(digits.parse().ok().filter(|_| plain(digits))?),
        };
        Some(Self { host, port })
    }

    /// Its port in an origin of this scheme: not where it is the scheme's own.
    #[must_use]
    pub fn origin_port(&self, secure: bool) -> Option<u16> {
        self.port.filter(|port| *port != if secure { 443 } else { 80 })
    }
}

/// A name of labels, or an IPv4 address in its usual form; what is neither in full is nothing.
fn name(text: &str) -> Option<Host> {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    if text.len() > 253 || !text.split('.').all(is_label) {
        return None;
    }
    Some(
        text.parse::<Ipv4Addr>()
            .map_or_else(|_| Host::Name(text.to_ascii_lowercase()), |address| Host::Address(address.into())),
    )
}

impl Origin {
    /// Reads an origin as browsers write it: scheme, host and port, nothing else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let mut authority = Authority::parse(rest)?;
        authority.port = authority.origin_port(secure);
        Some(Self { secure, authority })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => address.fmt(f),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.host.fmt(f)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.secure { "https" } else { "http" }, self.authority)
    }
}

macro_rules! lists {
    ($($type:ty: $expected:literal,)+) => {$(
        impl Value for Vec<$type> {
            const EXPECTED: &'static str = $expected;

            fn read(value: &DeValue<'_>) -> Option<Self> {
                value.as_array()?.iter().map(|entry| <$type>::parse(entry.get_ref().as_str()?)).collect()
            }

            fn show(&self) -> String {
                format!("{:?}", self.iter().map(ToString::to_string).collect::<Vec<_>>())
            }
        }
    )+};
}

lists! {
    Authority: "a list of host names, with or without a port, such as [\"agents.example.org\"]",
    Origin: "a list of origins such as [\"https://app.example.org\"]; there is no wildcard",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_shown_in_the_one_way_that_counts() {
        for (text, shown) in [
            ("Agents.Example.org:8443", "agents.example.org:8443"),
            ("[0:0::1]", "[::1]"),
            ("10.0.0.1:80", "10.0.0.1:80"),
        ] {
            assert_eq!(Authority::parse(text).unwrap().to_string(), shown);
        }
        for (text, shown) in [
            ("HTTPS://App.example.org:443", "https://app.example.org"),
            ("http://localhost:80", "http://localhost"),
            ("http://localhost:3000", "http://localhost:3000"),
        ] {
            assert_eq!(Origin::parse(text).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn a_list_with_one_bad_entry_is_refused() {
        let hosts = |text: &str| <Vec<Authority>>::read(DeValue::parse(text).unwrap().get_ref());
        let origins = |text: &str| <Vec<Origin>>::read(DeValue::parse(text).unwrap().get_ref());
        assert_eq!(hosts("[\"a.example\", \"b.example:1\"]").unwrap().len(), 2);
        for bad in ["[\"*\"]", "[\"a.example\", \"\"]", "[\"http://a.example\"]", "[\"a.\"]", "\"a\"", "[1]"] {
            assert_eq!(hosts(bad), None, "{bad}");
        }
        assert_eq!(origins("[\"http://a.example:3000\"]").unwrap().len(), 1);
        for bad in ["[\"*\"]", "[\"null\"]", "[\"a.example\"]", "[\"https://a.example/\"]", "[\"file://\"]"] {
            assert_eq!(origins(bad), None, "{bad}");
        }
    }
}
