//! The bodies of entries, one layout a kind, each with a number that never changes.

use frokost_engine::command::{ChargeFailure, Reason, Source};
use frokost_engine::{
    AccountId, AgreementNumber, Amount, Attempt, CallerId, CardNumber, Entry, OrderNumber, PayoutNumber, Rejection,
    RequestKey, SchoolId, Sequence,
};
use rkyv::rancor::Error as RkyvError;
use rkyv::{Archive, Serialize};

use super::{FormatError, put, split};

pub(super) mod tag {
    pub(super) const OPENED: u8 = 1;
    pub(super) const CARD_BOUND: u8 = 2;
    pub(in crate::format) const PURCHASED: u8 = 3;
    pub(super) const REFUNDED: u8 = 4;
    pub(super) const TOPPED_UP: u8 = 5;
    pub(super) const BLOCKED: u8 = 6;
    pub(super) const ACTIVATED: u8 = 7;
    pub(super) const DAILY_LIMIT_SET: u8 = 8;
    pub(super) const REFUSED: u8 = 9;
    pub(super) const CREDIT_LIMIT_SET: u8 = 10;
    pub(super) const TRANSFERRED_OUT: u8 = 11;
    pub(super) const TRANSFERRED_IN: u8 = 12;
    pub(super) const PAYOUT_RESERVED: u8 = 13;
    pub(super) const PAYOUT_SENT: u8 = 14;
    pub(super) const PAYOUT_DONE: u8 = 15;
    pub(super) const PAYOUT_RETURNED: u8 = 16;
    pub(super) const CORRECTED: u8 = 17;
    pub(super) const AUTO_TOP_UP_AGREED: u8 = 18;
    pub(super) const AUTO_TOP_UP_CANCELLED: u8 = 19;
    pub(super) const CHARGE_WISHED: u8 = 20;
    pub(super) const CHARGE_FAILED: u8 = 21;
    pub(super) const CLOSED: u8 = 22;
}

#[derive(Archive, Serialize, Debug)]
struct Opened {
    school: u32,
}

#[derive(Archive, Serialize, Debug)]
struct CardBound {
    card: [u8; CardNumber::BYTES],
}

#[derive(Archive, Serialize, Debug)]
struct Purchased {
    amount_ore: i64,
}

#[derive(Archive, Serialize, Debug)]
struct Refunded {
    sale_caller: u32,
    sale_sequence: u64,
    amount_ore: i64,
}

#[derive(Archive, Serialize, Debug)]
struct ToppedUp {
    order: u64,
    amount_ore: i64,
    source: u8,
}

#[derive(Archive, Serialize, Debug)]
struct DailyLimitSet {
    /// 0 for no limit, 1 for the one that follows.
    some: u8,
    limit_ore: i64,
}

#[derive(Archive, Serialize, Debug)]
struct Refused {
    code: u16,
    amount_ore: i64,
}

#[derive(Archive, Serialize, Debug)]
struct OneAmount {
    amount_ore: i64,
}

/// The other account of a transfer, or a pay-out, or an agreement, and an amount.
#[derive(Archive, Serialize, Debug)]
struct NumberAndAmount {
    number: u64,
    amount_ore: i64,
}

#[derive(Archive, Serialize, Debug)]
struct OneNumber {
    number: u64,
}

#[derive(Archive, Serialize, Debug)]
struct Corrected {
    /// Below zero, it took.
    amount_ore: i64,
    reason: u8,
}

#[derive(Archive, Serialize, Debug)]
struct ChargeWished {
    attempt: u32,
    agreement: u64,
    amount_ore: i64,
}

#[derive(Archive, Serialize, Debug)]
struct ChargeFailed {
    attempt: u32,
    failure: u8,
}

const _: () = assert!(size_of::<ArchivedRefunded>() == 20, "no padding");
const _: () = assert!(size_of::<ArchivedChargeWished>() == 20, "no padding");

