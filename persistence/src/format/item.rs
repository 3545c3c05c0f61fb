//! The facts of a snapshot as bytes: a length, a tag, and plain fields. Their checksums are the business of the file they are in.

use std::collections::VecDeque;

use frokost_engine::account::state::{AccountState, Agreement, Charge, Payout, PayoutStage, Rare, Sale, Spent};
use frokost_engine::dedup::{Answer, Answered};
use frokost_engine::snapshot::Item;
use frokost_engine::time::Day;
use frokost_engine::{
    AccountId, AgreementNumber, Amount, Attempt, CallerId, CardNumber, Lsn, OrderNumber, PayoutNumber, Receipt,
    Rejection, RequestKey, SchoolId, Sequence, Timestamp,
};
use rkyv::rancor::Error as RkyvError;
use rkyv::{Archive, Serialize};

use super::{FormatError, put, split};

const ACCOUNT: u8 = 1;
const CARD: u8 = 2;
const FORGOTTEN: u8 = 3;
const KEY: u8 = 4;

const OPENED: u8 = 1;
const HAS_CARD: u8 = 2;
const BLOCKED: u8 = 4;
const CLOSED: u8 = 8;
const HAS_LIMIT: u8 = 16;
const IS_RARE: u8 = 32;

/// Followed by the days, the sales, the orders, and what is rare.
#[derive(Archive, Serialize)]
struct AccountHead {
    id: u64,
    school: u32,
    flags: u8,
    balance_ore: i64,
    card: [u8; CardNumber::BYTES],
    daily_limit_ore: i64,
    paid_in_ore: i64,
    days: u8,
    sales: u32,
    orders: u32,
}

#[derive(Archive, Serialize)]
struct SpentDay {
    day: i32,
    ore: i64,
}

#[derive(Archive, Serialize)]
struct OneSale {
    caller: u32,
    sequence: u64,
    at_ms: u64,
    amount_ore: i64,
    refunded_ore: i64,
}

/// Followed by the pay-outs.
#[derive(Archive, Serialize)]
struct RareHead {
    credit_limit_ore: i64,
    agreed: u8,
    agreement: u64,
    agreement_ore: i64,
    attempts: u32,
    charging: u8,
    charge_attempt: u32,
    charge_agreement: u64,
    charge_ore: i64,
    charge_at_ms: u64,
    payouts: u32,
}

#[derive(Archive, Serialize)]
struct OnePayout {
    number: u64,
    amount_ore: i64,
    stage: u8,
}

#[derive(Archive, Serialize)]
struct CardOf {
    card: [u8; CardNumber::BYTES],
    account: u64,
}

#[derive(Archive, Serialize)]
struct ForgottenUpTo {
    caller: u32,
    sequence: u64,
}

#[derive(Archive, Serialize)]
struct Key {
    caller: u32,
    sequence: u64,
    fingerprint: u64,
    at_ms: u64,
    /// 0 if it was approved, else the code of the rejection.
    code: u16,
    /// The position if approved.
    lsn: u64,
    /// The balance if approved, else the rejection's amount.
    amount_ore: i64,
}

/// Appends a fact to `out`.
pub fn encode(item: &Item, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    match item {
        Item::Account(state) => {
            out.push(ACCOUNT);
            encode_account(state, out);
        }
        Item::Card(card, account) => {
            out.push(CARD);
            put!(out, CardOf { card: card.bytes(), account: account.0 });
        }
        Item::Forgotten(caller, sequence) => {
            out.push(FORGOTTEN);
            put!(out, ForgottenUpTo { caller: caller.0, sequence: sequence.0 });
        }
        Item::Key(caller, answered) => {
            out.push(KEY);
            let (code, lsn, amount) = match answered.answer {
                Answer::Approved(receipt) => (0, receipt.lsn.0, receipt.balance),
                Answer::Rejected(why) => (why.code(), 0, why.amount()),
            };
            let (caller, sequence, fingerprint) = (caller.0, answered.sequence.0, answered.fingerprint);
            put!(out, Key { caller, sequence, fingerprint, at_ms: answered.at.0, code, lsn, amount_ore: amount.ore() });
        }
    }
    let length = u32::try_from(out.len() - start - 4).expect("no account has four gigabytes of orders");
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&length.to_le_bytes());
    }
}

