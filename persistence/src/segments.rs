//! Segments: files of one size in which parts of groups stand one after the other, as they stand in sled. A segment is
//! written with zeros before it is used, because syncing bytes whose place is there already is quicker.
//!
//! ```text
//! a segment, <first LSN, 20 digits>.segment     a frame
//!    0  8 B    "frokost2"                          0  u32  length of the part, 0 at the end of a segment
//!    8  u64    first LSN                           4  ..   the part
//!   16  16 B   hash of the group before
//!   32  u32    CRC32C of the bytes before
//!   36  ..     frames, then zeros
//! ```
//!
//! One that begins with "frokost1" has parts of the first version only, and nothing is appended to it: a program that does not know the
//! second would take the first of those for the end.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use frokost_engine::Lsn;
use frokost_engine::journal::JournalError;

use crate::affinity;
use crate::durable_db::sync_folder;
use crate::format::{GroupHash, PART_LIMIT};
use crate::group_reader::Part;
use crate::one_flush::{BLOCK, DirectFile};

/// Bytes of a segment; a group that does not fit into what is left begins the next one.
pub(crate) const SEGMENT: u64 = 16 << 20;
const HEADER: usize = 36;
const MAGIC: &[u8; 8] = b"frokost2";
const FIRST_MAGIC: &[u8; 8] = b"frokost1";
const READ: usize = 256 << 10;
/// Between two pieces of the next segment.
const PAUSE: Duration = Duration::from_millis(20);

pub(crate) fn storage(path: &Path, error: impl std::fmt::Display) -> JournalError {
    JournalError::Storage(format!("{}: {error}", path.display()))
}

fn name(first: Lsn) -> String {
    format!("{:020}.segment", first.0)
}

/// The segments in a folder, by their first LSN.
pub(crate) fn list(folder: &Path) -> Result<Vec<(Lsn, PathBuf)>, JournalError> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| storage(folder, error))? {
        let path = entry.map_err(|error| storage(folder, error))?.path();
        let first = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".segment")?.parse().ok());
        segments.extend(first.map(|first| (Lsn(first), path)));
    }
    segments.sort_unstable();
    Ok(segments)
}

/// What the header of a segment says: its first LSN and the hash of the group before it.
pub(crate) fn read_header(path: &Path) -> Result<(Lsn, GroupHash), JournalError> {
    let mut bytes = [0; HEADER];
    File::open(path).and_then(|file| file.read_exact_at(&mut bytes, 0)).map_err(|error| storage(path, error))?;
    parse_header(&bytes).ok_or_else(|| storage(path, "its header is damaged"))
}

fn parse_header(bytes: &[u8; HEADER]) -> Option<(Lsn, GroupHash)> {
    let (checked, crc) = bytes.split_at_checked(HEADER - 4)?;
    if crc32c::crc32c(checked) != u32::from_le_bytes(crc.try_into().ok()?) {
        return None;
    }
    let rest = checked.strip_prefix(MAGIC).or_else(|| checked.strip_prefix(FIRST_MAGIC))?;
    let (first, hash) = rest.split_first_chunk::<8>()?;
    Some((Lsn(u64::from_le_bytes(*first)), hash.try_into().ok()?))
}

/// Is it one that parts of this version are not appended to?
pub(crate) fn is_of_first_version(path: &Path) -> Result<bool, JournalError> {
    let mut magic = [0; FIRST_MAGIC.len()];
    File::open(path).and_then(|file| file.read_exact_at(&mut magic, 0)).map_err(|error| storage(path, error))?;
    Ok(magic == *FIRST_MAGIC)
}

fn header(first: Lsn, previous: &GroupHash) -> [u8; HEADER] {
    let mut bytes = Vec::with_capacity(HEADER);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&first.0.to_le_bytes());
    bytes.extend_from_slice(previous);
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    bytes.try_into().expect("eight, eight, sixteen and four bytes")
}

/// Appends a part to `out` as a frame.
pub(crate) fn frame(part: &[u8], out: &mut Vec<u8>) {
    let length = u32::try_from(part.len()).expect("a part is at most 4 KB");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(part);
}

