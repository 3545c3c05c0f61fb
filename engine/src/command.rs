//! What can be asked: commands, which change something and are journalled, and queries, which do not.

use crate::amount::Amount;
use crate::card::CardNumber;
use crate::id::{AccountId, AgreementNumber, Attempt, OrderNumber, PayoutNumber, RequestKey, SchoolId};
use crate::text::{Currency, Details};
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
    /// The payment provider, after an automatic charge of a saved payment card.
    Automatic,
}

impl Source {
    /// Its number in the journal and on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Source::Provider => 1,
            Source::Counter => 2,
            Source::Opening => 3,
            Source::Automatic => 4,
        }
    }

    /// The source with that number.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Source> {
        match code {
            1 => Some(Source::Provider),
            2 => Some(Source::Counter),
            3 => Some(Source::Opening),
            4 => Some(Source::Automatic),
            _ => None,
        }
    }
}

/// An enum whose variants have numbers and names for ever.
macro_rules! coded {
    ($(#[$doc:meta])* $name:ident { $($(#[$about:meta])* $variant:ident = $code:literal, $word:literal;)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$about])* $variant,)*
        }

        impl $name {
            /// All there are.
            pub const ALL: &[$name] = &[$($name::$variant,)*];

            /// Its number in the journal and on the wire.
            #[must_use]
            pub const fn code(self) -> u8 {
                match self {
                    $($name::$variant => $code,)*
                }
            }

            /// The one with that number.
            #[must_use]
            pub fn from_code(code: u8) -> Option<$name> {
                $name::ALL.iter().copied().find(|one| one.code() == code)
            }

            /// The word for it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $($name::$variant => $word,)*
                }
            }
        }
    };
}

coded!(
    /// Why a booking is corrected.
    Reason {
        /// A sale or refund was keyed in wrong.
        TillError = 1, "till_error";
        /// A payment was booked wrong.
        PaymentError = 2, "payment_error";
        /// The school gives something.
        Goodwill = 3, "goodwill";
        /// What cannot be got back.
        WriteOff = 4, "write_off";
        /// Something else; the text says what.
        Other = 5, "other";
    }
);

coded!(
    /// Why a saved payment card could not be charged.
    ChargeFailure {
        /// The payment card is past its date.
        Expired = 1, "expired";
        /// It has no cover.
        NoCover = 2, "no_cover";
        /// It is blocked.
        Blocked = 3, "blocked";
        /// The canteen card is blocked.
        AccountBlocked = 4, "account_blocked";
        /// The provider refused, or could not be reached.
        Provider = 5, "provider";
    }
);

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
    /// How far below zero purchases may go; zero for not at all.
    SetCreditLimit {
        /// The account.
        account: AccountId,
        /// The limit, zero or more.
        limit: Amount,
    },
    /// Moves money between two accounts, both or neither (item 25).
    Transfer {
        /// Where it leaves.
        from: AccountId,
        /// Where it arrives.
        to: AccountId,
        /// How much, above zero.
        amount: Amount,
    },
    /// Takes money off the balance for the bank to pay out (item 24).
    RequestPayout {
        /// The account.
        account: AccountId,
        /// The pay-out; the same number never counts twice on an account.
        payout: PayoutNumber,
        /// How much, above zero.
        amount: Amount,
    },
    /// The bank has been told.
    MarkPayoutSent {
        /// The account.
        account: AccountId,
        /// The pay-out.
        payout: PayoutNumber,
    },
    /// The bank has paid.
    MarkPayoutDone {
        /// The account.
        account: AccountId,
        /// The pay-out.
        payout: PayoutNumber,
    },
    /// The bank has refused, or it was called off: the money goes back.
    ReturnPayout {
        /// The account.
        account: AccountId,
        /// The pay-out.
        payout: PayoutNumber,
    },
    /// Mends a booking by another one (item 36).
    Correct {
        /// The account.
        account: AccountId,
        /// What is added to the balance; below zero, taken from it.
        amount: Amount,
        /// Why.
        reason: Reason,
    },
    /// From now on a balance that gets low is filled up by itself (items 18 to 23).
    AgreeAutoTopUp {
        /// The account.
        account: AccountId,
        /// The agreement with the payment provider.
        agreement: AgreementNumber,
        /// How much at a time.
        amount: Amount,
    },
    /// Not any more (item 22).
    CancelAutoTopUp {
        /// The account.
        account: AccountId,
    },
    /// An automatic charge has failed (item 21). One that worked is reported by its top-up.
    ReportChargeFailed {
        /// The account.
        account: AccountId,
        /// Which attempt.
        attempt: Attempt,
        /// Why.
        failure: ChargeFailure,
    },
    /// Ends an account that is empty. Nothing is bought with it any more; late money still arrives and can be paid out.
    Close {
        /// The account.
        account: AccountId,
    },
}

