//! Zeros behind the end of sled's file. A file that grows has new blocks and a new length, which the file system notes with every sync; over
//! zeros that are there already a sync writes the bytes and nothing else. So a thread keeps some ahead of what sled writes.
//!
//! They are appended (`O_APPEND`): the kernel puts each piece behind whatever the file holds at that moment, so that none can land on a record,
//! whatever sled does meanwhile. sled reads zeros as the end of its log, as it reads the end of the file; it writes them there itself at every start. Only when it
//! opens a file does it take the end of that for its own, so they are cut off before.
//! Measured in `docs/adr/0026-zeros-ahead-of-sled.md`.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// What sled fills one after the other. Each begins with a header that is not all zeros.
const SEGMENT: u64 = 512 << 10;
const HEADER: usize = 20;
/// So many bytes of zeros are kept ahead, a fifth of a second's worth where sled writes a lot.
const AHEAD: u64 = 8 << 20;
/// So many are appended and synced at once: the journal's flush may have to wait for that.
const PIECE: usize = 256 << 10;
/// The thread looks when sled has written so many bytes, and appends so many pieces at most; where little is written there are no zeros.
const LOOK_EVERY: usize = 256 << 10;
const PIECES_A_LOOK: usize = 4;

/// The thread, once there is somebody who writes a lot.
#[derive(Debug, Default)]
pub(crate) struct ZerosAhead {
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    written: usize,
    look: SyncSender<()>,
    thread: JoinHandle<()>,
}

impl ZerosAhead {
    /// Begins to keep zeros ahead in this file.
    pub(crate) fn keep_from_now_on(&self, file: PathBuf) {
        let mut running = self.running();
        if running.is_some() {
            return;
        }
        let (look, looks) = sync_channel(1);
        let keep = move || {
            // Without them every flush only takes longer.
            if let Err(error) = keep_ahead(&file, &looks) {
                tracing::warn!(%error, file = %file.display(), "no zeros are kept ahead of the journal until the next start");
            }
        };
        match std::thread::Builder::new().name("frokost-ahead".to_owned()).spawn(keep) {
            Ok(thread) => *running = Some(Running { written: 0, look, thread }),
            Err(error) => tracing::warn!(%error, "no thread for the zeros ahead of the journal"),
        }
    }

