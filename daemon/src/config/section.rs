//! One macro: a section of the file as a struct, its defaults, the range of each key, and its reader.

/// Declares sections. Each line is a key: its documentation with the reason of the default, its type, its default and,
/// where there is one, the range that is allowed.
macro_rules! sections {
    ($(
        $(#[$section_doc:meta])*
        $section:ident {
            $($(#[$doc:meta])* $key:ident: $type:ty = $default:expr $(, in $range:expr)?;)*
        }
    )+) => {$(
        $(#[$section_doc])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $section {
            $($(#[$doc])* pub $key: $type,)*
        }

        impl Default for $section {
            fn default() -> Self {
                Self { $($key: $default,)* }
            }
        }

        impl $section {
            /// The names of its keys.
            pub(super) const KEYS: &'static [&'static str] = &[$(stringify!($key)),*];

            /// Reads it: what the file does not say stays at its default, what is wrong is noted in the reader.
            pub(super) fn read(section: &$crate::config::read::Section<'_>) -> Self {
                let read = Self {
                    $($key: $crate::config::section::sections!(@key section, $key, $default $(, $range)?),)*
                };
                section.finish(Self::KEYS);
                read
            }
        }
    )+};
    (@key $section:ident, $key:ident, $default:expr) => {
        $section.value(stringify!($key), $default)
    };
    (@key $section:ident, $key:ident, $default:expr, $range:expr) => {
        $section.value_in(stringify!($key), $default, &$range)
    };
}

pub(super) use sections;
