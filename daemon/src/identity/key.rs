//! The daemon's key, and what is derived from it: marks of ownership, nonces, gateway tokens.
//!
//! Nothing derived is stored. Whoever has the key can derive it again; whoever loses the key cannot tell their own
//! containers from anybody's, so a lost key is never replaced in silence.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use agentbot_wire::{Code, InstanceId, SlotId};
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use nix::libc::O_NOFOLLOW;
use sha2::{Digest, Sha256};
use zeroize::Zeroize;

use crate::error::{Error, Result};
use crate::secret::Secret;
use crate::store::file_error;

const KEY_BYTES: usize = 32;
/// Bytes of the random part of a gateway token.
pub const SALT_BYTES: usize = 16;

// Each use of the key has a name of its own, so that no value of one use is a value of another.
const LABEL: &[u8] = b"agentbot label v1";
const NONCE: &[u8] = b"agentbot slot nonce v1";
const TOKEN: &[u8] = b"agentbot gateway token v1";

/// The secret that makes a container ours and a token valid.
#[derive(Debug)]
pub struct DaemonKey(Secret<[u8; KEY_BYTES]>);

impl DaemonKey {
    /// Reads the key file. Where there is none it makes one if `may_create`: with agents in the database it must not,
    /// for nothing of theirs would be recognised again. A file open to others is tightened, with a warning.
    ///
    /// # Errors
    /// It is missing and may not be made, has the wrong size, belongs to somebody else, or the disk refuses.
    pub fn load_or_create(path: &Path, may_create: bool) -> Result<Self> {
        match OpenOptions::new().read(true).custom_flags(O_NOFOLLOW).open(path) {
            Ok(file) => Self::read(path, file),
            Err(error) if error.kind() == io::ErrorKind::NotFound && may_create => Self::create(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(Error::new(Code::Internal, format!("the key file {} is missing", path.display()))
                    .hint("restore the key file from a backup: without it the daemon cannot recognise its own agents"))
            }
            Err(error) => Err(file_error("open the key file", path, error)),
        }
    }

    fn read(path: &Path, file: File) -> Result<Self> {
        let found = file.metadata().map_err(|error| file_error("look at", path, error))?;
        if !found.is_file() {
            return Err(unusable(path, "is not a file"));
        }
        if found.uid() != nix::unistd::geteuid().as_raw() {
            return Err(unusable(path, "belongs to another user"));
        }
        if found.len() != KEY_BYTES as u64 {
            return Err(unusable(path, &format!("has {} bytes instead of {KEY_BYTES}", found.len())));
        }
        if found.mode() & 0o7777 != 0o600 {
            file.set_permissions(Permissions::from_mode(0o600))
                .map_err(|error| file_error("tighten the mode of", path, error))?;
            tracing::warn!(path = %path.display(), mode = format!("{:o}", found.mode() & 0o7777),
                "the key file was open to others and is private now");
        }
        let mut key = [0; KEY_BYTES];
        let mut file = file;
        file.read_exact(&mut key).map_err(|error| file_error("read", path, error))?;
        Ok(Self::take(&mut key))
    }

    /// Writes it under another name first: a key file is whole or not there.
    fn create(path: &Path) -> Result<Self> {
        let mut new = path.as_os_str().to_owned();
        new.push(".new");
        let new = PathBuf::from(new);
        let mut key = [0; KEY_BYTES];
        getrandom::fill(&mut key).map_err(Error::internal)?;
        let made = write(&new, &key).and_then(|()| fs::rename(&new, path)).and_then(|()| {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            File::open(parent.unwrap_or_else(|| Path::new(".")))?.sync_all()
        });
        match made {
            Ok(()) => Ok(Self::take(&mut key)),
            Err(error) => {
                key.zeroize();
                Err(file_error("make the key file", path, error))
            }
        }
    }

    fn take(key: &mut [u8; KEY_BYTES]) -> Self {
        let taken = Self(Secret::new(*key));
        key.zeroize();
        taken
    }

