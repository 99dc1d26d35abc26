//! The file as text: there or not, of a sane size, UTF-8.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use super::mistake::Mistakes;

/// Where the configuration is when nobody says otherwise.
pub const DEFAULT_PATH: &str = "/etc/agentbot/agentbot.toml";

/// The largest file that is read. The largest sensible one has a few KiB.
const MAX: u64 = 1 << 20;

/// The file's text, or `None` when there is no such file.
pub(super) fn read(path: &Path) -> Result<Option<String>, Mistakes> {
    let wrong = |problem: String| Err(Mistakes::of_file(path, problem));
    // Asked before opening: opening a pipe would wait for whoever writes to it.
    match path.metadata() {
        Ok(metadata) if metadata.is_file() => {}
        Ok(metadata) if metadata.is_dir() => return wrong("is a directory; expected a file".to_owned()),
        Ok(_) => return wrong("is not a regular file".to_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return wrong(format!("cannot be looked at: {error}")),
    }
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(MAX + 1).read_to_end(&mut bytes)) {
        Ok(length) if length as u64 > MAX => return wrong("is larger than 1 MiB; a configuration is not".to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return wrong(format!("cannot be read: {error}")),
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some(text)),
        Err(error) => {
            let good = error.utf8_error().valid_up_to();
            let line = 1 + error.as_bytes()[..good].iter().filter(|byte| **byte == b'\n').count();
            wrong(format!("is not UTF-8 text (line {line})"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_its_largest_size() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agentbot.toml");
        assert_eq!(read(&path), Ok(None));
        let most = usize::try_from(MAX).unwrap();
        std::fs::write(&path, "#".repeat(most)).unwrap();
        assert_eq!(read(&path).unwrap().unwrap().len(), most);
        std::fs::write(&path, "#".repeat(most + 1)).unwrap();
        assert!(read(&path).unwrap_err().to_string().ends_with("is larger than 1 MiB; a configuration is not"));
    }

    #[test]
    fn what_is_no_text_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        assert!(read(directory.path()).unwrap_err().to_string().contains("is a directory"));
        assert!(read(Path::new("/dev/null")).unwrap_err().to_string().contains("is not a regular file"));
        let path = directory.path().join("latin1.toml");
        std::fs::write(&path, b"# fine\n# Gr\xfc\xdfe\n").unwrap();
        assert!(read(&path).unwrap_err().to_string().ends_with("is not UTF-8 text (line 2)"));
        assert!(read(&path.join("inside")).unwrap_err().to_string().contains("cannot be looked at"));
    }
}