    /// sled has written so many bytes more.
    pub(crate) fn written(&self, bytes: usize) {
        let mut running = self.running();
        let Some(running) = running.as_mut() else { return };
        running.written += bytes;
        if running.written >= LOOK_EVERY {
            running.written = 0;
            // If a look is still to come that is enough, and if the thread has ended it has said why.
            let _ = running.look.try_send(());
        }
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ZerosAhead {
    fn drop(&mut self) {
        let running = self.running().take();
        if let Some(Running { look, thread, .. }) = running {
            drop(look);
            // What it panicked with has been said.
            drop(thread.join());
        }
    }
}

fn keep_ahead(path: &Path, looks: &Receiver<()>) -> io::Result<()> {
    let file = File::options().read(true).append(true).open(path)?;
    let zeros = vec![0; PIECE];
    let mut unused = file.metadata()?.len().next_multiple_of(SEGMENT);
    while looks.recv().is_ok() {
        unused = top_up(&file, unused, &zeros)?;
    }
    Ok(())
}

/// Appends zeros, if not enough are ahead. No segment before `unused` is; returns what is to be taken for that the next time.
fn top_up(mut file: &File, mut unused: u64, zeros: &[u8]) -> io::Result<u64> {
    for _ in 0..PIECES_A_LOOK {
        let length = file.metadata()?.len();
        // sled cuts its file off where nothing is needed behind.
        unused = unused.min(length.next_multiple_of(SEGMENT));
        while unused < length && !begins_with_zeros(file, unused)? {
            unused += SEGMENT;
        }
        if length >= unused + AHEAD {
            break;
        }
        let to_a_whole_piece = zeros.len() - usize::try_from(length % zeros.len() as u64).unwrap_or(0);
        file.write_all(zeros.get(..to_a_whole_piece).unwrap_or(zeros))?;
        file.sync_data()?;
    }
    Ok(unused)
}

/// Cuts off the whole segments of zeros that a file ends with, which nobody else may have open. sled would take them for free ones, and tidy up as if so much of
/// its file were free.
pub(crate) fn cut_off(file: &File) -> io::Result<()> {
    let length = file.metadata()?.len();
    let mut end = length.next_multiple_of(SEGMENT);
    while let Some(before) = end.checked_sub(SEGMENT)
        && is_zero(file, before, length.min(end))?
    {
        end = before;
    }
    if end < length { file.set_len(end) } else { Ok(()) }
}

fn is_zero(file: &File, from: u64, to: u64) -> io::Result<bool> {
    let mut bytes = vec![0; usize::try_from(to - from).unwrap_or(0)];
    file.read_exact_at(&mut bytes, from)?;
    Ok(bytes.iter().all(|byte| *byte == 0))
}

/// Is there no header at the beginning of a segment?
fn begins_with_zeros(file: &File, segment: u64) -> io::Result<bool> {
    let mut header = [0; HEADER];
    match file.read_exact_at(&mut header, segment) {
        Ok(()) => Ok(header == [0; HEADER]),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(true),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests stop where they are wrong")]

    use super::*;
    use crate::durable_db::DurableDb;

    fn length(path: &Path) -> u64 {
        std::fs::metadata(path).unwrap().len()
    }

    /// Somebody who writes at the end of the file all the time, faster than zeros can be kept ahead.
    #[test]
    fn no_zeros_land_on_what_is_written() {
        const RECORD: usize = 4 << 10;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        let zeros = ZerosAhead::default();
        zeros.keep_from_now_on(path.clone());
        zeros.written(LOOK_EVERY);
        while length(&path) == 0 {
            std::thread::yield_now();
        }
        let record = |n: usize| [u8::try_from(n % 255 + 1).unwrap(); RECORD];
        const RECORDS: usize = 32_768;
        let mut overtaken = 0;
        for n in 0..RECORDS {
            let at = (n * RECORD) as u64;
            overtaken += usize::from(length(&path) <= at);
            file.write_all_at(&record(n), at).unwrap();
            zeros.written(LOOK_EVERY);
        }
        drop(zeros);
        let written = std::fs::read(&path).unwrap();
        let (records, behind) = written.split_at(RECORDS * RECORD);
        for (n, bytes) in records.chunks(RECORD).enumerate() {
            assert!(bytes == record(n), "record {n} is not what was written");
        }
        assert!(behind.iter().all(|byte| *byte == 0));
        assert!(
            overtaken > 100 && overtaken < RECORDS,
            "{overtaken} of {RECORDS} were written at the end: this shows little"
        );
    }

    #[test]
    fn a_database_has_zeros_ahead_and_opens_without_them_as_often_as_one_likes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        for life in 0_u32..5 {
            let db = DurableDb::open(folder.path()).unwrap();
            assert_eq!(zeros_behind(&path), 0, "life {life} begins with zeros of the one before");
            let there: Vec<_> = db.tree().iter().values().map(|value| value.unwrap().to_vec()).collect();
            assert_eq!(there.len(), usize::try_from(life).unwrap() * 600);
            assert!(there.iter().all(|value| value == &[7; 3_000]));
            if db.disk().is_none() {
                assert!(std::env::var_os("CI").is_none(), "not on ext4, and CI skips nothing");
                return;
            }
            db.flushes_often(folder.path());
            for n in 0_u32..600 {
                db.tree().insert((life * 600 + n).to_be_bytes(), [7_u8; 3_000].as_slice()).unwrap();
                db.flush(folder.path()).unwrap();
            }
            drop(db);
            let ahead = zeros_behind(&path);
            assert!((1 << 20..=AHEAD + SEGMENT).contains(&ahead), "{ahead} bytes are ahead");
        }
    }

    /// How many bytes of zeros a start would cut off.
    fn zeros_behind(path: &Path) -> u64 {
        let copy = tempfile::NamedTempFile::new().unwrap();
        std::fs::copy(path, copy.path()).unwrap();
        cut_off(copy.as_file()).unwrap();
        length(path) - length(copy.path())
    }

    #[test]
    fn what_was_cut_off_is_appended_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let zeros = vec![0; PIECE];
        std::fs::write(&path, [9; 3 * 512 * 1024 + 100]).unwrap();
        let file = File::options().read(true).append(true).open(&path).unwrap();
        let fill = |mut unused| {
            for _ in 0..20 {
                unused = top_up(&file, unused, &zeros).unwrap();
            }
            unused
        };
        assert_eq!(fill(4 * SEGMENT), 4 * SEGMENT);
        assert_eq!(length(&path), 4 * SEGMENT + AHEAD);
        cut_off(&file).unwrap();
        assert_eq!(length(&path), 4 * SEGMENT);
        assert_eq!(fill(4 * SEGMENT), 4 * SEGMENT);
        file.set_len(SEGMENT).unwrap();
        assert_eq!(fill(4 * SEGMENT), SEGMENT);
        assert_eq!(length(&path), SEGMENT + AHEAD);
    }

    /// Only what is zeros from end to end: a header alone that cannot be read is no reason to cut.
    #[test]
    fn what_is_not_all_zeros_is_not_cut_off() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(3 * SEGMENT).unwrap();
        file.write_all_at(&[1], 2 * SEGMENT - 1).unwrap();
        cut_off(&file).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 2 * SEGMENT);
        cut_off(&file).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 2 * SEGMENT);
        file.set_len(0).unwrap();
        cut_off(&file).unwrap();
        file.set_len(2 * SEGMENT + 7).unwrap();
        cut_off(&file).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 0);
    }
}
