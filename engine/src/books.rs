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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{CallerId, Lsn, PersonId, RequestKey, Sequence};
    use crate::text::Text;
    use crate::time::Timestamp;

    /// A child changes schools and its siblings pay for it: each school's day sums to zero by itself.
    #[test]
    fn money_between_two_schools_leaves_each_of_them_at_zero() {
        let noon = 1_790_000_000_000;
        let record = |lsn: u64, account: u64, entry: Entry| Record {
            lsn: Lsn(lsn),
            at: Timestamp(noon + lsn / 4 * 24 * 3_600_000),
            key: RequestKey { caller: CallerId(1), sequence: Sequence(lsn) },
            fingerprint: 0,
            account: AccountId(account),
            balance: Amount::ZERO,
            by: PersonId(0),
            text: Text::EMPTY,
            entry,
        };
        let kroner = Amount::from_kroner;
        let entries = [
            (1, Entry::Opened { school: SchoolId(1) }),
            (2, Entry::Opened { school: SchoolId(2) }),
            (1, Entry::Corrected { amount: kroner(100), reason: crate::command::Reason::Other }),
            (1, Entry::TransferredOut { to: AccountId(2), amount: kroner(40) }),
            (2, Entry::TransferredIn { from: AccountId(1), amount: kroner(40) }),
            (2, Entry::Purchased { amount: kroner(15) }),
        ];
        let mut books = Books::default();
        for (lsn, (account, entry)) in (1..).zip(entries) {
            books.take(&record(lsn, account, entry)).unwrap();
        }
        assert!(books.pages().count() >= 3, "two days and two schools");
        for (page, trial) in books.pages() {
            assert_eq!(trial.sum(), 0, "{page:?}");
        }
        let of = |school: u32, ledger: &str| {
            let lines = books.sum(|_, wanted| wanted == SchoolId(school)).unwrap();
            lines.iter().filter(|line| line.ledger == ledger).map(|line| line.amount.ore()).sum::<i64>()
        };
        assert_eq!((of(1, "accounts"), of(2, "accounts")), (6_000, 2_500));
        assert_eq!(of(1, "between_schools"), -of(2, "between_schools"));
        assert_eq!(of(1, "between_schools").abs(), 4_000);
        assert_eq!(of(2, "sales"), 1_500);
        assert!(books.sum(|day, _| day.0 == 0).unwrap().is_empty());
    }
}
