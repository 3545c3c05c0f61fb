//! A journal record on the wire, for statements and audits: one layout for every kind of entry, 81 bytes.

use frokost_engine::command::Source;
use frokost_engine::{
    AccountId, Amount, CallerId, CardNumber, Entry, Lsn, OrderNumber, Record, Rejection, RequestKey, SchoolId,
    Sequence, Timestamp,
};
use rkyv::{Archive, Serialize};

use super::frame::FrameError;
use super::put;

/// Bytes of a posting.
pub const SIZE: usize = 81;

const _: () = assert!(size_of::<ArchivedPosting>() == SIZE, "no padding");

#[derive(Archive, Serialize)]
pub(super) struct Posting {
    lsn: u64,
    at_ms: u64,
    caller: u32,
    sequence: u64,
    account: u64,
    balance_ore: i64,
    /// 1 opened, 2 card bound, 3 purchase, 4 refund, 5 top-up, 6 blocked, 7 activated, 8 daily limit, 9 refused.
    kind: u8,
    amount_ore: i64,
    /// School, sequence of the refunded sale, order, 1 if a limit was set, code of the rejection; by kind, else 0.
    number: u64,
    /// Caller of the refunded sale, source of a top-up; by kind, else 0.
    other: u32,
    /// Only of a card that was bound, else zeros.
    card: [u8; CardNumber::BYTES],
}

pub(super) fn encode(record: &Record, out: &mut Vec<u8>) {
    let mut card = [0; CardNumber::BYTES];
    let (kind, amount, number, other) = match record.entry {
        Entry::Opened { school } => (1, Amount::ZERO, school.0.into(), 0),
        Entry::CardBound { card: bound } => {
            card = bound.bytes();
            (2, Amount::ZERO, 0, 0)
        }
        Entry::Purchased { amount } => (3, amount, 0, 0),
        Entry::Refunded { sale, amount } => (4, amount, sale.sequence.0, sale.caller.0),
        Entry::ToppedUp { order, amount, source } => (5, amount, order.0, source.code().into()),
        Entry::Blocked => (6, Amount::ZERO, 0, 0),
        Entry::Activated => (7, Amount::ZERO, 0, 0),
        Entry::DailyLimitSet { limit } => (8, limit.unwrap_or_default(), limit.is_some().into(), 0),
        Entry::Refused { rejection } => (9, rejection.amount(), rejection.code().into(), 0),
    };
    let posting = Posting {
        lsn: record.lsn.0,
        at_ms: record.at.0,
        caller: record.key.caller.0,
        sequence: record.key.sequence.0,
        account: record.account.0,
        balance_ore: record.balance.ore(),
        kind,
        amount_ore: amount.ore(),
        number,
        other,
        card,
    };
    put!(out, posting);
}

/// Reads a posting. The fingerprint does not travel; it is 0 in what is read.
pub(super) fn decode(bytes: &[u8]) -> Result<Record, FrameError> {
    let posting = super::access::<ArchivedPosting>(bytes)?;
    let amount = Amount::from_ore(posting.amount_ore.to_native());
    let number = posting.number.to_native();
    let other = posting.other.to_native();
    let small = |number: u64| u32::try_from(number).map_err(|_| FrameError::Malformed);
    let entry = match posting.kind {
        1 => Entry::Opened { school: SchoolId(small(number)?) },
        2 => Entry::CardBound { card: CardNumber::from_bytes(posting.card).map_err(|_| FrameError::Malformed)? },
        3 => Entry::Purchased { amount },
        4 => Entry::Refunded { sale: RequestKey { caller: CallerId(other), sequence: Sequence(number) }, amount },
        5 => Entry::ToppedUp {
            order: OrderNumber(number),
            amount,
            source: u8::try_from(other).ok().and_then(Source::from_code).ok_or(FrameError::Malformed)?,
        },
        6 => Entry::Blocked,
        7 => Entry::Activated,
        8 => Entry::DailyLimitSet { limit: (number == 1).then_some(amount) },
        9 => Entry::Refused {
            rejection: u16::try_from(number)
                .ok()
                .and_then(|code| Rejection::from_code(code, amount))
                .ok_or(FrameError::Malformed)?,
        },
        _ => return Err(FrameError::Malformed),
    };
    Ok(Record {
        lsn: Lsn(posting.lsn.to_native()),
        at: Timestamp(posting.at_ms.to_native()),
        key: RequestKey {
            caller: CallerId(posting.caller.to_native()),
            sequence: Sequence(posting.sequence.to_native()),
        },
        fingerprint: 0,
        account: AccountId(posting.account.to_native()),
        balance: Amount::from_ore(posting.balance_ore.to_native()),
        entry,
    })
}
