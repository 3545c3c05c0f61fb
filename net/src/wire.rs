//! Messages as bytes: `docs/wire.md` says the same for people who write tills in other languages, and a test holds the
//! two together. No I/O here, and no allocation that a peer's bytes could make larger than a frame.
//!
//! Bodies are rkyv structs of plain numbers and byte arrays, little-endian and without padding: the fields in order.

mod command;
pub mod frame;
pub mod posting;
pub mod request;
pub mod response;

pub use frame::{Frame, FrameError};
pub use request::Request;
pub use response::{Response, Welcome};

use rkyv::rancor::Error as RkyvError;

/// The application protocol that both ends name in the TLS handshake.
pub const ALPN: &[u8] = b"frokost/1";

/// Codes with which a stream is reset or a connection closed.
pub mod code {
    /// A frame that cannot be read: the stream is reset.
    pub const MALFORMED: u32 = 1;
    /// A frame longer than allowed: the stream is reset.
    pub const TOO_LARGE: u32 = 2;
    /// A kind of request that this server does not know: the stream is reset.
    pub const UNKNOWN_KIND: u32 = 3;
    /// Another version of the protocol: the stream is reset.
    pub const VERSION: u32 = 4;
    /// The connection is closed in order.
    pub const BYE: u32 = 0;
    /// The server is closing down.
    pub const SHUTDOWN: u32 = 16;
    /// The certificate is good, but names nobody who is enrolled.
    pub const UNKNOWN_CALLER: u32 = 17;
    /// This caller has too many connections open.
    pub const TOO_MANY_CONNECTIONS: u32 = 18;
    /// This caller was let in once and is no more.
    pub const REVOKED: u32 = 19;
}

/// Checked access to a body that has to fill its bytes exactly.
fn access<T>(bytes: &[u8]) -> Result<&T, FrameError>
where
    T: rkyv::Portable + for<'a> rkyv::bytecheck::CheckBytes<rkyv::api::high::HighValidator<'a, RkyvError>>,
{
    if bytes.len() != size_of::<T>() {
        return Err(FrameError::Malformed);
    }
    rkyv::access::<T, RkyvError>(bytes).map_err(|_| FrameError::Malformed)
}

/// Checked access to a body at the front of bytes, and what follows it.
fn split<T>(bytes: &[u8]) -> Result<(&T, &[u8]), FrameError>
where
    T: rkyv::Portable + for<'a> rkyv::bytecheck::CheckBytes<rkyv::api::high::HighValidator<'a, RkyvError>>,
{
    let (body, rest) = bytes.split_at_checked(size_of::<T>()).ok_or(FrameError::Malformed)?;
    Ok((access::<T>(body)?, rest))
}

/// Writes a body's fields behind what is in `out` already.
macro_rules! put {
    ($out:expr, $body:expr) => {
        rkyv::api::high::to_bytes_in::<_, rkyv::rancor::Error>(&$body, &mut *$out)
            .map(drop)
            .expect("plain numbers always fit into memory")
    };
}
use put;
