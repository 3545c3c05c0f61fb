//! The journal on sled 0.34.7. A group's parts are consecutive values under their first LSN; the sequence of a commit is
//! insert the parts, `flush`, `fdatasync`, and only then is it acknowledged. It decides nothing about money.

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use frokost_engine::journal::{AppendError, Claim, Journal, JournalError, JournalReader, Records, Shard};
use frokost_engine::{Lsn, Record};

use crate::affinity::Affinity;
use crate::durable_db::{DbError, DurableDb, MAX_VALUE, explain};
use crate::format::{FormatError, GroupHash, PART_LIMIT, PartHeader, decode_part, encode_group, group_hash, salvage};
use crate::group_reader::{GroupReader, unreadable_part};
use crate::head_file::HeadFile;
use crate::keys;
use crate::mirrored_journal::Primary;
use crate::one_flush::Disk;

const _: () = assert!(PART_LIMIT <= MAX_VALUE, "larger values end in files that sled never syncs");

/// The most parts that one cut removes: at most some twenty thousand records.
const PARTS_A_CUT: usize = 128;

/// sled writes over a segment when what was needed of it stands elsewhere and two more segments, a megabyte, have been written since. It does not ask whether that
/// is durable, so much less than that may be written from one sync to the next: no more parts are removed, and no more inserted, without one.
const REMOVED_BEFORE_A_SYNC: usize = 32;
const INSERTED_BEFORE_A_SYNC: usize = 12;

/// The journal in a folder. Clones are the same journal.
#[derive(Clone, Debug)]
pub struct SledJournal {
    path: PathBuf,
    db: DurableDb,
    tail: Arc<Mutex<Tail>>,
}

/// The end of the log, as far as it is known to be durable.
#[derive(Debug)]
struct Tail {
    epoch: u64,
    head: Lsn,
    hash: GroupHash,
    /// The last group appended: the head before it and the hash before it.
    last: Option<(Lsn, GroupHash)>,
    head_file: HeadFile,
    /// Does somebody else say what is acknowledged?
    waits_for_word: bool,
    /// Why nothing can be appended any more.
    failed: Option<String>,
}

impl From<DbError> for JournalError {
    fn from(error: DbError) -> JournalError {
        match error {
            DbError::InUse { .. } => JournalError::InUse,
            DbError::Corrupt { .. } | DbError::Io { .. } | DbError::Other { .. } => {
                JournalError::Storage(error.to_string())
            }
        }
    }
}

impl SledJournal {
    /// Opens the journal in `folder`, or makes an empty one, and finds its end. It writes nothing itself, but sled clears what
    /// it cannot read at its end when it opens: copy a damaged folder before trying anything with it.
    ///
    /// # Errors
    /// [`JournalError::InUse`] if another process has it open; [`JournalError::Damaged`] if its end is not where it was
    /// acknowledged to be; [`JournalError::Storage`] if the folder cannot be used.
    pub fn open(folder: &Path) -> Result<SledJournal, JournalError> {
        let db = match DurableDb::open(folder) {
            // sled says that something is wrong and not where; our own records on its disk say where.
            Err(DbError::Corrupt { .. }) => {
                let lsn = first_unreadable(folder)
                    .map_err(|e| JournalError::Storage(format!("{}: {e}", folder.display())))?;
                return Err(JournalError::Damaged { lsn, what: "it cannot be read from there on".to_owned() });
            }
            opened => opened?,
        };
        let beside = folder.with_extension("head");
        let head_file =
            HeadFile::open(&beside).map_err(|error| JournalError::Storage(format!("{}: {error}", beside.display())))?;
        let acknowledged =
            head_file.read().map_err(|error| JournalError::Storage(format!("{}: {error}", beside.display())))?;
        let (head, hash) = find_end(&db, folder)?;
        if head < acknowledged {
            let what = format!("it ends there, but was acknowledged up to LSN {acknowledged}; records are missing");
            return Err(JournalError::Damaged { lsn: head.next(), what });
        }
        let epoch = read_epoch(&db, folder)?;
        let tail = Tail { epoch, head, hash, last: None, head_file, waits_for_word: false, failed: None };
        Ok(SledJournal { path: folder.to_owned(), db, tail: Arc::new(Mutex::new(tail)) })
    }

