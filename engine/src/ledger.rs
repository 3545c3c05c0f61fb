//! Double entry: every movement of money names two ledgers, and all ledgers together always sum to zero.

use std::collections::BTreeMap;

use crate::amount::Amount;
use crate::command::Source;
use crate::id::{AccountId, CallerId};

/// Where money is, or came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ledger {
    /// A pupil's account: what the canteen owes the family.
    Account(AccountId),
    /// What a till has sold.
    Sales(CallerId),
    /// What the payment provider has taken in and owes us.
    ProviderClearing,
    /// What was paid in by hand.
    CounterClearing,
    /// What was carried over from an earlier system.
    Opening,
    /// What is set aside for the bank to pay out.
    PayoutsReserved,
    /// What the bank has paid out.
    Bank,
    /// What corrections gave and took.
    Corrections,
    /// What went from one school's accounts to another's. Only books by school have it, and only there is it not zero.
    BetweenSchools,
}

impl Ledger {
    /// The word for its kind.
    #[must_use]
    pub const fn kind(self) -> &'static str {
        match self {
            Ledger::Account(_) => "accounts",
            Ledger::Sales(_) => "sales",
            Ledger::ProviderClearing => "provider_clearing",
            Ledger::CounterClearing => "counter_clearing",
            Ledger::Opening => "opening",
            Ledger::PayoutsReserved => "payouts_reserved",
            Ledger::Bank => "bank",
            Ledger::Corrections => "corrections",
            Ledger::BetweenSchools => "between_schools",
        }
    }
}

impl From<Source> for Ledger {
    fn from(source: Source) -> Ledger {
        match source {
            Source::Provider | Source::Automatic => Ledger::ProviderClearing,
            Source::Counter => Ledger::CounterClearing,
            Source::Opening => Ledger::Opening,
        }
    }
}

/// Money going from one ledger to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Movement {
    /// Where it leaves.
    pub from: Ledger,
    /// Where it arrives.
    pub to: Ledger,
    /// How much, above zero.
    pub amount: Amount,
}

/// The balance of every ledger, from the movements it is shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrialBalance {
    totals: BTreeMap<Ledger, Amount>,
}

/// A ledger would leave the range of 64 bits: no honest journal can do that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("ledger {0:?} overflows")]
pub struct Overflow(pub Ledger);

impl TrialBalance {
    /// Counts a movement in.
    ///
    /// # Errors
    /// [`Overflow`], with nothing counted.
    pub fn add(&mut self, movement: Movement) -> Result<(), Overflow> {
        let Movement { from, to, amount } = movement;
        let left = self.total(from).checked_sub(amount).ok_or(Overflow(from))?;
        let arrived = self.total(to).checked_add(amount).ok_or(Overflow(to))?;
        self.totals.insert(from, left);
        self.totals.insert(to, arrived);
        Ok(())
    }

    /// The balance of one ledger.
    #[must_use]
    pub fn total(&self, ledger: Ledger) -> Amount {
        self.totals.get(&ledger).copied().unwrap_or_default()
    }

    /// Every ledger that has been moved, and its balance.
    pub fn iter(&self) -> impl Iterator<Item = (Ledger, Amount)> + '_ {
        self.totals.iter().map(|(ledger, amount)| (*ledger, *amount))
    }

    /// The sum over all ledgers in øre; anything but 0 means money was lost or made.
    #[must_use]
    pub fn sum(&self) -> i128 {
        self.totals.values().map(|amount| i128::from(amount.ore())).sum()
    }
}