/// Appends an entry's own fields, and says which kind it is.
pub(super) fn encode(entry: &Entry, out: &mut Vec<u8>) -> u8 {
    match *entry {
        Entry::Opened { school } => {
            put!(out, Opened { school: school.0 });
            tag::OPENED
        }
        Entry::CardBound { card } => {
            put!(out, CardBound { card: card.bytes() });
            tag::CARD_BOUND
        }
        Entry::Purchased { amount } => {
            put!(out, Purchased { amount_ore: amount.ore() });
            tag::PURCHASED
        }
        Entry::Refunded { sale, amount } => {
            let (sale_caller, sale_sequence) = (sale.caller.0, sale.sequence.0);
            put!(out, Refunded { sale_caller, sale_sequence, amount_ore: amount.ore() });
            tag::REFUNDED
        }
        Entry::ToppedUp { order, amount, source } => {
            put!(out, ToppedUp { order: order.0, amount_ore: amount.ore(), source: source.code() });
            tag::TOPPED_UP
        }
        Entry::Blocked => tag::BLOCKED,
        Entry::Activated => tag::ACTIVATED,
        Entry::DailyLimitSet { limit } => {
            let limit_ore = limit.unwrap_or_default().ore();
            put!(out, DailyLimitSet { some: limit.is_some().into(), limit_ore });
            tag::DAILY_LIMIT_SET
        }
        Entry::Refused { rejection } => {
            put!(out, Refused { code: rejection.code(), amount_ore: rejection.amount().ore() });
            tag::REFUSED
        }
        Entry::CreditLimitSet { limit } => {
            put!(out, OneAmount { amount_ore: limit.ore() });
            tag::CREDIT_LIMIT_SET
        }
        Entry::TransferredOut { to, amount } => numbered(tag::TRANSFERRED_OUT, to.0, amount, out),
        Entry::TransferredIn { from, amount } => numbered(tag::TRANSFERRED_IN, from.0, amount, out),
        Entry::PayoutReserved { payout, amount } => numbered(tag::PAYOUT_RESERVED, payout.0, amount, out),
        Entry::PayoutSent { payout } => {
            put!(out, OneNumber { number: payout.0 });
            tag::PAYOUT_SENT
        }
        Entry::PayoutDone { payout, amount } => numbered(tag::PAYOUT_DONE, payout.0, amount, out),
        Entry::PayoutReturned { payout, amount } => numbered(tag::PAYOUT_RETURNED, payout.0, amount, out),
        Entry::Corrected { amount, reason } => {
            put!(out, Corrected { amount_ore: amount.ore(), reason: reason.code() });
            tag::CORRECTED
        }
        Entry::AutoTopUpAgreed { agreement, amount } => numbered(tag::AUTO_TOP_UP_AGREED, agreement.0, amount, out),
        Entry::AutoTopUpCancelled => tag::AUTO_TOP_UP_CANCELLED,
        Entry::ChargeWished { attempt, agreement, amount } => {
            put!(out, ChargeWished { attempt: attempt.0, agreement: agreement.0, amount_ore: amount.ore() });
            tag::CHARGE_WISHED
        }
        Entry::ChargeFailed { attempt, failure } => {
            put!(out, ChargeFailed { attempt: attempt.0, failure: failure.code() });
            tag::CHARGE_FAILED
        }
        Entry::Closed => tag::CLOSED,
    }
}

fn numbered(tag: u8, number: u64, amount: Amount, out: &mut Vec<u8>) -> u8 {
    put!(out, NumberAndAmount { number, amount_ore: amount.ore() });
    tag
}

