//! A few bytes beside the journal that say how far it has been acknowledged. sled silently forgets everything after a
//! flipped bit; this file does not, and so a shortened journal is noticed instead of served.
//!
//! It is written after a group is durable, so it can never be ahead of the journal. Nobody waits until it is durable itself: once a second the
//! system is asked to begin writing it to the disk, and the next group's flush makes that durable. So after a power cut it may lack
//! what was acknowledged within the two seconds before the last group, and that group.
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
use std::time::{Duration, Instant};

use frokost_engine::Lsn;
use rustix::fs::{Advice, fadvise};

use crate::durable_db::sync_folder_of;

const SLOT: u64 = 512;
/// Both slots.
const LENGTH: usize = 1024;
/// How often it goes to the disk.
const EVERY: Duration = Duration::from_secs(1);

/// The last LSN that the file at `path` says was acknowledged; 0 if it cannot be read.
#[must_use]
pub fn acknowledged(path: &Path) -> u64 {
    let file = File::open(path).ok();
    file.and_then(|file| HeadFile { file, turn: false, begun: None }.read().ok()).unwrap_or_default().0
}

#[derive(Debug)]
pub(crate) struct HeadFile {
    file: File,
    turn: bool,
    /// When it was last on its way to the disk.
    begun: Option<Instant>,
}

impl HeadFile {
    /// A new one is made as long as it will be, so that the file system has nothing to note when it is written to.
    pub(crate) fn open(path: &Path) -> io::Result<HeadFile> {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        if file.metadata()?.len() == 0 {
            file.write_all_at(&[0; LENGTH], 0)?;
            file.sync_all()?;
            sync_folder_of(path)?;
        }
        Ok(HeadFile { file, turn: false, begun: None })
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
        self.file.write_all_at(&bytes, if self.turn { SLOT } else { 0 })?;
        if self.begun.is_none_or(|begun| begun.elapsed() >= EVERY) {
            self.begun = Some(Instant::now());
            // Begins to write, and does not wait. Where the system cannot do it the file goes to the disk when the system sees fit.
            let _ = fadvise(&self.file, 0, None, Advice::DontNeed);
        }
        Ok(())
    }
}

fn parse(bytes: [u8; 12]) -> Option<Lsn> {
    let (lsn, crc) = bytes.split_first_chunk::<8>()?;
    let crc = u32::from_le_bytes(crc.try_into().ok()?);
    (crc32c::crc32c(lsn) == crc).then_some(Lsn(u64::from_le_bytes(*lsn)))
}
