//! Who there is: schools, pupils, and those who log in.

use std::collections::BTreeMap;

use frokost_engine::{AccountId, SchoolId};
use serde::{Deserialize, Serialize};

use super::{Change, Order, OrderState, PayoutOrder, PayoutState, Records, RecordsError};
use crate::keys;

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
    /// The name as the school's list has it, where a parent has written it otherwise.
    #[serde(default)]
    pub listed_as: String,
    /// The CPR number, sealed (see [`crate::sealing`]) for the place `pupil/<account>/cpr`.
    pub cpr_sealed: String,
    /// The keyed hash by which the CPR number is found.
    pub cpr_lookup: String,
    /// Where the pupil lives; empty until somebody says.
    #[serde(default)]
    pub address: String,
    /// Its postal code.
    #[serde(default)]
    pub postcode: String,
    /// Its town.
    #[serde(default)]
    pub city: String,
    /// A telephone number.
    #[serde(default)]
    pub phone: String,
}

impl Pupil {
    /// The name by which the school's list knows the pupil.
    #[must_use]
    pub fn list_name(&self) -> &str {
        if self.listed_as.is_empty() { &self.name } else { &self.listed_as }
    }

    /// Called as a parent writes it; the school's list goes on finding the pupil by its own.
    #[must_use]
    pub fn renamed(self, name: String) -> Pupil {
        let listed_as = self.list_name().to_owned();
        Pupil { name, listed_as, ..self }
    }
}

/// Somebody who can log in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// Its number, by which the journal knows who asked; given with the first write.
    #[serde(default)]
    pub number: u64,
    /// The mail address, as typed at sign-up.
    pub mail: String,
    /// The name shown on the page.
    pub name: String,
    /// Argon2id, in PHC form.
    pub password: String,
    /// The accounts this login manages, in the order in which they were added.
    pub accounts: Vec<u64>,
    /// Accounts that were proved to be the parent's and wait for the parent's word (quick guide, item 9).
    #[serde(default)]
    pub pending: Vec<u64>,
    /// What proved each of those.
    #[serde(default)]
    pub proofs: BTreeMap<u64, Proof>,
    /// Since when, in milliseconds since 1970, the login manages accounts that others managed before.
    #[serde(default)]
    pub since: BTreeMap<u64, u64>,
    /// The language of mails, `da` or `en`; Danish if empty.
    #[serde(default)]
    pub language: String,
}

/// That somebody knew an account's card and who it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// The hash of the card's number.
    pub card: String,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
}

impl Records {
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

    /// The same, one after the other.
    pub fn each_pupil(&self) -> impl Iterator<Item = Result<Pupil, RecordsError>> {
        self.each("pupil/")
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

    /// Lets another keyed hash lead to a pupil, too; `sealed` takes the place of what is kept.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn identify_pupil(&self, account: AccountId, lookup: &str, sealed: Option<String>) -> Result<(), RecordsError> {
        self.change(|change| {
            let Some(mut pupil) = change.get::<Pupil>(&keys::pupil(account))? else { return Ok(()) };
            if let Some(sealed) = sealed {
                pupil.cpr_sealed = sealed;
                lookup.clone_into(&mut pupil.cpr_lookup);
                change.put(&keys::pupil(account), &pupil)?;
            }
            change.put(&keys::cpr(lookup), &account.0)
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
        self.change(|change| change.put_login(login))
    }

    /// The mail addresses of those who manage an account.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn logins_on(&self, account: AccountId) -> Result<Vec<String>, RecordsError> {
        self.all(&keys::logins_on(account))
    }

    /// Changes a login under a lock: `with` sees its newest state and says whether it changed anything. Returns it as it is
    /// afterwards, if there is one.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn change_login(
        &self,
        mail: &str,
        with: impl FnOnce(&mut Login) -> bool,
    ) -> Result<Option<Login>, RecordsError> {
        self.change(|change| {
            let Some(mut login) = self.login(mail)? else { return Ok(None) };
            if with(&mut login) {
                change.put_login(&login)?;
            }
            Ok(Some(login))
        })
    }
}

impl Change<'_> {
    /// A login, and what leads from its accounts to it.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn put_login(&mut self, login: &Login) -> Result<(), RecordsError> {
        let before: Option<Login> = self.get(&keys::login(&login.mail))?;
        for gone in before.iter().flat_map(|before| &before.accounts).filter(|gone| !login.accounts.contains(gone)) {
            self.remove(&keys::login_on(AccountId(*gone), &login.mail));
        }
        for account in &login.accounts {
            self.put(&keys::login_on(AccountId(*account), &login.mail), &login.mail)?;
        }
        let number = match login.number {
            0 => self.number("login")?,
            number => number,
        };
        self.put(&keys::login(&login.mail), &Login { number, ..login.clone() })
    }

    /// Gives what is under way on these accounts from one address of a login to another: orders that may still be paid or given back, pay-outs
    /// that the bank has not settled.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn hand_over(&mut self, accounts: &[u64], from: &str, to: &str) -> Result<(), RecordsError> {
        let theirs = |login: &str| login.to_lowercase() == from.to_lowercase();
        for account in accounts.iter().copied().map(AccountId) {
            for order in self.records.orders_of(account)?.into_iter().filter(|order| theirs(&order.login)) {
                if !matches!(order.state, OrderState::Credited | OrderState::Returned) {
                    let receipt_to = if theirs(&order.receipt_to) { to.to_owned() } else { order.receipt_to.clone() };
                    self.put_order(&Order { login: to.to_owned(), receipt_to, ..order })?;
                }
            }
            for payout in self.records.payouts_of(account)?.into_iter().filter(|payout| theirs(&payout.login)) {
                if matches!(payout.state, PayoutState::Asked | PayoutState::Reserved | PayoutState::Sent) {
                    self.put_payout(&PayoutOrder { login: to.to_owned(), ..payout })?;
                }
            }
        }
        Ok(())
    }

    /// Takes a login away, and what leads to it.
    pub fn remove_login(&mut self, login: &Login) {
        for account in &login.accounts {
            self.remove(&keys::login_on(AccountId(*account), &login.mail));
        }
        self.remove(&keys::login(&login.mail));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_found_whatever_the_case() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::open(&folder.path().join("records")).unwrap();
        let login = Login {
            number: 0,
            mail: "Mor@Skole.dk".into(),
            name: "Mor".into(),
            password: "x".into(),
            accounts: vec![1, 2],
            pending: vec![],
            proofs: BTreeMap::new(),
            since: BTreeMap::new(),
            language: String::new(),
        };
        records.put_login(&login).unwrap();
        assert_eq!(records.logins_on(AccountId(2)).unwrap(), ["Mor@Skole.dk"]);
        assert_eq!(records.login("mor@skole.DK").unwrap(), Some(Login { number: 1, ..login }));
        assert_eq!(records.login("far@skole.dk").unwrap(), None);
        let leave = |login: &mut Login| {
            login.accounts.retain(|account| *account != 2);
            true
        };
        records.change_login("mor@skole.dk", leave).unwrap();
        assert_eq!(records.logins_on(AccountId(2)).unwrap(), Vec::<String>::new());
        assert_eq!(records.logins_on(AccountId(1)).unwrap(), ["Mor@Skole.dk"]);
    }
}
