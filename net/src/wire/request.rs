//! Requests: what a caller may ask for. Commands carry the caller's own running number; the same number always gets the
//! same answer.

use frokost_engine::command::Source;
use frokost_engine::time::Month;
use frokost_engine::{
    AccountId, Amount, CallerId, CardNumber, Command, Lsn, OrderNumber, Query, RequestKey, SchoolId, Sequence,
};
use rkyv::{Archive, Serialize};

use super::frame::{Frame, FrameError, append};
use super::{access, put};

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Who am I, and what are the limits?
    Hello,
    /// Do something.
    Command {
        /// The caller's number for it.
        sequence: Sequence,
        /// What.
        command: Command,
    },
    /// Tell a balance.
    Query(Query),
    /// Tell a month's postings, from the first after a position on.
    Statement {
        /// The account.
        account: AccountId,
        /// The month.
        month: Month,
        /// Only postings after this one.
        after: Lsn,
    },
    /// Show the journal, from a position on. For operators.
    Records {
        /// The first one wanted.
        from: Lsn,
    },
}

/// The numbers of the kinds, for ever.
pub mod kind {
    /// [`super::Request::Hello`]
    pub const HELLO: u8 = 0x01;
    /// [`frokost_engine::Command::Purchase`]
    pub const PURCHASE: u8 = 0x10;
    /// [`frokost_engine::Command::Refund`]
    pub const REFUND: u8 = 0x11;
    /// [`frokost_engine::Command::TopUp`]
    pub const TOP_UP: u8 = 0x20;
    /// [`frokost_engine::Command::Open`]
    pub const OPEN: u8 = 0x21;
    /// [`frokost_engine::Command::BindCard`]
    pub const BIND_CARD: u8 = 0x22;
    /// [`frokost_engine::Command::Block`]
    pub const BLOCK: u8 = 0x23;
    /// [`frokost_engine::Command::Activate`]
    pub const ACTIVATE: u8 = 0x24;
    /// [`frokost_engine::Command::SetDailyLimit`]
    pub const SET_DAILY_LIMIT: u8 = 0x25;
    /// [`frokost_engine::Query::CardBalance`]
    pub const CARD_BALANCE: u8 = 0x40;
    /// [`frokost_engine::Query::AccountBalance`]
    pub const ACCOUNT_BALANCE: u8 = 0x41;
    /// [`super::Request::Statement`]
    pub const STATEMENT: u8 = 0x42;
    /// [`super::Request::Records`]
    pub const RECORDS: u8 = 0x50;
}

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

/// Block and activate.
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
struct CardBalance {
    card: [u8; CardNumber::BYTES],
}

#[derive(Archive, Serialize)]
struct AccountBalance {
    account: u64,
}

#[derive(Archive, Serialize)]
struct Statement {
    account: u64,
    /// `yyyymm`
    month: u32,
    after_lsn: u64,
}

#[derive(Archive, Serialize)]
struct Records {
    from_lsn: u64,
}

impl Request {
    /// Appends the request as a frame.
    pub fn encode(&self, tag: u64, out: &mut Vec<u8>) {
        match *self {
            Request::Hello => append(out, kind::HELLO, tag, |_| {}),
            Request::Command { sequence, command } => encode_command(sequence.0, &command, tag, out),
            Request::Query(Query::CardBalance { card }) => {
                append(out, kind::CARD_BALANCE, tag, |out| put!(out, CardBalance { card: card.bytes() }));
            }
            Request::Query(Query::AccountBalance { account }) => {
                append(out, kind::ACCOUNT_BALANCE, tag, |out| put!(out, AccountBalance { account: account.0 }));
            }
            Request::Query(Query::Statement { account, month }) => {
                Request::Statement { account, month, after: Lsn::ZERO }.encode(tag, out);
            }
            Request::Statement { account, month, after } => append(out, kind::STATEMENT, tag, |out| {
                put!(out, Statement { account: account.0, month: month.number(), after_lsn: after.0 });
            }),
            Request::Records { from } => {
                append(out, kind::RECORDS, tag, |out| put!(out, Records { from_lsn: from.0 }));
            }
        }
    }

