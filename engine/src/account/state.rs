//! What is known of an account: plain facts, each of which follows from the account's entries. A snapshot keeps exactly this.

use std::collections::VecDeque;

use crate::amount::Amount;
use crate::card::CardNumber;
use crate::id::{
    AccountId, AgreementNumber, Attempt, CallerId, OrderNumber, PayoutNumber, RequestKey, SchoolId, Sequence,
};
use crate::time::{Day, Timestamp};

/// Days whose purchases are remembered: enough for a clock that is set back over midnight.
const DAYS: usize = 3;

/// The state of an account. A million of them are in memory, so what few accounts have is in [`Rare`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountState {
    /// Its number.
    pub id: AccountId,
    /// `None` until it is opened.
    pub school: Option<SchoolId>,
    /// What it holds.
    pub balance: Amount,
    /// Its card, if it has one.
    pub card: Option<CardNumber>,
    /// Are purchases refused until it is activated?
    pub blocked: bool,
    /// Was it closed?
    pub closed: bool,
    /// The most it may spend on a day.
    pub daily_limit: Option<Amount>,
    /// What it spent lately.
    pub spent: Spent,
    /// Sales that can still be given back, oldest first.
    pub sales: VecDeque<Sale>,
    /// Every order ever credited: a payment counts once, however late its callback comes again.
    pub orders: Vec<OrderNumber>,
    /// What was paid in since it was opened, opening balance not counted.
    pub paid_in: Amount,
    /// What few accounts have.
    pub rare: Option<Box<Rare>>,
}

/// What few accounts have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rare {
    /// How far below zero purchases may go.
    pub credit_limit: Amount,
    /// Automatic top-up, if agreed.
    pub agreement: Option<Agreement>,
    /// The charge that is under way.
    pub charge: Option<Charge>,
    /// How often it was wished for.
    pub attempts: Attempt,
    /// Every pay-out it ever asked for.
    pub payouts: Vec<Payout>,
}

/// An agreement to charge a saved payment card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreement {
    /// The portal's number of it.
    pub number: AgreementNumber,
    /// How much at a time.
    pub amount: Amount,
}

/// An automatic charge that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charge {
    /// Which attempt.
    pub attempt: Attempt,
    /// By which agreement, and how much.
    pub agreement: Agreement,
    /// Since when.
    pub at: Timestamp,
}

/// A pay-out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payout {
    /// The portal's number of it.
    pub number: PayoutNumber,
    /// How much.
    pub amount: Amount,
    /// How far it has come.
    pub stage: PayoutStage,
}

/// How far a pay-out has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayoutStage {
    /// Off the balance.
    Reserved,
    /// The bank was told.
    Sent,
    /// Paid.
    Done,
    /// Back on the balance.
    Returned,
}

impl PayoutStage {
    /// Its number in a snapshot.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            PayoutStage::Reserved => 1,
            PayoutStage::Sent => 2,
            PayoutStage::Done => 3,
            PayoutStage::Returned => 4,
        }
    }

    /// The stage with that number.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<PayoutStage> {
        match code {
            1 => Some(PayoutStage::Reserved),
            2 => Some(PayoutStage::Sent),
            3 => Some(PayoutStage::Done),
            4 => Some(PayoutStage::Returned),
            _ => None,
        }
    }

    /// Can nothing happen to it any more?
    #[must_use]
    pub const fn is_settled(self) -> bool {
        matches!(self, PayoutStage::Done | PayoutStage::Returned)
    }
}

/// Purchases less refunds of the same day's purchases, by day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    days: [(Day, Amount); DAYS],
}

impl Spent {
    /// What was spent on `day`.
    #[must_use]
    pub fn on(&self, day: Day) -> Amount {
        self.days.iter().find(|(d, _)| *d == day).map_or(Amount::ZERO, |(_, amount)| *amount)
    }

