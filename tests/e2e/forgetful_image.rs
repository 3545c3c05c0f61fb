//! The image of a disk with a cache: a file system of this process with one file in it. What is written to the file is in the cache until
//! somebody syncs it, as what is written to a disk is until it is told to flush; a power cut leaves of that what chance leaves.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, Generation, INodeNo, LockOwner,
    MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyWrite, Request, WriteFlags,
};

const BLOCK: usize = 4096;
const NAME: &str = "image";
const FILE: INodeNo = INodeNo(2);
/// Nothing changes but by way of the kernel.
const FOR_EVER: Duration = Duration::from_secs(3_600);

type Block = Arc<[u8; BLOCK]>;

/// What a power cut leaves of what was not synced.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Forgets {
    Everything,
    /// Each block or not, as chance has it.
    Some,
}

/// Mounted; unmounted when dropped.
pub struct ForgetfulImage {
    at: PathBuf,
    disk: Arc<Mutex<Disk>>,
    session: Option<BackgroundSession>,
}

#[derive(Default)]
struct Disk {
    contents: Contents,
    /// After how many writes it stands still, and for whom.
    stop: Option<(u32, Stop)>,
}

/// It says when it stands still, and stands still until it is told or nobody is there to tell it.
struct Stop {
    stands_still: SyncSender<()>,
    go_on: Receiver<()>,
}

/// A disk that stands still; it goes on when this is dropped.
pub struct StoodStill<'a> {
    image: &'a ForgetfulImage,
    _go_on: SyncSender<()>,
}

#[derive(Clone, Default)]
struct Contents {
    bytes: u64,
    /// What survives; blocks that are not there are zeros.
    durable: BTreeMap<u64, Block>,
    /// What was written since the last sync.
    cached: BTreeMap<u64, Block>,
}

impl ForgetfulImage {
    /// An empty disk, its image in the folder `at`.
    pub fn new(at: &Path, megabytes: u64) -> Result<ForgetfulImage, String> {
        ForgetfulImage::mount(at, Contents { bytes: megabytes << 20, ..Contents::default() })
    }

    fn mount(at: &Path, contents: Contents) -> Result<ForgetfulImage, String> {
        let failed = |error: std::io::Error| format!("FUSE at {}: {error}", at.display());
        std::fs::create_dir_all(at).map_err(failed)?;
        let disk = Arc::new(Mutex::new(Disk { contents, stop: None }));
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("forgetful".to_owned())];
        let session = fuser::spawn_mount(Served(Arc::clone(&disk)), at, &config).map_err(failed)?;
        Ok(ForgetfulImage { at: at.to_owned(), disk, session: Some(session) })
    }

    pub fn path(&self) -> PathBuf {
        self.at.join(NAME)
    }

    /// Has it stand still where something was written that is not synced, if that happens within a second. Whoever writes or syncs waits.
    pub fn stand_still(&self) -> StoodStill<'_> {
        let (stands_still, told) = sync_channel(1);
        let (tell, go_on) = sync_channel(1);
        lock(&self.disk).stop = Some((fastrand::u32(1..=6), Stop { stands_still, go_on }));
        if told.recv_timeout(Duration::from_secs(1)).is_err() {
            lock(&self.disk).stop = None;
        }
        StoodStill { image: self, _go_on: tell }
    }
}

impl StoodStill<'_> {
    /// The disk after a power cut, in the folder `at`: everything that was synced, and of the rest nothing or what chance leaves. And how many
    /// blocks it has forgotten.
    pub fn cut(&self, at: &Path, forgets: Forgets) -> Result<(ForgetfulImage, usize), String> {
        let Contents { bytes, mut durable, cached } = lock(&self.image.disk).contents.clone();
        let written = cached.len();
        let kept: BTreeMap<u64, Block> =
            cached.into_iter().filter(|_| forgets == Forgets::Some && fastrand::bool()).collect();
        let forgotten = written - kept.len();
        durable.extend(kept);
        Ok((ForgetfulImage::mount(at, Contents { bytes, durable, cached: BTreeMap::new() })?, forgotten))
    }
}

