//! The journal on plain files: the mirror beside sled, or the only journal. It keeps every record there ever was; the same parts
//! and the same chain as sled has, in segments.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use frokost_engine::journal::{AppendError, Claim, Journal, JournalError, JournalReader, Records, Shard};
use frokost_engine::{Lsn, Record};

use crate::durable_db::{read_from_disk, sync_folder, sync_folder_of};
use crate::format::{FormatError, GroupHash, PART_LIMIT, decode_part, encode_group, group_hash, salvage};
use crate::group_reader::{GroupReader, unreadable_part};
use crate::head_file::HeadFile;
use crate::one_flush::Disk;
use crate::segments::{Left, Parts, Prewritten, Segment, frame, is_of_first_version, list, read_header, storage};

/// The journal in a folder. Clones are the same journal.
#[derive(Clone, Debug)]
pub struct FileJournal {
    folder: PathBuf,
    tail: Arc<Mutex<Tail>>,
    head: Arc<AtomicU64>,
    /// May the front be cut off? Not where it is the only copy of what is cut elsewhere.
    keeps_everything: bool,
}

#[derive(Debug)]
struct Tail {
    epoch: u64,
    head: Lsn,
    hash: GroupHash,
    /// The last group appended: the head before it and the hash before it.
    last: Option<(Lsn, GroupHash)>,
    /// None until the first group.
    segment: Option<Segment>,
    prewritten: Prewritten,
    head_file: HeadFile,
    failed: Option<String>,
    /// Held as long as the journal is open.
    lock: File,
}

/// Where a journal ends.
struct End {
    head: Lsn,
    hash: GroupHash,
    /// The last segment, and where its last closed group ends.
    segment: Option<(PathBuf, u64)>,
}

impl FileJournal {
    /// Opens the journal in `folder`, or makes an empty one, and finds its end.
    ///
    /// # Errors
    /// [`JournalError::InUse`] if another process has it open; [`JournalError::Damaged`] if its end is not where it was
    /// acknowledged to be, or something readable stands behind something that is not; [`JournalError::Storage`].
    pub fn open(folder: &Path) -> Result<FileJournal, JournalError> {
        FileJournal::open_as(folder, false, Prewritten::default())
    }

    /// The same for a mirror, which is never cut.
    ///
    /// # Errors
    /// As [`FileJournal::open`].
    pub fn open_mirror(folder: &Path) -> Result<FileJournal, JournalError> {
        FileJournal::open_as(folder, true, Prewritten::default())
    }

    /// The same for a copy that is written once, as in a backup: no room is prepared for more.
    ///
    /// # Errors
    /// As [`FileJournal::open`].
    pub fn open_copy(folder: &Path) -> Result<FileJournal, JournalError> {
        FileJournal::open_as(folder, true, Prewritten::never())
    }