/// Reads a fact from the front of `bytes`, and returns what follows it.
///
/// # Errors
/// [`FormatError`].
pub fn decode(bytes: &[u8]) -> Result<(Item, &[u8]), FormatError> {
    let (length, rest) = bytes.split_first_chunk::<4>().ok_or(FormatError::Short)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| FormatError::Short)?;
    let (own, rest) = rest.split_at_checked(length).ok_or(FormatError::Short)?;
    let (tag, body) = own.split_first().ok_or(FormatError::Short)?;
    let (item, left) = match *tag {
        ACCOUNT => {
            let (state, left) = decode_account(body)?;
            (Item::Account(Box::new(state)), left)
        }
        CARD => {
            let (card, left) = split::<ArchivedCardOf>(body)?;
            (Item::Card(read_card(card.card)?, AccountId(card.account.to_native())), left)
        }
        FORGOTTEN => {
            let (up_to, left) = split::<ArchivedForgottenUpTo>(body)?;
            let sequence = Sequence(up_to.sequence.to_native());
            (Item::Forgotten(CallerId(up_to.caller.to_native()), sequence), left)
        }
        KEY => {
            let (key, left) = split::<ArchivedKey>(body)?;
            let amount = Amount::from_ore(key.amount_ore.to_native());
            let answer = match key.code.to_native() {
                0 => Answer::Approved(Receipt { lsn: Lsn(key.lsn.to_native()), balance: amount }),
                code => Answer::Rejected(Rejection::from_code(code, amount).ok_or_else(|| wrong("a rejection"))?),
            };
            let answered = Answered {
                sequence: Sequence(key.sequence.to_native()),
                fingerprint: key.fingerprint.to_native(),
                at: Timestamp(key.at_ms.to_native()),
                answer,
            };
            (Item::Key(CallerId(key.caller.to_native()), answered), left)
        }
        _ => return Err(wrong("an unknown kind of fact")),
    };
    if left.is_empty() { Ok((item, rest)) } else { Err(wrong("more bytes than facts")) }
}

fn wrong(what: &str) -> FormatError {
    FormatError::Meaning(what.to_owned())
}

fn read_card(card: [u8; CardNumber::BYTES]) -> Result<CardNumber, FormatError> {
    CardNumber::from_bytes(card).map_err(|error| FormatError::Meaning(error.to_string()))
}

fn count(many: usize) -> u32 {
    u32::try_from(many).expect("no account has four billion of anything")
}

fn encode_account(state: &AccountState, out: &mut Vec<u8>) {
    let mut flags = 0;
    for (is, flag) in [
        (state.school.is_some(), OPENED),
        (state.card.is_some(), HAS_CARD),
        (state.blocked, BLOCKED),
        (state.closed, CLOSED),
        (state.daily_limit.is_some(), HAS_LIMIT),
        (state.rare.is_some(), IS_RARE),
    ] {
        flags |= if is { flag } else { 0 };
    }
    let head = AccountHead {
        id: state.id.0,
        school: state.school.unwrap_or_default().0,
        flags,
        balance_ore: state.balance.ore(),
        card: state.card.map_or([0; CardNumber::BYTES], |card| card.bytes()),
        daily_limit_ore: state.daily_limit.unwrap_or_default().ore(),
        paid_in_ore: state.paid_in.ore(),
        days: u8::try_from(state.spent.days().count()).unwrap_or(u8::MAX),
        sales: count(state.sales.len()),
        orders: count(state.orders.len()),
    };
    put!(out, head);
    for (day, amount) in state.spent.days() {
        put!(out, SpentDay { day: day.0, ore: amount.ore() });
    }
    for sale in &state.sales {
        let one = OneSale {
            caller: sale.key().caller.0,
            sequence: sale.key().sequence.0,
            at_ms: sale.at().0,
            amount_ore: sale.amount().ore(),
            refunded_ore: sale.refunded().ore(),
        };
        put!(out, one);
    }
    for order in &state.orders {
        out.extend_from_slice(&order.0.to_le_bytes());
    }
    if let Some(rare) = &state.rare {
        encode_rare(rare, out);
    }
}

fn encode_rare(rare: &Rare, out: &mut Vec<u8>) {
    let agreement = rare.agreement.unwrap_or(Agreement { number: AgreementNumber(0), amount: Amount::ZERO });
    let idle = Charge { attempt: Attempt(0), agreement, at: Timestamp(0) };
    let charge = rare.charge.unwrap_or(idle);
    let head = RareHead {
        credit_limit_ore: rare.credit_limit.ore(),
        agreed: rare.agreement.is_some().into(),
        agreement: agreement.number.0,
        agreement_ore: agreement.amount.ore(),
        attempts: rare.attempts.0,
        charging: rare.charge.is_some().into(),
        charge_attempt: charge.attempt.0,
        charge_agreement: charge.agreement.number.0,
        charge_ore: charge.agreement.amount.ore(),
        charge_at_ms: charge.at.0,
        payouts: count(rare.payouts.len()),
    };
    put!(out, head);
    for payout in &rare.payouts {
        let (number, amount_ore) = (payout.number.0, payout.amount.ore());
        put!(out, OnePayout { number, amount_ore, stage: payout.stage.code() });
    }
}

