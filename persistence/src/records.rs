//! The portal's records: schools, pupils, logins, orders, browser sessions. JSON values in a database of their own, each
//! change durable before the call returns. Balances are not kept here: the engine has them.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use frokost_engine::{AccountId, OrderNumber, SchoolId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::durable_db::{DbError, DurableDb, explain};
use crate::keys;

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

/// A school.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct School {
    /// Its number, as in tills' certificates.
    pub number: u32,
    /// Its name.
    pub name: String,
}

/// The pupil behind an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pupil {
    /// The account.
    pub account: u64,
    /// The school.
    pub school: u32,
    /// The name.
    pub name: String,
    /// The CPR number, sealed (see [`crate::sealing`]) for the place `pupil/<account>/cpr`.
    pub cpr_sealed: String,
    /// The keyed hash by which the CPR number is found.
    pub cpr_lookup: String,
}

/// Somebody who can log in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// The mail address, as typed at sign-up.
    pub mail: String,
    /// The name shown on the page.
    pub name: String,
    /// Argon2id, in PHC form.
    pub password: String,
    /// The accounts this login manages, in the order in which they were added.
    pub accounts: Vec<u64>,
}

/// Where a payment order stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderState {
    /// Made; the payment window is open or was left.
    Started,
    /// The provider has the money; the account is being credited.
    Paid,
    /// The money is on the account.
    Credited,
    /// The provider refused or the parent gave up.
    Failed,
}

/// A payment order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Its number: on receipts, at the provider, and in the engine's journal.
    pub number: u64,
    /// The account it is for.
    pub account: u64,
    /// Who ordered: the login's mail address.
    pub login: String,
    /// How much, in øre.
    pub amount_ore: i64,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// The version of the terms that were accepted.
    pub terms: String,
    /// The provider's name for the payment, once it has one.
    pub session: Option<String>,
    /// Where it stands.
    pub state: OrderState,
    /// Why it failed, in the provider's word.
    pub refusal: Option<String>,
}

