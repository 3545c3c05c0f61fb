//! Zeros behind the end of sled's file. A file that grows has new blocks and a new length, which the file system notes with every sync; over
//! zeros that are there already a sync writes the bytes and nothing else. So a thread keeps some ahead of what sled writes.
//!
//! They are appended (`O_APPEND`): the kernel puts each piece behind whatever the file holds at that moment, so that none can land on a record,
//! whatever sled does meanwhile. sled reads zeros as the end of its log, as it reads the end of the file; it writes them there itself at every start.
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
/// The thread looks when sled has written so many bytes; where little is written there are no zeros.
const LOOK_EVERY: usize = 256 << 10;

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
    let mut unused = first_unused(&file)?;
    while looks.recv().is_ok() {
        unused = top_up(&file, unused, &zeros)?;
    }
    Ok(())
}

/// Appends zeros until enough are ahead. No segment before `unused` is; returns what is to be taken for that the next time.
fn top_up(mut file: &File, mut unused: u64, zeros: &[u8]) -> io::Result<u64> {
    loop {
        let length = file.metadata()?.len();
        // sled cuts its file off where nothing is needed behind.
        unused = unused.min(length.next_multiple_of(SEGMENT));
        while unused < length && !begins_with_zeros(file, unused)? {
            unused += SEGMENT;
        }
        if length >= unused + AHEAD {
            return Ok(unused);
        }
        let to_a_whole_piece = zeros.len() - usize::try_from(length % zeros.len() as u64).unwrap_or(0);
        file.write_all(zeros.get(..to_a_whole_piece).unwrap_or(zeros))?;
        file.sync_data()?;
    }
}

/// Where the whole segments of zeros begin that the file ends with.
fn first_unused(file: &File) -> io::Result<u64> {
    let mut unused = file.metadata()?.len().next_multiple_of(SEGMENT);
    while let Some(before) = unused.checked_sub(SEGMENT)
        && begins_with_zeros(file, before)?
    {
        unused = before;
    }
    Ok(unused)
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
        let record = |n: usize| [u8::try_from(n % 255 + 1).unwrap(); RECORD];
        const RECORDS: usize = 32_768;
        for n in 0..RECORDS {
            file.write_all_at(&record(n), (n * RECORD) as u64).unwrap();
            zeros.written(LOOK_EVERY);
        }
        drop(zeros);
        let written = std::fs::read(&path).unwrap();
        let (records, behind) = written.split_at(RECORDS * RECORD);
        for (n, bytes) in records.chunks(RECORD).enumerate() {
            assert!(bytes == record(n), "record {n} is not what was written");
        }
        assert!(!behind.is_empty() && behind.iter().all(|byte| *byte == 0), "{} bytes behind", behind.len());
    }

    #[test]
    fn a_database_has_zeros_ahead_and_opens_with_them_as_often_as_one_likes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let open = || DurableDb::open(folder.path()).unwrap();
        let mut lengths = Vec::new();
        for life in 0_u32..5 {
            let db = open();
            let there: Vec<_> = db.tree().iter().values().map(|value| value.unwrap().to_vec()).collect();
            assert_eq!(there.len(), usize::try_from(life).unwrap() * 600);
            assert!(there.iter().all(|value| value == &[7; 3_000]));
            db.flushes_often(folder.path());
            for n in 0_u32..600 {
                db.tree().insert((life * 600 + n).to_be_bytes(), [7_u8; 3_000].as_slice()).unwrap();
                db.flush(folder.path()).unwrap();
            }
            drop(db);
            let file = File::open(&path).unwrap();
            let unused = first_unused(&file).unwrap();
            let ahead = length(&path) - unused;
            assert!(ahead >= AHEAD - 2 * SEGMENT, "only {ahead} bytes are ahead");
            assert!(ahead <= AHEAD + SEGMENT, "{ahead} bytes are ahead");
            lengths.push(length(&path));
        }
        // What five lives have written, and not five times what is ahead.
        assert!(lengths[4] < 5 * 600 * 3_000 * 4 + AHEAD + SEGMENT, "{lengths:?}");
        assert_eq!(open().tree().len(), 3_000);
    }

    #[test]
    fn what_was_cut_off_is_appended_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        let zeros = vec![0; PIECE];
        std::fs::write(&path, [9; 3 * 512 * 1024 + 100]).unwrap();
        let file = File::options().read(true).append(true).open(&path).unwrap();
        assert_eq!(first_unused(&file).unwrap(), 4 * SEGMENT);
        assert_eq!(top_up(&file, 4 * SEGMENT, &zeros).unwrap(), 4 * SEGMENT);
        assert_eq!(length(&path), 4 * SEGMENT + AHEAD);
        file.set_len(SEGMENT).unwrap();
        assert_eq!(top_up(&file, 4 * SEGMENT, &zeros).unwrap(), SEGMENT);
        assert_eq!(length(&path), SEGMENT + AHEAD);
        assert_eq!(first_unused(&file).unwrap(), SEGMENT);
    }
}
