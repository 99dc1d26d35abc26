//! Keys whose value is one of a few words.

use toml::de::DeValue;

use super::value::Value;

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident, $expected:literal: $($(#[$word_doc:meta])* $variant:ident = $word:literal,)+;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$word_doc])* $variant,)+
        }

        impl $name {
            /// The word in the file.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl Value for $name {
            const EXPECTED: &'static str = $expected;

            fn read(value: &DeValue<'_>) -> Option<Self> {
                match value.as_str()? {
                    $($word => Some(Self::$variant),)+
                    _ => None,
                }
            }

            fn show(&self) -> String {
                format!("{:?}", self.as_str())
            }
        }
    )+};
}

words! {
    /// The least important kind of log line that is written.
    LogLevel, "\"error\", \"warn\", \"info\", \"debug\" or \"trace\"":
        /// What failed and needs somebody.
        Error = "error",
        /// What may need somebody.
        Warn = "warn",
        /// What the daemon does.
        Info = "info",
        /// How it does it.
        Debug = "debug",
        /// Every step.
        Trace = "trace",
    ;
    /// How a log line looks.
    LogFormat, "\"auto\", \"text\" or \"json\"":
        /// Text on a terminal, without times under systemd's journal, which adds its own.
        Auto = "auto",
        /// Text.
        Text = "text",
        /// One JSON object per line.
        Json = "json",
    ;
    /// How a provider of models is spoken to.
    ProviderKind, "\"openai\" or \"anthropic\"":
        /// The chat completions API that OpenAI and many others serve.
        OpenAi = "openai",
        /// The messages API of Anthropic.
        Anthropic = "anthropic",
    ;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read_back_and_named_in_what_is_expected() {
        for level in [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace] {
            assert_eq!(LogLevel::read(&DeValue::String(level.as_str().into())), Some(level));
            assert!(LogLevel::EXPECTED.contains(&level.show()));
        }
        for bad in ["", "INFO", "info ", "verbose"] {
            assert_eq!(LogLevel::read(&DeValue::String(bad.into())), None, "{bad}");
        }
    }
}
