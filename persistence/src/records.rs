//! The portal's records: schools, pupils, logins, orders, browser sessions and more, a file each kind. JSON values in a database of their
//! own, each change durable before the call returns. Balances are not kept here: the engine has them.

mod letters;
mod orders;
mod payouts;
mod people;
mod sessions;
mod sign_ups;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::durable_db::{DbError, DurableDb, explain};
use crate::keys;

pub use letters::{Letter, Matter};
pub use orders::{Agreement, Order, OrderState, Purpose};
pub use payouts::{PayoutOrder, PayoutState};
pub use people::{Login, Proof, Pupil, School};
pub use sessions::{Ticket, TicketFor, WebSession};
pub use sign_ups::SignUp;

/// Why records cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordsError {
    /// Another process has them open.
    #[error("the records in {0} are in use by another process")]
    InUse(PathBuf),
    /// They cannot be used.
    #[error("the records cannot be used: {0}")]
    Storage(String),
    /// A record is not what this program writes.
    #[error("a record of the kind {key} is damaged: {why}")]
    Damaged {
        /// Of which kind.
        key: String,
        /// What is wrong.
        why: String,
    },
}

impl From<DbError> for RecordsError {
    fn from(error: DbError) -> RecordsError {
        match error {
            DbError::InUse { path } => RecordsError::InUse(path),
            DbError::Corrupt { .. } | DbError::Io { .. } | DbError::Other { .. } => {
                RecordsError::Storage(error.to_string())
            }
        }
    }
}

/// One record as it stands in a backup: a line of JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Under which key.
    pub key: String,
    /// What it says.
    pub value: String,
}

/// The records in a folder. Clones are the same records.
#[derive(Clone, Debug)]
pub struct Records {
    path: PathBuf,
    db: DurableDb,
    /// One change at a time: a change reads, decides and writes without another in between.
    changing: Arc<Mutex<()>>,
}

impl Records {
    /// Every record, as it is while nothing else changes, for a backup. CPR numbers are sealed in it as they are here.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn export(&self) -> Result<Vec<Line>, RecordsError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let text = |bytes: &[u8], what: &str| {
            let not_text = |_| RecordsError::Damaged { key: what.to_owned(), why: "it is no text".to_owned() };
            String::from_utf8(bytes.to_vec()).map_err(not_text)
        };
        let mut lines = Vec::new();
        for item in self.db.tree().iter() {
            let (key, value) = item.map_err(|error| explain(&self.path, error))?;
            lines.push(Line { key: text(&key, "a key")?, value: text(&value, "a value")? });
        }
        Ok(lines)
    }

    /// Puts the records of a backup into a folder that has none.
    ///
    /// # Errors
    /// [`RecordsError::Storage`] if there are any.
    pub fn import(&self, lines: impl IntoIterator<Item = Line>) -> Result<(), RecordsError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.db.tree().is_empty() {
            return Err(RecordsError::Storage(format!("{} holds records already", self.path.display())));
        }
        for (n, line) in lines.into_iter().enumerate() {
            self.db
                .tree()
                .insert(line.key.as_bytes(), line.value.as_bytes())
                .map_err(|error| explain(&self.path, error))?;
            // Now and then: sled writes over what it has moved, whether or not that is durable where it is now.
            if n % 256 == 255 {
                self.db.flush(&self.path)?;
            }
        }
        Ok(self.db.flush(&self.path)?)
    }

    /// Opens the records in `folder`, or makes empty ones.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn open(folder: &Path) -> Result<Records, RecordsError> {
        let db = DurableDb::open(folder)?;
        Ok(Records { path: folder.to_owned(), db, changing: Arc::default() })
    }

    /// What stands under a key of [`crate::keys`].
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, RecordsError> {
        self.db.check(&self.path)?;
        let Some(bytes) = self.db.tree().get(key).map_err(|error| explain(&self.path, error))? else { return Ok(None) };
        parse(key, &bytes).map(Some)
    }

    /// Everything whose key begins with `prefix`, in the order of the keys.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn all<T: DeserializeOwned>(&self, prefix: &str) -> Result<Vec<T>, RecordsError> {
        self.db.check(&self.path)?;
        self.each(prefix).collect()
    }

    /// The same, one after the other.
    fn each<T: DeserializeOwned>(&self, prefix: &str) -> impl Iterator<Item = Result<T, RecordsError>> {
        self.db.tree().scan_prefix(prefix).map(|item| {
            let (key, bytes) = item.map_err(|error| explain(&self.path, error))?;
            parse(&String::from_utf8_lossy(&key), &bytes)
        })
    }

    /// Runs a change and makes what it wrote durable, all or nothing. Nobody else changes anything meanwhile.
    ///
    /// # Errors
    /// [`RecordsError`]; nothing has changed then.
    pub fn change<T>(
        &self,
        change: impl FnOnce(&mut Change<'_>) -> Result<T, RecordsError>,
    ) -> Result<T, RecordsError> {
        self.db.check(&self.path)?;
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut writing = Change { records: self, written: BTreeMap::new() };
        let done = change(&mut writing)?;
        if !writing.written.is_empty() {
            let mut batch = sled::Batch::default();
            for (key, value) in writing.written {
                match value {
                    Some(bytes) => batch.insert(key.as_str(), bytes),
                    None => batch.remove(key.as_str()),
                }
            }
            self.db.tree().apply_batch(batch).map_err(|error| explain(&self.path, error))?;
            self.db.flush(&self.path)?;
        }
        Ok(done)
    }
}

