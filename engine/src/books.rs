//! The books: what moved between which ledgers, by school and by Copenhagen day, from the records themselves. Every page of
//! them sums to zero; money between two schools' accounts goes through a ledger of its own so that each school's does, too.

use std::collections::{BTreeMap, HashMap};

use crate::amount::Amount;
use crate::entry::{Entry, Record};
use crate::id::{AccountId, SchoolId};
use crate::ledger::{Ledger, Movement, Overflow, TrialBalance};
use crate::time::Day;

/// One school's day.
pub type Page = (Day, SchoolId);

/// Reads records from the first on, and keeps a trial balance of each day and school.
#[derive(Debug, Default)]
pub struct Books {
    schools: HashMap<AccountId, SchoolId>,
    pages: BTreeMap<Page, TrialBalance>,
}

impl Books {
    /// Counts the next record in.
    ///
    /// # Errors
    /// [`Overflow`], which no honest record causes.
    pub fn take(&mut self, record: &Record) -> Result<(), Overflow> {
        if let Entry::Opened { school } = record.entry {
            self.schools.insert(record.account, school);
        }
        let Some(movement) = record.movement() else { return Ok(()) };
        let Movement { from, to, amount } = movement;
        let day = record.at.day();
        let own = self.school_of(record.account);
        let other = match (from, to) {
            (Ledger::Account(_), Ledger::Account(to)) => self.school_of(to),
            _ => own,
        };
        if own == other {
            return self.page(day, own).add(movement);
        }
        self.page(day, own).add(Movement { from, to: Ledger::BetweenSchools, amount })?;
        self.page(day, other).add(Movement { from: Ledger::BetweenSchools, to, amount })
    }

    /// What moved on the days and at the schools that are asked for, all accounts of a school as one.
    ///
    /// # Errors
    /// [`Overflow`].
    pub fn sum(&self, wanted: impl Fn(Day, SchoolId) -> bool) -> Result<Vec<Line>, Overflow> {
        let mut lines: BTreeMap<(SchoolId, &'static str, u32), Amount> = BTreeMap::new();
        for ((day, school), page) in &self.pages {
            if !wanted(*day, *school) {
                continue;
            }
            for (ledger, amount) in page.iter() {
                let till = if let Ledger::Sales(till) = ledger { till.0 } else { 0 };
                let line = lines.entry((*school, ledger.kind(), till)).or_default();
                *line = line.checked_add(amount).ok_or(Overflow(ledger))?;
            }
        }
        Ok(lines.into_iter().map(|((school, ledger, till), amount)| Line { school, ledger, till, amount }).collect())
    }

    /// Every page, each of which has to sum to zero.
    pub fn pages(&self) -> impl Iterator<Item = (Page, &TrialBalance)> {
        self.pages.iter().map(|(page, trial)| (*page, trial))
    }

    fn school_of(&self, account: AccountId) -> SchoolId {
        self.schools.get(&account).copied().unwrap_or_default()
    }

    fn page(&mut self, day: Day, school: SchoolId) -> &mut TrialBalance {
        self.pages.entry((day, school)).or_default()
    }
}

/// What moved in one ledger of one school: above zero it came in, below it left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// The school.
    pub school: SchoolId,
    /// The kind of ledger.
    pub ledger: &'static str,
    /// Which till, for sales; else 0.
    pub till: u32,
    /// How much.
    pub amount: Amount,
}
