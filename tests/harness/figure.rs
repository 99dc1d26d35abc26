//! Figures that a story measured.

/// Shows a figure beside the test's name: with `--nocapture`, and when the test fails.
pub fn figure(text: impl AsRef<str>) {
    eprintln!("figure: {}", text.as_ref());
}
