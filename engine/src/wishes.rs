//! Which accounts wish to be topped up. The engine decides that an automatic top-up is due; whoever charges payment cards
//! looks here for what to charge, and reports back with a top-up or a failure. Only durable wishes are shown.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::amount::Amount;
use crate::command::Source;
use crate::entry::{Entry, Record};
use crate::id::{AccountId, AgreementNumber, Attempt};
use crate::time::Timestamp;

/// A wish that is open. The account and the attempt together name it for ever: charge it once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// Whose.
    pub account: AccountId,
    /// Which attempt of the account.
    pub attempt: Attempt,
    /// By which agreement.
    pub agreement: AgreementNumber,
    /// How much.
    pub amount: Amount,
    /// Since when.
    pub at: Timestamp,
}

/// All that are open.
#[derive(Debug, Default)]
pub(crate) struct Wishes(Mutex<BTreeMap<AccountId, Wish>>);

impl Wishes {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<AccountId, Wish>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn open(&self, wish: Wish) {
        self.lock().insert(wish.account, wish);
    }

    /// A record is durable: does it open a wish, or end one?
    pub(crate) fn note(&self, record: &Record) {
        let (account, at) = (record.account, record.at);
        if let Entry::ChargeWished { attempt, agreement, amount } = record.entry {
            self.open(Wish { account, attempt, agreement, amount, at });
        } else if matches!(record.entry, Entry::ChargeFailed { .. } | Entry::ToppedUp { source: Source::Automatic, .. })
        {
            self.lock().remove(&account);
        }
    }

    /// Up to `most`, in the order of their accounts, after one.
    pub(crate) fn after(&self, after: AccountId, most: usize) -> Vec<Wish> {
        let from = AccountId(after.0.saturating_add(1));
        self.lock().range(from..).map(|(_, wish)| *wish).take(most).collect()
    }
}