    fn open_as(folder: &Path, keeps_everything: bool, prewritten: Prewritten) -> Result<FileJournal, JournalError> {
        let io = |error: std::io::Error| storage(folder, error);
        fs::create_dir_all(folder).map_err(io)?;
        let lock = File::options().write(true).create(true).truncate(false).open(folder.join("lock")).map_err(io)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(JournalError::InUse),
            Err(TryLockError::Error(error)) => return Err(io(error)),
        }
        sync_folder(folder).map_err(io)?;
        sync_folder_of(folder).map_err(io)?;
        let head_file = HeadFile::open(&folder.join("head")).map_err(io)?;
        let acknowledged = head_file.read().map_err(io)?;
        if let Some(file) = list(folder)?.pop().and_then(|(_, last)| File::open(last).ok()) {
            read_from_disk(&file);
        }
        let End { head, hash, segment } = find_end(folder)?;
        if head < acknowledged {
            let what = format!("it ends there, but was acknowledged up to LSN {acknowledged}; records are missing");
            return Err(JournalError::Damaged { lsn: head.next(), what });
        }
        prewritten.discard_old(folder).map_err(io)?;
        let segment = match segment {
            Some((path, end)) => {
                let closed = is_of_first_version(&path)?;
                let segment = Segment::go_on(&path, end, if closed { 0 } else { prewritten.length() }).map_err(io)?;
                (!closed).then_some(segment)
            }
            None => None,
        };
        let epoch = read_epoch(folder)?;
        let tail = Tail { epoch, head, hash, last: None, segment, prewritten, head_file, failed: None, lock };
        Ok(FileJournal {
            folder: folder.to_owned(),
            tail: Arc::new(Mutex::new(tail)),
            head: Arc::new(AtomicU64::new(head.0)),
            keeps_everything,
        })
    }

    /// Reads a journal without opening it: nothing is written, and whoever writes it may go on. Its end, and a reader.
    ///
    /// # Errors
    /// As [`FileJournal::open`], but for [`JournalError::InUse`].
    pub fn peek(folder: &Path) -> Result<(Lsn, Arc<dyn JournalReader>), JournalError> {
        let End { head, .. } = find_end(folder)?;
        let reader = FileReader { folder: folder.to_owned(), head: Arc::new(AtomicU64::new(head.0)) };
        Ok((head, Arc::new(reader)))
    }

    /// The last durable record.
    #[must_use]
    pub fn head(&self) -> Lsn {
        Lsn(self.head.load(Ordering::SeqCst))
    }

    /// As [`Journal::append`], but it may need a flush of its disk ([`Disk`]) until it survives a power cut; then it is to be noted.
    pub(crate) fn append_unflushed(
        &mut self,
        claim: &Claim,
        expected: Lsn,
        records: &[Record],
    ) -> Result<(Lsn, Left), AppendError> {
        self.append_as(claim, expected, records, Segment::write)
    }

    /// Everything up to there survives a power cut.
    pub(crate) fn note(&self, last: Lsn) {
        self.head.store(last.0, Ordering::SeqCst);
        if let Err(error) = self.tail().head_file.write(last) {
            tracing::warn!(%error, "the file that remembers the journal's end cannot be written");
        }
    }

    /// Makes everything appended so far survive a power cut.
    pub(crate) fn flush(&self) -> std::io::Result<()> {
        self.tail().flush()
    }

    /// The disk whose flush [`FileJournal::append_unflushed`] waits for.
    pub(crate) fn disk(&self) -> Option<Disk> {
        Disk::of(&self.tail().lock)
    }

    fn append_as(
        &mut self,
        claim: &Claim,
        expected: Lsn,
        records: &[Record],
        write: impl FnOnce(&mut Segment, &[u8]) -> std::io::Result<Left>,
    ) -> Result<(Lsn, Left), AppendError> {
        let mut tail = self.tail();
        if tail.epoch != claim.epoch {
            return Err(AppendError::Fenced { ours: claim.epoch, theirs: tail.epoch });
        }
        if let Some(why) = &tail.failed {
            return Err(AppendError::Failed(why.clone()));
        }
        let Some(last) = records.last().map(|record| record.lsn) else {
            return Err(AppendError::Failed("an empty group".to_owned()));
        };
        if let Some((before, previous)) = tail.last
            && before == expected
            && last == tail.head
            && encode_group(records, &previous).hash == tail.hash
        {
            return Ok((last, Left::Flush));
        }
        let follows = records.iter().zip(expected.0 + 1..).all(|(record, lsn)| record.lsn.0 == lsn);
        if expected != tail.head || !follows {
            return Err(AppendError::Failed(format!("the group does not follow the head, LSN {}", tail.head)));
        }
        let group = encode_group(records, &tail.hash);
        let mut frames = Vec::with_capacity(group.parts.len() * (PART_LIMIT + 4));
        group.parts.iter().for_each(|(_, part)| frame(part, &mut frames));
        let left = match tail.write(&self.folder, expected.next(), &frames, write) {
            Ok(left) => left,
            Err(error) => {
                let why = storage(&self.folder, error).to_string();
                tail.failed = Some(why.clone());
                return Err(AppendError::Failed(why));
            }
        };
        tail.last = Some((expected, tail.hash));
        tail.head = last;
        tail.hash = group.hash;
        Ok((last, left))
    }

    fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Journal for FileJournal {
    fn claim(&mut self, shard: Shard, _owner: &str) -> Result<Claim, JournalError> {
        if shard != Shard(0) {
            return Err(JournalError::Storage(format!("this journal holds shard 0, not {}", shard.0)));
        }
        let mut tail = self.tail();
        if let Some(why) = &tail.failed {
            return Err(JournalError::Storage(format!("it failed before ({why}); restart to recover")));
        }
        // A group of the claim before may have been written and not flushed.
        tail.flush().map_err(|error| storage(&self.folder, error))?;
        self.head.store(tail.head.0, Ordering::SeqCst);
        let epoch = tail.epoch + 1;
        write_epoch(&self.folder, epoch).map_err(|error| storage(&self.folder, error))?;
        tail.epoch = epoch;
        tail.prewritten.begin(&self.folder);
        Ok(Claim { shard, epoch, head: tail.head })
    }

    fn append(&mut self, claim: &Claim, expected: Lsn, records: &[Record]) -> Result<Lsn, AppendError> {
        let append = |segment: &mut Segment, frames: &[u8]| segment.append(frames).map(|()| Left::Nothing);
        let (last, left) = self.append_as(claim, expected, records, append)?;
        // Here before, and perhaps not flushed then.
        if left == Left::Flush {
            self.flush().map_err(|error| AppendError::Failed(storage(&self.folder, error).to_string()))?;
        }
        self.note(last);
        Ok(last)
    }

    fn truncate_before(&mut self, claim: &Claim, before: Lsn) -> Result<bool, AppendError> {
        let tail = self.tail();
        if tail.epoch != claim.epoch {
            return Err(AppendError::Fenced { ours: claim.epoch, theirs: tail.epoch });
        }
        if self.keeps_everything {
            return Ok(true);
        }
        let failed = |error: JournalError| AppendError::Failed(error.to_string());
        let segments = list(&self.folder).map_err(failed)?;
        for ((_, path), (next, _)) in segments.iter().zip(segments.iter().skip(1)) {
            if *next > before {
                break;
            }
            fs::remove_file(path).map_err(|error| failed(storage(path, error)))?;
        }
        Ok(true)
    }

    fn reader(&self) -> Arc<dyn JournalReader> {
        Arc::new(FileReader { folder: self.folder.clone(), head: Arc::clone(&self.head) })
    }
}