impl Drop for ForgetfulImage {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.session.take().map(BackgroundSession::umount_and_join) {
            eprintln!("{}: {error}", self.at.display());
        }
    }
}

fn lock(disk: &Mutex<Disk>) -> MutexGuard<'_, Disk> {
    disk.lock().unwrap()
}

impl Disk {
    /// Writes, and says whether it is to stand still now.
    fn write(&mut self, offset: u64, data: &[u8]) -> Option<Stop> {
        self.contents.write(offset, data);
        let (writes, stop) = self.stop.take()?;
        if writes == 1 {
            return Some(stop);
        }
        self.stop = Some((writes - 1, stop));
        None
    }
}

impl Contents {
    /// Calls `each` for every piece of a block from `offset` on: the block's number, where in it, and where in the whole.
    fn pieces(offset: u64, bytes: usize, mut each: impl FnMut(u64, usize, std::ops::Range<usize>)) {
        let mut done = 0;
        while done < bytes {
            let at = offset + done as u64;
            let within = usize::try_from(at % BLOCK as u64).unwrap();
            let many = (BLOCK - within).min(bytes - done);
            each(at / BLOCK as u64, within, done..done + many);
            done += many;
        }
    }

    fn block(&self, number: u64) -> Option<&Block> {
        self.cached.get(&number).or_else(|| self.durable.get(&number))
    }

    fn read(&self, offset: u64, bytes: usize) -> Vec<u8> {
        let left = usize::try_from(self.bytes.saturating_sub(offset)).unwrap();
        let mut out = vec![0; bytes.min(left)];
        Contents::pieces(offset, out.len(), |number, within, range| {
            if let Some(block) = self.block(number) {
                let many = range.len();
                out[range].copy_from_slice(&block[within..within + many]);
            }
        });
        out
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        Contents::pieces(offset, data.len(), |number, within, range| {
            let mut block = self.block(number).cloned().unwrap_or_else(|| Arc::new([0; BLOCK]));
            Arc::make_mut(&mut block)[within..within + range.len()].copy_from_slice(&data[range]);
            self.cached.insert(number, block);
        });
    }
}

/// What the kernel asks.
struct Served(Arc<Mutex<Disk>>);

impl Served {
    fn attributes(&self, inode: INodeNo) -> Option<FileAttr> {
        let bytes = lock(&self.0).contents.bytes;
        let (kind, perm, size) = match inode {
            INodeNo::ROOT => (FileType::Directory, 0o700, 0),
            FILE => (FileType::RegularFile, 0o600, bytes),
            _ => return None,
        };
        let (ino, blocks, blksize, nlink) = (inode, size / 512, BLOCK as u32, 1);
        let (atime, mtime, ctime, crtime) = (UNIX_EPOCH, UNIX_EPOCH, UNIX_EPOCH, UNIX_EPOCH);
        let (uid, gid, rdev, flags) = (0, 0, 0, 0);
        Some(FileAttr {
            ino,
            size,
            blocks,
            atime,
            mtime,
            ctime,
            crtime,
            kind,
            perm,
            nlink,
            uid,
            gid,
            rdev,
            blksize,
            flags,
        })
    }
}

impl Filesystem for Served {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.attributes(FILE).filter(|_| name == NAME) {
            Some(attributes) => reply.entry(&FOR_EVER, &attributes, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(inode) {
            Some(attributes) => reply.attr(&FOR_EVER, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        bytes: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        reply.data(&lock(&self.0).contents.read(offset, bytes as usize));
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let stop = lock(&self.0).write(offset, data);
        if let Some(Stop { stands_still, go_on }) = stop {
            // The kernel is served by this thread alone.
            let _ = stands_still.send(());
            let _ = go_on.recv();
        }
        reply.written(u32::try_from(data.len()).unwrap());
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let contents = &mut lock(&self.0).contents;
        contents.durable.extend(std::mem::take(&mut contents.cached));
        reply.ok();
    }
}