/// Reads an entry's own fields, and returns what follows them.
pub(super) fn decode(tag: u8, own: &[u8]) -> Result<(Entry, &[u8]), FormatError> {
    let meaning = |what: &str| FormatError::Meaning(what.to_owned());
    let amount = |ore: rkyv::rend::unaligned::i64_ule| Amount::from_ore(ore.to_native());
    Ok(match tag {
        tag::OPENED => {
            let (body, rest) = split::<ArchivedOpened>(own)?;
            (Entry::Opened { school: SchoolId(body.school.to_native()) }, rest)
        }
        tag::CARD_BOUND => {
            let (body, rest) = split::<ArchivedCardBound>(own)?;
            let card = CardNumber::from_bytes(body.card).map_err(|e| FormatError::Meaning(e.to_string()))?;
            (Entry::CardBound { card }, rest)
        }
        tag::PURCHASED => {
            let (body, rest) = split::<ArchivedPurchased>(own)?;
            (Entry::Purchased { amount: amount(body.amount_ore) }, rest)
        }
        tag::REFUNDED => {
            let (body, rest) = split::<ArchivedRefunded>(own)?;
            let sale = RequestKey {
                caller: CallerId(body.sale_caller.to_native()),
                sequence: Sequence(body.sale_sequence.to_native()),
            };
            (Entry::Refunded { sale, amount: amount(body.amount_ore) }, rest)
        }
        tag::TOPPED_UP => {
            let (body, rest) = split::<ArchivedToppedUp>(own)?;
            let source = Source::from_code(body.source).ok_or_else(|| meaning("unknown source of money"))?;
            let order = OrderNumber(body.order.to_native());
            (Entry::ToppedUp { order, amount: amount(body.amount_ore), source }, rest)
        }
        tag::BLOCKED => (Entry::Blocked, own),
        tag::ACTIVATED => (Entry::Activated, own),
        tag::DAILY_LIMIT_SET => {
            let (body, rest) = split::<ArchivedDailyLimitSet>(own)?;
            let limit = match body.some {
                0 => None,
                1 => Some(amount(body.limit_ore)),
                _ => return Err(meaning("a daily limit that is neither there nor not")),
            };
            (Entry::DailyLimitSet { limit }, rest)
        }
        tag::REFUSED => {
            let (body, rest) = split::<ArchivedRefused>(own)?;
            let rejection = Rejection::from_code(body.code.to_native(), amount(body.amount_ore));
            (Entry::Refused { rejection: rejection.ok_or_else(|| meaning("unknown rejection"))? }, rest)
        }
        tag::CREDIT_LIMIT_SET => {
            let (body, rest) = split::<ArchivedOneAmount>(own)?;
            (Entry::CreditLimitSet { limit: amount(body.amount_ore) }, rest)
        }
        tag::TRANSFERRED_OUT
        | tag::TRANSFERRED_IN
        | tag::PAYOUT_RESERVED
        | tag::PAYOUT_DONE
        | tag::PAYOUT_RETURNED
        | tag::AUTO_TOP_UP_AGREED => {
            let (body, rest) = split::<ArchivedNumberAndAmount>(own)?;
            let (number, amount) = (body.number.to_native(), amount(body.amount_ore));
            let payout = PayoutNumber(number);
            let entry = match tag {
                tag::TRANSFERRED_OUT => Entry::TransferredOut { to: AccountId(number), amount },
                tag::TRANSFERRED_IN => Entry::TransferredIn { from: AccountId(number), amount },
                tag::PAYOUT_RESERVED => Entry::PayoutReserved { payout, amount },
                tag::PAYOUT_DONE => Entry::PayoutDone { payout, amount },
                tag::PAYOUT_RETURNED => Entry::PayoutReturned { payout, amount },
                _ => Entry::AutoTopUpAgreed { agreement: AgreementNumber(number), amount },
            };
            (entry, rest)
        }
        tag::PAYOUT_SENT => {
            let (body, rest) = split::<ArchivedOneNumber>(own)?;
            (Entry::PayoutSent { payout: PayoutNumber(body.number.to_native()) }, rest)
        }
        tag::CORRECTED => {
            let (body, rest) = split::<ArchivedCorrected>(own)?;
            let reason = Reason::from_code(body.reason).ok_or_else(|| meaning("unknown reason"))?;
            (Entry::Corrected { amount: amount(body.amount_ore), reason }, rest)
        }
        tag::AUTO_TOP_UP_CANCELLED => (Entry::AutoTopUpCancelled, own),
        tag::CHARGE_WISHED => {
            let (body, rest) = split::<ArchivedChargeWished>(own)?;
            let (attempt, agreement) = (body.attempt.to_native(), body.agreement.to_native());
            let amount = amount(body.amount_ore);
            let (attempt, agreement) = (Attempt(attempt), AgreementNumber(agreement));
            (Entry::ChargeWished { attempt, agreement, amount }, rest)
        }
        tag::CHARGE_FAILED => {
            let (body, rest) = split::<ArchivedChargeFailed>(own)?;
            let failure = ChargeFailure::from_code(body.failure).ok_or_else(|| meaning("unknown failure"))?;
            (Entry::ChargeFailed { attempt: Attempt(body.attempt.to_native()), failure }, rest)
        }
        tag::CLOSED => (Entry::Closed, own),
        _ => return Err(FormatError::Meaning(format!("unknown kind of entry {tag}"))),
    })
}