impl Tail {
    fn flush(&self) -> std::io::Result<()> {
        self.segment.as_ref().map_or(Ok(()), Segment::sync)
    }

    fn write(
        &mut self,
        folder: &Path,
        first: Lsn,
        frames: &[u8],
        write: impl FnOnce(&mut Segment, &[u8]) -> std::io::Result<Left>,
    ) -> std::io::Result<Left> {
        if !self.segment.as_ref().is_some_and(|segment| segment.has_room(frames.len())) {
            let segment = Segment::begin(folder, first, &self.hash)?;
            self.prewritten.filled(segment.end);
            self.segment = Some(segment);
            self.prewritten.begin(folder);
        }
        let Some(segment) = &mut self.segment else { return Err(std::io::Error::other("no segment")) };
        let left = write(segment, frames)?;
        self.prewritten.filled(segment.end);
        Ok(left)
    }
}

/// The last closed group of the last segment. What stands behind it must be nothing that was once whole.
fn find_end(folder: &Path) -> Result<End, JournalError> {
    let Some((_, path)) = list(folder)?.pop() else {
        return Ok(End { head: Lsn::ZERO, hash: GroupHash::default(), segment: None });
    };
    // Before the groups are: whatever somebody writes meanwhile is then not behind the end.
    let bytes = fs::read(&path).map_err(|error| storage(&path, error))?;
    let (first, mut hash) = read_header(&path)?;
    let mut head = Lsn(first.0.saturating_sub(1));
    let Some((mut parts, ..)) = Parts::from(folder, first)? else { return Err(storage(&path, "it is gone")) };
    let mut end = parts.place();
    let mut group: Vec<Vec<u8>> = Vec::new();
    let mut last = head;
    while let Some(part) = parts.next() {
        let (_, bytes) = part?;
        let (header, records) = match decode_part(&bytes) {
            Ok(read) => read,
            // Not torn, but whole and of a program that knows more.
            Err(error @ (_, FormatError::Version(_))) => return Err(unreadable_part(last.next(), error)),
            Err(_) => break,
        };
        last = records.last().map_or(last, |record| record.lsn);
        group.push(bytes);
        if header.closes {
            hash = group_hash(group.iter().map(Vec::as_slice));
            group.clear();
            head = last;
            end = parts.place();
        }
    }
    let behind = bytes.get(usize::try_from(end).unwrap_or(usize::MAX)..).unwrap_or_default();
    // A group that was cut short by a power cut is its own last; a sound part of a later one means damage before it.
    for at in 0..behind.len().saturating_sub(4) {
        if behind.get(at..at + 4) == Some(&[0; 4]) {
            continue;
        }
        let found = salvage(behind.get(at..behind.len().min(at + PART_LIMIT)).unwrap_or_default());
        let later = decode_header_group(behind.get(at..).unwrap_or_default()).is_some_and(|group| group > head.next());
        if later && !found.is_empty() {
            let what = "it cannot be read from there on, though more stands behind it".to_owned();
            return Err(JournalError::Damaged { lsn: head.next(), what });
        }
    }
    Ok(End { head, hash, segment: Some((path, end)) })
}

