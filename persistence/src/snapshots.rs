//! Snapshots in plain files, the newest two: `<LSN, 20 digits>.snapshot`, a [block file](crate::block_file) of facts, one after the other
//! (`format/item.rs`).

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use frokost_engine::Lsn;
use frokost_engine::snapshot::{Items, SnapshotError, Snapshots};

use crate::block_file::{BlockReader, BlockWriter, Damaged};
use crate::durable_db::sync_folder;
use crate::format::item;

const MAGIC: &[u8; 8] = b"frokostS";
const KEEP: usize = 2;
/// The blocks of a file are given back in one transaction of the file system, and discarded one behind the other where the disk is asked
/// to: whoever syncs meanwhile waits for it, 40 ms for 500 MB and 5 for so many bytes.
const PIECE: u64 = 8 << 20;

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
        for file in [snapshots.unfinished(), snapshots.unwanted()] {
            match fs::remove_file(file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(snapshots.failed(error)),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(snapshots)
    }

    fn failed(&self, error: impl std::fmt::Display) -> SnapshotError {
        SnapshotError::Storage(format!("{}: {error}", self.folder.display()))
    }

    fn unfinished(&self) -> PathBuf {
        self.folder.join("unfinished")
    }

    /// One that is being let go of, from its end on.
    fn unwanted(&self) -> PathBuf {
        self.folder.join("unwanted")
    }

    fn path(&self, lsn: Lsn) -> PathBuf {
        self.folder.join(format!("{:020}.snapshot", lsn.0))
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
        let damaged = move |Damaged(what)| SnapshotError::Damaged { lsn, what };
        let file = BlockReader::new(file, MAGIC).map_err(damaged)?;
        if file.lsn() != lsn {
            return Err(damaged(Damaged(format!("its header says LSN {}", file.lsn()))));
        }
        // What follows damage means nothing.
        let mut file = Some(file);
        Ok(Box::new(std::iter::from_fn(move || {
            let one = file.as_mut()?.next(|bytes| item::decode(bytes).map_err(|error| Damaged(error.to_string())));
            let one = one.map_err(damaged).transpose();
            if !matches!(one, Some(Ok(_))) {
                file = None;
            }
            one
        })))
    }

    fn write(&self, lsn: Lsn, items: Items<'_>) -> Result<(), SnapshotError> {
        let failed = |error| self.failed(error);
        let mut file = BlockWriter::begin(&self.unfinished(), MAGIC, lsn).map_err(failed)?;
        for one in items {
            let one = one?;
            file.put(|block| item::encode(&one, block)).map_err(failed)?;
        }
        file.finish(&self.path(lsn)).map_err(failed)
    }

    fn set_aside(&self, lsn: Lsn) -> Result<(), SnapshotError> {
        let damaged = self.path(lsn).with_extension("damaged");
        fs::rename(self.path(lsn), damaged).and_then(|()| sync_folder(&self.folder)).map_err(|error| self.failed(error))
    }

    fn let_go(&self) -> Result<bool, SnapshotError> {
        let done = match File::options().write(true).open(self.unwanted()) {
            Ok(file) => file.metadata().and_then(|metadata| match metadata.len().saturating_sub(PIECE) {
                0 => fs::remove_file(self.unwanted()),
                left => file.set_len(left),
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => match self.list()?.get(KEEP..) {
                // What is cut is no snapshot any more.
                Some([.., oldest]) => fs::rename(self.path(*oldest), self.unwanted()),
                Some([]) | None => return Ok(false),
            },
            Err(error) => Err(error),
        };
        done.map(|()| true).map_err(|error| self.failed(error))
    }
}
