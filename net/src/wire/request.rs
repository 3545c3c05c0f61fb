//! Requests: what a caller may ask for. Commands carry the caller's own running number; the same number always gets the
//! same answer.

use frokost_engine::time::Month;
use frokost_engine::{AccountId, Asked, CardNumber, Lsn, Query, Sequence, Text};
use rkyv::{Archive, Serialize};

use super::frame::{Frame, FrameError, append};
use super::{access, command, put};

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Who am I, and what are the limits?
    Hello,
    /// Do something.
    Command {
        /// The caller's number for it.
        sequence: Sequence,
        /// What, by whom, and what the statement shall say.
        asked: Asked,
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
    /// Show the picture of the pupil whose card it is, so that a cashier sees whether it is in the right hands.
    Picture {
        /// The card.
        card: CardNumber,
    },
    /// Who is meant? For secretaries, of their own school, and operators.
    Find {
        /// The account; 0 to look for the text.
        account: AccountId,
        /// A part of a pupil's name, a birth date, or the mail address of a login.
        text: Text,
    },
    /// Make a backup, or tell how far the one that is being made has come. For operators.
    Backup,
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
    /// [`frokost_engine::Command::SetCreditLimit`]
    pub const SET_CREDIT_LIMIT: u8 = 0x26;
    /// [`frokost_engine::Command::Transfer`]
    pub const TRANSFER: u8 = 0x27;
    /// [`frokost_engine::Command::RequestPayout`]
    pub const REQUEST_PAYOUT: u8 = 0x28;
    /// [`frokost_engine::Command::MarkPayoutSent`]
    pub const MARK_PAYOUT_SENT: u8 = 0x29;
    /// [`frokost_engine::Command::MarkPayoutDone`]
    pub const MARK_PAYOUT_DONE: u8 = 0x2a;
    /// [`frokost_engine::Command::ReturnPayout`]
    pub const RETURN_PAYOUT: u8 = 0x2b;
    /// [`frokost_engine::Command::Correct`]
    pub const CORRECT: u8 = 0x2c;
    /// [`frokost_engine::Command::AgreeAutoTopUp`]
    pub const AGREE_AUTO_TOP_UP: u8 = 0x2d;
    /// [`frokost_engine::Command::CancelAutoTopUp`]
    pub const CANCEL_AUTO_TOP_UP: u8 = 0x2e;
    /// [`frokost_engine::Command::ReportChargeFailed`]
    pub const REPORT_CHARGE_FAILED: u8 = 0x2f;
    /// [`frokost_engine::Command::Close`]
    pub const CLOSE: u8 = 0x30;
    /// [`frokost_engine::Query::CardBalance`]
    pub const CARD_BALANCE: u8 = 0x40;
    /// [`frokost_engine::Query::AccountBalance`]
    pub const ACCOUNT_BALANCE: u8 = 0x41;
    /// [`super::Request::Statement`]
    pub const STATEMENT: u8 = 0x42;
    /// [`frokost_engine::Query::Wishes`]
    pub const WISHES: u8 = 0x43;
    /// [`super::Request::Picture`]
    pub const PICTURE: u8 = 0x44;
    /// [`super::Request::Find`]
    pub const FIND: u8 = 0x45;
    /// [`super::Request::Records`]
    pub const RECORDS: u8 = 0x50;
    /// [`super::Request::Backup`]
    pub const BACKUP: u8 = 0x51;
}

/// Balance and picture.
#[derive(Archive, Serialize)]
struct CardBalance {
    card: [u8; CardNumber::BYTES],
}

/// Balance and wishes.
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
struct Find {
    account: u64,
    text: [u8; Text::BYTES],
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
            Request::Command { sequence, asked } => command::encode(sequence.0, &asked, tag, out),
            Request::Query(Query::CardBalance { card }) => {
                append(out, kind::CARD_BALANCE, tag, |out| put!(out, CardBalance { card: card.bytes() }));
            }
            Request::Query(Query::AccountBalance { account }) => {
                append(out, kind::ACCOUNT_BALANCE, tag, |out| put!(out, AccountBalance { account: account.0 }));
            }
            Request::Query(Query::Statement { account, month }) => {
                Request::Statement { account, month, after: Lsn::ZERO }.encode(tag, out);
            }
            Request::Query(Query::Wishes { after }) => {
                append(out, kind::WISHES, tag, |out| put!(out, AccountBalance { account: after.0 }));
            }
            Request::Picture { card } => {
                append(out, kind::PICTURE, tag, |out| put!(out, CardBalance { card: card.bytes() }));
            }
            Request::Find { account, text } => {
                append(out, kind::FIND, tag, |out| put!(out, Find { account: account.0, text: text.bytes() }));
            }
            Request::Backup => append(out, kind::BACKUP, tag, |_| {}),
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
        if let Some(command) = command::decode(frame) {
            return command.map(|(sequence, asked)| Request::Command { sequence, asked });
        }
        match frame.kind {
            kind::HELLO if body.is_empty() => Ok(Request::Hello),
            kind::HELLO => Err(FrameError::Malformed),
            kind::CARD_BALANCE => {
                let body = access::<ArchivedCardBalance>(body)?;
                Ok(Request::Query(Query::CardBalance { card: card(body.card)? }))
            }
            kind::ACCOUNT_BALANCE => {
                let body = access::<ArchivedAccountBalance>(body)?;
                Ok(Request::Query(Query::AccountBalance { account: AccountId(body.account.to_native()) }))
            }
            kind::WISHES => {
                let body = access::<ArchivedAccountBalance>(body)?;
                Ok(Request::Query(Query::Wishes { after: AccountId(body.account.to_native()) }))
            }
            kind::PICTURE => Ok(Request::Picture { card: card(access::<ArchivedCardBalance>(body)?.card)? }),
            kind::FIND => {
                let body = access::<ArchivedFind>(body)?;
                let text = Text::from_filled(body.text).map_err(|_| FrameError::Malformed)?;
                Ok(Request::Find { account: AccountId(body.account.to_native()), text })
            }
            kind::BACKUP if body.is_empty() => Ok(Request::Backup),
            kind::BACKUP => Err(FrameError::Malformed),
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

pub(super) fn card(bytes: [u8; CardNumber::BYTES]) -> Result<CardNumber, FrameError> {
    CardNumber::from_bytes(bytes).map_err(|_| FrameError::Malformed)
}
