//! A disk of its own for a test: ext4 on a loop file, mounted. Either the file is a plain one, or one of a file system of ours that knows what
//! the disk was told to flush, and so what a power cut would leave of it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::forgetful_image::{ForgetfulImage, Forgets};

pub struct LoopDisk {
    /// Where the image is not a plain file.
    forgetful: Option<ForgetfulImage>,
    folder: TempDir,
}

impl LoopDisk {
    /// A new disk; nothing, and one line that says why, where there can be none.
    pub fn new(megabytes: u64, what_is_skipped: &str) -> Option<LoopDisk> {
        let disk = LoopDisk { forgetful: None, folder: tempfile::tempdir().unwrap() };
        let made = disk.make(megabytes, &["-q", "-m", "0"]).and_then(|()| disk.mount());
        LoopDisk::unless_skipped(disk, made, what_is_skipped)
    }

    /// A disk with a cache of its own, whose power can be cut ([`LoopDisk::cut`]).
    pub fn that_forgets(megabytes: u64, what_is_skipped: &str) -> Option<LoopDisk> {
        let mut disk = LoopDisk { forgetful: None, folder: tempfile::tempdir().unwrap() };
        let made = ForgetfulImage::new(&disk.folder.path().join("forgetful"), megabytes).and_then(|image| {
            disk.forgetful = Some(image);
            run(Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(disk.image()))?;
            disk.mount()
        });
        LoopDisk::unless_skipped(disk, made, what_is_skipped)
    }

    /// A disk of 64 MB that can be made to fail ([`LoopDisk::starve`]). Its file system has no journal: with one it would go read-only at the first
    /// failure, which the next start would notice.
    pub fn that_can_starve(what_is_skipped: &str) -> Option<LoopDisk> {
        let disk = LoopDisk { forgetful: None, folder: tempfile::tempdir().unwrap() };
        let made = run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=40m", "none"]).arg(disk.folder.path()))
            .and_then(|()| disk.make(64, &["-q", "-m", "0", "-O", "^has_journal", "-E", "lazy_itable_init=0"]))
            .and_then(|()| disk.mount_with("loop,errors=continue"));
        LoopDisk::unless_skipped(disk, made, what_is_skipped)
    }

    /// From now on a write to a place of the disk that was never written before fails.
    pub fn starve(&self) {
        let mut ballast = std::fs::File::create(self.folder.path().join("ballast")).unwrap();
        while ballast.write_all(&[1; 4096]).is_ok() {}
    }

    /// And from now on none does.
    pub fn feed(&self) {
        std::fs::remove_file(self.folder.path().join("ballast")).unwrap();
    }

    /// The machine is off and on again: nothing of that disk is in memory.
    pub fn restart(&self) {
        // sled lets go of its files a moment after it was dropped.
        let unmounted = (0..100).any(|_| {
            let done = run(Command::new("umount").arg(self.path())).is_ok();
            if !done {
                std::thread::sleep(Duration::from_millis(20));
            }
            done
        });
        assert!(unmounted, "the disk stays in use");
        self.mount_with("loop,errors=continue").unwrap();
    }

    fn make(&self, megabytes: u64, options: &[&str]) -> Result<(), String> {
        run(Command::new("truncate").arg(format!("-s{megabytes}M")).arg(self.image()))?;
        run(Command::new("mkfs.ext4").args(options).arg(self.image()))
    }

    fn unless_skipped(disk: LoopDisk, made: Result<(), String>, what_is_skipped: &str) -> Option<LoopDisk> {
        match made {
            Ok(()) => Some(disk),
            Err(why) => {
                assert!(std::env::var_os("CI").is_none(), "no loop disk, and CI skips nothing: {why}");
                eprintln!("skipped: {what_is_skipped}; it needs root, mkfs.ext4, loop devices and FUSE ({why})");
                None
            }
        }
    }

    /// Has a disk that forgets stand still in the middle of something, calls `meanwhile`, and cuts the power: the disk as it is found then, how
    /// many blocks it has forgotten, and what `meanwhile` gave. Whoever writes goes on afterwards, on a disk of the past.
    pub fn cut<T>(&self, forgets: Forgets, meanwhile: impl FnOnce() -> T) -> (LoopDisk, usize, T) {
        let folder = tempfile::tempdir().unwrap();
        let image = self.forgetful.as_ref().expect("a disk that forgets");
        let still = image.stand_still();
        let given = meanwhile();
        let (image, forgotten) = still.cut(&folder.path().join("forgetful"), forgets).unwrap();
        drop(still);
        let cut = LoopDisk { forgetful: Some(image), folder };
        cut.mount().unwrap();
        (cut, forgotten, given)
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    /// Takes all the room there is but `megabytes`, or a little more: whoever writes to the disk meanwhile, and what the file system
    /// needs to keep track of so large a file, can make what was measured a moment ago too much.
    pub fn leave(&self, megabytes: u64) {
        let ballast = self.path().join("lost+found/ballast");
        for spare in 0..16 {
            drop(std::fs::remove_file(&ballast));
            run(Command::new("sync").arg("--file-system").arg(self.path())).unwrap();
            let df = Command::new("df").args(["--output=avail", "-B1M"]).arg(self.path()).output().unwrap().stdout;
            let free: u64 = String::from_utf8(df).unwrap().lines().nth(1).unwrap().trim().parse().unwrap();
            let length = free.saturating_sub(megabytes + spare);
            if run(Command::new("fallocate").arg(format!("-l{length}M")).arg(&ballast)).is_ok() {
                return;
            }
        }
        panic!("the disk cannot be filled up");
    }

    pub fn empty(&self) {
        std::fs::remove_file(self.path().join("lost+found/ballast")).unwrap();
    }

    fn image(&self) -> PathBuf {
        self.forgetful.as_ref().map_or_else(|| self.folder.path().join("image"), ForgetfulImage::path)
    }

    fn mount(&self) -> Result<(), String> {
        // What nobody syncs stays in memory for a minute, longer than a test; nor does the file system write one file's bytes because
        // another one is synced.
        self.mount_with("loop,commit=60,data=writeback")
    }

    fn mount_with(&self, options: &str) -> Result<(), String> {
        std::fs::create_dir_all(self.path()).map_err(|error| error.to_string())?;
        run(Command::new("mount").args(["-o", options]).args([&self.image(), &self.path()]))
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        for path in [self.path().as_path(), self.folder.path()] {
            if is_mounted(path) {
                let unmounted = run(Command::new("umount").arg(path))
                    .or_else(|_| run(Command::new("umount").arg("--lazy").arg(path)));
                if let Err(why) = unmounted {
                    eprintln!("{why}");
                }
            }
        }
    }
}

fn is_mounted(path: &Path) -> bool {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    mounts.lines().any(|line| line.split(' ').nth(1) == path.to_str())
}

fn run(command: &mut Command) -> Result<(), String> {
    let about = format!("{command:?}");
    match command.output() {
        Ok(ran) if ran.status.success() => Ok(()),
        Ok(ran) => Err(format!("{about}: {}", String::from_utf8_lossy(&ran.stderr).trim())),
        Err(error) => Err(format!("{about}: {error}")),
    }
}