/// A command with all that goes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Asked {
    /// What is asked.
    pub command: Command,
    /// By whom, in which currency, and what the statement shall say.
    pub details: Details,
}

impl From<Command> for Asked {
    fn from(command: Command) -> Asked {
        Asked { command, details: Details::default() }
    }
}

impl Asked {
    /// A number that tells two requests apart, by which the same key with another body is noticed. It is journalled,
    /// so it must never change for a command that exists.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let Details { by, currency, text } = self.details;
        let fnv = self.command.fingerprint();
        if self.details == Details::default() {
            return fnv.0;
        }
        let fnv = fnv.number(by.0).bytes(text.as_str().as_bytes());
        if currency == Currency::DKK { fnv.0 } else { fnv.bytes(&currency.bytes()).0 }
    }
}

impl Command {
    /// FNV-1a over the fields.
    fn fingerprint(&self) -> Fnv {
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
            Command::SetCreditLimit { account, limit } => fnv.number(9).number(account.0).amount(limit),
            Command::Transfer { from, to, amount } => fnv.number(10).number(from.0).number(to.0).amount(amount),
            Command::RequestPayout { account, payout, amount } => {
                fnv.number(11).number(account.0).number(payout.0).amount(amount)
            }
            Command::MarkPayoutSent { account, payout } => fnv.number(12).number(account.0).number(payout.0),
            Command::MarkPayoutDone { account, payout } => fnv.number(13).number(account.0).number(payout.0),
            Command::ReturnPayout { account, payout } => fnv.number(14).number(account.0).number(payout.0),
            Command::Correct { account, amount, reason } => {
                fnv.number(15).number(account.0).amount(amount).number(reason.code().into())
            }
            Command::AgreeAutoTopUp { account, agreement, amount } => {
                fnv.number(16).number(account.0).number(agreement.0).amount(amount)
            }
            Command::CancelAutoTopUp { account } => fnv.number(17).number(account.0),
            Command::ReportChargeFailed { account, attempt, failure } => {
                fnv.number(18).number(account.0).number(attempt.0.into()).number(failure.code().into())
            }
            Command::Close { account } => fnv.number(19).number(account.0),
        }
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
    /// Which accounts wish to be topped up, in the order of their numbers.
    Wishes {
        /// Only accounts after this one.
        after: AccountId,
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
            Command::Transfer { from: AccountId(1), to: AccountId(2), amount },
            Command::Transfer { from: AccountId(2), to: AccountId(1), amount },
            Command::MarkPayoutSent { account, payout: PayoutNumber(1) },
            Command::MarkPayoutDone { account, payout: PayoutNumber(1) },
        ];
        let purchase = Command::Purchase { card, amount };
        let details = Details::default();
        let details = [
            Details { by: crate::id::PersonId(1), ..details },
            Details { text: "milk".parse().unwrap(), ..details },
            Details { currency: Currency::from_bytes(*b"EUR").unwrap(), ..details },
        ];
        let all = commands.map(Asked::from).into_iter();
        let all: Vec<Asked> = all.chain(details.map(|details| Asked { command: purchase, details })).collect();
        let seen: HashSet<u64> = all.iter().map(Asked::fingerprint).collect();
        assert_eq!(seen.len(), all.len());
    }

    #[test]
    fn a_fingerprint_is_for_ever() {
        let command = Command::Purchase { card: "12345678901234".parse().unwrap(), amount: Amount::from_kroner(25) };
        assert_eq!(Asked::from(command).fingerprint(), 0xa982_7be2_4e92_a2b8);
    }
}