/// A segment that is being written.
#[derive(Debug)]
pub(crate) struct Segment {
    file: File,
    /// Where the next frame goes.
    pub(crate) end: u64,
    /// Up to where the file system has nothing to note when it is written to.
    prewritten: u64,
    direct: Option<DirectFile>,
}

/// What is left to be done until frames survive a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    Nothing,
    /// A flush of the disk.
    Flush,
}

impl Segment {
    const BEGUN: &str = "next.begun";

    /// Begins a segment, in a file that was written with zeros if there is one. It gets its name when its header is durable: a
    /// segment without one would be a damaged journal.
    pub(crate) fn begin(folder: &Path, first: Lsn, previous: &GroupHash) -> io::Result<Segment> {
        let begun = folder.join(Segment::BEGUN);
        match fs::rename(folder.join(Prewritten::READY), &begun) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => drop(File::create(&begun)?),
            Err(error) => return Err(error),
        }
        let file = File::options().read(true).write(true).open(&begun)?;
        let prewritten = file.metadata()?.len();
        file.write_all_at(&header(first, previous), 0)?;
        file.sync_all()?;
        let path = folder.join(name(first));
        fs::rename(&begun, &path)?;
        sync_folder(folder)?;
        Ok(Segment { file, end: HEADER as u64, prewritten, direct: DirectFile::open(&path) })
    }

    /// Goes on with a segment that ends at `end`; what stands behind was never acknowledged. It is written with zeros up to `length`, if it
    /// is shorter and there is room.
    pub(crate) fn go_on(path: &Path, end: u64, length: u64) -> io::Result<Segment> {
        let file = File::options().read(true).write(true).open(path)?;
        let there = file.metadata()?.len();
        // Zeros to the end, so that nothing old is taken for a frame after what comes next.
        write_zeros(&file, end, there)?;
        if let Err(error) = write_zeros(&file, there, length) {
            tracing::warn!(%error, segment = %path.display(), "there is no room to prepare it for more");
            file.set_len(there)?;
        }
        file.sync_all()?;
        let prewritten = file.metadata()?.len();
        Ok(Segment { file, end, prewritten, direct: DirectFile::open(path) })
    }

    /// Is there room for so many bytes?
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        self.end == HEADER as u64 || self.end + bytes as u64 <= SEGMENT
    }

    /// Writes frames at the end, and makes them survive a power cut.
    pub(crate) fn append(&mut self, frames: &[u8]) -> io::Result<()> {
        self.file.write_all_at(frames, self.end)?;
        self.file.sync_data()?;
        self.end += frames.len() as u64;
        Ok(())
    }

    /// Writes frames at the end, and leaves the flush of the disk to the caller where it can.
    pub(crate) fn write(&mut self, frames: &[u8]) -> io::Result<Left> {
        let end = self.end + frames.len() as u64;
        if let Some(direct) = &mut self.direct
            && end.next_multiple_of(BLOCK as u64) <= self.prewritten
        {
            match direct.write(&self.file, self.end, frames) {
                Ok(()) => {
                    self.end = end;
                    return Ok(Left::Flush);
                }
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    tracing::warn!(%error, "the mirror cannot be written past the page cache; it is synced by itself");
                    self.direct = None;
                }
                Err(error) => return Err(error),
            }
        }
        self.append(frames)?;
        Ok(Left::Nothing)
    }

    /// Makes everything written so far survive a power cut.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// Removes a file, if it is there.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn write_zeros(file: &File, from: u64, to: u64) -> io::Result<()> {
    let zeros = vec![0; READ];
    let mut at = from;
    while at < to {
        let many = usize::try_from(to - at).unwrap_or(READ).min(READ);
        file.write_all_at(zeros.get(..many).unwrap_or_default(), at)?;
        at += many as u64;
    }
    Ok(())
}

/// The next segment, written with zeros in the background.
#[derive(Debug, Default)]
pub(crate) struct Prewritten {
    running: Option<std::thread::JoinHandle<()>>,
    never: bool,
    /// Where the segment before it ends by now: it is to be there when that is full.
    filled: Arc<AtomicU64>,
}