    /// From then on `amount` was spent on `day`; the oldest day is forgotten if there is no room.
    pub fn set(&mut self, day: Day, amount: Amount) {
        let place = match self.days.iter().position(|(d, _)| *d == day) {
            Some(known) => self.days.get_mut(known),
            None => self.days.iter_mut().min_by_key(|(d, _)| *d),
        };
        if let Some(place) = place {
            *place = (day, amount);
        }
    }

    /// Every day that is remembered.
    pub fn days(&self) -> impl Iterator<Item = (Day, Amount)> + '_ {
        self.days.iter().copied().filter(|(day, _)| *day != Day::default())
    }
}

/// A sale that can still be given back, packed into 24 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sale {
    sequence: u64,
    caller: u32,
    at_seconds: u32,
    amount_ore: u32,
    refunded_ore: u32,
}

impl Sale {
    /// The most a sale can be; no rule may allow more.
    pub const MOST: Amount = Amount::from_ore(u32::MAX as i64);

    /// A sale of which nothing is given back yet.
    ///
    /// # Panics
    /// Above [`Sale::MOST`].
    #[must_use]
    pub fn new(key: RequestKey, at: Timestamp, amount: Amount) -> Sale {
        Sale {
            sequence: key.sequence.0,
            caller: key.caller.0,
            at_seconds: u32::try_from(at.0 / 1000).unwrap_or(u32::MAX),
            amount_ore: u32::try_from(amount.ore()).expect("no purchase is larger than 42 million kroner"),
            refunded_ore: 0,
        }
    }

    /// Its key.
    #[must_use]
    pub fn key(&self) -> RequestKey {
        RequestKey { caller: CallerId(self.caller), sequence: Sequence(self.sequence) }
    }

    /// When it was, to the second.
    #[must_use]
    pub fn at(&self) -> Timestamp {
        Timestamp(u64::from(self.at_seconds) * 1000)
    }

    /// What it cost.
    #[must_use]
    pub fn amount(&self) -> Amount {
        Amount::from_ore(self.amount_ore.into())
    }

    /// What was given back of it.
    #[must_use]
    pub fn refunded(&self) -> Amount {
        Amount::from_ore(self.refunded_ore.into())
    }

    /// Gives `amount` of it back.
    ///
    /// # Panics
    /// If that is more than is left.
    pub fn refund(&mut self, amount: Amount) {
        let refunded = self.refunded().checked_add(amount).filter(|sum| *sum <= self.amount());
        self.refunded_ore = refunded
            .and_then(|sum| u32::try_from(sum.ore()).ok())
            .expect("a refund is at most what is left of the sale");
    }
}

impl AccountState {
    /// An account that does not exist yet.
    #[must_use]
    pub fn unopened(id: AccountId) -> AccountState {
        AccountState {
            id,
            school: None,
            balance: Amount::ZERO,
            card: None,
            blocked: false,
            closed: false,
            daily_limit: None,
            spent: Spent::default(),
            sales: VecDeque::new(),
            orders: Vec::new(),
            paid_in: Amount::ZERO,
            rare: None,
        }
    }

    /// How far below zero purchases may go.
    #[must_use]
    pub fn credit_limit(&self) -> Amount {
        self.rare.as_ref().map_or(Amount::ZERO, |rare| rare.credit_limit)
    }

    /// Automatic top-up, if agreed.
    #[must_use]
    pub fn agreement(&self) -> Option<Agreement> {
        self.rare.as_ref().and_then(|rare| rare.agreement)
    }

    /// The charge that is under way.
    #[must_use]
    pub fn charge(&self) -> Option<Charge> {
        self.rare.as_ref().and_then(|rare| rare.charge)
    }

    /// A pay-out of its own.
    #[must_use]
    pub fn payout(&self, number: PayoutNumber) -> Option<Payout> {
        self.rare.as_ref()?.payouts.iter().find(|payout| payout.number == number).copied()
    }

    pub(super) fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_with(Box::default)
    }
}
