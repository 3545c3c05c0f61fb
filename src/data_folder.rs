//! The data folder: where everything of an installation is, and how it is opened. Only its owner may enter it.
//!
//! ```text
//! data/
//!   journal/          the journal (sled)          journal.head   how far it was acknowledged
//!   mirror/           its second copy             journal.files/ the journal where it is on plain files
//!   snapshots/        the state at an LSN         statements/    every record, by account and month
//!   records/          names, logins, orders       backups/       what `frokost backup` made
//!   set-aside/        what `frokost restore` replaced   restoring  is there while one has not come to its end
//!   pki/              our certificate authority, the lists of callers and of those revoked, the bundles of portal and operator;
//!                     load.lock is held while a load test sells
//!   keys/records.key  seals CPR numbers           sandbox.json   the payment sandbox's book
//!   mail/             mails, where no mail server is set   pictures/   pupils' pictures
//!   serving           where the running server listens for tills
//! ```

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use frokost_engine::{Role, SchoolId};
use frokost_net::enrol::replace;
use frokost_net::{Authority, Bundle, Identity};
use frokost_persistence::{Records, SealingKey};

use crate::settings::Settings;

/// Is there while a restore has not come to its end.
const RESTORING: &str = "restoring";
/// The installation's own bundles are made anew when they have less than this to live, of three years.
const RENEWED_BEFORE: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Everything that may be in a data folder.
const OURS: [&str; 19] = [
    "journal",
    "journal.head",
    "journal.files",
    "mirror",
    "snapshots",
    "backups",
    "statements",
    "set-aside",
    "restoring",
    "restoring.new",
    "records",
    "pki",
    "keys",
    "mail",
    "pictures",
    "sandbox.json",
    "sandbox.new",
    "serving",
    "try-me.pem",
];

/// An installation's folder.
#[derive(Debug, Clone)]
pub(crate) struct DataFolder(PathBuf);

impl DataFolder {
    /// The folder for an installation that may begin here: made if it is not there, private in any case. A folder with
    /// something else in it is left alone.
    pub(crate) fn make(path: &Path) -> anyhow::Result<DataFolder> {
        let folder = DataFolder::to_restore(path)?;
        folder.whole()?;
        Ok(folder)
    }

