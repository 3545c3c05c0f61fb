//! Why something is refused. One variant a rule; each has a number that never changes, on the wire and in the
//! journal, and one amount where the answer needs it ("mangler x,xx kr.").

use crate::amount::Amount;

/// A refusal: final for its key, and nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rejection {
    /// More than one posting may be.
    AmountTooLarge {
        /// The most it may be.
        most: Amount,
    },
    /// No account has this card, or it is not the account's newest one.
    UnknownCard,
    /// The account is blocked.
    CardBlocked,
    /// The daily limit would be passed.
    DailyLimit {
        /// What is left of today's.
        remaining: Amount,
    },
    /// The balance does not cover it.
    LowBalance {
        /// What is missing.
        missing: Amount,
    },
    /// No such account.
    UnknownAccount,
    /// The account exists already.
    AccountExists,
    /// The card belongs to another account.
    CardTaken,
    /// No such sale on this account, or it is too old to be given back.
    UnknownSale,
    /// More than is left of the sale.
    RefundTooLarge {
        /// What is left of it.
        refundable: Amount,
    },
    /// This order has been credited before.
    OrderCredited,
    /// The account would hold more than an account may.
    BalanceTooHigh {
        /// The most that can still be paid in.
        room: Amount,
    },
    /// The key was used before, for something else.
    KeyReused,
    /// The key is older than what is remembered; whether it was carried out cannot be told from it any more.
    KeyExpired,
    /// The caller's role may not ask this.
    NotAllowed,
    /// The account belongs to a school that is none of the caller's business.
    OtherSchool,
    /// Nothing is no amount.
    AmountZero,
    /// Below zero.
    AmountNegative,
    /// Not the installation's currency.
    WrongCurrency,
    /// The account is closed.
    AccountClosed,
    /// The account cannot be closed: there is money in it, on its way out of it, or owed to it.
    NotEmpty {
        /// Its balance.
        balance: Amount,
    },
    /// The account has no such pay-out.
    UnknownPayout,
    /// The pay-out is settled already, one way or the other.
    PayoutSettled,
    /// The number belongs to another pay-out of the account.
    PayoutExists,
    /// A transfer needs two accounts.
    SameAccount,
    /// There is no automatic top-up to cancel.
    NoAgreement,
    /// No such attempt to charge is under way.
    UnknownAttempt,
}