    /// The mark of an object that is ours: copied to another name, slot, generation or daemon it does not match. `kind`
    /// is what the object is, such as `container`; `object_name` the name the engine knows it by. 64 hex digits.
    #[must_use]
    pub fn label_mac(&self, daemon_id: &str, kind: &str, object_name: &str, slot: &SlotId, generation: u32) -> String {
        hex::encode(self.label_hmac(daemon_id, kind, object_name, slot, generation).finalize().into_bytes())
    }

    /// Whether `mac` is the mark that [`Self::label_mac`] gives; takes equally long for every wrong one.
    #[must_use]
    pub fn verify_label_mac(
        &self,
        daemon_id: &str,
        kind: &str,
        object_name: &str,
        slot: &SlotId,
        generation: u32,
        mac: &str,
    ) -> bool {
        let wanted = self.label_hmac(daemon_id, kind, object_name, slot, generation);
        hex::decode(mac).is_ok_and(|mac| wanted.verify_slice(&mac).is_ok())
    }

    /// Every field goes in behind its length: no two inputs give the same bytes.
    fn label_hmac(
        &self,
        daemon_id: &str,
        kind: &str,
        object_name: &str,
        slot: &SlotId,
        generation: u32,
    ) -> Hmac<Sha256> {
        let mut mac = keyed(self.0.expose());
        let generation = generation.to_be_bytes();
        let slot = slot.as_str().as_bytes();
        for field in [LABEL, daemon_id.as_bytes(), kind.as_bytes(), object_name.as_bytes(), slot, &generation] {
            mac.update(&(field.len() as u64).to_be_bytes());
            mac.update(field);
        }
        mac
    }

    /// What an agent shows on its socket to be the one of this slot: 64 hex digits.
    #[must_use]
    pub fn slot_nonce(&self, slot: &SlotId) -> Secret<String> {
        self.derive(None, NONCE, slot.as_str())
    }

    /// The credential of clients of one agent: 64 hex digits, another with each salt.
    #[must_use]
    pub fn gateway_token(&self, instance: &InstanceId, salt: &[u8; SALT_BYTES]) -> Secret<String> {
        self.derive(Some(salt), TOKEN, instance.as_str())
    }

    fn derive(&self, salt: Option<&[u8]>, purpose: &[u8], whose: &str) -> Secret<String> {
        let mut bytes = [0; 32];
        let info = [purpose, &[0], whose.as_bytes()];
        // RFC 5869 bounds the output to 255 hashes; this is one.
        #[allow(clippy::expect_used)]
        Hkdf::<Sha256>::new(salt, self.0.expose()).expand_multi_info(&info, &mut bytes).expect("one hash of output");
        let text = Secret::new(hex::encode(bytes));
        bytes.zeroize();
        text
    }
}

fn keyed(key: &[u8; KEY_BYTES]) -> Hmac<Sha256> {
    // HMAC takes keys of every length.
    #[allow(clippy::expect_used)]
    Hmac::new_from_slice(key).expect("a key of any length")
}

fn write(new: &Path, key: &[u8]) -> io::Result<()> {
    match fs::remove_file(new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(new)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(key)?;
    file.sync_all()
}

fn unusable(path: &Path, what: &str) -> Error {
    Error::new(Code::Internal, format!("the key file {} {what}", path.display()))
        .hint("restore the key file from a backup, owned by root; it was left as it is")
}

/// By what a credential is known where it must not be readable.
#[must_use]
pub fn credential_hash(credential: &str) -> [u8; 32] {
    Sha256::digest(credential.as_bytes()).into()
}

/// The random part of a new gateway token.
///
/// # Errors
/// The kernel has no randomness to give.
pub fn new_salt() -> Result<[u8; SALT_BYTES]> {
    let mut salt = [0; SALT_BYTES];
    getrandom::fill(&mut salt).map_err(Error::internal)?;
    Ok(salt)
}

#[cfg(test)]
mod tests;