impl Prewritten {
    const READY: &str = "next.zeros";
    const BEING_WRITTEN: &str = "next.being-written";

    /// For a journal that is written once: nobody waits for it.
    pub(crate) fn never() -> Prewritten {
        Prewritten { never: true, ..Prewritten::default() }
    }

    /// How long a segment is made that a journal goes on with.
    pub(crate) fn length(&self) -> u64 {
        if self.never { 0 } else { SEGMENT }
    }

    /// The segment before it ends there.
    pub(crate) fn filled(&self, end: u64) {
        self.filled.store(end, Ordering::Relaxed);
    }

    /// Begins to write one, unless it is there or being written.
    pub(crate) fn begin(&mut self, folder: &Path) {
        let running = self.running.as_ref().is_some_and(|running| !running.is_finished());
        if self.never || running || folder.join(Prewritten::READY).exists() {
            return;
        }
        let (folder, filled) = (folder.to_owned(), Arc::clone(&self.filled));
        let writing = std::thread::Builder::new().name("frokost-zeros".to_owned()).spawn(move || {
            affinity::wander();
            // Without it the next segment is only slower.
            if let Err(error) = Prewritten::write(&folder, &filled) {
                tracing::warn!(%error, "the next segment of the mirror could not be prepared");
                // It may be what fills the disk.
                let _ = remove(&folder.join(Prewritten::BEING_WRITTEN));
            }
        });
        self.running = writing.ok();
    }

    /// Removes what an earlier life has prepared. Where a folder was copied its zeros may be a hole, which the file system would have to fill and note.
    pub(crate) fn discard_old(&self, folder: &Path) -> io::Result<()> {
        if self.never { Ok(()) } else { remove(&folder.join(Prewritten::READY)) }
    }

    fn write(folder: &Path, filled: &AtomicU64) -> io::Result<()> {
        let path = folder.join(Prewritten::BEING_WRITTEN);
        // A file of its own, whoever else may be at it.
        remove(&path)?;
        let file = File::create_new(&path)?;
        let zeros = vec![0; READ];
        for at in (0..SEGMENT).step_by(READ) {
            file.write_all_at(&zeros, at)?;
            file.sync_data()?;
            // The journal syncs on the same disk, so this takes its time, but is done when three quarters of the segment before it are full.
            if filled.load(Ordering::Relaxed) * 4 <= at * 3 {
                std::thread::sleep(PAUSE);
            }
        }
        file.sync_all()?;
        fs::rename(path, folder.join(Prewritten::READY))
    }
}

/// Reads the parts of segments in order.
pub(crate) struct Parts {
    /// Segments still to be read, the next one last.
    left: Vec<PathBuf>,
    open: Option<Reading>,
}

struct Reading {
    file: File,
    path: PathBuf,
    /// Where in the file the next frame is.
    at: u64,
    buffer: Vec<u8>,
    used: usize,
}

impl Parts {
    /// From the segment that holds `from` on; and that segment's first LSN and the hash before it. Nothing if there
    /// is no segment.
    pub(crate) fn from(folder: &Path, from: Lsn) -> Result<Option<(Parts, Lsn, GroupHash)>, JournalError> {
        let mut segments = list(folder)?;
        let start = segments.partition_point(|(first, _)| *first <= from).saturating_sub(1);
        let mut left: Vec<PathBuf> = segments.split_off(start).into_iter().map(|(_, path)| path).collect();
        let Some(begin) = left.first() else { return Ok(None) };
        let (first, hash) = read_header(begin)?;
        left.reverse();
        Ok(Some((Parts { left, open: None }, first, hash)))
    }

    /// Where in its segment the next part would be.
    pub(crate) fn place(&self) -> u64 {
        self.open.as_ref().map_or(HEADER as u64, |open| open.at)
    }

