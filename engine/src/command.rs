//! What can be asked: commands, which change something and are journalled, and queries, which do not.

use crate::amount::Amount;
use crate::card::CardNumber;
use crate::id::{AccountId, OrderNumber, RequestKey, SchoolId};
use crate::time::Month;

/// Where money paid in comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// The payment provider, after a payment with a payment card.
    Provider,
    /// Paid by hand: cash or a bank transfer the operator has seen.
    Counter,
    /// A balance carried over from the school's former system.
    Opening,
}

impl Source {
    /// Its number in the journal and on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Source::Provider => 1,
            Source::Counter => 2,
            Source::Opening => 3,
        }
    }

    /// The source with that number.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Source> {
        match code {
            1 => Some(Source::Provider),
            2 => Some(Source::Counter),
            3 => Some(Source::Opening),
            _ => None,
        }
    }
}

/// What is asked for. An answer to it is an [`crate::Outcome`], what happened is an [`crate::Entry`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Command {
    /// A new account with balance zero.
    Open {
        /// The account's number, chosen by who opens it.
        account: AccountId,
        /// The school it belongs to.
        school: SchoolId,
    },
    /// Makes `card` the account's card; an earlier one is dead from now on (quick guide, item 32).
    BindCard {
        /// The account.
        account: AccountId,
        /// Its new card.
        card: CardNumber,
    },
    /// A sale at a till.
    Purchase {
        /// The card that was scanned.
        card: CardNumber,
        /// The price, above zero.
        amount: Amount,
    },
    /// Gives back a sale, whole or in part.
    Refund {
        /// The account's card.
        card: CardNumber,
        /// The key of the sale.
        sale: RequestKey,
        /// How much of it, above zero.
        amount: Amount,
    },
    /// Money paid in.
    TopUp {
        /// The account.
        account: AccountId,
        /// The payment; the same order never counts twice on an account.
        order: OrderNumber,
        /// How much, above zero.
        amount: Amount,
        /// Where it comes from.
        source: Source,
    },
    /// Refuses purchases until activated; the money stays (item 29).
    Block {
        /// The account.
        account: AccountId,
    },
    /// The reverse of [`Command::Block`].
    Activate {
        /// The account.
        account: AccountId,
    },
    /// The most that may be spent on one Copenhagen day; `None` for no limit (item 28).
    SetDailyLimit {
        /// The account.
        account: AccountId,
        /// The cap.
        limit: Option<Amount>,
    },
}

impl Command {
    /// A number that tells two bodies apart, by which the same key with another body is noticed.
    /// FNV-1a over the fields; it is journalled, so it must never change for a command that exists.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let fnv = Fnv::new();
        match *self {
            Command::Open { account, school } => fnv.number(1).number(account.0).number(school.0.into()),
            Command::BindCard { account, card } => fnv.number(2).number(account.0).bytes(&card.bytes()),
            Command::Purchase { card, amount } => fnv.number(3).bytes(&card.bytes()).amount(amount),
            Command::Refund { card, sale, amount } => {
                fnv.number(4).bytes(&card.bytes()).number(sale.caller.0.into()).number(sale.sequence.0).amount(amount)
            }
            Command::TopUp { account, order, amount, source } => {
                fnv.number(5).number(account.0).number(order.0).amount(amount).number(source.code().into())
            }
            Command::Block { account } => fnv.number(6).number(account.0),
            Command::Activate { account } => fnv.number(7).number(account.0),
            Command::SetDailyLimit { account, limit } => {
                fnv.number(8).number(account.0).number(limit.is_some().into()).amount(limit.unwrap_or_default())
            }
        }
        .0
    }
}

/// FNV-1a, 64 bits.
struct Fnv(u64);

impl Fnv {
    fn new() -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }

    fn bytes(self, bytes: &[u8]) -> Fnv {
        Fnv(bytes.iter().fold(self.0, |hash, b| (hash ^ u64::from(*b)).wrapping_mul(0x0000_0100_0000_01b3)))
    }

    fn number(self, number: u64) -> Fnv {
        self.bytes(&number.to_le_bytes())
    }

    fn amount(self, amount: Amount) -> Fnv {
        self.bytes(&amount.ore().to_le_bytes())
    }
}

/// What is asked without changing anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Query {
    /// Balance and state of the account behind a card.
    CardBalance {
        /// The card.
        card: CardNumber,
    },
    /// Balance and state of an account.
    AccountBalance {
        /// The account.
        account: AccountId,
    },
    /// The postings of an account in one month, and which months have any.
    Statement {
        /// The account.
        account: AccountId,
        /// The month.
        month: Month,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn different_bodies_have_different_fingerprints() {
        let card: CardNumber = "12345678901234".parse().unwrap();
        let other: CardNumber = "12345678901235".parse().unwrap();
        let account = AccountId(7);
        let amount = Amount::from_kroner(25);
        let commands = [
            Command::Purchase { card, amount },
            Command::Purchase { card: other, amount },
            Command::Purchase { card, amount: Amount::from_kroner(26) },
            Command::Block { account },
            Command::Activate { account },
            Command::SetDailyLimit { account, limit: None },
            Command::SetDailyLimit { account, limit: Some(Amount::ZERO) },
            Command::BindCard { account, card },
            Command::Open { account, school: SchoolId(1) },
            Command::TopUp { account, order: OrderNumber(1), amount, source: Source::Provider },
            Command::TopUp { account, order: OrderNumber(1), amount, source: Source::Counter },
            Command::Refund { card, sale: RequestKey::default(), amount },
        ];
        let seen: HashSet<u64> = commands.iter().map(Command::fingerprint).collect();
        assert_eq!(seen.len(), commands.len());
    }

    #[test]
    fn a_fingerprint_is_for_ever() {
        let command = Command::Purchase { card: "12345678901234".parse().unwrap(), amount: Amount::from_kroner(25) };
        assert_eq!(command.fingerprint(), 0xa982_7be2_4e92_a2b8);
    }
}
