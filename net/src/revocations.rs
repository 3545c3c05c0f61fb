//! Callers that are let in no more, by their numbers: a file beside the list of those enrolled, and what a server goes by that reads it
//! again and again. See `docs/adr/0028-a-till-that-is-lost.md`.
//!
//! One line each: the number, a blank, when it was revoked in milliseconds since 1970.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use frokost_engine::{CallerId, Timestamp};

use crate::enrol::{EnrolError, content, file_error, sync_parent};

/// Who is let in no more, and since when.
pub type Revoked = BTreeMap<CallerId, Timestamp>;

/// Reads the file; where there is none, nobody is revoked.
pub(crate) fn read(path: &Path) -> Result<Revoked, EnrolError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Revoked::new()),
        Err(error) => return Err(file_error(path)(error)),
    };
    let entry = |line: &str| {
        let (number, since) = line.split_once(' ')?;
        Some((CallerId(number.parse().ok()?), Timestamp(since.parse().ok()?)))
    };
    text.lines()
        .map(|line| {
            entry(line).ok_or_else(|| {
                content(
                    path,
                    &format!("'{line}' is no caller's number and moment (milliseconds since 1970); mend that line"),
                )
            })
        })
        .collect()
}

/// Puts a new file in the place of the old one; whenever the machine stops, it is one of the two.
pub(crate) fn write(path: &Path, revoked: &Revoked) -> Result<(), EnrolError> {
    let text: String = revoked.iter().map(|(id, since)| format!("{id} {}\n", since.0)).collect();
    let beside = path.with_extension("new");
    let written = || {
        let mut file = File::create(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        sync_parent(path)
    };
    written().map_err(file_error(path))
}

/// What a server goes by: those who were revoked when it last looked.
#[derive(Debug)]
pub(crate) struct Watch {
    path: PathBuf,
    seen: RwLock<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    revoked: BTreeSet<CallerId>,
    /// The file could not be read; that has been said.
    unreadable: bool,
}

impl Watch {
    /// # Errors
    /// [`EnrolError`] if the file is there and cannot be read.
    pub(crate) fn begin(path: PathBuf) -> Result<Watch, EnrolError> {
        let revoked = read(&path)?.into_keys().collect();
        Ok(Watch { path, seen: RwLock::new(Seen { revoked, unreadable: false }) })
    }

    /// Looks again. What cannot be read leaves things as they were.
    pub(crate) fn look(&self) {
        let now = read(&self.path);
        let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
        match now {
            Ok(revoked) => *seen = Seen { revoked: revoked.into_keys().collect(), unreadable: false },
            Err(error) if !seen.unreadable => {
                seen.unreadable = true;
                tracing::error!(%error, "who is revoked cannot be read; who was stays so, and nobody is added");
            }
            Err(_) => {}
        }
    }

    pub(crate) fn everybody(&self) -> Vec<CallerId> {
        self.seen.read().unwrap_or_else(PoisonError::into_inner).revoked.iter().copied().collect()
    }

    pub(crate) fn is_revoked(&self, caller: CallerId) -> bool {
        self.seen.read().unwrap_or_else(PoisonError::into_inner).revoked.contains(&caller)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_changes_nothing_and_is_refused_at_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("revoked");
        let watch = Watch::begin(path.clone()).unwrap();
        assert!(!watch.is_revoked(CallerId(3)), "no file, nobody");
        write(&path, &Revoked::from([(CallerId(3), Timestamp(1_790_000_000_000))])).unwrap();
        assert!(!watch.is_revoked(CallerId(3)), "not looked yet");
        watch.look();
        assert!(watch.is_revoked(CallerId(3)) && !watch.is_revoked(CallerId(4)));
        fs::write(&path, "3 1790000000000\nfour\n").unwrap();
        watch.look();
        assert!(watch.is_revoked(CallerId(3)), "a file that cannot be read lets nobody in");
        let refused = Watch::begin(path.clone()).unwrap_err().to_string();
        assert!(refused.contains("'four' is no caller's number and moment"), "{refused}");
        write(&path, &Revoked::new()).unwrap();
        watch.look();
        assert!(!watch.is_revoked(CallerId(3)));
    }
}
