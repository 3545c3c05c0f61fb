//! What happened. An entry is a fact: it is journalled, replayed and never changed; a mistake is mended by
//! a new entry. How it looks in bytes is the business of whoever stores it.

use crate::amount::Amount;
use crate::card::CardNumber;
use crate::command::Source;
use crate::id::{AccountId, Lsn, OrderNumber, RequestKey, SchoolId};
use crate::ledger::{Ledger, Movement};
use crate::outcome::{Outcome, Receipt};
use crate::rejection::Rejection;
use crate::time::Timestamp;

/// One thing that happened to one account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// The account was opened.
    Opened {
        /// At this school.
        school: SchoolId,
    },
    /// This became its card.
    CardBound {
        /// The card.
        card: CardNumber,
    },
    /// It paid at a till.
    Purchased {
        /// The price.
        amount: Amount,
    },
    /// It got a sale back, whole or in part.
    Refunded {
        /// The sale.
        sale: RequestKey,
        /// How much.
        amount: Amount,
    },
    /// Money was paid in.
    ToppedUp {
        /// For this order.
        order: OrderNumber,
        /// How much.
        amount: Amount,
        /// From where.
        source: Source,
    },
    /// It was blocked.
    Blocked,
    /// It was activated again.
    Activated,
    /// Its daily limit was set or lifted.
    DailyLimitSet {
        /// The cap from now on.
        limit: Option<Amount>,
    },
    /// A command was refused; the same key is refused the same way from now on.
    Refused {
        /// Why.
        rejection: Rejection,
    },
}

impl Entry {
    /// The word for it in `inspect`, statements and reports.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Entry::Opened { .. } => "opened",
            Entry::CardBound { .. } => "card_bound",
            Entry::Purchased { .. } => "purchase",
            Entry::Refunded { .. } => "refund",
            Entry::ToppedUp { .. } => "top_up",
            Entry::Blocked => "blocked",
            Entry::Activated => "activated",
            Entry::DailyLimitSet { .. } => "daily_limit_set",
            Entry::Refused { .. } => "refused",
        }
    }
}

/// An entry in its place: everything the journal keeps of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// Its position.
    pub lsn: Lsn,
    /// When it was decided, by the server's clock.
    pub at: Timestamp,
    /// Who asked, and their number of the request.
    pub key: RequestKey,
    /// What exactly was asked (see [`crate::Command::fingerprint`]).
    pub fingerprint: u64,
    /// The account; 0 for a refusal that concerns none (an unknown card).
    pub account: AccountId,
    /// The account's balance after it.
    pub balance: Amount,
    /// What happened.
    pub entry: Entry,
}

impl Record {
    /// The money it moved, if it moved any.
    #[must_use]
    pub fn movement(&self) -> Option<Movement> {
        let account = Ledger::Account(self.account);
        match self.entry {
            Entry::Purchased { amount } => Some(Movement { from: account, to: Ledger::Sales(self.key.caller), amount }),
            Entry::Refunded { sale, amount } => {
                Some(Movement { from: Ledger::Sales(sale.caller), to: account, amount })
            }
            Entry::ToppedUp { amount, source, .. } => Some(Movement { from: source.into(), to: account, amount }),
            Entry::Opened { .. }
            | Entry::CardBound { .. }
            | Entry::Blocked
            | Entry::Activated
            | Entry::DailyLimitSet { .. }
            | Entry::Refused { .. } => None,
        }
    }

    /// What it did to the account's balance.
    #[must_use]
    pub fn change(&self) -> Amount {
        match self.entry {
            Entry::Purchased { amount } => amount.checked_neg().unwrap_or_default(),
            Entry::Refunded { amount, .. } | Entry::ToppedUp { amount, .. } => amount,
            Entry::Opened { .. }
            | Entry::CardBound { .. }
            | Entry::Blocked
            | Entry::Activated
            | Entry::DailyLimitSet { .. }
            | Entry::Refused { .. } => Amount::ZERO,
        }
    }

    /// The answer its caller got, or will get when asking again.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self.entry {
            Entry::Refused { rejection } => Outcome::Rejected(rejection),
            Entry::Opened { .. }
            | Entry::CardBound { .. }
            | Entry::Purchased { .. }
            | Entry::Refunded { .. }
            | Entry::ToppedUp { .. }
            | Entry::Blocked
            | Entry::Activated
            | Entry::DailyLimitSet { .. } => Outcome::Approved(Receipt { lsn: self.lsn, balance: self.balance }),
        }
    }
}
