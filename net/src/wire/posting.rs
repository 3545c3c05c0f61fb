//! A journal record on the wire, for statements and audits: one layout for every kind of entry, 137 bytes.

use frokost_engine::command::{ChargeFailure, Reason, Source};
use frokost_engine::{
    AccountId, AgreementNumber, Amount, Attempt, CallerId, CardNumber, Entry, Lsn, OrderNumber, PayoutNumber, PersonId,
    Record, Rejection, RequestKey, SchoolId, Sequence, Text, Timestamp,
};
use rkyv::{Archive, Serialize};

use super::frame::FrameError;
use super::put;

/// Bytes of a posting.
pub const SIZE: usize = 137;

const _: () = assert!(size_of::<ArchivedPosting>() == SIZE, "no padding");

#[derive(Archive, Serialize)]
pub(super) struct Posting {
    lsn: u64,
    at_ms: u64,
    caller: u32,
    sequence: u64,
    account: u64,
    balance_ore: i64,
    /// 1 opened, 2 card bound, 3 purchase, 4 refund, 5 top-up, 6 blocked, 7 activated, 8 daily limit, 9 refused, 10 credit
    /// limit, 11 transfer out, 12 transfer in, 13 pay-out reserved, 14 sent, 15 done, 16 returned, 17 correction, 18 automatic
    /// top-up agreed, 19 cancelled, 20 charge wished, 21 charge failed, 22 closed.
    kind: u8,
    amount_ore: i64,
    /// School, sequence of the refunded sale, order, 1 if a limit was set, code of the rejection, the other account of a
    /// transfer, pay-out, agreement; by kind, else 0.
    number: u64,
    /// Caller of the refunded sale, source of a top-up, reason of a correction, attempt to charge; by kind, else 0.
    other: u32,
    /// Only of a card that was bound, else zeros.
    card: [u8; CardNumber::BYTES],
    by: u64,
    /// UTF-8, filled up with zeros.
    text: [u8; Text::BYTES],
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
        Entry::CreditLimitSet { limit } => (10, limit, 0, 0),
        Entry::TransferredOut { to, amount } => (11, amount, to.0, 0),
        Entry::TransferredIn { from, amount } => (12, amount, from.0, 0),
        Entry::PayoutReserved { payout, amount } => (13, amount, payout.0, 0),
        Entry::PayoutSent { payout } => (14, Amount::ZERO, payout.0, 0),
        Entry::PayoutDone { payout, amount } => (15, amount, payout.0, 0),
        Entry::PayoutReturned { payout, amount } => (16, amount, payout.0, 0),
        Entry::Corrected { amount, reason } => (17, amount, 0, reason.code().into()),
        Entry::AutoTopUpAgreed { agreement, amount } => (18, amount, agreement.0, 0),
        Entry::AutoTopUpCancelled => (19, Amount::ZERO, 0, 0),
        Entry::ChargeWished { attempt, agreement, amount } => (20, amount, agreement.0, attempt.0),
        Entry::ChargeFailed { attempt, failure } => (21, Amount::ZERO, failure.code().into(), attempt.0),
        Entry::Closed => (22, Amount::ZERO, 0, 0),
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
        by: record.by.0,
        text: record.text.bytes(),
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
        10 => Entry::CreditLimitSet { limit: amount },
        11 => Entry::TransferredOut { to: AccountId(number), amount },
        12 => Entry::TransferredIn { from: AccountId(number), amount },
        13 => Entry::PayoutReserved { payout: PayoutNumber(number), amount },
        14 => Entry::PayoutSent { payout: PayoutNumber(number) },
        15 => Entry::PayoutDone { payout: PayoutNumber(number), amount },
        16 => Entry::PayoutReturned { payout: PayoutNumber(number), amount },
        17 => Entry::Corrected {
            amount,
            reason: u8::try_from(other).ok().and_then(Reason::from_code).ok_or(FrameError::Malformed)?,
        },
        18 => Entry::AutoTopUpAgreed { agreement: AgreementNumber(number), amount },
        19 => Entry::AutoTopUpCancelled,
        20 => Entry::ChargeWished { attempt: Attempt(other), agreement: AgreementNumber(number), amount },
        21 => Entry::ChargeFailed {
            attempt: Attempt(other),
            failure: u8::try_from(number).ok().and_then(ChargeFailure::from_code).ok_or(FrameError::Malformed)?,
        },
        22 => Entry::Closed,
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
        by: PersonId(posting.by.to_native()),
        text: Text::from_filled(posting.text).map_err(|_| FrameError::Malformed)?,
        entry,
    })
}