    /// Reads a request.
    ///
    /// # Errors
    /// [`FrameError`] for everything that [`Request::encode`] cannot have made.
    pub fn decode(frame: &Frame<'_>) -> Result<Request, FrameError> {
        let body = frame.body;
        let command = |sequence: rkyv::rend::unaligned::u64_ule, command| {
            Ok(Request::Command { sequence: Sequence(sequence.to_native()), command })
        };
        match frame.kind {
            kind::HELLO if body.is_empty() => Ok(Request::Hello),
            kind::HELLO => Err(FrameError::Malformed),
            kind::PURCHASE => {
                let body = access::<ArchivedPurchase>(body)?;
                let amount = Amount::from_ore(body.amount_ore.to_native());
                command(body.sequence, Command::Purchase { card: card(body.card)?, amount })
            }
            kind::REFUND => {
                let body = access::<ArchivedRefund>(body)?;
                let sale = RequestKey {
                    caller: CallerId(body.sale_caller.to_native()),
                    sequence: Sequence(body.sale_sequence.to_native()),
                };
                let amount = Amount::from_ore(body.amount_ore.to_native());
                command(body.sequence, Command::Refund { card: card(body.card)?, sale, amount })
            }
            kind::TOP_UP => {
                let body = access::<ArchivedTopUp>(body)?;
                let top_up = Command::TopUp {
                    account: AccountId(body.account.to_native()),
                    order: OrderNumber(body.order.to_native()),
                    amount: Amount::from_ore(body.amount_ore.to_native()),
                    source: Source::from_code(body.source).ok_or(FrameError::Malformed)?,
                };
                command(body.sequence, top_up)
            }
            kind::OPEN => {
                let body = access::<ArchivedOpen>(body)?;
                let account = AccountId(body.account.to_native());
                command(body.sequence, Command::Open { account, school: SchoolId(body.school.to_native()) })
            }
            kind::BIND_CARD => {
                let body = access::<ArchivedBindCard>(body)?;
                let account = AccountId(body.account.to_native());
                command(body.sequence, Command::BindCard { account, card: card(body.card)? })
            }
            kind::BLOCK => {
                let body = access::<ArchivedOfAccount>(body)?;
                command(body.sequence, Command::Block { account: AccountId(body.account.to_native()) })
            }
            kind::ACTIVATE => {
                let body = access::<ArchivedOfAccount>(body)?;
                command(body.sequence, Command::Activate { account: AccountId(body.account.to_native()) })
            }
            kind::SET_DAILY_LIMIT => {
                let body = access::<ArchivedSetDailyLimit>(body)?;
                let limit = match body.some {
                    0 if body.limit_ore.to_native() == 0 => None,
                    1 => Some(Amount::from_ore(body.limit_ore.to_native())),
                    _ => return Err(FrameError::Malformed),
                };
                let account = AccountId(body.account.to_native());
                command(body.sequence, Command::SetDailyLimit { account, limit })
            }
            kind::CARD_BALANCE => {
                let body = access::<ArchivedCardBalance>(body)?;
                Ok(Request::Query(Query::CardBalance { card: card(body.card)? }))
            }
            kind::ACCOUNT_BALANCE => {
                let body = access::<ArchivedAccountBalance>(body)?;
                Ok(Request::Query(Query::AccountBalance { account: AccountId(body.account.to_native()) }))
            }
            kind::STATEMENT => {
                let body = access::<ArchivedStatement>(body)?;
                Ok(Request::Statement {
                    account: AccountId(body.account.to_native()),
                    month: Month::from_number(body.month.to_native()).ok_or(FrameError::Malformed)?,
                    after: Lsn(body.after_lsn.to_native()),
                })
            }
            kind::RECORDS => Ok(Request::Records { from: Lsn(access::<ArchivedRecords>(body)?.from_lsn.to_native()) }),
            unknown => Err(FrameError::UnknownKind(unknown)),
        }
    }
}

fn encode_command(sequence: u64, command: &Command, tag: u64, out: &mut Vec<u8>) {
    match *command {
        Command::Purchase { card, amount } => append(out, kind::PURCHASE, tag, |out| {
            put!(out, Purchase { sequence, card: card.bytes(), amount_ore: amount.ore() });
        }),
        Command::Refund { card, sale, amount } => append(out, kind::REFUND, tag, |out| {
            let (sale_caller, sale_sequence) = (sale.caller.0, sale.sequence.0);
            put!(out, Refund { sequence, card: card.bytes(), sale_caller, sale_sequence, amount_ore: amount.ore() });
        }),
        Command::TopUp { account, order, amount, source } => append(out, kind::TOP_UP, tag, |out| {
            let (account, order, source) = (account.0, order.0, source.code());
            put!(out, TopUp { sequence, account, order, amount_ore: amount.ore(), source });
        }),
        Command::Open { account, school } => append(out, kind::OPEN, tag, |out| {
            put!(out, Open { sequence, account: account.0, school: school.0 });
        }),
        Command::BindCard { account, card } => append(out, kind::BIND_CARD, tag, |out| {
            put!(out, BindCard { sequence, account: account.0, card: card.bytes() });
        }),
        Command::Block { account } => append(out, kind::BLOCK, tag, |out| {
            put!(out, OfAccount { sequence, account: account.0 });
        }),
        Command::Activate { account } => append(out, kind::ACTIVATE, tag, |out| {
            put!(out, OfAccount { sequence, account: account.0 });
        }),
        Command::SetDailyLimit { account, limit } => append(out, kind::SET_DAILY_LIMIT, tag, |out| {
            let limit_ore = limit.unwrap_or_default().ore();
            put!(out, SetDailyLimit { sequence, account: account.0, some: limit.is_some().into(), limit_ore });
        }),
    }
}

fn card(bytes: [u8; CardNumber::BYTES]) -> Result<CardNumber, FrameError> {
    CardNumber::from_bytes(bytes).map_err(|_| FrameError::Malformed)
}
