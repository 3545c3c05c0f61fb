//! Every account of a ledger, in two halves. What a record does to its account rests on nothing but that account, so a start brings
//! each half to the journal's end in a thread of its own: what takes the time is memory that is far away.

use std::sync::mpsc::Receiver;

use crate::account::{Account, Diverged};
use crate::entry::{Entry, Record};
use crate::fast_map::FastMap;
use crate::id::{AccountId, Lsn};
use crate::rules::Rules;

/// Every account.
#[derive(Debug, Default, PartialEq)]
pub struct Accounts {
    halves: [Half; 2],
}

/// Every other account.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Half(FastMap<AccountId, Box<Account>>);

/// Which half an account is in.
pub(crate) fn half_of(account: AccountId) -> usize {
    usize::from(account.0 % 2 == 1)
}

impl Accounts {
    fn half(&self, account: AccountId) -> &Half {
        let [even, odd] = &self.halves;
        if half_of(account) == 0 { even } else { odd }
    }

    fn half_mut(&mut self, account: AccountId) -> &mut Half {
        let [even, odd] = &mut self.halves;
        if half_of(account) == 0 { even } else { odd }
    }

    /// The account, if there is one.
    #[must_use]
    pub fn get(&self, account: AccountId) -> Option<&Account> {
        self.half(account).0.get(&account).map(Box::as_ref)
    }

    /// The same, to change it.
    pub fn get_mut(&mut self, account: AccountId) -> Option<&mut Account> {
        self.half_mut(account).0.get_mut(&account).map(Box::as_mut)
    }

    /// The account, unopened if there was none.
    pub fn get_or_unopened(&mut self, account: AccountId) -> &mut Account {
        self.half_mut(account).get_or_unopened(account)
    }

    /// Puts an account in its place.
    pub fn insert(&mut self, account: Account) {
        self.half_mut(account.id()).0.insert(account.id(), Box::new(account));
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.halves.iter().map(|half| half.0.len()).sum()
    }

    /// Are there none?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes in a record.
    ///
    /// # Errors
    /// [`Diverged`] if it does not come to what it states.
    pub fn replay(&mut self, record: &Record, rules: &Rules) -> Result<(), Diverged> {
        self.half_mut(record.account).replay(record, rules)
    }

    pub(crate) fn halves_mut(&mut self) -> [&mut Half; 2] {
        self.halves.each_mut()
    }

    pub(crate) fn into_halves(self) -> [Half; 2] {
        self.halves
    }
}

impl Half {
    fn get_or_unopened(&mut self, account: AccountId) -> &mut Account {
        self.0.entry(account).or_insert_with(|| Box::new(Account::unopened(account)))
    }

    fn replay(&mut self, record: &Record, rules: &Rules) -> Result<(), Diverged> {
        // A refusal opens nothing.
        let refused = matches!(record.entry, Entry::Refused { .. });
        if record.account == AccountId(0) || (refused && !self.0.contains_key(&record.account)) {
            return Ok(());
        }
        self.get_or_unopened(record.account).replay(record, rules)
    }

    /// Takes in the records of this half, up to the first that does not come to what it states: where that is, and what it says.
    pub(crate) fn replay_all(&mut self, records: &Receiver<Vec<Record>>, rules: &Rules) -> Result<(), (Lsn, Diverged)> {
        for some in records {
            // Memory is far away: asked for one account after the other, before any of them is needed, much of it comes at the same time.
            let there = some.iter().filter_map(|record| self.0.get(&record.account));
            std::hint::black_box(there.map(|account| account.balance().ore()).fold(0, i64::wrapping_add));
            for record in &some {
                self.replay(record, rules).map_err(|diverged| (record.lsn, diverged))?;
            }
        }
        Ok(())
    }

    pub(crate) fn into_accounts(self) -> impl Iterator<Item = (AccountId, Box<Account>)> {
        self.0.into_iter()
    }
}
