//! What the kernel tells in `/proc` and the cgroup file systems, read as pure text.

pub mod cgroup;
pub mod mountinfo;
pub mod process;
pub mod status;

/// Undoes the octal escapes (`\040` for a blank) of `/proc/<pid>/mountinfo`.
fn unescape(field: &str) -> String {
    let bytes = field.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let octal = match bytes.get(at..at + 4) {
            Some([b'\\', digits @ ..]) => std::str::from_utf8(digits).ok().and_then(|d| u8::from_str_radix(d, 8).ok()),
            _ => None,
        };
        match octal {
            Some(byte) => {
                out.push(byte);
                at += 4;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::{cgroup::Limits, mountinfo, status, unescape};
    use proptest::prelude::*;

    #[test]
    fn octal_escapes_become_their_characters() {
        assert_eq!(unescape(r"/a\040b\134c\011d"), "/a b\\c\td");
    }

    #[test]
    fn a_broken_escape_stays_as_it_is() {
        assert_eq!(unescape(r"/a\04"), r"/a\04");
        assert_eq!(unescape(r"/a\999"), r"/a\999");
    }

    proptest! {
        #[test]
        fn no_text_of_a_kernel_to_come_panics(text in "[ -~\\n\\t\\\\é:,/0-9]{0,200}") {
            let _ = (unescape(&text), mountinfo::parse(&text), status::Status::parse(&text));
            let _ = (status::parse_id_map(&text), Limits::read(|_| Some(text.clone())));
        }
    }
}
