//! Sizes for people.

/// The size with at most three digits and a unit of 1024: `512`, `1.5K`, `64M`. Rounded up, so that nothing full
/// looks empty.
#[must_use]
pub fn human(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["K", "M", "G", "T", "P", "E"];
    if bytes < 1024 {
        return bytes.to_string();
    }
    // Tenths of the unit, so that whole numbers suffice.
    let mut tenths = u128::from(bytes) * 10;
    let mut unit = "";
    for name in UNITS {
        if tenths < 10_240 {
            break;
        }
        tenths = tenths.div_ceil(1024);
        unit = name;
    }
    if tenths < 100 {
        format!("{}.{}{unit}", tenths / 10, tenths % 10)
    } else {
        format!("{}{unit}", tenths.div_ceil(10))
    }
}

#[cfg(test)]
mod tests {
    use super::human;

    #[test]
    fn small_sizes_are_exact() {
        assert_eq!([human(0), human(1023)], ["0", "1023"]);
    }

    #[test]
    fn larger_ones_carry_a_unit() {
        assert_eq!([human(1024), human(1536), human(64 << 20), human(10 << 30)], ["1.0K", "1.5K", "64M", "10G"]);
    }

    #[test]
    fn sizes_are_rounded_up() {
        assert_eq!([human(1025), human((64 << 20) + 1)], ["1.1K", "65M"]);
    }

    #[test]
    fn the_largest_size_has_a_unit() {
        assert_eq!(human(u64::MAX), "16E");
    }
}