    /// Its threads run there from its next claim on, if anywhere in particular.
    #[must_use]
    pub fn near(mut self, affinity: Option<&Affinity>) -> SledJournal {
        self.db.affinity = affinity.cloned();
        self
    }

    /// The last durable record.
    #[must_use]
    pub fn head(&self) -> Lsn {
        self.tail().head
    }

    /// Reads everything, so that nothing is written behind a record that cannot be trusted.
    fn walk(&self, head: Lsn) -> Result<(), JournalError> {
        let reader = self.reader();
        let first = reader.first()?;
        let mut last = Lsn(first.0.saturating_sub(1));
        for record in reader.read_from(first) {
            last = record?.lsn;
        }
        if last == head {
            return Ok(());
        }
        Err(JournalError::Damaged {
            lsn: last.next(),
            what: format!("it reads up to there, and its end is LSN {head}"),
        })
    }

    /// Removes some of the parts of groups that end before `before`, from the front, so that what is left has no gap
    /// whenever the machine stops.
    fn cut(&self, before: Lsn, head: Lsn) -> Result<bool, JournalError> {
        let mut old: Vec<(sled::IVec, Lsn)> = Vec::new();
        for item in parts_from(&self.db, Lsn::ZERO).take(PARTS_A_CUT) {
            let (key, bytes) = item.map_err(|error| explain(&self.path, error))?;
            let damaged = |error: FormatError| JournalError::Storage(format!("a part to be cut: {error}"));
            let header = PartHeader::read(&bytes).map_err(damaged)?;
            old.push((key, header.group_first));
        }
        // The group that `before` is in, and the last group there is, stay whole.
        let reader = SledReader { path: self.path.clone(), db: self.db.clone() };
        let keep = reader.start_of_group(before.min(head))?;
        old.retain(|(_, group)| *group < keep);
        for some in old.chunks(REMOVED_BEFORE_A_SYNC) {
            for (key, _) in some {
                self.db.tree().remove(key).map_err(|error| explain(&self.path, error))?;
            }
            self.db.flush(&self.path)?;
        }
        Ok(old.len() < PARTS_A_CUT)
    }

    fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, records: &[Record], previous: &GroupHash, beside: &mut dyn FnMut()) -> Result<GroupHash, DbError> {
        let group = encode_group(records, previous);
        let tree = self.db.tree();
        for (n, (first, part)) in group.parts.iter().enumerate() {
            assert!(part.len() <= MAX_VALUE, "a part of {} bytes would end in a blob file", part.len());
            if n > 0 && n % INSERTED_BEFORE_A_SYNC == 0 {
                self.db.flush(&self.path)?;
            }
            tree.insert(keys::part(*first), part.as_slice()).map_err(|error| explain(&self.path, error))?;
        }
        self.db.flush_beside(&self.path, beside)?;
        Ok(group.hash)
    }
}

impl Tail {
    /// It only ever helps to notice damage; without it the journal is as durable as with it.
    fn note(&mut self, last: Lsn) {
        if let Err(error) = self.head_file.write(last) {
            tracing::warn!(%error, "the file that remembers the journal's end cannot be written");
        }
    }
}

impl Primary for SledJournal {
    fn wait_for_word(&mut self) {
        self.tail().waits_for_word = true;
    }

    fn note(&mut self, last: Lsn) {
        self.tail().note(last);
    }

    fn disk(&self) -> Option<Disk> {
        self.db.disk()
    }

    fn append_beside(
        &mut self,
        claim: &Claim,
        expected: Lsn,
        records: &[Record],
        beside: &mut dyn FnMut(),
    ) -> Result<Lsn, AppendError> {
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
            return Ok(last);
        }
        let follows = records.iter().zip(expected.0 + 1..).all(|(record, lsn)| record.lsn.0 == lsn);
        if expected != tail.head || !follows {
            return Err(AppendError::Failed(format!("the group does not follow the head, LSN {}", tail.head)));
        }
        match self.write(records, &tail.hash, beside) {
            Ok(hash) => {
                tail.last = Some((expected, tail.hash));
                tail.head = last;
                tail.hash = hash;
                if !tail.waits_for_word {
                    tail.note(last);
                }
                Ok(last)
            }
            Err(error) => {
                let why = error.to_string();
                tail.failed = Some(why.clone());
                Err(AppendError::Failed(why))
            }
        }
    }
}

