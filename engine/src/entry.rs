//! What happened. An entry is a fact: it is journalled, replayed and never changed; a mistake is mended by
//! a new entry. How it looks in bytes is the business of whoever stores it.

use crate::amount::Amount;
use crate::card::CardNumber;
use crate::command::{ChargeFailure, Reason, Source};
use crate::id::{AccountId, AgreementNumber, Attempt, Lsn, OrderNumber, PayoutNumber, PersonId, RequestKey, SchoolId};
use crate::ledger::{Ledger, Movement};
use crate::outcome::{Outcome, Receipt};
use crate::rejection::Rejection;
use crate::text::Text;
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
    /// Its credit limit was set.
    CreditLimitSet {
        /// How far below zero purchases may go.
        limit: Amount,
    },
    /// Money went to another account. The next record is its companion there.
    TransferredOut {
        /// Where to.
        to: AccountId,
        /// How much.
        amount: Amount,
    },
    /// Money came from another account: the companion of the record before.
    TransferredIn {
        /// Where from.
        from: AccountId,
        /// How much.
        amount: Amount,
    },
    /// Money was set aside for the bank to pay out.
    PayoutReserved {
        /// The pay-out.
        payout: PayoutNumber,
        /// How much.
        amount: Amount,
    },
    /// The bank was told to pay it out.
    PayoutSent {
        /// The pay-out.
        payout: PayoutNumber,
    },
    /// The bank has paid it out.
    PayoutDone {
        /// The pay-out.
        payout: PayoutNumber,
        /// How much.
        amount: Amount,
    },
    /// It was not paid out, and is back.
    PayoutReturned {
        /// The pay-out.
        payout: PayoutNumber,
        /// How much.
        amount: Amount,
    },
    /// A booking was mended.
    Corrected {
        /// What was added; below zero, taken.
        amount: Amount,
        /// Why.
        reason: Reason,
    },
    /// Automatic top-up was agreed.
    AutoTopUpAgreed {
        /// The agreement with the payment provider.
        agreement: AgreementNumber,
        /// How much at a time.
        amount: Amount,
    },
    /// Automatic top-up was cancelled.
    AutoTopUpCancelled,
    /// The account wishes to be topped up: the companion of the purchase, or refused purchase, before.
    ChargeWished {
        /// Which attempt.
        attempt: Attempt,
        /// By which agreement.
        agreement: AgreementNumber,
        /// How much.
        amount: Amount,
    },
    /// An automatic charge failed.
    ChargeFailed {
        /// Which attempt.
        attempt: Attempt,
        /// Why.
        failure: ChargeFailure,
    },
    /// The account was closed.
    Closed,
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
            Entry::CreditLimitSet { .. } => "credit_limit_set",
            Entry::TransferredOut { .. } => "transfer_out",
            Entry::TransferredIn { .. } => "transfer_in",
            Entry::PayoutReserved { .. } => "payout",
            Entry::PayoutSent { .. } => "payout_sent",
            Entry::PayoutDone { .. } => "payout_done",
            Entry::PayoutReturned { .. } => "payout_returned",
            Entry::Corrected { .. } => "correction",
            Entry::AutoTopUpAgreed { .. } => "auto_top_up_agreed",
            Entry::AutoTopUpCancelled => "auto_top_up_cancelled",
            Entry::ChargeWished { .. } => "charge_wished",
            Entry::ChargeFailed { .. } => "charge_failed",
            Entry::Closed => "closed",
            Entry::Refused { .. } => "refused",
        }
    }

    /// Is it the second half of the record before it, with the same key? Then it answers nobody.
    #[must_use]
    pub const fn is_companion(&self) -> bool {
        matches!(self, Entry::TransferredIn { .. } | Entry::ChargeWished { .. })
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
    /// Which person at the caller asked, if the caller said.
    pub by: PersonId,
    /// What the statement says of it, if the caller said.
    pub text: Text,
    /// What happened.
    pub entry: Entry,
}

impl Record {
    /// The money it moved, if it moved any. A transfer's is told by its first half.
    #[must_use]
    pub fn movement(&self) -> Option<Movement> {
        let account = Ledger::Account(self.account);
        let (from, to, amount) = match self.entry {
            Entry::Purchased { amount } => (account, Ledger::Sales(self.key.caller), amount),
            Entry::Refunded { sale, amount } => (Ledger::Sales(sale.caller), account, amount),
            Entry::ToppedUp { amount, source, .. } => (source.into(), account, amount),
            Entry::TransferredOut { to, amount } => (account, Ledger::Account(to), amount),
            Entry::PayoutReserved { amount, .. } => (account, Ledger::PayoutsReserved, amount),
            Entry::PayoutDone { amount, .. } => (Ledger::PayoutsReserved, Ledger::Bank, amount),
            Entry::PayoutReturned { amount, .. } => (Ledger::PayoutsReserved, account, amount),
            Entry::Corrected { amount, .. } if amount < Amount::ZERO => {
                (account, Ledger::Corrections, amount.checked_neg().unwrap_or_default())
            }
            Entry::Corrected { amount, .. } => (Ledger::Corrections, account, amount),
            Entry::TransferredIn { .. }
            | Entry::Opened { .. }
            | Entry::CardBound { .. }
            | Entry::Blocked
            | Entry::Activated
            | Entry::DailyLimitSet { .. }
            | Entry::CreditLimitSet { .. }
            | Entry::PayoutSent { .. }
            | Entry::AutoTopUpAgreed { .. }
            | Entry::AutoTopUpCancelled
            | Entry::ChargeWished { .. }
            | Entry::ChargeFailed { .. }
            | Entry::Closed
            | Entry::Refused { .. } => return None,
        };
        Some(Movement { from, to, amount })
    }

    /// What it did to the account's balance.
    #[must_use]
    pub fn change(&self) -> Amount {
        match self.entry {
            Entry::Purchased { amount }
            | Entry::TransferredOut { amount, .. }
            | Entry::PayoutReserved { amount, .. } => amount.checked_neg().unwrap_or_default(),
            Entry::Refunded { amount, .. }
            | Entry::ToppedUp { amount, .. }
            | Entry::TransferredIn { amount, .. }
            | Entry::PayoutReturned { amount, .. }
            | Entry::Corrected { amount, .. } => amount,
            Entry::Opened { .. }
            | Entry::CardBound { .. }
            | Entry::Blocked
            | Entry::Activated
            | Entry::DailyLimitSet { .. }
            | Entry::CreditLimitSet { .. }
            | Entry::PayoutSent { .. }
            | Entry::PayoutDone { .. }
            | Entry::AutoTopUpAgreed { .. }
            | Entry::AutoTopUpCancelled
            | Entry::ChargeWished { .. }
            | Entry::ChargeFailed { .. }
            | Entry::Closed
            | Entry::Refused { .. } => Amount::ZERO,
        }
    }

    /// Does a statement show it? Everything that changed the balance.
    #[must_use]
    pub fn is_posting(&self) -> bool {
        self.change() != Amount::ZERO
    }

    /// The answer its caller got, or will get when asking again; nothing for a companion.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        if self.entry.is_companion() {
            return None;
        }
        if let Entry::Refused { rejection } = self.entry {
            return Some(Outcome::Rejected(rejection));
        }
        Some(Outcome::Approved(Receipt { lsn: self.lsn, balance: self.balance }))
    }
}
