//! Commands as bytes: the fixed body of each kind, and what may follow it.

use frokost_engine::command::{ChargeFailure, Reason, Source};
use frokost_engine::{
    AccountId, AgreementNumber, Amount, Asked, Attempt, CallerId, CardNumber, Command, Currency, Details, OrderNumber,
    PayoutNumber, PersonId, RequestKey, SchoolId, Sequence, Text,
};
use rkyv::{Archive, Serialize};

use super::frame::{Frame, FrameError, append};
use super::request::{card, kind};
use super::{put, split};

#[derive(Archive, Serialize)]
struct Purchase {
    sequence: u64,
    card: [u8; CardNumber::BYTES],
    amount_ore: i64,
}

#[derive(Archive, Serialize)]
struct Refund {
    sequence: u64,
    card: [u8; CardNumber::BYTES],
    sale_caller: u32,
    sale_sequence: u64,
    amount_ore: i64,
}

#[derive(Archive, Serialize)]
struct TopUp {
    sequence: u64,
    account: u64,
    order: u64,
    amount_ore: i64,
    source: u8,
}

#[derive(Archive, Serialize)]
struct Open {
    sequence: u64,
    account: u64,
    school: u32,
}

#[derive(Archive, Serialize)]
struct BindCard {
    sequence: u64,
    account: u64,
    card: [u8; CardNumber::BYTES],
}

/// Block, activate, cancel automatic top-up, close.
#[derive(Archive, Serialize)]
struct OfAccount {
    sequence: u64,
    account: u64,
}

#[derive(Archive, Serialize)]
struct SetDailyLimit {
    sequence: u64,
    account: u64,
    /// 1 for the limit that follows, 0 for none.
    some: u8,
    limit_ore: i64,
}

#[derive(Archive, Serialize)]
struct SetCreditLimit {
    sequence: u64,
    account: u64,
    limit_ore: i64,
}

#[derive(Archive, Serialize)]
struct Transfer {
    sequence: u64,
    from: u64,
    to: u64,
    amount_ore: i64,
}

#[derive(Archive, Serialize)]
struct RequestPayout {
    sequence: u64,
    account: u64,
    payout: u64,
    amount_ore: i64,
}

/// A pay-out is sent, done, returned.
#[derive(Archive, Serialize)]
struct OfPayout {
    sequence: u64,
    account: u64,
    payout: u64,
}

#[derive(Archive, Serialize)]
struct Correct {
    sequence: u64,
    account: u64,
    /// Below zero, it takes.
    amount_ore: i64,
    reason: u8,
}

#[derive(Archive, Serialize)]
struct AgreeAutoTopUp {
    sequence: u64,
    account: u64,
    agreement: u64,
    amount_ore: i64,
}

#[derive(Archive, Serialize)]
struct ReportChargeFailed {
    sequence: u64,
    account: u64,
    attempt: u32,
    failure: u8,
}

/// What may follow any command's body, if it says anything; then up to 48 bytes of text.
#[derive(Archive, Serialize)]
struct Tail {
    by: u64,
    currency: [u8; 3],
}

/// Appends a command as a frame.
pub(super) fn encode(sequence: u64, asked: &Asked, tag: u64, out: &mut Vec<u8>) {
    append(out, kind_of(&asked.command), tag, |out| {
        put_body(sequence, &asked.command, out);
        let Details { by, currency, text } = asked.details;
        if asked.details != Details::default() {
            put!(out, Tail { by: by.0, currency: currency.bytes() });
            out.extend_from_slice(text.as_str().as_bytes());
        }
    });
}

