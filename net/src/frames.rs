//! Frames out of a stream. Whole ones are read where they came in; only what is there of one is kept until the rest comes, which is seldom.

use std::borrow::Cow;

/// The front of a frame whose rest has not come.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    part: Vec<u8>,
}

impl Frames {
    /// What there is to be cut into frames now that `came` has come. What is left of it goes back by [`Frames::keep`].
    pub(crate) fn with<'a>(&mut self, came: &'a [u8]) -> Cow<'a, [u8]> {
        if self.part.is_empty() {
            return Cow::Borrowed(came);
        }
        let mut bytes = std::mem::take(&mut self.part);
        bytes.extend_from_slice(came);
        Cow::Owned(bytes)
    }

    /// Keeps what is behind the first `done` bytes.
    pub(crate) fn keep(&mut self, bytes: Cow<'_, [u8]>, done: usize) {
        self.part = match bytes {
            Cow::Borrowed(bytes) => bytes.get(done..).unwrap_or_default().to_vec(),
            // In place: a long frame comes in many pieces.
            Cow::Owned(mut bytes) => {
                bytes.drain(..done);
                bytes
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::{REQUEST_LIMIT, append, split};

    /// Wherever a stream is cut into pieces, the same frames come out of it.
    #[test]
    fn frames_come_out_whole_however_they_came() {
        let mut stream = Vec::new();
        for tag in 0..5 {
            append(&mut stream, 7, tag, |body| {
                body.extend(std::iter::repeat_n(b'x', usize::try_from(tag).unwrap() * 9))
            });
        }
        for piece in 1..=stream.len() {
            let mut frames = Frames::default();
            let mut seen = Vec::new();
            for came in stream.chunks(piece) {
                let bytes = frames.with(came);
                let mut done = 0;
                while let Some((frame, length)) = split(&bytes[done..], REQUEST_LIMIT).unwrap() {
                    seen.push((frame.tag, frame.body.len()));
                    done += length;
                }
                frames.keep(bytes, done);
            }
            assert_eq!(seen, [(0, 0), (1, 9), (2, 18), (3, 27), (4, 36)], "in pieces of {piece}");
            assert!(frames.part.is_empty());
        }
    }
}
