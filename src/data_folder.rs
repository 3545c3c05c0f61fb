//! The data folder: where everything of an installation is, and how it is opened. Only its owner may enter it.
//!
//! ```text
//! data/
//!   journal/          the journal (sled)          journal.head   how far it was acknowledged
//!   mirror/           its second copy             journal.files/ the journal where it is on plain files
//!   snapshots/        the state at an LSN         statements/    every record, by account and month
//!   records/          names, logins, orders       backups/       what `frokost backup` made
//!   set-aside/        what `frokost restore` replaced
//!   pki/              our certificate authority, the lists of callers and of those revoked, the bundles of portal and operator;
//!                     load.lock is held while a load test sells
//!   keys/records.key  seals CPR numbers           sandbox.json   the payment sandbox's book
//!   mail/             mails, where no mail server is set   pictures/   pupils' pictures
//!   serving           where the running server listens for tills
//! ```

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use frokost_engine::{Role, SchoolId};
use frokost_net::enrol::write_new;
use frokost_net::{Authority, Bundle};
use frokost_persistence::{Records, SealingKey};

use crate::settings::Settings;

/// Everything that may be in a data folder.
const OURS: [&str; 17] = [
    "journal",
    "journal.head",
    "journal.files",
    "mirror",
    "snapshots",
    "backups",
    "statements",
    "set-aside",
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
        Ok(DataFolder(path.to_owned()))
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
        Ok(folder)
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

    /// The bundle of one of the installation's own callers, enrolled when first asked for.
    pub(crate) fn own_bundle(&self, authority: &Authority, name: &str, role: Role) -> anyhow::Result<Bundle> {
        let path = self.0.join("pki").join(format!("{name}.pem"));
        if !path.exists() {
            // If power failed between enrolling and writing, the number is taken and a bundle can be made again.
            let known = authority.callers().enrolled()?.into_iter().find(|enrolled| enrolled.name == name);
            let pem = match known {
                Some(enrolled) => authority.bundle(frokost_net::Identity(enrolled.caller))?,
                None => authority.enrol(name, role, SchoolId(0))?.1,
            };
            write_new(&path, pem.as_bytes(), 0o600)?;
        }
        let bundle = Bundle::read(&path)?;
        let is = bundle.identity().map(|identity| identity.0.role.name());
        anyhow::ensure!(is == Some(role.name()), "{} is not a bundle for the role {}", path.display(), role.name());
        Ok(bundle)
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