fn put_body(sequence: u64, command: &Command, out: &mut Vec<u8>) {
    match *command {
        Command::Purchase { card, amount } => {
            put!(out, Purchase { sequence, card: card.bytes(), amount_ore: amount.ore() });
        }
        Command::Refund { card, sale, amount } => {
            let (sale_caller, sale_sequence) = (sale.caller.0, sale.sequence.0);
            put!(out, Refund { sequence, card: card.bytes(), sale_caller, sale_sequence, amount_ore: amount.ore() });
        }
        Command::TopUp { account, order, amount, source } => {
            let (account, order, source) = (account.0, order.0, source.code());
            put!(out, TopUp { sequence, account, order, amount_ore: amount.ore(), source });
        }
        Command::Open { account, school } => {
            put!(out, Open { sequence, account: account.0, school: school.0 });
        }
        Command::BindCard { account, card } => {
            put!(out, BindCard { sequence, account: account.0, card: card.bytes() });
        }
        Command::Block { account }
        | Command::Activate { account }
        | Command::CancelAutoTopUp { account }
        | Command::Close { account } => {
            put!(out, OfAccount { sequence, account: account.0 });
        }
        Command::SetDailyLimit { account, limit } => {
            let limit_ore = limit.unwrap_or_default().ore();
            put!(out, SetDailyLimit { sequence, account: account.0, some: limit.is_some().into(), limit_ore });
        }
        Command::SetCreditLimit { account, limit } => {
            put!(out, SetCreditLimit { sequence, account: account.0, limit_ore: limit.ore() });
        }
        Command::Transfer { from, to, amount } => {
            put!(out, Transfer { sequence, from: from.0, to: to.0, amount_ore: amount.ore() });
        }
        Command::RequestPayout { account, payout, amount } => {
            put!(out, RequestPayout { sequence, account: account.0, payout: payout.0, amount_ore: amount.ore() });
        }
        Command::MarkPayoutSent { account, payout }
        | Command::MarkPayoutDone { account, payout }
        | Command::ReturnPayout { account, payout } => {
            put!(out, OfPayout { sequence, account: account.0, payout: payout.0 });
        }
        Command::Correct { account, amount, reason } => {
            put!(out, Correct { sequence, account: account.0, amount_ore: amount.ore(), reason: reason.code() });
        }
        Command::AgreeAutoTopUp { account, agreement, amount } => {
            let (account, agreement) = (account.0, agreement.0);
            put!(out, AgreeAutoTopUp { sequence, account, agreement, amount_ore: amount.ore() });
        }
        Command::ReportChargeFailed { account, attempt, failure } => {
            let (account, attempt) = (account.0, attempt.0);
            put!(out, ReportChargeFailed { sequence, account, attempt, failure: failure.code() });
        }
    }
}

fn kind_of(command: &Command) -> u8 {
    match command {
        Command::Purchase { .. } => kind::PURCHASE,
        Command::Refund { .. } => kind::REFUND,
        Command::TopUp { .. } => kind::TOP_UP,
        Command::Open { .. } => kind::OPEN,
        Command::BindCard { .. } => kind::BIND_CARD,
        Command::Block { .. } => kind::BLOCK,
        Command::Activate { .. } => kind::ACTIVATE,
        Command::SetDailyLimit { .. } => kind::SET_DAILY_LIMIT,
        Command::SetCreditLimit { .. } => kind::SET_CREDIT_LIMIT,
        Command::Transfer { .. } => kind::TRANSFER,
        Command::RequestPayout { .. } => kind::REQUEST_PAYOUT,
        Command::MarkPayoutSent { .. } => kind::MARK_PAYOUT_SENT,
        Command::MarkPayoutDone { .. } => kind::MARK_PAYOUT_DONE,
        Command::ReturnPayout { .. } => kind::RETURN_PAYOUT,
        Command::Correct { .. } => kind::CORRECT,
        Command::AgreeAutoTopUp { .. } => kind::AGREE_AUTO_TOP_UP,
        Command::CancelAutoTopUp { .. } => kind::CANCEL_AUTO_TOP_UP,
        Command::ReportChargeFailed { .. } => kind::REPORT_CHARGE_FAILED,
        Command::Close { .. } => kind::CLOSE,
    }
}

