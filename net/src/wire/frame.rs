//! A frame: sixteen bytes that say how long it is, what it is and which request it belongs to, and a body.
//!
//! ```text
//!  0  u32  number of bytes after this field: 12 + length of the body
//!  4  u8   version, 1
//!  5  u8   kind
//!  6  u16  0
//!  8  u64  tag: chosen by whoever asks, repeated in the answer
//! 16  ..   body
//! ```

/// Bytes of a frame before its body.
pub const HEADER: usize = 16;
/// The version spoken here.
pub const VERSION: u8 = 1;
/// The longest request, header included.
pub const REQUEST_LIMIT: usize = 256;
/// The longest answer, header included.
pub const RESPONSE_LIMIT: usize = 64 * 1024;

/// What a frame is, and its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it is.
    pub kind: u8,
    /// Which request it belongs to.
    pub tag: u64,
    /// The body.
    pub body: &'a [u8],
}

/// Why bytes are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// They mean nothing.
    #[error("a malformed frame")]
    Malformed,
    /// It is longer than allowed.
    #[error("a frame of {0} bytes is longer than allowed")]
    TooLarge(usize),
    /// An unknown kind.
    #[error("an unknown kind of message, {0:#04x}")]
    UnknownKind(u8),
    /// Another version.
    #[error("version {0} of the protocol; this side speaks {VERSION}")]
    Version(u8),
}

impl FrameError {
    /// The code with which a stream is reset for it.
    #[must_use]
    pub const fn code(self) -> u32 {
        match self {
            FrameError::Malformed => super::code::MALFORMED,
            FrameError::TooLarge(_) => super::code::TOO_LARGE,
            FrameError::UnknownKind(_) => super::code::UNKNOWN_KIND,
            FrameError::Version(_) => super::code::VERSION,
        }
    }
}

/// How long the frame at the front of `bytes` is, header included; nothing if that has not come in whole.
pub(crate) fn length(bytes: &[u8]) -> Option<usize> {
    let length = u32::from_le_bytes(*bytes.first_chunk::<4>()?) as usize;
    Some(length.saturating_add(4))
}

/// The frame at the front of `bytes` and its length there; nothing if it has not come in whole.
///
/// # Errors
/// [`FrameError`] as soon as the header shows it; nothing after it can be read.
pub fn split(bytes: &[u8], limit: usize) -> Result<Option<(Frame<'_>, usize)>, FrameError> {
    let Some(whole) = length(bytes) else { return Ok(None) };
    if whole > limit {
        return Err(FrameError::TooLarge(whole));
    }
    if whole < HEADER {
        return Err(FrameError::Malformed);
    }
    let Some(frame) = bytes.get(..whole) else { return Ok(None) };
    let (header, body) = frame.split_first_chunk::<HEADER>().ok_or(FrameError::Malformed)?;
    if header[4] != VERSION {
        return Err(FrameError::Version(header[4]));
    }
    if header[6..8] != [0, 0] {
        return Err(FrameError::Malformed);
    }
    let mut tag = [0; 8];
    tag.copy_from_slice(&header[8..16]);
    Ok(Some((Frame { kind: header[5], tag: u64::from_le_bytes(tag), body }, whole)))
}

/// Appends a frame to `out`; `body` appends its body.
pub fn append(out: &mut Vec<u8>, kind: u8, tag: u64, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0, 0, 0, 0, VERSION, kind, 0, 0]);
    out.extend_from_slice(&tag.to_le_bytes());
    body(out);
    let length = u32::try_from(out.len() - start - 4).expect("a frame is far below four gigabytes");
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&length.to_le_bytes());
    }
}
