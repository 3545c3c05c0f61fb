//! How a server that was started again says so. Those who were connected to the one before go on sending; to the new one their packets belong to nobody,
//! and it answers with a stateless reset (RFC 9000, section 10.3): a token that only the server of a connection can make, and that its client was told
//! when it connected. Both servers make the same tokens from the installation's key, so that tills come back at once instead of
//! when they have waited long enough.

use std::time::Duration;

use quinn_proto::crypto::{CryptoError, HmacKey};

/// quinn allows one in 20 ms, and five thousand tills could not be told in less than a hundred seconds. A reset is shorter than the packet it answers.
pub(crate) const RESET_EVERY: Duration = Duration::from_millis(1);

/// Nobody else's tokens are made with a key under this name.
const CONTEXT: &str = "frokost 2026-11-27 stateless resets of the tills' server";

/// What the tokens are made from.
#[derive(Clone)]
pub(crate) struct ResetKey([u8; blake3::KEY_LEN]);

impl ResetKey {
    /// The key of an installation with this secret.
    pub(crate) fn of(secret: &[u8]) -> ResetKey {
        ResetKey(blake3::derive_key(CONTEXT, secret))
    }
}

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        signature_out.copy_from_slice(blake3::keyed_hash(&self.0, data).as_bytes());
    }

    fn signature_len(&self) -> usize {
        blake3::OUT_LEN
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        // Compared in constant time.
        if blake3::keyed_hash(&self.0, data) == *signature { Ok(()) } else { Err(CryptoError) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_secret_makes_the_same_tokens_and_another_does_not() {
        let sign = |secret: &[u8], name: &[u8]| {
            let key = ResetKey::of(secret);
            let mut token = vec![0; key.signature_len()];
            key.sign(name, &mut token);
            assert!(key.verify(name, &token).is_ok());
            assert!(key.verify(b"another", &token).is_err() && key.verify(name, &token[1..]).is_err());
            token
        };
        assert_eq!(sign(b"secret", b"name"), sign(b"secret", b"name"));
        assert_ne!(sign(b"secret", b"name"), sign(b"secret", b"eman"));
        assert_ne!(sign(b"secret", b"name"), sign(b"terces", b"name"));
    }
}
