//! Snapshots in plain files, the newest two. One is written under another name, synced little by little, and takes its
//! name when it is whole.
//!
//! ```text
//! <LSN, 20 digits>.snapshot           a block
//!    0  8 B   "frokostS"                 0  u32  length, 0 for the end
//!    8  u64   LSN                        4  u32  CRC32C of the bytes
//!   16  ..    blocks                     8  ..   facts, one after the other (format/item.rs)
//!  end  8 B   the end: a block of length 0 whose CRC is that of the header and of all blocks' CRCs
//! ```

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use frokost_engine::Lsn;
use frokost_engine::snapshot::{Item, Items, SnapshotError, Snapshots};

use crate::durable_db::sync_folder;
use crate::format::item;

const MAGIC: &[u8; 8] = b"frokostS";
/// A block is written when it has so many bytes.
const BLOCK: usize = 64 << 10;
/// No block is longer, also with one large account in it.
const LONGEST: usize = 64 << 20;
/// And synced after so many blocks, so that no flush of the journal waits behind all of it.
const SYNC_EVERY: usize = 16;
const KEEP: usize = 2;

/// The snapshots in a folder.
#[derive(Debug, Clone)]
pub struct FileSnapshots {
    folder: PathBuf,
}

impl FileSnapshots {
    /// Opens the folder, making it if it is not there, and clears away what was never finished.
    ///
    /// # Errors
    /// [`SnapshotError::Storage`].
    pub fn open(folder: &Path) -> Result<FileSnapshots, SnapshotError> {
        let snapshots = FileSnapshots { folder: folder.to_owned() };
        fs::create_dir_all(folder).map_err(|error| snapshots.failed(error))?;
        match fs::remove_file(snapshots.unfinished()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(snapshots.failed(error)),
            Ok(()) | Err(_) => Ok(snapshots),
        }
    }

    fn failed(&self, error: impl std::fmt::Display) -> SnapshotError {
        SnapshotError::Storage(format!("{}: {error}", self.folder.display()))
    }

    fn unfinished(&self) -> PathBuf {
        self.folder.join("unfinished")
    }

    fn path(&self, lsn: Lsn) -> PathBuf {
        self.folder.join(format!("{:020}.snapshot", lsn.0))
    }

    fn write_items(&self, lsn: Lsn, items: Items<'_>) -> Result<(), SnapshotError> {
        let mut file = File::create(self.unfinished()).map_err(|error| self.failed(error))?;
        let mut chain = Vec::from(MAGIC);
        chain.extend_from_slice(&lsn.0.to_le_bytes());
        let mut whole = crc32c::crc32c(&chain);
        file.write_all(&chain).map_err(|error| self.failed(error))?;
        let mut block = Vec::with_capacity(BLOCK * 2);
        let mut blocks = 0;
        let mut finish = |block: &mut Vec<u8>| -> io::Result<()> {
            let crc = crc32c::crc32c(block).to_le_bytes();
            whole = crc32c::crc32c_append(whole, &crc);
            file.write_all(&u32::try_from(block.len()).unwrap_or(u32::MAX).to_le_bytes())?;
            file.write_all(&crc)?;
            file.write_all(block)?;
            block.clear();
            blocks += 1;
            if blocks % SYNC_EVERY == 0 { file.sync_data() } else { Ok(()) }
        };
        for one in items {
            item::encode(&one?, &mut block);
            if block.len() >= BLOCK {
                finish(&mut block).map_err(|error| self.failed(error))?;
            }
        }
        if !block.is_empty() {
            finish(&mut block).map_err(|error| self.failed(error))?;
        }
        let end = [[0; 4], whole.to_le_bytes()].concat();
        file.write_all(&end).and_then(|()| file.sync_all()).map_err(|error| self.failed(error))
    }
}

