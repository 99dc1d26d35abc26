//! Kinds of values: how each is written in the file, and how it is shown again.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use jiff::fmt::friendly::{Designator, SpanPrinter};
use jiff::{Span, SpanRelativeTo};
use toml::de::{DeInteger, DeValue};

use super::sections::Tls;

/// A kind of value that a key can have.
pub(super) trait Value: Sized {
    /// What is allowed, as the end of "expected …".
    const EXPECTED: &'static str;

    /// The value, or `None` when it is of another kind or form.
    fn read(value: &DeValue<'_>) -> Option<Self>;

    /// As a person would write it in the file.
    fn show(&self) -> String;
}

impl Value for String {
    const EXPECTED: &'static str = "a text between quotes, not empty, without control characters";

    fn read(value: &DeValue<'_>) -> Option<Self> {
        let text = value.as_str()?;
        (!text.trim().is_empty() && !text.contains(char::is_control)).then(|| text.to_owned())
    }

    fn show(&self) -> String {
        format!("{self:?}")
    }
}

impl Value for Vec<String> {
    const EXPECTED: &'static str = "a list of texts such as [\"a\", \"b\"]";

    fn read(value: &DeValue<'_>) -> Option<Self> {
        value.as_array()?.iter().map(|entry| String::read(entry.get_ref())).collect()
    }

    fn show(&self) -> String {
        format!("{self:?}")
    }
}

impl Value for PathBuf {
    const EXPECTED: &'static str = "an absolute path between quotes";

    fn read(value: &DeValue<'_>) -> Option<Self> {
        let path = Self::from(String::read(value)?);
        path.is_absolute().then_some(path)
    }

    fn show(&self) -> String {
        self.display().to_string()
    }
}

impl Value for Duration {
    const EXPECTED: &'static str = "a duration such as \"200ms\", \"5s\", \"10m\" or \"30d\"";

    fn read(value: &DeValue<'_>) -> Option<Self> {
        let span: Span = value.as_str()?.parse().ok()?;
        let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
        Self::try_from(duration).ok()
    }

    fn show(&self) -> String {
        const DAY: u64 = 86_400;
        if self.subsec_nanos() == 0 && self.as_secs() > DAY && self.as_secs().is_multiple_of(DAY) {
            return format!("{}d", self.as_secs() / DAY);
        }
        SpanPrinter::new().designator(Designator::Compact).unsigned_duration_to_string(self)
    }
}

impl Value for ByteSize {
    const EXPECTED: &'static str = "a size such as \"256 MiB\", or a number of bytes";