/// Reads a command; nothing if the frame is none.
pub(super) fn decode(frame: &Frame<'_>) -> Option<Result<(Sequence, Asked), FrameError>> {
    let body = frame.body;
    let read = match frame.kind {
        kind::PURCHASE => with::<ArchivedPurchase>(body, |b| {
            Ok((b.sequence, Command::Purchase { card: card(b.card)?, amount: amount(b.amount_ore) }))
        }),
        kind::REFUND => with::<ArchivedRefund>(body, |b| {
            let sale = RequestKey {
                caller: CallerId(b.sale_caller.to_native()),
                sequence: Sequence(b.sale_sequence.to_native()),
            };
            Ok((b.sequence, Command::Refund { card: card(b.card)?, sale, amount: amount(b.amount_ore) }))
        }),
        kind::TOP_UP => with::<ArchivedTopUp>(body, |b| {
            let (order, amount) = (OrderNumber(b.order.to_native()), amount(b.amount_ore));
            let source = Source::from_code(b.source).ok_or(FrameError::Malformed)?;
            Ok((b.sequence, Command::TopUp { account: account(b.account), order, amount, source }))
        }),
        kind::OPEN => with::<ArchivedOpen>(body, |b| {
            let school = SchoolId(b.school.to_native());
            Ok((b.sequence, Command::Open { account: account(b.account), school }))
        }),
        kind::BIND_CARD => with::<ArchivedBindCard>(body, |b| {
            Ok((b.sequence, Command::BindCard { account: account(b.account), card: card(b.card)? }))
        }),
        kind::BLOCK => of_account(body, |account| Command::Block { account }),
        kind::ACTIVATE => of_account(body, |account| Command::Activate { account }),
        kind::CANCEL_AUTO_TOP_UP => of_account(body, |account| Command::CancelAutoTopUp { account }),
        kind::CLOSE => of_account(body, |account| Command::Close { account }),
        kind::SET_DAILY_LIMIT => with::<ArchivedSetDailyLimit>(body, |b| {
            let limit = match b.some {
                0 if b.limit_ore.to_native() == 0 => None,
                1 => Some(amount(b.limit_ore)),
                _ => return Err(FrameError::Malformed),
            };
            Ok((b.sequence, Command::SetDailyLimit { account: account(b.account), limit }))
        }),
        kind::SET_CREDIT_LIMIT => with::<ArchivedSetCreditLimit>(body, |b| {
            Ok((b.sequence, Command::SetCreditLimit { account: account(b.account), limit: amount(b.limit_ore) }))
        }),
        kind::TRANSFER => with::<ArchivedTransfer>(body, |b| {
            let (from, to) = (account(b.from), account(b.to));
            Ok((b.sequence, Command::Transfer { from, to, amount: amount(b.amount_ore) }))
        }),
        kind::REQUEST_PAYOUT => with::<ArchivedRequestPayout>(body, |b| {
            let (account, payout) = (account(b.account), PayoutNumber(b.payout.to_native()));
            Ok((b.sequence, Command::RequestPayout { account, payout, amount: amount(b.amount_ore) }))
        }),
        kind::MARK_PAYOUT_SENT => of_payout(body, |account, payout| Command::MarkPayoutSent { account, payout }),
        kind::MARK_PAYOUT_DONE => of_payout(body, |account, payout| Command::MarkPayoutDone { account, payout }),
        kind::RETURN_PAYOUT => of_payout(body, |account, payout| Command::ReturnPayout { account, payout }),
        kind::CORRECT => with::<ArchivedCorrect>(body, |b| {
            let reason = Reason::from_code(b.reason).ok_or(FrameError::Malformed)?;
            Ok((b.sequence, Command::Correct { account: account(b.account), amount: amount(b.amount_ore), reason }))
        }),
        kind::AGREE_AUTO_TOP_UP => with::<ArchivedAgreeAutoTopUp>(body, |b| {
            let (account, agreement) = (account(b.account), AgreementNumber(b.agreement.to_native()));
            Ok((b.sequence, Command::AgreeAutoTopUp { account, agreement, amount: amount(b.amount_ore) }))
        }),
        kind::REPORT_CHARGE_FAILED => with::<ArchivedReportChargeFailed>(body, |b| {
            let failure = ChargeFailure::from_code(b.failure).ok_or(FrameError::Malformed)?;
            let (account, attempt) = (account(b.account), Attempt(b.attempt.to_native()));
            Ok((b.sequence, Command::ReportChargeFailed { account, attempt, failure }))
        }),
        _ => return None,
    };
    Some(read)
}

type Number = rkyv::rend::unaligned::u64_ule;
type SignedNumber = rkyv::rend::unaligned::i64_ule;

/// Reads the fixed body and what may follow it.
fn with<T>(
    body: &[u8],
    command: impl FnOnce(&T) -> Result<(Number, Command), FrameError>,
) -> Result<(Sequence, Asked), FrameError>
where
    T: rkyv::Portable + for<'a> rkyv::bytecheck::CheckBytes<rkyv::api::high::HighValidator<'a, rkyv::rancor::Error>>,
{
    let (fixed, tail) = split::<T>(body)?;
    let (sequence, command) = command(fixed)?;
    Ok((Sequence(sequence.to_native()), Asked { command, details: details(tail)? }))
}

fn of_account(body: &[u8], command: impl FnOnce(AccountId) -> Command) -> Result<(Sequence, Asked), FrameError> {
    with::<ArchivedOfAccount>(body, |b| Ok((b.sequence, command(account(b.account)))))
}

fn of_payout(
    body: &[u8],
    command: impl FnOnce(AccountId, PayoutNumber) -> Command,
) -> Result<(Sequence, Asked), FrameError> {
    with::<ArchivedOfPayout>(body, |b| {
        Ok((b.sequence, command(account(b.account), PayoutNumber(b.payout.to_native()))))
    })
}

fn details(tail: &[u8]) -> Result<Details, FrameError> {
    if tail.is_empty() {
        return Ok(Details::default());
    }
    let (fixed, text) = split::<ArchivedTail>(tail)?;
    let details = Details {
        by: PersonId(fixed.by.to_native()),
        currency: Currency::from_bytes(fixed.currency).ok_or(FrameError::Malformed)?,
        text: Text::from_bytes(text).map_err(|_| FrameError::Malformed)?,
    };
    // There is one way to say nothing.
    if details == Details::default() { Err(FrameError::Malformed) } else { Ok(details) }
}

fn account(number: Number) -> AccountId {
    AccountId(number.to_native())
}

fn amount(ore: SignedNumber) -> Amount {
    Amount::from_ore(ore.to_native())
}