impl Snapshots for FileSnapshots {
    fn list(&self) -> Result<Vec<Lsn>, SnapshotError> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(|error| self.failed(error))? {
            let name = entry.map_err(|error| self.failed(error))?.file_name();
            let lsn = name.to_str().and_then(|name| name.strip_suffix(".snapshot")?.parse().ok());
            all.extend(lsn.map(Lsn));
        }
        all.sort_unstable();
        all.reverse();
        Ok(all)
    }

    fn read(&self, lsn: Lsn) -> Result<Items<'_>, SnapshotError> {
        let file = File::open(self.path(lsn)).map_err(|error| self.failed(error))?;
        let mut reading = Reading {
            file: BufReader::with_capacity(1 << 20, file),
            lsn,
            whole: 0,
            block: Vec::new(),
            at: 0,
            ended: false,
        };
        reading.header()?;
        Ok(Box::new(reading))
    }

    fn write(&self, lsn: Lsn, items: Items<'_>) -> Result<(), SnapshotError> {
        if let Err(error) = self.write_items(lsn, items) {
            // Half a snapshot is worth nothing, and may be what fills the disk.
            drop(fs::remove_file(self.unfinished()));
            return Err(error);
        }
        fs::rename(self.unfinished(), self.path(lsn))
            .and_then(|()| sync_folder(&self.folder))
            .map_err(|error| self.failed(error))?;
        for old in self.list()?.into_iter().skip(KEEP) {
            fs::remove_file(self.path(old)).map_err(|error| self.failed(error))?;
        }
        Ok(())
    }

    fn set_aside(&self, lsn: Lsn) -> Result<(), SnapshotError> {
        let damaged = self.path(lsn).with_extension("damaged");
        fs::rename(self.path(lsn), damaged).and_then(|()| sync_folder(&self.folder)).map_err(|error| self.failed(error))
    }
}

struct Reading {
    file: BufReader<File>,
    lsn: Lsn,
    /// The CRC over the header and the blocks' CRCs so far.
    whole: u32,
    block: Vec<u8>,
    at: usize,
    ended: bool,
}

impl Reading {
    fn damaged(&self, what: impl std::fmt::Display) -> SnapshotError {
        SnapshotError::Damaged { lsn: self.lsn, what: what.to_string() }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], SnapshotError> {
        let mut bytes = [0; N];
        self.file.read_exact(&mut bytes).map_err(|error| self.damaged(error))?;
        Ok(bytes)
    }

    fn header(&mut self) -> Result<(), SnapshotError> {
        let bytes = self.take::<16>()?;
        let (magic, lsn) = bytes.split_at(8);
        if magic != MAGIC || lsn != self.lsn.0.to_le_bytes() {
            return Err(self.damaged("its header is not that of this snapshot"));
        }
        self.whole = crc32c::crc32c(&bytes);
        Ok(())
    }

    /// The next block; false at the end.
    fn next_block(&mut self) -> Result<bool, SnapshotError> {
        let length = usize::try_from(u32::from_le_bytes(self.take()?)).unwrap_or(usize::MAX);
        let crc = self.take::<4>()?;
        if length == 0 {
            if u32::from_le_bytes(crc) != self.whole {
                return Err(self.damaged("blocks are missing"));
            }
            return Ok(false);
        }
        if length > LONGEST {
            return Err(self.damaged("a block is too long"));
        }
        self.block.resize(length, 0);
        let read = self.file.read_exact(&mut self.block);
        read.map_err(|error| self.damaged(error))?;
        if crc32c::crc32c(&self.block).to_le_bytes() != crc {
            return Err(self.damaged("the checksum of a block is wrong"));
        }
        self.whole = crc32c::crc32c_append(self.whole, &crc);
        self.at = 0;
        Ok(true)
    }

    fn next_item(&mut self) -> Result<Option<Item>, SnapshotError> {
        while self.at >= self.block.len() {
            if !self.next_block()? {
                return Ok(None);
            }
        }
        let bytes = self.block.get(self.at..).unwrap_or_default();
        let (one, rest) = item::decode(bytes).map_err(|error| self.damaged(error))?;
        self.at = self.block.len() - rest.len();
        Ok(Some(one))
    }
}

impl Iterator for Reading {
    type Item = Result<Item, SnapshotError>;

    fn next(&mut self) -> Option<Result<Item, SnapshotError>> {
        if self.ended {
            return None;
        }
        let item = self.next_item().transpose();
        self.ended = !matches!(item, Some(Ok(_)));
        item
    }
}