impl Journal for SledJournal {
    fn claim(&mut self, shard: Shard, owner: &str) -> Result<Claim, JournalError> {
        if shard != Shard(0) {
            return Err(JournalError::Storage(format!("this journal holds shard 0, not {}", shard.0)));
        }
        let mut tail = self.tail();
        if let Some(why) = &tail.failed {
            return Err(JournalError::Storage(format!("it failed before ({why}); restart to recover")));
        }
        self.walk(tail.head)?;
        // What is left of a group that was never closed was never acknowledged, and would stand in the way of the next.
        let tree = self.db.tree();
        for key in parts_from(&self.db, tail.head.next()).keys() {
            let key = key.map_err(|error| explain(&self.path, error))?;
            tree.remove(key).map_err(|error| explain(&self.path, error))?;
        }
        let epoch = tail.epoch + 1;
        tree.insert(keys::CLAIM, claim_bytes(epoch, owner)).map_err(|error| explain(&self.path, error))?;
        self.db.flush(&self.path)?;
        self.db.flushes_often(&self.path);
        tail.epoch = epoch;
        Ok(Claim { shard, epoch, head: tail.head })
    }

    fn append(&mut self, claim: &Claim, expected: Lsn, records: &[Record]) -> Result<Lsn, AppendError> {
        self.append_beside(claim, expected, records, &mut || {})
    }

    fn truncate_before(&mut self, claim: &Claim, before: Lsn) -> Result<bool, AppendError> {
        let mut tail = self.tail();
        if tail.epoch != claim.epoch {
            return Err(AppendError::Fenced { ours: claim.epoch, theirs: tail.epoch });
        }
        if let Some(why) = &tail.failed {
            return Err(AppendError::Failed(why.clone()));
        }
        let cut = self.cut(before, tail.head);
        if let Err(error) = &cut {
            tail.failed = Some(error.to_string());
        }
        cut.map_err(|error| AppendError::Failed(error.to_string()))
    }

    fn reader(&self) -> Arc<dyn JournalReader> {
        Arc::new(SledReader { path: self.path.clone(), db: self.db.clone() })
    }
}

/// The claim: epoch (u64), CRC32C of it (u32), then who has it, for people.
fn claim_bytes(epoch: u64, owner: &str) -> Vec<u8> {
    let number = epoch.to_le_bytes();
    let mut bytes = number.to_vec();
    bytes.extend_from_slice(&crc32c::crc32c(&number).to_le_bytes());
    bytes.extend_from_slice(owner.as_bytes());
    bytes
}

fn read_epoch(db: &DurableDb, path: &Path) -> Result<u64, JournalError> {
    let Some(bytes) = db.tree().get(keys::CLAIM).map_err(|error| explain(path, error))? else { return Ok(0) };
    let damaged = || JournalError::Storage(format!("{}: the claim is damaged", path.display()));
    let (number, rest) = bytes.split_first_chunk::<8>().ok_or_else(damaged)?;
    let (crc, _) = rest.split_first_chunk::<4>().ok_or_else(damaged)?;
    if crc32c::crc32c(number) == u32::from_le_bytes(*crc) { Ok(u64::from_le_bytes(*number)) } else { Err(damaged()) }
}

/// The last closed group: its last LSN and its hash.
fn find_end(db: &DurableDb, path: &Path) -> Result<(Lsn, GroupHash), JournalError> {
    let mut parts: VecDeque<Vec<u8>> = VecDeque::new();
    let mut head = Lsn::ZERO;
    for item in parts_from(db, Lsn::ZERO).rev() {
        let (key, bytes) = item.map_err(|error| explain(path, error))?;
        let first = part_lsn(&key)?;
        let (header, records) = decode_part(&bytes).map_err(|error| unreadable_part(first, error))?;
        if parts.is_empty() {
            if !header.closes {
                // The end of a group that was never closed.
                continue;
            }
            head = records.last().map_or(first, |record| record.lsn);
        }
        parts.push_front(bytes.to_vec());
        if header.group_first == first {
            return Ok((head, group_hash(parts.iter().map(Vec::as_slice))));
        }
    }
    if parts.is_empty() {
        Ok((Lsn::ZERO, GroupHash::default()))
    } else {
        Err(JournalError::Damaged { lsn: Lsn(1), what: "the first group has no beginning".to_owned() })
    }
}

