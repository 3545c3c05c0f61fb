//! The log of statements: every record there ever was, in plain files, each with the places of the account's earlier postings.
//! Only ever appended to; what cannot be read at its end is cut off when it is opened.
//!
//! ```text
//! log.<number, 6 digits>              an item
//!    0  8 B   "frokostL"                 0  u64  place of the account's posting before this one, 0 for none
//!    8  u64   first LSN                  8  u64  place of its last posting in another month before, 0 for none
//!   16  ..    items                     16  u32  CRC32C of the sixteen bytes before
//!                                       20  ..   the record (format.rs)
//! ```
//!
//! A place is the file's number in the upper 24 bits and the offset in the lower 40.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use frokost_engine::Lsn;
use frokost_engine::Record;

use crate::durable_db::{read_from_disk, sync_folder};
use crate::format::{FormatError, RECORD_HEADER, decode_record, encode_record};

const MAGIC: &[u8; 8] = b"frokostL";
const HEADER_BYTES: usize = 16;
const HEADER: u64 = HEADER_BYTES as u64;
const LINKS: usize = 20;
/// More than any item takes: a record's body is at most a header of sixteen bytes, and less than 256 behind it.
const MOST: usize = 512;
/// A file ends with the first item behind so many bytes.
const FILE: u64 = if cfg!(test) { 128 << 10 } else { 256 << 20 };

/// Where an item stands; 0 is nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Place(pub(crate) u64);

impl Place {
    pub(crate) const NOWHERE: Place = Place(0);

    fn new(file: u32, offset: u64) -> Place {
        Place(u64::from(file) << 40 | offset)
    }

    fn file(self) -> u32 {
        u32::try_from(self.0 >> 40).unwrap_or(u32::MAX)
    }

    fn offset(self) -> u64 {
        self.0 & ((1 << 40) - 1)
    }
}

/// An account's earlier postings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Links {
    pub(crate) before: Place,
    pub(crate) other_month: Place,
}

/// A file's first LSN, and the file.
type OpenFile = (Lsn, Arc<File>);

#[derive(Debug, Clone)]
pub(crate) struct StatementLog {
    folder: PathBuf,
    /// The files, from number 1 on: open for reading, with their first LSN.
    files: Arc<Mutex<Vec<OpenFile>>>,
    /// Where some of the records that were read stand, so that whoever reads on need not read a whole file before.
    marks: Arc<Mutex<BTreeMap<Lsn, Place>>>,
}

/// One record in so many that are read is remembered with its place.
const MARK_EVERY: u64 = 256;

/// The writing end.
#[derive(Debug)]
pub(crate) struct Writer {
    log: StatementLog,
    file: Option<Arc<File>>,
    number: u32,
    end: u64,
    buffer: Vec<u8>,
}

fn path(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("log.{number:06}"))
}

impl StatementLog {
    /// Opens what is there, up to the first file that is not whole at its beginning. Files are numbered without a gap.
    pub(crate) fn open(folder: &Path) -> io::Result<StatementLog> {
        fs::create_dir_all(folder)?;
        let mut files = Vec::new();
        for number in 1.. {
            let path = path(folder, number);
            if !path.exists() {
                break;
            }
            let file = File::options().read(true).write(true).open(&path)?;
            read_from_disk(&file);
            let mut header = [0; HEADER_BYTES];
            let header_read = read_up_to(&file, &mut header, 0)?;
            let mut first = [0; 8];
            first.copy_from_slice(header.split_at(8).1);
            let first = Lsn(u64::from_le_bytes(first));
            let mut item = [0; MOST];
            let many = read_up_to(&file, &mut item, HEADER)?;
            let fits = many == 0
                || decode(item.get(..many).unwrap_or_default()).is_ok_and(|(_, record, _)| record.lsn == first);
            // It was begun when the machine stopped, or it is damaged: whoever reads on knows whether anything is missing then.
            if header_read < HEADER_BYTES || !header.starts_with(MAGIC) || !fits {
                break;
            }
            files.push((first, Arc::new(file)));
        }
        Ok(StatementLog { folder: folder.to_owned(), files: Arc::new(Mutex::new(files)), marks: Arc::default() })
    }

    /// Whether there is anything to be found at a place, or the end.
    pub(crate) fn reaches(&self, place: Place) -> bool {
        let length = |file: Arc<File>| file.metadata().map_or(0, |about| about.len());
        place == Place::NOWHERE || self.file(place.file()).is_some_and(|file| place.offset() <= length(file))
    }

    /// Is there anything behind a place?
    pub(crate) fn goes_on_behind(&self, place: Place) -> io::Result<bool> {
        if path(&self.folder, place.file() + 1).exists() {
            return Ok(true);
        }
        self.file(place.file()).map_or(Ok(false), |file| Ok(file.metadata()?.len() > place.offset()))
    }