impl Rejection {
    /// Its number on the wire and in the journal.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Rejection::AmountTooLarge { .. } => 1,
            Rejection::UnknownCard => 2,
            Rejection::CardBlocked => 3,
            Rejection::DailyLimit { .. } => 4,
            Rejection::LowBalance { .. } => 5,
            Rejection::UnknownAccount => 6,
            Rejection::AccountExists => 7,
            Rejection::CardTaken => 8,
            Rejection::UnknownSale => 9,
            Rejection::RefundTooLarge { .. } => 10,
            Rejection::OrderCredited => 11,
            Rejection::BalanceTooHigh { .. } => 12,
            Rejection::KeyReused => 13,
            Rejection::KeyExpired => 14,
            Rejection::NotAllowed => 15,
            Rejection::OtherSchool => 16,
            Rejection::AmountZero => 17,
            Rejection::AmountNegative => 18,
            Rejection::WrongCurrency => 19,
            Rejection::AccountClosed => 20,
            Rejection::NotEmpty { .. } => 21,
            Rejection::UnknownPayout => 22,
            Rejection::PayoutSettled => 23,
            Rejection::PayoutExists => 24,
            Rejection::SameAccount => 25,
            Rejection::NoAgreement => 26,
            Rejection::UnknownAttempt => 27,
        }
    }

    /// The amount that belongs to it; zero where none does.
    #[must_use]
    pub const fn amount(self) -> Amount {
        match self {
            Rejection::AmountTooLarge { most: amount }
            | Rejection::DailyLimit { remaining: amount }
            | Rejection::LowBalance { missing: amount }
            | Rejection::RefundTooLarge { refundable: amount }
            | Rejection::BalanceTooHigh { room: amount }
            | Rejection::NotEmpty { balance: amount } => amount,
            Rejection::UnknownCard
            | Rejection::CardBlocked
            | Rejection::UnknownAccount
            | Rejection::AccountExists
            | Rejection::CardTaken
            | Rejection::UnknownSale
            | Rejection::OrderCredited
            | Rejection::KeyReused
            | Rejection::KeyExpired
            | Rejection::NotAllowed
            | Rejection::OtherSchool
            | Rejection::AmountZero
            | Rejection::AmountNegative
            | Rejection::WrongCurrency
            | Rejection::AccountClosed
            | Rejection::UnknownPayout
            | Rejection::PayoutSettled
            | Rejection::PayoutExists
            | Rejection::SameAccount
            | Rejection::NoAgreement
            | Rejection::UnknownAttempt => Amount::ZERO,
        }
    }

    /// The rejection with that number and amount.
    #[must_use]
    pub const fn from_code(code: u16, amount: Amount) -> Option<Rejection> {
        Some(match code {
            1 => Rejection::AmountTooLarge { most: amount },
            2 => Rejection::UnknownCard,
            3 => Rejection::CardBlocked,
            4 => Rejection::DailyLimit { remaining: amount },
            5 => Rejection::LowBalance { missing: amount },
            6 => Rejection::UnknownAccount,
            7 => Rejection::AccountExists,
            8 => Rejection::CardTaken,
            9 => Rejection::UnknownSale,
            10 => Rejection::RefundTooLarge { refundable: amount },
            11 => Rejection::OrderCredited,
            12 => Rejection::BalanceTooHigh { room: amount },
            13 => Rejection::KeyReused,
            14 => Rejection::KeyExpired,
            15 => Rejection::NotAllowed,
            16 => Rejection::OtherSchool,
            17 => Rejection::AmountZero,
            18 => Rejection::AmountNegative,
            19 => Rejection::WrongCurrency,
            20 => Rejection::AccountClosed,
            21 => Rejection::NotEmpty { balance: amount },
            22 => Rejection::UnknownPayout,
            23 => Rejection::PayoutSettled,
            24 => Rejection::PayoutExists,
            25 => Rejection::SameAccount,
            26 => Rejection::NoAgreement,
            27 => Rejection::UnknownAttempt,
            _ => return None,
        })
    }

    /// The word for it in metrics, reports and `inspect`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Rejection::AmountTooLarge { .. } => "amount_too_large",
            Rejection::UnknownCard => "unknown_card",
            Rejection::CardBlocked => "card_blocked",
            Rejection::DailyLimit { .. } => "daily_limit",
            Rejection::LowBalance { .. } => "low_balance",
            Rejection::UnknownAccount => "unknown_account",
            Rejection::AccountExists => "account_exists",
            Rejection::CardTaken => "card_taken",
            Rejection::UnknownSale => "unknown_sale",
            Rejection::RefundTooLarge { .. } => "refund_too_large",
            Rejection::OrderCredited => "order_credited",
            Rejection::BalanceTooHigh { .. } => "balance_too_high",
            Rejection::KeyReused => "key_reused",
            Rejection::KeyExpired => "key_expired",
            Rejection::NotAllowed => "not_allowed",
            Rejection::OtherSchool => "other_school",
            Rejection::AmountZero => "amount_zero",
            Rejection::AmountNegative => "amount_negative",
            Rejection::WrongCurrency => "wrong_currency",
            Rejection::AccountClosed => "account_closed",
            Rejection::NotEmpty { .. } => "not_empty",
            Rejection::UnknownPayout => "unknown_payout",
            Rejection::PayoutSettled => "payout_settled",
            Rejection::PayoutExists => "payout_exists",
            Rejection::SameAccount => "same_account",
            Rejection::NoAgreement => "no_agreement",
            Rejection::UnknownAttempt => "unknown_attempt",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_trip_and_names_differ() {
        let amount = Amount::from_ore(1234);
        let all: Vec<_> = (1..=u16::MAX).map_while(|code| Rejection::from_code(code, amount)).collect();
        assert_eq!(all.len(), 27);
        for rejection in &all {
            assert_eq!(Rejection::from_code(rejection.code(), rejection.amount()), Some(*rejection));
        }
        let names: std::collections::HashSet<_> = all.iter().map(|r| r.name()).collect();
        assert_eq!(names.len(), all.len());
        assert_eq!(Rejection::from_code(0, amount), None);
        assert_eq!(Rejection::from_code(28, amount), None);
    }
}
