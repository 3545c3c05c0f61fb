//! Answers: what a caller is told, once what it rests on is durable.

use crate::amount::Amount;
use crate::card::CardNumber;
use crate::id::{AccountId, Lsn, SchoolId};
use crate::rejection::Rejection;

/// The answer to a command or a balance query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Done, and durable.
    Approved(Receipt),
    /// Refused; the refusal is durable too, where it came from a rule.
    Rejected(Rejection),
    /// The state asked for; every change in it is durable.
    View(AccountView),
    /// Too much is in flight. Nothing was queued; ask again with the same key.
    Busy,
    /// The disk is nearly full. Nothing was queued; reading goes on. Ask again with the same key when there is room.
    OutOfSpace,
    /// Whether it was carried out is not known here (an account is being rebuilt, the engine is closing down).
    /// Ask again with the same key: it counts once.
    Unavailable,
}

/// What an approval says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Where it stands in the journal.
    pub lsn: Lsn,
    /// The account's balance after it.
    pub balance: Amount,
}

/// What a balance query shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountView {
    /// The account.
    pub account: AccountId,
    /// Its school.
    pub school: SchoolId,
    /// Its balance.
    pub balance: Amount,
    /// Its card, if it has one.
    pub card: Option<CardNumber>,
    /// Are purchases refused until it is activated?
    pub blocked: bool,
    /// The most it may spend on a day.
    pub daily_limit: Option<Amount>,
    /// What it has spent today.
    pub spent_today: Amount,
    /// How far below zero purchases may go.
    pub credit_limit: Amount,
    /// How much it is filled up by when it gets low, if that is agreed.
    pub auto_top_up: Option<Amount>,
    /// Is an automatic charge under way?
    pub charging: bool,
    /// Is it closed?
    pub closed: bool,
}