    /// The same, also where a restore was cut off.
    pub(crate) fn to_restore(path: &Path) -> anyhow::Result<DataFolder> {
        let about = || format!("the data folder {}", path.display());
        if !path.exists() {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)
                .with_context(|| format!("{} cannot be made", about()))?;
        }
        anyhow::ensure!(fs::metadata(path).with_context(about)?.is_dir(), "{} is not a folder", about());
        for entry in fs::read_dir(path).with_context(|| format!("{} cannot be read", about()))? {
            let name = entry.with_context(about)?.file_name();
            anyhow::ensure!(
                OURS.iter().any(|ours| name == *ours),
                "{} has something of somebody else's in it: {}; choose an empty folder",
                about(),
                name.to_string_lossy()
            );
        }
        if fs::metadata(path).with_context(about)?.permissions().mode() & 0o077 != 0 {
            let private = fs::Permissions::from_mode(0o700);
            fs::set_permissions(path, private).with_context(|| format!("{} cannot be made private", about()))?;
        }
        let folder = DataFolder(path.to_owned());
        folder.own()?;
        Ok(folder)
    }

    /// The folder of an installation that is there. Changes nothing.
    pub(crate) fn existing(path: &Path) -> anyhow::Result<DataFolder> {
        let about = || format!("the data folder {}", path.display());
        fs::read_dir(path).with_context(about)?;
        let folder = DataFolder(path.to_owned());
        anyhow::ensure!(
            folder.is_begun(),
            "there is no installation in {}; name its folder with --data, or begin one with import, serve or demo",
            path.display()
        );
        folder.own()?;
        folder.whole()?;
        Ok(folder)
    }

    /// Root can do everything in a folder that is somebody else's, and its server could not read what root has written there.
    fn own(&self) -> anyhow::Result<()> {
        let Ok(key) = fs::metadata(self.0.join("pki/ca.key")) else { return Ok(()) };
        let (owner, me) = (key.uid(), rustix::process::geteuid().as_raw());
        anyhow::ensure!(
            !rustix::process::geteuid().is_root() || owner == me,
            "the installation in {} is user {owner}'s, and what root writes there its server cannot read; do it as that user: sudo -u '#{owner}' frokost ...",
            self.0.display()
        );
        Ok(())
    }

    /// A restore that was cut off has left some of the old and some of the new.
    fn whole(&self) -> anyhow::Result<()> {
        match fs::read_to_string(self.0.join(RESTORING)) {
            Ok(again) => anyhow::bail!(
                "a restore of {} was cut off before its end, and until it is done there is no whole installation; do it again: {again}",
                self.0.display()
            ),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error).with_context(|| format!("{}", self.0.join(RESTORING).display())),
        }
    }

    /// Notes that a restore is under way, and how it is done again if it is cut off.
    pub(crate) fn begin_restoring(&self, again: &str) -> anyhow::Result<()> {
        Ok(replace(&self.0.join(RESTORING), again.as_bytes())?)
    }

    /// It is done.
    pub(crate) fn end_restoring(&self) -> anyhow::Result<()> {
        fs::remove_file(self.0.join(RESTORING))?;
        Ok(File::open(&self.0)?.sync_all()?)
    }

    /// One that has at least the keys of an installation, which may run elsewhere.
    pub(crate) fn with_keys(path: &Path) -> anyhow::Result<DataFolder> {
        let keys = path.join("pki");
        anyhow::ensure!(
            keys.join("ca.pem").is_file() && keys.join("ca.key").is_file(),
            "there are no keys in {}; name the installation's data folder with --data, or a folder with a copy of its pki",
            keys.display()
        );
        Ok(DataFolder(path.to_owned()))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Is there an installation, or only its keys?
    pub(crate) fn is_begun(&self) -> bool {
        self.0.join("journal/db").exists() || self.0.join("journal.files").exists()
    }

    pub(crate) fn records(&self) -> anyhow::Result<Records> {
        Ok(Records::open(&self.0.join("records"))?)
    }

    pub(crate) fn authority(&self) -> anyhow::Result<Authority> {
        Ok(Authority::load_or_create(&self.0.join("pki"))?)
    }

    pub(crate) fn pictures(&self) -> PathBuf {
        self.0.join("pictures")
    }

    pub(crate) fn sandbox_book(&self) -> PathBuf {
        self.0.join("sandbox.json")
    }

    /// Notes where tills reach the server that runs on this folder, for the subcommands.
    pub(crate) fn note_serving(&self, address: SocketAddr) -> anyhow::Result<()> {
        let path = self.0.join("serving");
        fs::write(&path, address.to_string()).with_context(|| format!("{}", path.display()))
    }

    /// Where tills reach the server that runs on this folder. Believe it only while the journal is in use.
    pub(crate) fn serving_at(&self) -> Option<SocketAddr> {
        fs::read_to_string(self.0.join("serving")).ok()?.trim().parse().ok()
    }

    /// The bundle of one of the installation's own callers, enrolled when first asked for. It is made anew where it is not whole, not the
    /// listed caller's, or has not a year to live.
    pub(crate) fn own_bundle(&self, authority: &Authority, name: &str, role: Role) -> anyhow::Result<Bundle> {
        let path = self.0.join("pki").join(format!("{name}.pem"));
        let known = authority.callers().enrolled()?.into_iter().find(|enrolled| enrolled.name == name);
        let caller = match known {
            Some(enrolled) => enrolled.caller,
            None => authority.enrol(name, role, SchoolId(0))?.0.0,
        };
        anyhow::ensure!(
            caller.role == role,
            "the name '{name}', which the installation needs for its {}, is that of a {}; take that line out of {}",
            role.name(),
            caller.role.name(),
            self.0.join("pki/callers").display()
        );
        let there = if path.exists() { Bundle::read(&path).ok() } else { None };
        let good = there.filter(|bundle| {
            bundle.identity() == Some(Identity(caller)) && bundle.is_good_at(SystemTime::now() + RENEWED_BEFORE)
        });
        match good {
            Some(bundle) => Ok(bundle),
            None => {
                replace(&path, authority.bundle(Identity(caller))?.as_bytes())?;
                Ok(Bundle::read(&path)?)
            }
        }
    }
}

/// The key that seals CPR numbers. Made when there is nothing yet that could have been sealed with another.
pub(crate) fn sealing_key(settings: &Settings, records: &Records) -> anyhow::Result<SealingKey> {
    let path = settings.key_file();
    anyhow::ensure!(
        path.exists() || records.pupils()?.is_empty(),
        "the key file {} is missing, and there are pupils whose CPR numbers only it opens; put it back",
        path.display()
    );
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent)
            .with_context(|| format!("the folder {} cannot be made", parent.display()))?;
    }
    Ok(SealingKey::load_or_create(&path)?)
}