    /// Goes on behind a place, and cuts off what follows.
    pub(crate) fn writer(&self, end: Place) -> io::Result<Writer> {
        if !self.reaches(end) {
            return Err(io::Error::other(format!("log.{:06} ends before byte {}", end.file(), end.offset())));
        }
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.truncate(usize::try_from(end.file()).unwrap_or(usize::MAX));
        self.marks().clear();
        for number in end.file() + 1.. {
            match fs::remove_file(path(&self.folder, number)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(error),
            }
        }
        let file = files.last().map(|(_, file)| Arc::clone(file));
        if let Some(file) = &file {
            file.set_len(end.offset())?;
        }
        Ok(Writer { log: self.clone(), file, number: end.file(), end: end.offset(), buffer: Vec::new() })
    }

    /// The item at a place.
    pub(crate) fn read(&self, place: Place) -> Result<(Links, Record), String> {
        let wrong =
            |what: &dyn std::fmt::Display| format!("log.{:06} at byte {}: {what}", place.file(), place.offset());
        let file = self.file(place.file()).ok_or_else(|| wrong(&"there is no such file"))?;
        let mut bytes = [0; MOST];
        let many = read_up_to(&file, &mut bytes, place.offset()).map_err(|error| wrong(&error))?;
        let (links, record, _) = decode(bytes.get(..many).unwrap_or_default()).map_err(|error| wrong(&error))?;
        Ok((links, record))
    }

    fn marks(&self) -> MutexGuard<'_, BTreeMap<Lsn, Place>> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, number: u32) -> Option<Arc<File>> {
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.get(usize::try_from(number).ok()?.checked_sub(1)?).map(|(_, file)| Arc::clone(file))
    }

    /// Everything there is from a place on.
    pub(crate) fn scan_on(&self, place: Place) -> Scan {
        let ended = self.file(1).is_none();
        let (number, offset) = if place == Place::NOWHERE { (1, HEADER) } else { (place.file(), place.offset()) };
        Scan {
            log: self.clone(),
            from: Lsn::ZERO,
            end: Place(u64::MAX),
            number,
            offset,
            buffer: Vec::new(),
            used: 0,
            ended,
        }
    }

    /// Everything from `from` on, up to the place `end`, each with where it stands and where it ends.
    pub(crate) fn scan(&self, from: Lsn, end: Place) -> Scan {
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let start = files.partition_point(|(first, _)| *first <= from).max(1);
        let number = u32::try_from(start).unwrap_or(u32::MAX);
        let marked = self.marks().range(..=from).next_back().map(|(_, place)| *place);
        let offset = marked.filter(|place| place.file() == number).map_or(HEADER, Place::offset);
        Scan { log: self.clone(), from, end, number, offset, buffer: Vec::new(), used: 0, ended: files.is_empty() }
    }
}

impl Writer {
    /// Where the next item goes. Asked before each one: it may be in a new file.
    pub(crate) fn next_place(&mut self, first: Lsn) -> io::Result<Place> {
        if self.file.is_none() || self.end >= FILE {
            self.write()?;
            self.file.as_ref().map_or(Ok(()), |file| file.sync_data())?;
            self.begin_file(first)?;
        }
        Ok(self.end())
    }

    /// Behind the last item.
    pub(crate) fn end(&self) -> Place {
        Place::new(self.number, self.end)
    }

    /// Appends an item; it can be read after [`Writer::write`].
    pub(crate) fn put(&mut self, links: Links, record: &Record) {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(&links.before.0.to_le_bytes());
        self.buffer.extend_from_slice(&links.other_month.0.to_le_bytes());
        let crc = crc32c::crc32c(self.buffer.get(start..).unwrap_or_default());
        self.buffer.extend_from_slice(&crc.to_le_bytes());
        encode_record(record, &mut self.buffer);
        self.end += (self.buffer.len() - start) as u64;
    }

    /// Hands everything to the system.
    pub(crate) fn write(&mut self) -> io::Result<()> {
        if let Some(file) = &self.file {
            file.write_all_at(&self.buffer, self.end - self.buffer.len() as u64)?;
        }
        self.buffer.clear();
        Ok(())
    }

    /// The file that is written: what was written survives a power cut when it is synced. The files before are.
    pub(crate) fn file(&self) -> Option<Arc<File>> {
        self.file.clone()
    }

    fn begin_file(&mut self, first: Lsn) -> io::Result<()> {
        let number = self.number + 1;
        let path = path(&self.log.folder, number);
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
        let mut header = Vec::from(MAGIC);
        header.extend_from_slice(&first.0.to_le_bytes());
        file.write_all_at(&header, 0)?;
        file.sync_all()?;
        sync_folder(&self.log.folder)?;
        let file = Arc::new(file);
        let mut files = self.log.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.push((first, Arc::clone(&file)));
        (self.file, self.number, self.end) = (Some(file), number, HEADER);
        Ok(())
    }
}