/// The first LSN of the group whose part may begin at the front of `bytes`.
fn decode_header_group(bytes: &[u8]) -> Option<Lsn> {
    crate::format::PartHeader::read(bytes).ok().map(|header| header.group_first)
}

fn read_epoch(folder: &Path) -> Result<u64, JournalError> {
    let path = folder.join("claim");
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(storage(&path, error)),
    };
    let (number, crc) = bytes.split_first_chunk::<8>().ok_or_else(|| storage(&path, "the claim is damaged"))?;
    if crc != crc32c::crc32c(number).to_le_bytes() {
        return Err(storage(&path, "the claim is damaged"));
    }
    Ok(u64::from_le_bytes(*number))
}

fn write_epoch(folder: &Path, epoch: u64) -> std::io::Result<()> {
    let number = epoch.to_le_bytes();
    let mut bytes = number.to_vec();
    bytes.extend_from_slice(&crc32c::crc32c(&number).to_le_bytes());
    let new = folder.join("claim.new");
    fs::write(&new, bytes)?;
    File::open(&new)?.sync_all()?;
    fs::rename(&new, folder.join("claim"))?;
    sync_folder(folder)
}

struct FileReader {
    folder: PathBuf,
    head: Arc<AtomicU64>,
}

impl JournalReader for FileReader {
    fn read_from(&self, from: Lsn) -> Records<'_> {
        let until = Lsn(self.head.load(Ordering::SeqCst));
        match Parts::from(&self.folder, from) {
            Ok(Some((parts, start, hash))) => {
                // Records before the first segment are not there, and asked for, they are missing.
                let from = from.max(Lsn(1));
                if from < start {
                    let what = format!("it is missing; the journal begins with LSN {start}");
                    return Box::new(std::iter::once(Err(JournalError::Damaged { lsn: from, what })));
                }
                Box::new(GroupReader::new(parts, start, from, Some(hash)).until(until))
            }
            Ok(None) => Box::new(std::iter::empty()),
            Err(error) => Box::new(std::iter::once(Err(error))),
        }
    }

    fn first(&self) -> Result<Lsn, JournalError> {
        Ok(list(&self.folder)?.first().map_or(Lsn(1), |(first, _)| *first))
    }
}
