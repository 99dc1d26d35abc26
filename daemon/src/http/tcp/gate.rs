//! Which names a request may call this daemon by, and which web pages may speak to it. Pure: judged before who asks and
//! what for, since a page that was lured here by a name of its own carries the right credential as well as the wrong one.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::config::{Authority, Host, Origin};

/// The names and origins that are let in.
#[derive(Clone, Debug)]
pub struct Gate {
    port: u16,
    hosts: Vec<Authority>,
    origins: Vec<Origin>,
}

/// Why a request is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// No `Host`, or more than one.
    HostCount,
    /// `Host` is not on the list.
    Host,
    /// More than one `Origin`.
    OriginCount,
    /// `Origin` is not on the list.
    Origin,
}

impl Gate {
    /// The gate of a listener: its own address and the names of this host, and what the configuration adds.
    #[must_use]
    pub fn new(listen: SocketAddr, hosts: &[Authority], origins: &[Origin]) -> Self {
        let own = [
            Host::Name("localhost".to_owned()),
            Host::Address(listen.ip().to_canonical()),
            Host::Address(Ipv4Addr::LOCALHOST.into()),
            Host::Address(Ipv6Addr::LOCALHOST.into()),
        ];
        let own = own.into_iter().map(|host| Authority { host, port: None });
        Self { port: listen.port(), hosts: own.chain(hosts.iter().cloned()).collect(), origins: origins.to_vec() }
    }

    /// Whether a request with these headers is let in. `target` is the authority of a request whose target is a whole
    /// URL.
    ///
    /// # Errors
    /// Why not.
    pub fn judge<'a>(
        &self,
        target: Option<&str>,
        hosts: impl IntoIterator<Item = &'a [u8]>,
        origins: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<(), Refused> {
        let mut hosts = hosts.into_iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else { return Err(Refused::HostCount) };
        let called = std::str::from_utf8(host).ok().and_then(Authority::parse).filter(|called| self.knows(called));
        let called = called.ok_or(Refused::Host)?;
        if target.is_some_and(|target| Authority::parse(target).as_ref() != Some(&called)) {
            return Err(Refused::Host);
        }
        let mut origins = origins.into_iter();
        let Some(first) = origins.next() else { return Ok(()) };
        if origins.next().is_some() {
            return Err(Refused::OriginCount);
        }
        let page = std::str::from_utf8(first).ok().and_then(Origin::parse).ok_or(Refused::Origin)?;
        let same = page.authority.host == called.host && page.authority.port == called.origin_port(page.secure);
        if same || self.origins.contains(&page) { Ok(()) } else { Err(Refused::Origin) }
    }

    /// A name without a port stands for itself and for the listener's port; one with a port for that alone.
    fn knows(&self, called: &Authority) -> bool {
        self.hosts.iter().any(|known| {
            let any = known.port.is_none() && called.port.is_none_or(|port| port == self.port);
            known.host == called.host && (any || known.port == called.port)
        })
    }
}

#[cfg(test)]
mod tests;