    fn next_part(&mut self) -> Result<Option<Vec<u8>>, JournalError> {
        loop {
            if let Some(open) = &mut self.open {
                if let Some(part) = open.next_frame().map_err(|error| storage(&open.path, error))? {
                    return Ok(Some(part));
                }
                if self.left.is_empty() {
                    return Ok(None);
                }
            }
            let Some(path) = self.left.pop() else { return Ok(None) };
            let file = File::open(&path).map_err(|error| storage(&path, error))?;
            self.open = Some(Reading { file, path, at: HEADER as u64, buffer: Vec::new(), used: 0 });
        }
    }
}

impl Reading {
    /// The next frame's part; nothing at the end of the segment. What is longer than a part can be is given out cut, what
    /// the file ends in the middle of is given out empty: whoever decodes it names the LSN.
    fn next_frame(&mut self) -> io::Result<Option<Vec<u8>>> {
        if !self.fill(4)? {
            return Ok(None);
        }
        let rest = self.buffer.get(self.used..).unwrap_or_default();
        let length = rest.first_chunk::<4>().map_or(0, |length| u32::from_le_bytes(*length));
        if length == 0 {
            return Ok(None);
        }
        let length = usize::try_from(length).unwrap_or(PART_LIMIT).min(PART_LIMIT);
        if !self.fill(4 + length)? {
            return Ok(Some(Vec::new()));
        }
        let rest = self.buffer.get(self.used + 4..).unwrap_or_default();
        let part = rest.get(..length.min(rest.len())).unwrap_or_default().to_vec();
        self.used += 4 + part.len();
        self.at += 4 + part.len() as u64;
        Ok(Some(part))
    }

    /// Sees to it that so many bytes are in the buffer; false if the file ends before.
    fn fill(&mut self, bytes: usize) -> io::Result<bool> {
        if self.buffer.len() - self.used >= bytes {
            return Ok(true);
        }
        self.buffer.drain(..self.used);
        self.used = 0;
        let mut more = vec![0; READ];
        let mut from = self.at + self.buffer.len() as u64;
        while self.buffer.len() < bytes {
            let many = self.file.read_at(&mut more, from)?;
            if many == 0 {
                return Ok(false);
            }
            self.buffer.extend_from_slice(more.get(..many).unwrap_or_default());
            from += many as u64;
        }
        Ok(true)
    }
}

impl Iterator for Parts {
    type Item = Part;

    fn next(&mut self) -> Option<Part> {
        self.next_part().map(|part| part.map(|bytes| (None, bytes))).transpose()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests stop where they are wrong")]

    use super::*;

    /// Only over what was written and synced before, by this process, is a flush left to somebody else.
    #[test]
    fn a_flush_is_left_to_others_only_where_zeros_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name(Lsn(1)));
        let mut segment = Segment::begin(folder.path(), Lsn(1), &GroupHash::default()).unwrap();
        if segment.direct.is_none() {
            assert!(std::env::var_os("CI").is_none(), "no O_DIRECT here, and CI skips nothing");
            return;
        }
        assert_eq!(segment.write(&[1; 5_000]).unwrap(), Left::Nothing, "nobody has prepared it");
        let end = segment.end;
        let mut segment = Segment::go_on(&path, end, 64 << 10).unwrap();
        assert_eq!(segment.write(&[2; 5_000]).unwrap(), Left::Flush);
        assert_eq!(segment.write(&[3; 40 << 10]).unwrap(), Left::Flush);
        assert_eq!(segment.write(&[4; 20 << 10]).unwrap(), Left::Nothing, "it is longer than what was prepared");
        let written = fs::read(&path).unwrap();
        let pieces = [vec![1; 5_000], vec![2; 5_000], vec![3; 40 << 10], vec![4; 20 << 10]].concat();
        assert!(written[HEADER..] == pieces);
    }

    #[test]
    fn zeros_of_an_earlier_life_are_not_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let hole = File::create(folder.path().join(Prewritten::READY)).unwrap();
        hole.set_len(SEGMENT).unwrap();
        let _journal = crate::FileJournal::open_mirror(folder.path()).unwrap();
        assert!(!folder.path().join(Prewritten::READY).exists());
    }
}