/// The first LSN that stands nowhere in sled's file in readable form. Slow: looks at every byte.
fn first_unreadable(folder: &Path) -> std::io::Result<Lsn> {
    let bytes = std::fs::read(folder.join("db"))?;
    let mut readable = BTreeSet::new();
    for at in 0..bytes.len() {
        let part = bytes.get(at..bytes.len().min(at + PART_LIMIT)).unwrap_or_default();
        for record in salvage(part) {
            readable.insert(record.lsn);
        }
    }
    let mut first = Lsn(1);
    while readable.contains(&first) {
        first = first.next();
    }
    Ok(first)
}

/// Every part from the one that begins with `first` on.
fn parts_from(db: &DurableDb, first: Lsn) -> sled::Iter {
    db.tree().range::<&[u8], _>(keys::part(first).as_slice()..keys::CLAIM)
}

/// What sled says of a place it cannot read.
fn unreadable(path: &Path, error: sled::Error, lsn: Lsn) -> JournalError {
    match explain(path, error) {
        DbError::Corrupt { why, .. } => JournalError::Damaged { lsn, what: format!("it cannot be read ({why})") },
        other @ (DbError::InUse { .. } | DbError::Io { .. } | DbError::Other { .. }) => other.into(),
    }
}

fn part_lsn(key: &[u8]) -> Result<Lsn, JournalError> {
    let bytes = key.try_into().map_err(|_| JournalError::Storage("a key that is no LSN".to_owned()))?;
    Ok(Lsn(u64::from_be_bytes(bytes)))
}

struct SledReader {
    path: PathBuf,
    db: DurableDb,
}

impl JournalReader for SledReader {
    fn read_from(&self, from: Lsn) -> Records<'_> {
        let start = match self.start_of_group(from) {
            Ok(start) => start,
            Err(error) => return Box::new(std::iter::once(Err(error))),
        };
        let mut expected = start;
        let parts = parts_from(&self.db, start).map(move |item| {
            let (key, bytes) = item.map_err(|error| unreadable(&self.path, error, expected))?;
            let first = part_lsn(&key)?;
            expected = first.next();
            Ok((Some(first), bytes.to_vec()))
        });
        Box::new(GroupReader::new(parts, start, from, (start <= Lsn(1)).then(GroupHash::default)))
    }

    /// The first group that has a beginning. Where a cut was interrupted in the middle of a group, parts stand before it that are
    /// nothing any more; what they were is in the statements and in two snapshots.
    fn first(&self) -> Result<Lsn, JournalError> {
        for item in parts_from(&self.db, Lsn::ZERO) {
            let (key, bytes) = item.map_err(|error| explain(&self.path, error))?;
            let first = part_lsn(&key)?;
            match PartHeader::read(&bytes) {
                Ok(header) if header.group_first < first => {}
                // What cannot be read is found out by reading it.
                Ok(_) | Err(_) => return Ok(first),
            }
        }
        Ok(Lsn(1))
    }
}

impl SledReader {
    /// The first LSN of the group that holds `lsn`, or `lsn` if none does.
    fn start_of_group(&self, lsn: Lsn) -> Result<Lsn, JournalError> {
        if lsn <= Lsn(1) {
            return Ok(Lsn(1));
        }
        let Some((key, bytes)) = self.db.tree().get_lt(keys::part(lsn.next())).map_err(|e| explain(&self.path, e))?
        else {
            return Ok(lsn);
        };
        match decode_part(&bytes) {
            Ok((header, records)) if records.last().is_some_and(|last| last.lsn >= lsn) => Ok(header.group_first),
            Ok(_) => Ok(lsn),
            Err(error) => Err(unreadable_part(part_lsn(&key)?, error)),
        }
    }
}