/// An open browser session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebSession {
    /// Whose.
    pub login: String,
    /// Against forged forms: has to come back with every form.
    pub form_token: String,
    /// When it was opened.
    pub opened_ms: u64,
    /// When it was last used.
    pub used_ms: u64,
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
        for line in lines {
            self.db
                .tree()
                .insert(line.key.as_bytes(), line.value.as_bytes())
                .map_err(|error| explain(&self.path, error))?;
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

    fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, RecordsError> {
        self.db.check(&self.path)?;
        let Some(bytes) = self.db.tree().get(key).map_err(|error| explain(&self.path, error))? else { return Ok(None) };
        parse(key, &bytes).map(Some)
    }

    fn all<T: DeserializeOwned>(&self, prefix: &str) -> Result<Vec<T>, RecordsError> {
        self.db.check(&self.path)?;
        self.db
            .tree()
            .scan_prefix(prefix)
            .map(|item| {
                let (key, bytes) = item.map_err(|error| explain(&self.path, error))?;
                parse(&String::from_utf8_lossy(&key), &bytes)
            })
            .collect()
    }

    /// Runs a change and makes what it wrote durable, all or nothing.
    fn change<T>(&self, change: impl FnOnce(&mut Change<'_>) -> Result<T, RecordsError>) -> Result<T, RecordsError> {
        self.db.check(&self.path)?;
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut writing = Change { records: self, batch: sled::Batch::default(), wrote: false };
        let done = change(&mut writing)?;
        if writing.wrote {
            self.db.tree().apply_batch(writing.batch).map_err(|error| explain(&self.path, error))?;
            self.db.flush(&self.path)?;
        }
        Ok(done)
    }

    /// The school with that number.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn school(&self, number: SchoolId) -> Result<Option<School>, RecordsError> {
        self.get(&keys::school(number.0))
    }

    /// Every school.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn schools(&self) -> Result<Vec<School>, RecordsError> {
        self.all("school/")
    }

    /// Adds a school or renames it.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn put_school(&self, school: &School) -> Result<(), RecordsError> {
        self.change(|change| change.put(&keys::school(school.number), school))
    }

    /// The pupil of an account.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn pupil(&self, account: AccountId) -> Result<Option<Pupil>, RecordsError> {
        self.get(&keys::pupil(account))
    }

    /// Every pupil, by account number.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn pupils(&self) -> Result<Vec<Pupil>, RecordsError> {
        self.all("pupil/")
    }

    /// The account of the pupil whose CPR number has this keyed hash.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn account_of_cpr(&self, lookup: &str) -> Result<Option<AccountId>, RecordsError> {
        Ok(self.get::<u64>(&keys::cpr(lookup))?.map(AccountId))
    }

    /// Adds pupils, all of them or none, and gives each the next account number.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn add_pupils(
        &self,
        pupils: &mut [Pupil],
        seal: impl Fn(&mut Pupil) -> Result<(), RecordsError>,
    ) -> Result<(), RecordsError> {
        self.change(|change| {
            let key = keys::last_number("account");
            let mut last = self.get::<u64>(&key)?.unwrap_or(0);
            for pupil in &mut *pupils {
                last += 1;
                pupil.account = last;
                seal(pupil)?;
                change.put(&keys::pupil(AccountId(pupil.account)), pupil)?;
                change.put(&keys::cpr(&pupil.cpr_lookup), &pupil.account)?;
            }
            change.put(&key, &last)
        })
    }

    /// The login with that mail address, in upper or lower case.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn login(&self, mail: &str) -> Result<Option<Login>, RecordsError> {
        self.get(&keys::login(mail))
    }

    /// Adds a login or replaces it.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn put_login(&self, login: &Login) -> Result<(), RecordsError> {
        self.change(|change| change.put(&keys::login(&login.mail), login))
    }

    /// The order with that number.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn order(&self, number: OrderNumber) -> Result<Option<Order>, RecordsError> {
        self.get(&keys::order(number))
    }

    /// The orders that are not settled: started, or paid and not credited.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn open_orders(&self) -> Result<Vec<OrderNumber>, RecordsError> {
        Ok(self.all::<u64>("open/")?.into_iter().map(OrderNumber).collect())
    }

    /// Every order for an account, oldest first.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn orders_of(&self, account: AccountId) -> Result<Vec<Order>, RecordsError> {
        let numbers = self.all::<u64>(&keys::orders_of(account))?;
        let orders = numbers.into_iter().map(|number| self.order(OrderNumber(number)));
        Ok(orders.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }

    /// The order that the provider knows under this name.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn order_of_payment(&self, session: &str) -> Result<Option<OrderNumber>, RecordsError> {
        Ok(self.get::<u64>(&keys::payment(session))?.map(OrderNumber))
    }

    /// Makes an order for the form with the key `form`, or finds the one that form has made already. `make` is given
    /// the order's number.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn order_once(&self, form: &str, make: impl FnOnce(OrderNumber) -> Order) -> Result<Order, RecordsError> {
        self.change(|change| {
            if let Some(number) = self.get::<u64>(&keys::form(form))?
                && let Some(order) = self.order(OrderNumber(number))?
            {
                return Ok(order);
            }
            let number = change.number("order")?;
            let order = make(OrderNumber(number));
            change.put_order(&order)?;
            change.put(&keys::form(form), &number)?;
            Ok(order)
        })
    }

    /// Changes an order under a lock: `with` sees its newest state and says whether it changed anything. Returns the order
    /// as it is afterwards, if there is one.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn change_order(
        &self,
        number: OrderNumber,
        with: impl FnOnce(&mut Order) -> bool,
    ) -> Result<Option<Order>, RecordsError> {
        self.change(|change| {
            let Some(mut order) = self.order(number)? else { return Ok(None) };
            if with(&mut order) {
                change.put_order(&order)?;
            }
            Ok(Some(order))
        })
    }

    /// The browser session with that hash.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn session(&self, hash: &str) -> Result<Option<WebSession>, RecordsError> {
        self.get(&keys::session(hash))
    }

    /// Opens or changes a browser session.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn put_session(&self, hash: &str, session: &WebSession) -> Result<(), RecordsError> {
        self.change(|change| change.put(&keys::session(hash), session))
    }

    /// Notes that a browser session was used, unless it has ended meanwhile.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn note_session_used(&self, hash: &str, now_ms: u64) -> Result<(), RecordsError> {
        self.change(|change| match self.session(hash)? {
            Some(session) => change.put(&keys::session(hash), &WebSession { used_ms: now_ms, ..session }),
            None => Ok(()),
        })
    }

    /// Ends every browser session that was last used before `idle` or opened before `opened` (milliseconds since 1970).
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn end_old_sessions(&self, idle: u64, opened: u64) -> Result<(), RecordsError> {
        self.change(|change| {
            for item in self.db.tree().scan_prefix("session/") {
                let (key, bytes) = item.map_err(|error| explain(&self.path, error))?;
                let session: WebSession = parse(&String::from_utf8_lossy(&key), &bytes)?;
                if session.used_ms < idle || session.opened_ms < opened {
                    change.batch.remove(key);
                    change.wrote = true;
                }
            }
            Ok(())
        })
    }

    /// Ends a browser session.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn end_session(&self, hash: &str) -> Result<(), RecordsError> {
        self.change(|change| {
            change.batch.remove(keys::session(hash).as_str());
            change.wrote = true;
            Ok(())
        })
    }
}