fn parse<T: DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<T, RecordsError> {
    // Only the kind: the rest of a key may be a mail address, and this ends in a log.
    let kind = key.split('/').next().unwrap_or_default().to_owned();
    serde_json::from_slice(bytes).map_err(|error| RecordsError::Damaged { key: kind, why: error.to_string() })
}

/// A change under way. What it has put it gets; all of it is written together at its end.
pub struct Change<'a> {
    records: &'a Records,
    /// By key; nothing where it was taken away.
    written: BTreeMap<String, Option<Vec<u8>>>,
}

impl Change<'_> {
    /// What stands under a key now, this change included.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, RecordsError> {
        match self.written.get(key) {
            Some(Some(bytes)) => parse(key, bytes).map(Some),
            Some(None) => Ok(None),
            None => self.records.get(key),
        }
    }

    /// Everything whose key begins with `prefix`, before this change.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn all<T: DeserializeOwned>(&self, prefix: &str) -> Result<Vec<T>, RecordsError> {
        self.records.all(prefix)
    }

    /// Takes a key away.
    pub fn remove(&mut self, key: &str) {
        self.written.insert(key.to_owned(), None);
    }

    /// Puts a value under a key.
    ///
    /// # Errors
    /// [`RecordsError`], also where it is more than a record may be.
    pub fn put<T: Serialize>(&mut self, key: &str, value: &T) -> Result<(), RecordsError> {
        let bytes = serde_json::to_vec(value)
            .map_err(|error| RecordsError::Damaged { key: key.to_owned(), why: error.to_string() })?;
        if bytes.len() > crate::durable_db::MAX_VALUE {
            return Err(RecordsError::Storage(format!(
                "{key} would be {} bytes, more than a record may be",
                bytes.len()
            )));
        }
        self.written.insert(key.to_owned(), Some(bytes));
        Ok(())
    }

    /// Leaves numbers of a kind out: `at_least` as many as can have been given out since a backup was made, up to a thousand times that. How
    /// many is a matter of chance, so that two installations from one backup do not give out the same.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn skip_numbers(&mut self, kind: &str, at_least: u64) -> Result<(), RecordsError> {
        let key = keys::last_number(kind);
        let last = self.get::<u64>(&key)?.unwrap_or(0);
        self.put(&key, &last.saturating_add(at_least.saturating_mul(fastrand::u64(1..=1_000))))
    }

    /// The next number of a kind.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn number(&mut self, kind: &str) -> Result<u64, RecordsError> {
        let key = keys::last_number(kind);
        let next = self.get::<u64>(&key)?.unwrap_or(0) + 1;
        self.put(&key, &next)?;
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_sees_what_it_has_written_and_nobody_sees_half_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::open(&folder.path().join("records")).unwrap();
        let numbers = records.change(|change| Ok([change.number("letter")?, change.number("letter")?])).unwrap();
        assert_eq!(numbers, [1, 2]);
        // After a restore none is given out twice.
        records.change(|change| change.skip_numbers("letter", 1_000)).unwrap();
        let next = records.change(|change| change.number("letter")).unwrap();
        assert!(next >= 1_003 && next % 1_000 == 3, "{next}");
        let refused = records.change(|change| -> Result<(), RecordsError> {
            change.put("a", &1u64)?;
            assert_eq!(change.get::<u64>("a")?, Some(1));
            change.remove("a");
            assert_eq!(change.get::<u64>("a")?, None);
            change.put("b", &1u64)?;
            Err(RecordsError::Storage("no".to_owned()))
        });
        assert!(refused.is_err());
        assert_eq!(records.get::<u64>("b").unwrap(), None, "a change that failed has written something");
        let posted = || records.letters().unwrap().len();
        let post = |change: &mut Change<'_>| {
            change.post("a@x.dk", "da", Matter::Forgotten)?;
            change.post("b@x.dk", "da", Matter::Forgotten)
        };
        records.change(post).unwrap();
        assert_eq!(posted(), 2, "of two mails posted together one is lost");
    }
}
