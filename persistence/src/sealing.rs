//! Sealing of what must not be readable on disk: CPR numbers. Encrypted with XChaCha20-Poly1305, found again by a keyed
//! hash; the key lives in a file of its own, outside of every database. A plain hash of a CPR is guessed in seconds.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// The number of this key, stored with everything it seals, so that it can be replaced one day.
const KEY_ID: u8 = 1;
const NONCE: usize = 24;

/// The key to everything sealed in one installation.
#[derive(Clone)]
pub struct SealingKey {
    encrypt: [u8; 32],
    lookup: [u8; 32],
}

impl std::fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealingKey(..)")
    }
}

/// Why something cannot be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The key file cannot be read or written.
    #[error("the key file {path}: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others could read the key.
    #[error("the key file {path} can be read by others; run: chmod 600 {path}")]
    Readable {
        /// Which file.
        path: PathBuf,
    },
    /// The file is not a key.
    #[error("the key file {path} does not hold a key (128 hexadecimal digits)")]
    NotAKey {
        /// Which file.
        path: PathBuf,
    },
    /// Sealed with another key, for something else, or damaged.
    #[error("a sealed value cannot be opened with this key")]
    Sealed,
    /// The system has no randomness.
    #[error("the system gives no random numbers: {0}")]
    Random(String),
}

impl SealingKey {
    /// Reads the key from `path`, or makes one there that only its owner can read.
    ///
    /// # Errors
    /// [`SealError`]; an existing file is never overwritten.
    pub fn load_or_create(path: &Path) -> Result<SealingKey, SealError> {
        let failed = |source| SealError::File { path: path.to_owned(), source };
        if path.exists() {
            if fs::metadata(path).map_err(failed)?.permissions().mode() & 0o077 != 0 {
                return Err(SealError::Readable { path: path.to_owned() });
            }
            let text = fs::read_to_string(path).map_err(failed)?;
            return parse(text.trim()).ok_or_else(|| SealError::NotAKey { path: path.to_owned() });
        }
        let mut bytes = [0; 64];
        getrandom::fill(&mut bytes).map_err(|error| SealError::Random(error.to_string()))?;
        let text = hex(&bytes);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            File::open(parent).and_then(|folder| folder.sync_all()).map_err(failed)?;
        }
        parse(&text).ok_or_else(|| SealError::NotAKey { path: path.to_owned() })
    }

    /// Seals `plain` for the place named by `place` (record and field): it opens nowhere else.
    ///
    /// # Errors
    /// [`SealError::Random`] without randomness.
    pub fn seal(&self, place: &str, plain: &str) -> Result<String, SealError> {
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).map_err(|error| SealError::Random(error.to_string()))?;
        let cipher = XChaCha20Poly1305::new(&self.encrypt.into());
        let payload = Payload { msg: plain.as_bytes(), aad: place.as_bytes() };
        let sealed = cipher.encrypt(XNonce::from_slice(&nonce), payload).map_err(|_| SealError::Sealed)?;
        let mut bytes = vec![KEY_ID];
        bytes.extend_from_slice(&nonce);
        bytes.extend_from_slice(&sealed);
        Ok(hex(&bytes))
    }

    /// Opens what was sealed for the same place.
    ///
    /// # Errors
    /// [`SealError::Sealed`] for everything else.
    pub fn open(&self, place: &str, sealed: &str) -> Result<String, SealError> {
        let bytes = unhex(sealed).ok_or(SealError::Sealed)?;
        let (key_id, rest) = bytes.split_first().ok_or(SealError::Sealed)?;
        if *key_id != KEY_ID {
            return Err(SealError::Sealed);
        }
        let (nonce, sealed) = rest.split_at_checked(NONCE).ok_or(SealError::Sealed)?;
        let cipher = XChaCha20Poly1305::new(&self.encrypt.into());
        let payload = Payload { msg: sealed, aad: place.as_bytes() };
        let plain = cipher.decrypt(XNonce::from_slice(nonce), payload).map_err(|_| SealError::Sealed)?;
        String::from_utf8(plain).map_err(|_| SealError::Sealed)
    }

    /// A keyed hash by which a value is found without being stored.
    #[must_use]
    pub fn lookup(&self, field: &str, value: &str) -> String {
        let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(&self.lookup).expect("HMAC takes keys of every length");
        mac.update(field.as_bytes());
        mac.update(&[0]);
        mac.update(value.as_bytes());
        hex(&mac.finalize().into_bytes())
    }
}

fn parse(text: &str) -> Option<SealingKey> {
    let bytes = unhex(text)?;
    let (encrypt, rest) = bytes.split_first_chunk::<32>()?;
    let (lookup, rest) = rest.split_first_chunk::<32>()?;
    rest.is_empty().then_some(SealingKey { encrypt: *encrypt, lookup: *lookup })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    digits.chunks(2).map(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_in_its_place_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records.key");
        let key = SealingKey::load_or_create(&path).unwrap();
        let sealed = key.seal("pupil/1/cpr", "0101101234").unwrap();
        assert!(!sealed.contains("0101101234"));
        let same = SealingKey::load_or_create(&path).unwrap();
        assert_eq!(same.open("pupil/1/cpr", &sealed).unwrap(), "0101101234");
        assert!(same.open("pupil/2/cpr", &sealed).is_err(), "moved to another pupil");
        let mut damaged = sealed.clone();
        damaged.replace_range(60..61, if &sealed[60..61] == "0" { "1" } else { "0" });
        assert!(same.open("pupil/1/cpr", &damaged).is_err());
        assert_eq!(key.lookup("cpr", "0101101234"), same.lookup("cpr", "0101101234"));
        assert_ne!(key.lookup("cpr", "0101101234"), key.lookup("cpr", "0101101235"));
    }

    #[test]
    fn a_key_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records.key");
        SealingKey::load_or_create(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(SealingKey::load_or_create(&path), Err(SealError::Readable { .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "short").unwrap();
        assert!(matches!(SealingKey::load_or_create(&path), Err(SealError::NotAKey { .. })));
    }
}
