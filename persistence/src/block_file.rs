//! A file that is written once and read whole: blocks with checksums behind a header. It is written under another name, synced little by
//! little, and takes its own name when all of it is on the disk.
//!
//! ```text
//! the file                             a block
//!    0  8 B   what it is                 0  u32  length, 0 for the end
//!    8  u64   LSN                        4  u32  CRC32C of the bytes
//!   16  ..    blocks                     8  ..   the bytes
//!  end  8 B   the end: a block of length 0 whose CRC is that of the header and of all blocks' CRCs
//! ```

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use frokost_engine::Lsn;

use crate::durable_db::sync_folder;

/// A block is written when it has so many bytes.
const BLOCK: usize = 64 << 10;
/// No block is longer, also with one large account in it.
const LONGEST: usize = 64 << 20;
/// And synced after so many blocks, so that no flush of the journal waits behind all of it.
const SYNC_EVERY: usize = 16;

/// The bytes are not those that were written.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Damaged(pub(crate) String);

/// A file that is being written. Dropped before it is finished it leaves nothing: half of it is worth nothing, and may be what fills the disk.
pub(crate) struct BlockWriter {
    file: File,
    unfinished: PathBuf,
    whole: u32,
    block: Vec<u8>,
    blocks: usize,
    finished: bool,
}

impl BlockWriter {
    /// Begins at `unfinished`; whatever is there is overwritten.
    pub(crate) fn begin(unfinished: &Path, what: &[u8; 8], lsn: Lsn) -> io::Result<BlockWriter> {
        let mut file = File::create(unfinished)?;
        let header = [*what, lsn.0.to_le_bytes()].concat();
        file.write_all(&header)?;
        let whole = crc32c::crc32c(&header);
        let block = Vec::with_capacity(BLOCK * 2);
        Ok(BlockWriter { file, unfinished: unfinished.to_owned(), whole, block, blocks: 0, finished: false })
    }

    /// Adds what `encode` appends. It stands in one block.
    pub(crate) fn put(&mut self, encode: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        encode(&mut self.block);
        if self.block.len() >= BLOCK { self.end_block() } else { Ok(()) }
    }

    fn end_block(&mut self) -> io::Result<()> {
        let crc = crc32c::crc32c(&self.block).to_le_bytes();
        self.whole = crc32c::crc32c_append(self.whole, &crc);
        self.file.write_all(&u32::try_from(self.block.len()).unwrap_or(u32::MAX).to_le_bytes())?;
        self.file.write_all(&crc)?;
        self.file.write_all(&self.block)?;
        self.block.clear();
        self.blocks += 1;
        if self.blocks.is_multiple_of(SYNC_EVERY) { self.file.sync_data() } else { Ok(()) }
    }

    /// Makes it durable, and then gives it its name, which is in the same folder.
    pub(crate) fn finish(mut self, name: &Path) -> io::Result<()> {
        if !self.block.is_empty() {
            self.end_block()?;
        }
        self.file.write_all(&[[0; 4], self.whole.to_le_bytes()].concat())?;
        self.file.sync_all()?;
        fs::rename(&self.unfinished, name)?;
        self.finished = true;
        name.parent().map_or(Ok(()), sync_folder)
    }
}

impl Drop for BlockWriter {
    fn drop(&mut self) {
        if !self.finished {
            drop(fs::remove_file(&self.unfinished));
        }
    }
}

/// A file that is read.
pub(crate) struct BlockReader {
    file: BufReader<File>,
    lsn: Lsn,
    /// The CRC over the header and the blocks' CRCs so far.
    whole: u32,
    block: Vec<u8>,
    used: usize,
}

impl BlockReader {
    pub(crate) fn new(file: File, what: &[u8; 8]) -> Result<BlockReader, Damaged> {
        let file = BufReader::with_capacity(1 << 20, file);
        let mut reader = BlockReader { file, lsn: Lsn::ZERO, whole: 0, block: Vec::new(), used: 0 };
        let (found, lsn) = (reader.take::<8>()?, reader.take::<8>()?);
        if found != *what {
            return Err(Damaged("its header is of something else".to_owned()));
        }
        reader.lsn = Lsn(u64::from_le_bytes(lsn));
        reader.whole = crc32c::crc32c(&[found, lsn].concat());
        Ok(reader)
    }

    pub(crate) fn lsn(&self) -> Lsn {
        self.lsn
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Damaged> {
        let mut bytes = [0; N];
        self.file.read_exact(&mut bytes).map_err(|error| Damaged(error.to_string()))?;
        Ok(bytes)
    }

    /// The next block; false at the end.
    fn next_block(&mut self) -> Result<bool, Damaged> {
        let wrong = |what: &str| Err(Damaged(what.to_owned()));
        let length = usize::try_from(u32::from_le_bytes(self.take()?)).unwrap_or(usize::MAX);
        let crc = self.take::<4>()?;
        if length == 0 {
            return if u32::from_le_bytes(crc) == self.whole { Ok(false) } else { wrong("blocks are missing") };
        }
        if length > LONGEST {
            return wrong("a block is too long");
        }
        self.block.resize(length, 0);
        self.file.read_exact(&mut self.block).map_err(|error| Damaged(error.to_string()))?;
        if crc32c::crc32c(&self.block).to_le_bytes() != crc {
            return wrong("the checksum of a block is wrong");
        }
        self.whole = crc32c::crc32c_append(self.whole, &crc);
        self.used = 0;
        Ok(true)
    }

    /// Has `decode` take the next item from the front of a block; nothing at the end of the file.
    pub(crate) fn next<T>(
        &mut self,
        decode: impl FnOnce(&[u8]) -> Result<(T, &[u8]), Damaged>,
    ) -> Result<Option<T>, Damaged> {
        while self.used >= self.block.len() {
            if !self.next_block()? {
                return Ok(None);
            }
        }
        let bytes = self.block.get(self.used..).unwrap_or_default();
        let (one, rest) = decode(bytes)?;
        self.used = self.block.len() - rest.len();
        Ok(Some(one))
    }
}
