//! One flush of a disk for two files on it. A flush makes everything durable that the disk was given before it, whoever gave it; so a second
//! file needs none of its own if its bytes go to the disk itself and not to the page cache (`O_DIRECT`), and over blocks that are there already,
//! so that the file system has nothing to note about them. `docs/adr/0024-one-flush-for-two-files.md` says why this holds, and where.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{AtFlags, OFlags, StatxFlags, fstat, fstatfs, statx};

/// Bytes of a block: what is written past the page cache begins and ends at a multiple of it, in the file and in memory.
pub(crate) const BLOCK: usize = 4096;
/// What ext4 calls itself. Others may flush less than the whole disk, or write to a new place instead of over the old one.
const EXT4: i128 = 0xEF53;

/// A disk that any file's sync flushes whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk(u64);

impl Disk {
    /// The disk that `file` is on, if it is known to be one.
    #[must_use]
    pub fn of(file: &File) -> Option<Disk> {
        let ext4 = fstatfs(file).is_ok_and(|found| i128::from(found.f_type) == EXT4);
        ext4.then(|| fstat(file).ok().map(|found| Disk(found.st_dev))).flatten()
    }
}

/// A file that is written past the page cache.
#[derive(Debug)]
pub struct DirectFile {
    file: File,
    blocks: Blocks,
    /// Up to where the block is known that the next write begins in; it stands at the front of `blocks`.
    known: Option<u64>,
}

impl DirectFile {
    /// Nothing where the file system cannot do it, as one that keeps data in its journal cannot.
    #[must_use]
    pub fn open(path: &Path) -> Option<DirectFile> {
        let direct = i32::try_from(OFlags::DIRECT.bits()).ok()?;
        let file = File::options().write(true).custom_flags(direct).open(path).ok()?;
        let found = statx(&file, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN).ok()?;
        let told = StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::DIOALIGN);
        let fits = |align: u32| u64::from(align) > 0 && (BLOCK as u64).is_multiple_of(align.into());
        let can = told && fits(found.stx_dio_mem_align) && fits(found.stx_dio_offset_align);
        can.then(|| DirectFile { file, blocks: Blocks::with_room(0), known: None })
    }

    /// Writes `bytes` at `at`, and zeros behind them to the end of the block; what stands before `at` in its block is read from `other`, the
    /// same file, where it is not known. After it the disk has the bytes, and a flush makes them durable, if the place was written before and that was synced.
    ///
    /// # Errors
    /// What the file system says. Nothing can be said of the blocks then.
    pub fn write(&mut self, other: &File, at: u64, bytes: &[u8]) -> io::Result<()> {
        let within = usize::try_from(at % BLOCK as u64).expect("less than a block");
        let known = self.known.take() == Some(at);
        let end = within + bytes.len();
        let whole = end.next_multiple_of(BLOCK);
        let blocks = self.blocks.grown(whole);
        let (before, rest) = blocks.split_at_mut(within);
        if !known {
            other.read_exact_at(before, at - within as u64)?;
        }
        let (now, behind) = rest.split_at_mut(bytes.len());
        now.copy_from_slice(bytes);
        behind.fill(0);
        self.file.write_all_at(blocks, at - within as u64)?;
        blocks.copy_within(end - end % BLOCK..end, 0);
        self.known = Some(at + bytes.len() as u64);
        Ok(())
    }
}

/// Memory that begins at a multiple of a block.
#[derive(Debug)]
struct Blocks {
    room: Vec<u8>,
    from: usize,
}

impl Blocks {
    fn with_room(bytes: usize) -> Blocks {
        let room = vec![0; bytes + BLOCK];
        let from = room.as_ptr().align_offset(BLOCK);
        Blocks { room, from }
    }

    /// The first `bytes`, after making them if they are not there. The first block stays.
    fn grown(&mut self, bytes: usize) -> &mut [u8] {
        if self.room.len() < bytes + BLOCK {
            let mut more = Blocks::with_room(bytes.next_power_of_two());
            let kept = self.room.get(self.from..self.room.len().min(self.from + BLOCK)).unwrap_or_default();
            if let Some(front) = more.room.get_mut(more.from..more.from + kept.len()) {
                front.copy_from_slice(kept);
            }
            *self = more;
        }
        self.room.get_mut(self.from..self.from + bytes).expect("there is a block more than was asked for")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests stop where they are wrong")]

    use super::*;

    /// Pieces of every length over prewritten zeros, each behind the one before, with somebody else's writing in between.
    #[test]
    fn what_is_written_past_the_page_cache_is_what_a_reader_finds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        const BYTES: usize = 1 << 20;
        std::fs::write(&path, vec![0; BYTES]).unwrap();
        let other = File::options().read(true).write(true).open(&path).unwrap();
        other.sync_all().unwrap();
        let Some(mut direct) = DirectFile::open(&path) else {
            assert!(std::env::var_os("CI").is_none(), "no O_DIRECT here, and CI skips nothing");
            return;
        };
        let mut expected = vec![0; BYTES];
        let mut at = 36;
        let mut lengths = [1, 4095, 4096, 4060, 4097, 9000, 36, 4056, 12_288, 65_536, 8192, 1].into_iter().cycle();
        for n in 1_u8.. {
            let length = lengths.next().unwrap();
            if at + length > BYTES - BLOCK {
                break;
            }
            let piece: Vec<u8> = (0..length).map(|i| n.wrapping_add(u8::try_from(i % 251).unwrap())).collect();
            expected[at..at + length].copy_from_slice(&piece);
            if n % 5 == 0 {
                other.write_all_at(&piece, at as u64).unwrap();
                other.sync_data().unwrap();
            } else {
                direct.write(&other, at as u64, &piece).unwrap();
            }
            at += length;
            assert!(std::fs::read(&path).unwrap() == expected, "piece {n}, {length} bytes to {at}");
        }
        assert!(at > BYTES / 2, "only {at} bytes were written");
    }
}