    fn read(value: &DeValue<'_>) -> Option<Self> {
        match value {
            DeValue::Integer(integer) => unsigned(integer).map(Self::b),
            DeValue::String(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    fn show(&self) -> String {
        const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        let bytes = self.as_u64();
        let unit = UNITS.iter().find(|(_, size)| bytes >= *size && bytes.is_multiple_of(*size));
        unit.map_or_else(|| format!("{bytes} B"), |(name, size)| format!("{} {name}", bytes / size))
    }
}

macro_rules! whole_numbers {
    ($($type:ty),+) => {$(
        impl Value for $type {
            const EXPECTED: &'static str = "a whole number";

            fn read(value: &DeValue<'_>) -> Option<Self> {
                unsigned(value.as_integer()?)?.try_into().ok()
            }

            fn show(&self) -> String {
                self.to_string()
            }
        }
    )+};
}

whole_numbers!(u32, usize);

impl Value for f64 {
    const EXPECTED: &'static str = "a number such as 0.5 or 2";

    fn read(value: &DeValue<'_>) -> Option<Self> {
        match value {
            DeValue::Integer(integer) => u32::try_from(unsigned(integer)?).ok().map(Self::from),
            DeValue::Float(float) => float.as_str().parse().ok().filter(|number: &Self| number.is_finite()),
            _ => None,
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for SocketAddr {
    const EXPECTED: &'static str = "an address with port such as \"127.0.0.1:7171\"";

    fn read(value: &DeValue<'_>) -> Option<Self> {
        value.as_str()?.parse().ok()
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl Value for Tls {
    const EXPECTED: &'static str = "{ certificate = \"<absolute path>\", key = \"<absolute path>\" }";

    fn read(value: &DeValue<'_>) -> Option<Self> {
        let table = value.as_table().filter(|table| table.len() == 2)?;
        let path = |name: &str| PathBuf::read(table.get(name)?.get_ref());
        Some(Self { certificate: path("certificate")?, key: path("key")? })
    }

    fn show(&self) -> String {
        format!("{{ certificate = {:?}, key = {:?} }}", self.certificate, self.key)
    }
}

impl<T: Value> Value for Option<T> {
    const EXPECTED: &'static str = T::EXPECTED;

    fn read(value: &DeValue<'_>) -> Option<Self> {
        T::read(value).map(Some)
    }

    fn show(&self) -> String {
        self.as_ref().map_or_else(String::new, T::show)
    }
}

/// uids from `first` to `last`, both included; written `[first, last]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UidRange {
    /// The lowest.
    pub first: u32,
    /// The highest.
    pub last: u32,
}

impl UidRange {
    /// How many there are; 0 when the ends are the wrong way round.
    #[must_use]
    pub fn count(self) -> u32 {
        self.last.checked_sub(self.first).map_or(0, |distance| distance.saturating_add(1))
    }
}

impl Value for UidRange {
    const EXPECTED: &'static str = "the first and the last uid such as [20000, 59999]";

    fn read(value: &DeValue<'_>) -> Option<Self> {
        let ends: Vec<u32> = value.as_array()?.iter().map(|end| u32::read(end.get_ref())).collect::<Option<_>>()?;
        <[u32; 2]>::try_from(ends).ok().map(|[first, last]| Self { first, last })
    }

    fn show(&self) -> String {
        format!("[{}, {}]", self.first, self.last)
    }
}

fn unsigned(integer: &DeInteger<'_>) -> Option<u64> {
    u64::from_str_radix(integer.as_str().trim_start_matches('+'), integer.radix()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: Value>(text: &str) -> Option<T> {
        T::read(DeValue::parse(text).unwrap().get_ref())
    }

    #[test]
    fn durations_are_written_with_units() {
        for (text, millis) in [
            ("200ms", 200),
            ("5s", 5_000),
            ("10m", 600_000),
            ("1h30m", 5_400_000),
            ("1h 30m", 5_400_000),
            ("30d", 2_592_000_000),
            ("0s", 0),
        ] {
            assert_eq!(read::<Duration>(&format!("{text:?}")), Some(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["\"5\"", "5", "\"\"", "\"-5s\"", "\"5 s ago\"", "\"1 month\"", "\"five\"", "5.0", "[5]"] {
            assert_eq!(read::<Duration>(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_duration_is_shown_as_it_is_written() {
        for text in ["1ms", "5s", "10m", "1h", "24h", "30d", "3650d"] {
            assert_eq!(read::<Duration>(&format!("{text:?}")).unwrap().show(), text);
        }
    }

    #[test]
    fn sizes_are_text_with_unit_or_bytes() {
        for (text, bytes) in [("\"256 MiB\"", 256 << 20), ("\"1GiB\"", 1 << 30), ("4096", 4096), ("\"1kB\"", 1000)] {
            assert_eq!(read::<ByteSize>(text), Some(ByteSize::b(bytes)), "{text}");
        }
        for bad in ["-1", "1.5", "\"\"", "\"many\"", "\"5 apples\"", "\"-1 MiB\"", "true"] {
            assert_eq!(read::<ByteSize>(bad), None, "{bad}");
        }
    }

    #[test]
    fn numbers_are_whole_and_not_negative() {
        assert_eq!(read::<u32>("4294967295"), Some(u32::MAX));
        assert_eq!(read::<u32>("0x10"), Some(16));
        assert_eq!(read::<u32>("1_000"), Some(1_000));
        for bad in ["4294967296", "-1", "1.0", "\"1\"", "99999999999999999999999"] {
            assert_eq!(read::<u32>(bad), None, "{bad}");
        }
        assert_eq!(read::<f64>("0.5"), Some(0.5));
        assert_eq!(read::<f64>("2"), Some(2.0));
        for bad in ["nan", "inf", "\"2\"", "-1"] {
            assert_eq!(read::<f64>(bad), None, "{bad}");
        }
    }

    #[test]
    fn texts_and_paths_are_plain() {
        assert_eq!(read::<String>("\"agentbot\"").as_deref(), Some("agentbot"));
        for bad in ["\"\"", "\" \"", "\"a\\nb\"", "\"a\\u0000b\"", "1"] {
            assert_eq!(read::<String>(bad), None, "{bad}");
        }
        assert_eq!(read::<PathBuf>("\"/run/x.sock\""), Some(PathBuf::from("/run/x.sock")));
        for bad in ["\"run/x.sock\"", "\"\"", "\"/a\\u0000\"", "7"] {
            assert_eq!(read::<PathBuf>(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_range_has_two_ends() {
        assert_eq!(read::<UidRange>("[1, 2]"), Some(UidRange { first: 1, last: 2 }));
        for bad in ["[1]", "[1, 2, 3]", "[]", "\"1-2\"", "[-1, 2]", "[\"1\", \"2\"]"] {
            assert_eq!(read::<UidRange>(bad), None, "{bad}");
        }
        assert_eq!(UidRange { first: 20_000, last: 59_999 }.count(), 40_000);
        assert_eq!(UidRange { first: 2, last: 1 }.count(), 0);
    }
}
