//! Secrets that are looked for wherever they must not be.

use std::path::Path;

use super::daemon::Daemon;

/// Characters of a secret that give it away already.
const TELLING: usize = 12;

/// A form of a secret, and its bytes.
type Needle = (String, Vec<u8>);

/// Secrets, and everything that was said or written where somebody may read it.
#[derive(Debug, Default)]
pub struct Canaries {
    secrets: Vec<(String, Vec<Needle>)>,
    seen: Vec<(String, Vec<u8>)>,
}

impl Canaries {
    /// Looks for this secret: as it is, its beginning and its end alone, in hex, in base64, and, where it is hex itself, as
    /// the bytes behind it.
    pub fn secret(&mut self, name: &str, value: &str) {
        let bytes = value.as_bytes();
        let mut forms = vec![
            ("as it is".to_owned(), bytes.to_vec()),
            ("its beginning".to_owned(), bytes[..TELLING].to_vec()),
            ("its end".to_owned(), bytes[bytes.len() - TELLING..].to_vec()),
        ];
        let behind = unhex(value);
        for (what, raw) in [("of the text", Some(bytes.to_vec())), ("of the bytes", behind)] {
            let Some(raw) = raw else { continue };
            if what == "of the bytes" {
                forms.push(("the bytes".to_owned(), raw.clone()));
            } else {
                forms.push(("hex of the text".to_owned(), hex(&raw).into_bytes()));
            }
            // Three ways it may fall into the groups of base64.
            for skip in 0..3 {
                forms.push((format!("base64 {what}, {skip}"), base64(&raw[skip..]).into_bytes()));
            }
        }
        self.secrets.push((name.to_owned(), forms));
    }

    /// Somebody may read this.
    pub fn saw(&mut self, place: impl Into<String>, what: impl Into<Vec<u8>>) {
        self.seen.push((place.into(), what.into()));
    }

    /// Everything below a directory, but files of these names.
    ///
    /// # Panics
    /// When a file cannot be read that is still there.
    pub fn saw_files(&mut self, dir: &Path, but: &[&str]) {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            let kind = entry.file_type().expect("a kind of file");
            if kind.is_dir() {
                self.saw_files(&path, but);
            } else if kind.is_file() && !but.contains(&name.as_str()) {
                self.saw(path.display().to_string(), std::fs::read(&path).unwrap_or_default());
            }
        }
    }

    /// Command line and environment of every process but the daemon and this one, which were given secrets to keep.
    pub fn saw_processes(&mut self, daemon: &Daemon) {
        let own = [Some(std::process::id()), daemon.pid()];
        for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            let files: &[&str] = if own.contains(&Some(pid)) { &["cmdline"] } else { &["cmdline", "environ"] };
            for file in files {
                // Those that have ended meanwhile have nothing to show.
                let shown = std::fs::read(entry.path().join(file)).unwrap_or_default();
                self.saw(format!("/proc/{pid}/{file}"), shown);
            }
        }
    }

    /// Checks that no secret is anywhere, and gives how many places were looked at.
    ///
    /// # Panics
    /// When one is found; the message says which, in what form, where.
    pub fn check(&self) -> usize {
        let mut found = Vec::new();
        for (place, bytes) in &self.seen {
            for (name, forms) in &self.secrets {
                for (form, needle) in forms {
                    if let Some(at) = bytes.windows(needle.len()).position(|window| window == needle) {
                        let around = &bytes[at.saturating_sub(80)..(at + 120).min(bytes.len())];
                        let around = String::from_utf8_lossy(around).into_owned();
                        found.push(format!("{name} ({form}) in {place}: …{around}…"));
                        break;
                    }
                }
            }
        }
        assert!(found.is_empty(), "secrets were found:\n{}", found.join("\n"));
        self.seen.len()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> =
        text.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect::<Option<_>>()?;
    Some(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// The part of the base64 that whatever stands behind it cannot change.
#[must_use]
pub fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |bits: u32| char::from(DIGITS[(bits & 63) as usize]);
    bytes
        .chunks_exact(3)
        .flat_map(|three| {
            let bits = u32::from(three[0]) << 16 | u32::from(three[1]) << 8 | u32::from(three[2]);
            [digit(bits >> 18), digit(bits >> 12), digit(bits >> 6), digit(bits)]
        })
        .collect()
}