fn decode_account(bytes: &[u8]) -> Result<(AccountState, &[u8]), FormatError> {
    let (head, mut rest) = split::<ArchivedAccountHead>(bytes)?;
    let is = |flag: u8| head.flags & flag != 0;
    let mut state = AccountState::unopened(AccountId(head.id.to_native()));
    state.school = is(OPENED).then(|| SchoolId(head.school.to_native()));
    state.balance = Amount::from_ore(head.balance_ore.to_native());
    state.card = if is(HAS_CARD) { Some(read_card(head.card)?) } else { None };
    state.blocked = is(BLOCKED);
    state.closed = is(CLOSED);
    state.daily_limit = is(HAS_LIMIT).then(|| Amount::from_ore(head.daily_limit_ore.to_native()));
    state.paid_in = Amount::from_ore(head.paid_in_ore.to_native());
    let mut spent = Spent::default();
    for _ in 0..head.days {
        let (day, after) = split::<ArchivedSpentDay>(rest)?;
        spent.set(Day(day.day.to_native()), Amount::from_ore(day.ore.to_native()));
        rest = after;
    }
    state.spent = spent;
    // What a count promises has to be there before any room is made for it.
    let sales = usize::try_from(head.sales.to_native()).unwrap_or(usize::MAX);
    if sales > rest.len() / size_of::<ArchivedOneSale>() {
        return Err(FormatError::Short);
    }
    state.sales = VecDeque::with_capacity(sales);
    for _ in 0..sales {
        let (one, after) = split::<ArchivedOneSale>(rest)?;
        let key = RequestKey { caller: CallerId(one.caller.to_native()), sequence: Sequence(one.sequence.to_native()) };
        let (amount, refunded) = (one.amount_ore.to_native(), one.refunded_ore.to_native());
        if !(0..=Sale::MOST.ore()).contains(&amount) || !(0..=amount).contains(&refunded) {
            return Err(wrong("a sale that cannot be"));
        }
        let mut sale = Sale::new(key, Timestamp(one.at_ms.to_native()), Amount::from_ore(amount));
        sale.refund(Amount::from_ore(refunded));
        state.sales.push_back(sale);
        rest = after;
    }
    let orders = usize::try_from(head.orders.to_native()).unwrap_or(usize::MAX);
    let (numbers, after) =
        rest.split_at_checked(orders.checked_mul(8).ok_or(FormatError::Short)?).ok_or(FormatError::Short)?;
    let (numbers, _) = numbers.as_chunks::<8>();
    state.orders = numbers.iter().map(|number| OrderNumber(u64::from_le_bytes(*number))).collect();
    rest = after;
    if is(IS_RARE) {
        let (rare, after) = decode_rare(rest)?;
        state.rare = Some(Box::new(rare));
        rest = after;
    }
    Ok((state, rest))
}

fn decode_rare(bytes: &[u8]) -> Result<(Rare, &[u8]), FormatError> {
    let (head, mut rest) = split::<ArchivedRareHead>(bytes)?;
    let agreement =
        |number: u64, ore: i64| Agreement { number: AgreementNumber(number), amount: Amount::from_ore(ore) };
    let mut rare = Rare {
        credit_limit: Amount::from_ore(head.credit_limit_ore.to_native()),
        agreement: (head.agreed == 1).then(|| agreement(head.agreement.to_native(), head.agreement_ore.to_native())),
        charge: (head.charging == 1).then(|| Charge {
            attempt: Attempt(head.charge_attempt.to_native()),
            agreement: agreement(head.charge_agreement.to_native(), head.charge_ore.to_native()),
            at: Timestamp(head.charge_at_ms.to_native()),
        }),
        attempts: Attempt(head.attempts.to_native()),
        payouts: Vec::new(),
    };
    for _ in 0..head.payouts.to_native() {
        let (one, after) = split::<ArchivedOnePayout>(rest)?;
        let stage = PayoutStage::from_code(one.stage).ok_or_else(|| wrong("a pay-out's stage"))?;
        let (number, amount) = (PayoutNumber(one.number.to_native()), Amount::from_ore(one.amount_ore.to_native()));
        rare.payouts.push(Payout { number, amount, stage });
        rest = after;
    }
    Ok((rare, rest))
}