fn read_up_to(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut many = 0;
    while let Some(rest) = bytes.get_mut(many..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + many as u64) {
            Ok(0) => break,
            Ok(read) => many += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(many)
}

fn decode(bytes: &[u8]) -> Result<(Links, Record, usize), FormatError> {
    let (links, rest) = bytes.split_first_chunk::<LINKS>().ok_or(FormatError::Short)?;
    let (checked, crc) = links.split_at(16);
    if crc32c::crc32c(checked).to_le_bytes() != crc {
        return Err(FormatError::Checksum);
    }
    let (before, other) = checked.split_at(8);
    let place = |bytes: &[u8]| Place(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)));
    let (record, after) = decode_record(rest)?;
    Ok((Links { before: place(before), other_month: place(other) }, record, bytes.len() - after.len()))
}

/// Reads the log in order.
pub(crate) struct Scan {
    log: StatementLog,
    from: Lsn,
    end: Place,
    number: u32,
    /// Of the first byte in the buffer.
    offset: u64,
    buffer: Vec<u8>,
    used: usize,
    ended: bool,
}

/// An item, where it stands, and where the next one would.
pub(crate) struct Found {
    pub(crate) place: Place,
    pub(crate) next: Place,
    pub(crate) record: Record,
    pub(crate) links: Links,
}

impl Scan {
    fn here(&self) -> Place {
        Place::new(self.number, self.offset + self.used as u64)
    }

    fn next_item(&mut self) -> Result<Option<Found>, String> {
        loop {
            if self.here() >= self.end {
                return Ok(None);
            }
            let place = self.here();
            let rest = self.buffer.get(self.used..).unwrap_or_default();
            if rest.len() < MOST && self.read_more().map_err(|error| format!("log.{:06}: {error}", self.number))? {
                continue;
            }
            let rest = self.buffer.get(self.used..).unwrap_or_default();
            if rest.is_empty() && self.number < self.end.file() {
                if self.log.file(self.number + 1).is_none() {
                    return Ok(None);
                }
                (self.number, self.offset, self.used) = (self.number + 1, HEADER, 0);
                self.buffer.clear();
                continue;
            }
            let wrong = |error| format!("log.{:06} at byte {}: {error}", place.file(), place.offset());
            let (links, record, length) = decode(rest).map_err(wrong)?;
            self.used += length;
            if record.lsn.0.is_multiple_of(MARK_EVERY) {
                self.log.marks().insert(record.lsn, place);
            }
            if record.lsn >= self.from {
                return Ok(Some(Found { place, next: self.here(), record, links }));
            }
        }
    }

    /// False at the end of the file.
    fn read_more(&mut self) -> io::Result<bool> {
        self.buffer.drain(..self.used);
        self.offset += self.used as u64;
        self.used = 0;
        let Some(file) = self.log.file(self.number) else { return Ok(false) };
        let have = self.buffer.len();
        self.buffer.resize(have + (256 << 10), 0);
        let into = self.buffer.get_mut(have..).unwrap_or_default();
        let many = read_up_to(&file, into, self.offset + have as u64)?;
        self.buffer.truncate(have + many);
        Ok(many > 0)
    }
}

impl Iterator for Scan {
    type Item = Result<Found, String>;

    fn next(&mut self) -> Option<Result<Found, String>> {
        if self.ended {
            return None;
        }
        let item = self.next_item().transpose();
        self.ended = !matches!(item, Some(Ok(_)));
        item
    }
}

const _: () = assert!(LINKS + RECORD_HEADER + 160 < MOST, "an item is read at once");

#[cfg(test)]
mod tests {
    use frokost_engine::{AccountId, Amount, CallerId, Entry, PersonId, RequestKey, Sequence, Text, Timestamp};

    use super::*;

    #[test]
    fn whoever_reads_on_begins_near_where_the_last_reader_was() {
        let folder = tempfile::tempdir().unwrap();
        let log = StatementLog::open(folder.path()).unwrap();
        let mut writer = log.writer(Place::NOWHERE).unwrap();
        for lsn in 1..=1_000 {
            writer.next_place(Lsn(1)).unwrap();
            let links = Links { before: Place::NOWHERE, other_month: Place::NOWHERE };
            let record = Record {
                lsn: Lsn(lsn),
                at: Timestamp(lsn),
                key: RequestKey { caller: CallerId(1), sequence: Sequence(lsn) },
                fingerprint: 0,
                account: AccountId(1),
                balance: Amount::ZERO,
                by: PersonId(0),
                text: Text::EMPTY,
                entry: Entry::Blocked,
            };
            writer.put(links, &record);
        }
        writer.write().unwrap();
        let end = writer.end();
        assert_eq!(log.scan(Lsn(900), end).offset, HEADER, "nobody has read yet");
        assert_eq!(log.scan(Lsn(1), end).count(), 1_000);
        let read_on = log.scan(Lsn(900), end);
        let skipped = log.scan(Lsn(768), end).next().unwrap().unwrap().place;
        assert_eq!(read_on.offset, skipped.offset());
        assert_eq!(
            read_on.map(|found| found.unwrap().record.lsn.0).collect::<Vec<_>>(),
            (900..=1_000).collect::<Vec<_>>()
        );
    }
}
