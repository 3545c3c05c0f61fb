//! A few bytes beside the journal that say how far it has been acknowledged. sled silently forgets everything after a
//! flipped bit; this file does not, and so a shortened journal is noticed instead of served.
//!
//! It is written after a group is durable and never synced: it may lag behind the journal, it can never be ahead of it.
//!
//! ```text
//! slot 0 at byte 0, slot 1 at byte 512, written in turn; little-endian
//!   0  u64  the last acknowledged LSN
//!   8  u32  CRC32C of the eight bytes before
//! ```

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use frokost_engine::Lsn;

const SLOT: u64 = 512;

/// The last LSN that the file at `path` says was acknowledged; 0 if it cannot be read.
#[must_use]
pub fn acknowledged(path: &Path) -> u64 {
    let file = File::open(path).ok();
    file.and_then(|file| HeadFile { file, turn: false }.read().ok()).unwrap_or_default().0
}

#[derive(Debug)]
pub(crate) struct HeadFile {
    file: File,
    turn: bool,
}

impl HeadFile {
    pub(crate) fn open(path: &Path) -> io::Result<HeadFile> {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        Ok(HeadFile { file, turn: false })
    }

    /// The highest position either slot vouches for; zero where none does.
    pub(crate) fn read(&self) -> io::Result<Lsn> {
        let mut highest = Lsn::ZERO;
        for slot in [0, SLOT] {
            let mut bytes = [0; 12];
            match self.file.read_exact_at(&mut bytes, slot) {
                Ok(()) => highest = highest.max(parse(bytes).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
                Err(error) => return Err(error),
            }
        }
        Ok(highest)
    }

    pub(crate) fn write(&mut self, head: Lsn) -> io::Result<()> {
        let number = head.0.to_le_bytes();
        let mut bytes = [0; 12];
        let (lsn, crc) = bytes.split_at_mut(8);
        lsn.copy_from_slice(&number);
        crc.copy_from_slice(&crc32c::crc32c(&number).to_le_bytes());
        self.turn = !self.turn;
        self.file.write_all_at(&bytes, if self.turn { SLOT } else { 0 })
    }
}

fn parse(bytes: [u8; 12]) -> Option<Lsn> {
    let (lsn, crc) = bytes.split_first_chunk::<8>()?;
    let crc = u32::from_le_bytes(crc.try_into().ok()?);
    (crc32c::crc32c(lsn) == crc).then_some(Lsn(u64::from_le_bytes(*lsn)))
}