fn parse<T: DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<T, RecordsError> {
    // Only the kind: the rest of a key may be a mail address, and this ends in a log.
    let kind = key.split('/').next().unwrap_or_default().to_owned();
    serde_json::from_slice(bytes).map_err(|error| RecordsError::Damaged { key: kind, why: error.to_string() })
}

struct Change<'a> {
    records: &'a Records,
    batch: sled::Batch,
    wrote: bool,
}

impl Change<'_> {
    fn put<T: Serialize>(&mut self, key: &str, value: &T) -> Result<(), RecordsError> {
        let bytes = serde_json::to_vec(value)
            .map_err(|error| RecordsError::Damaged { key: key.to_owned(), why: error.to_string() })?;
        if bytes.len() > crate::durable_db::MAX_VALUE {
            return Err(RecordsError::Storage(format!(
                "{key} would be {} bytes, more than a record may be",
                bytes.len()
            )));
        }
        self.batch.insert(key, bytes);
        self.wrote = true;
        Ok(())
    }

    /// An order, and what leads to it.
    fn put_order(&mut self, order: &Order) -> Result<(), RecordsError> {
        let number = OrderNumber(order.number);
        self.put(&keys::order(number), order)?;
        self.put(&format!("{}{:020}", keys::orders_of(AccountId(order.account)), order.number), &order.number)?;
        if let Some(session) = &order.session {
            self.put(&keys::payment(session), &order.number)?;
        }
        match order.state {
            OrderState::Started | OrderState::Paid => self.put(&keys::open_order(number), &order.number),
            OrderState::Credited | OrderState::Failed => {
                self.batch.remove(keys::open_order(number).as_str());
                Ok(())
            }
        }
    }

    fn number(&mut self, kind: &str) -> Result<u64, RecordsError> {
        let key = keys::last_number(kind);
        let next = self.records.get::<u64>(&key)?.unwrap_or(0) + 1;
        self.put(&key, &next)?;
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_form_makes_one_order() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::open(&folder.path().join("records")).unwrap();
        let make = |number: OrderNumber| Order {
            number: number.0,
            account: 1,
            login: "a@b.dk".to_owned(),
            amount_ore: 20_000,
            at_ms: 0,
            terms: "1".to_owned(),
            session: None,
            state: OrderState::Started,
            refusal: None,
        };
        let first = records.order_once("form-1", make).unwrap();
        assert_eq!(records.order_once("form-1", make).unwrap(), first);
        assert_ne!(records.order_once("form-2", make).unwrap().number, first.number);
        drop(records);
        let records = Records::open(&folder.path().join("records")).unwrap();
        assert_eq!(records.order_once("form-1", make).unwrap(), first, "also after a restart");
        assert_eq!(records.open_orders().unwrap().len(), 2);
        // Settled, it is no longer open; its account and the provider's name still lead to it.
        let number = OrderNumber(first.number);
        let settle = |order: &mut Order| {
            order.session = Some("abc".to_owned());
            order.state = OrderState::Credited;
            true
        };
        records.change_order(number, settle).unwrap();
        assert_eq!(records.open_orders().unwrap().len(), 1);
        assert_eq!(records.orders_of(AccountId(1)).unwrap().len(), 2);
        assert_eq!(records.orders_of(AccountId(2)).unwrap(), []);
        assert_eq!(records.order_of_payment("abc").unwrap(), Some(number));
    }

    #[test]
    fn old_sessions_end_and_others_stay() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::open(&folder.path().join("records")).unwrap();
        let session =
            |opened_ms, used_ms| WebSession { login: "m@x.dk".into(), form_token: "t".into(), opened_ms, used_ms };
        records.put_session("idle", &session(50, 60)).unwrap();
        records.put_session("long", &session(10, 99)).unwrap();
        records.put_session("good", &session(50, 90)).unwrap();
        records.end_old_sessions(80, 40).unwrap();
        let there = |name| records.session(name).unwrap().is_some();
        assert_eq!([there("idle"), there("long"), there("good")], [false, false, true]);
        // A page that was under way while its session ended does not bring it back.
        records.note_session_used("idle", 100).unwrap();
        assert!(!there("idle"));
    }

    #[test]
    fn a_login_is_found_whatever_the_case() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::open(&folder.path().join("records")).unwrap();
        let login =
            Login { mail: "Mor@Skole.dk".into(), name: "Mor".into(), password: "x".into(), accounts: vec![1, 2] };
        records.put_login(&login).unwrap();
        assert_eq!(records.login("mor@skole.DK").unwrap(), Some(login));
        assert_eq!(records.login("far@skole.dk").unwrap(), None);
    }
}
