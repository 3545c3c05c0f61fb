//! Answers. Every request gets exactly one, with the request's tag; answers come in the order in which they become
//! durable, not in the order of the requests.

use frokost_engine::time::Month;
use frokost_engine::wishes::Wish;
use frokost_engine::{
    AccountId, AccountView, AgreementNumber, Amount, Attempt, CallerId, CardNumber, Lsn, Outcome, Receipt, Record,
    Rejection, Role, SchoolId, Timestamp,
};
use rkyv::{Archive, Serialize};

use super::frame::{Frame, FrameError, append};
use super::{access, posting, put, split};

/// The most postings of one answer; there is more where an answer says so.
pub const POSTINGS_LIMIT: usize = 400;

/// The most bytes of a picture.
pub const PICTURE_LIMIT: usize = 60_000;

/// The most pupils of one answer.
pub const FOUND_LIMIT: usize = 100;

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response {
    /// To `Hello`.
    Welcome(Welcome),
    /// To a command or a balance query.
    Outcome(Outcome),
    /// To `Statement`.
    Statement {
        /// Is there more after the last posting?
        more: bool,
        /// The months that have postings, newest first; only in the first answer of a statement.
        months: Vec<Month>,
        /// Postings in order.
        postings: Vec<Record>,
    },
    /// To a query for wishes.
    Wishes(Vec<Wish>),
    /// To `Picture`: a JPEG of at most [`PICTURE_LIMIT`] bytes; empty if there is none.
    Picture(Vec<u8>),
    /// To `Find`.
    Found(Found),
    /// To `Backup`.
    Backup(Progress),
    /// To `Records`.
    Records {
        /// The last durable position.
        head: Lsn,
        /// Records in order.
        records: Vec<Record>,
    },
}

/// Who the caller is, as its certificate says, and the limits that hold for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Welcome {
    /// Its number.
    pub caller: CallerId,
    /// Its role.
    pub role: Role,
    /// Its school; 0 for all.
    pub school: SchoolId,
    /// How many requests it may have in flight on a stream; beyond, the server stops reading.
    pub in_flight: u32,
    /// The server's clock.
    pub now: Timestamp,
}

/// Pupils that somebody looked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Are there more than [`FOUND_LIMIT`]?
    pub more: bool,
    /// By account.
    pub pupils: Vec<FoundPupil>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundPupil {
    /// The account.
    pub account: AccountId,
    /// The school.
    pub school: SchoolId,
    /// The name; of one that is longer than 200 bytes the beginning.
    pub name: String,
    /// The mail addresses of those who manage the account, with a space between; of more than 200 bytes the beginning.
    pub logins: String,
}

/// How far a backup has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Records written.
    pub done: u64,
    /// Records there are to write.
    pub all: u64,
    /// What it is called in the server's folder of backups, once it is whole.
    pub name: String,
    /// Why there is none, if it failed.
    pub error: String,
}

/// The numbers of the kinds, for ever.
pub mod kind {
    /// [`super::Response::Welcome`]
    pub const WELCOME: u8 = 0x81;
    /// [`frokost_engine::Outcome::Approved`]
    pub const APPROVED: u8 = 0x90;
    /// [`frokost_engine::Outcome::Rejected`]
    pub const REJECTED: u8 = 0x91;
    /// [`frokost_engine::Outcome::Busy`]
    pub const BUSY: u8 = 0x92;
    /// [`frokost_engine::Outcome::Unavailable`]
    pub const UNAVAILABLE: u8 = 0x93;
    /// [`frokost_engine::Outcome::View`]
    pub const VIEW: u8 = 0x94;
    /// [`super::Response::Statement`]
    pub const STATEMENT: u8 = 0x95;
    /// [`super::Response::Records`]
    pub const RECORDS: u8 = 0x96;
    /// [`super::Response::Wishes`]
    pub const WISHES: u8 = 0x97;
    /// [`frokost_engine::Outcome::OutOfSpace`]
    pub const OUT_OF_SPACE: u8 = 0x98;
    /// [`super::Response::Picture`]
    pub const PICTURE: u8 = 0x9a;
    /// [`super::Response::Found`]
    pub const FOUND: u8 = 0x9b;
    /// [`super::Response::Backup`]
    pub const BACKUP: u8 = 0x99;
}

#[derive(Archive, Serialize)]
struct WelcomeBody {
    caller: u32,
    /// 1 till, 2 portal, 3 secretary, 4 operator.
    role: u8,
    school: u32,
    in_flight: u32,
    now_ms: u64,
}

#[derive(Archive, Serialize)]
struct FoundHead {
    more: u8,
    pupils: u16,
}

#[derive(Archive, Serialize)]
struct FoundBody {
    account: u64,
    school: u32,
    name_bytes: u16,
    logins_bytes: u16,
}

#[derive(Archive, Serialize)]
struct Approved {
    lsn: u64,
    balance_ore: i64,
}

#[derive(Archive, Serialize)]
struct Rejected {
    code: u16,
    amount_ore: i64,
}

#[derive(Archive, Serialize)]
struct View {
    account: u64,
    school: u32,
    balance_ore: i64,
    /// Bit 0: blocked. Bit 1: has a card. Bit 2: has a daily limit. Bit 3: automatic top-up is agreed. Bit 4: a charge is
    /// under way. Bit 5: closed.
    flags: u8,
    card: [u8; CardNumber::BYTES],
    daily_limit_ore: i64,
    spent_today_ore: i64,
    credit_limit_ore: i64,
    auto_top_up_ore: i64,
}

/// Followed by the months (u32 each) and the postings.
#[derive(Archive, Serialize)]
struct StatementHead {
    more: u8,
    months: u16,
    postings: u16,
}

/// One account that wishes to be topped up.
#[derive(Archive, Serialize)]
struct WishBody {
    account: u64,
    attempt: u32,
    agreement: u64,
    amount_ore: i64,
    since_ms: u64,
}

/// Followed by the name and the error, in UTF-8.
#[derive(Archive, Serialize)]
struct BackupHead {
    done: u64,
    all: u64,
    name_bytes: u16,
    error_bytes: u16,
}

/// Followed by the records.
#[derive(Archive, Serialize)]
struct RecordsHead {
    head_lsn: u64,
    records: u16,
}

const BLOCKED: u8 = 1;
const HAS_CARD: u8 = 2;
const HAS_LIMIT: u8 = 4;
const HAS_AUTO_TOP_UP: u8 = 8;
const CHARGING: u8 = 16;
const CLOSED: u8 = 32;

fn role_code(role: Role) -> u8 {
    match role {
        Role::Till => 1,
        Role::Portal => 2,
        Role::Secretary => 3,
        Role::Operator => 4,
    }
}

/// Appends an outcome as a frame; the hot path of the server.
pub fn encode_outcome(outcome: &Outcome, tag: u64, out: &mut Vec<u8>) {
    match *outcome {
        Outcome::Approved(Receipt { lsn, balance }) => append(out, kind::APPROVED, tag, |out| {
            put!(out, Approved { lsn: lsn.0, balance_ore: balance.ore() });
        }),
        Outcome::Rejected(rejection) => append(out, kind::REJECTED, tag, |out| {
            put!(out, Rejected { code: rejection.code(), amount_ore: rejection.amount().ore() });
        }),
        Outcome::Busy => append(out, kind::BUSY, tag, |_| {}),
        Outcome::OutOfSpace => append(out, kind::OUT_OF_SPACE, tag, |_| {}),
        Outcome::Unavailable => append(out, kind::UNAVAILABLE, tag, |_| {}),
        Outcome::View(view) => append(out, kind::VIEW, tag, |out| {
            let mut flags = 0;
            let all = [
                (view.blocked, BLOCKED),
                (view.card.is_some(), HAS_CARD),
                (view.daily_limit.is_some(), HAS_LIMIT),
                (view.auto_top_up.is_some(), HAS_AUTO_TOP_UP),
                (view.charging, CHARGING),
                (view.closed, CLOSED),
            ];
            for (is, flag) in all {
                flags |= if is { flag } else { 0 };
            }
            let body = View {
                account: view.account.0,
                school: view.school.0,
                balance_ore: view.balance.ore(),
                flags,
                card: view.card.map_or([0; CardNumber::BYTES], |card| card.bytes()),
                daily_limit_ore: view.daily_limit.unwrap_or_default().ore(),
                spent_today_ore: view.spent_today.ore(),
                credit_limit_ore: view.credit_limit.ore(),
                auto_top_up_ore: view.auto_top_up.unwrap_or_default().ore(),
            };
            put!(out, body);
        }),
    }
}

impl Response {
    /// Appends the answer as a frame. Of a statement or records at most [`POSTINGS_LIMIT`] are written.
    pub fn encode(&self, tag: u64, out: &mut Vec<u8>) {
        match self {
            Response::Outcome(outcome) => encode_outcome(outcome, tag, out),
            Response::Welcome(welcome) => append(out, kind::WELCOME, tag, |out| {
                let body = WelcomeBody {
                    caller: welcome.caller.0,
                    role: role_code(welcome.role),
                    school: welcome.school.0,
                    in_flight: welcome.in_flight,
                    now_ms: welcome.now.0,
                };
                put!(out, body);
            }),
            Response::Statement { more, months, postings } => append(out, kind::STATEMENT, tag, |out| {
                let months = months.get(..months.len().min(1200)).unwrap_or_default();
                let (postings, count) = limited(postings);
                let months_count = u16::try_from(months.len()).unwrap_or(u16::MAX);
                put!(out, StatementHead { more: (*more).into(), months: months_count, postings: count });
                for month in months {
                    out.extend_from_slice(&month.number().to_le_bytes());
                }
                postings.iter().for_each(|record| posting::encode(record, out));
            }),
            Response::Wishes(wishes) => append(out, kind::WISHES, tag, |out| {
                for wish in wishes {
                    let body = WishBody {
                        account: wish.account.0,
                        attempt: wish.attempt.0,
                        agreement: wish.agreement.0,
                        amount_ore: wish.amount.ore(),
                        since_ms: wish.at.0,
                    };
                    put!(out, body);
                }
            }),
            Response::Picture(jpeg) => append(out, kind::PICTURE, tag, |out| {
                // One that is too large is none: half of it would be no picture.
                out.extend_from_slice(if jpeg.len() <= PICTURE_LIMIT { jpeg } else { &[] });
            }),
            Response::Found(found) => append(out, kind::FOUND, tag, |out| {
                let pupils = found.pupils.get(..found.pupils.len().min(FOUND_LIMIT)).unwrap_or_default();
                let more = found.more || found.pupils.len() > FOUND_LIMIT;
                put!(out, FoundHead { more: more.into(), pupils: u16::try_from(pupils.len()).unwrap_or(u16::MAX) });
                for pupil in pupils {
                    let (name, logins) = (shortened(&pupil.name, 200), shortened(&pupil.logins, 200));
                    let (name_bytes, logins_bytes) = (length(name), length(logins));
                    put!(out, FoundBody { account: pupil.account.0, school: pupil.school.0, name_bytes, logins_bytes });
                    out.extend_from_slice(name);
                    out.extend_from_slice(logins);
                }
            }),
            Response::Backup(progress) => append(out, kind::BACKUP, tag, |out| {
                let (name, error) = (shortened(&progress.name, 1000), shortened(&progress.error, 1000));
                let (name_bytes, error_bytes) = (length(name), length(error));
                put!(out, BackupHead { done: progress.done, all: progress.all, name_bytes, error_bytes });
                out.extend_from_slice(name);
                out.extend_from_slice(error);
            }),
            Response::Records { head, records } => append(out, kind::RECORDS, tag, |out| {
                let (records, count) = limited(records);
                put!(out, RecordsHead { head_lsn: head.0, records: count });
                records.iter().for_each(|record| posting::encode(record, out));
            }),
        }
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// [`FrameError`] for everything that [`Response::encode`] cannot have made.
    pub fn decode(frame: &Frame<'_>) -> Result<Response, FrameError> {
        let body = frame.body;
        let bare = |outcome| if body.is_empty() { Ok(Response::Outcome(outcome)) } else { Err(FrameError::Malformed) };
        match frame.kind {
            kind::WELCOME => decode_welcome(body).map(Response::Welcome),
            kind::APPROVED => {
                let body = access::<ArchivedApproved>(body)?;
                let balance = Amount::from_ore(body.balance_ore.to_native());
                Ok(Response::Outcome(Outcome::Approved(Receipt { lsn: Lsn(body.lsn.to_native()), balance })))
            }
            kind::REJECTED => {
                let body = access::<ArchivedRejected>(body)?;
                let amount = Amount::from_ore(body.amount_ore.to_native());
                let rejection = Rejection::from_code(body.code.to_native(), amount).ok_or(FrameError::Malformed)?;
                Ok(Response::Outcome(Outcome::Rejected(rejection)))
            }
            kind::BUSY => bare(Outcome::Busy),
            kind::OUT_OF_SPACE => bare(Outcome::OutOfSpace),
            kind::UNAVAILABLE => bare(Outcome::Unavailable),
            kind::VIEW => decode_view(body).map(|view| Response::Outcome(Outcome::View(view))),
            kind::STATEMENT => {
                let (head, rest) = split::<ArchivedStatementHead>(body)?;
                let (months, rest) =
                    rest.split_at_checked(usize::from(head.months.to_native()) * 4).ok_or(FrameError::Malformed)?;
                let (months, _) = months.as_chunks::<4>();
                let months = months
                    .iter()
                    .map(|bytes| Month::from_number(u32::from_le_bytes(*bytes)).ok_or(FrameError::Malformed))
                    .collect::<Result<_, _>>()?;
                let postings = postings(rest, head.postings.to_native())?;
                Ok(Response::Statement { more: head.more != 0, months, postings })
            }
            kind::WISHES => {
                let (wishes, rest) = body.as_chunks::<{ size_of::<ArchivedWishBody>() }>();
                if !rest.is_empty() {
                    return Err(FrameError::Malformed);
                }
                wishes.iter().map(|bytes| decode_wish(bytes)).collect::<Result<_, _>>().map(Response::Wishes)
            }
            kind::PICTURE if body.len() <= PICTURE_LIMIT => Ok(Response::Picture(body.to_vec())),
            kind::PICTURE => Err(FrameError::Malformed),
            kind::FOUND => decode_found(body).map(Response::Found),
            kind::BACKUP => decode_backup(body).map(Response::Backup),
            kind::RECORDS => {
                let (head, rest) = split::<ArchivedRecordsHead>(body)?;
                let records = postings(rest, head.records.to_native())?;
                Ok(Response::Records { head: Lsn(head.head_lsn.to_native()), records })
            }
            unknown => Err(FrameError::UnknownKind(unknown)),
        }
    }
}

fn decode_wish(bytes: &[u8]) -> Result<Wish, FrameError> {
    let body = access::<ArchivedWishBody>(bytes)?;
    Ok(Wish {
        account: AccountId(body.account.to_native()),
        attempt: Attempt(body.attempt.to_native()),
        agreement: AgreementNumber(body.agreement.to_native()),
        amount: Amount::from_ore(body.amount_ore.to_native()),
        at: Timestamp(body.since_ms.to_native()),
    })
}

fn decode_backup(body: &[u8]) -> Result<Progress, FrameError> {
    let (head, rest) = split::<ArchivedBackupHead>(body)?;
    let (name, error) = rest.split_at_checked(head.name_bytes.to_native().into()).ok_or(FrameError::Malformed)?;
    if error.len() != usize::from(head.error_bytes.to_native()) {
        return Err(FrameError::Malformed);
    }
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| FrameError::Malformed);
    Ok(Progress { done: head.done.to_native(), all: head.all.to_native(), name: text(name)?, error: text(error)? })
}

fn decode_found(body: &[u8]) -> Result<Found, FrameError> {
    let (head, mut rest) = split::<ArchivedFoundHead>(body)?;
    let mut pupils = Vec::new();
    for _ in 0..head.pupils.to_native() {
        let (pupil, after) = split::<ArchivedFoundBody>(rest)?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| FrameError::Malformed);
        let (name, after) = after.split_at_checked(pupil.name_bytes.to_native().into()).ok_or(FrameError::Malformed)?;
        let (logins, after) =
            after.split_at_checked(pupil.logins_bytes.to_native().into()).ok_or(FrameError::Malformed)?;
        pupils.push(FoundPupil {
            account: AccountId(pupil.account.to_native()),
            school: SchoolId(pupil.school.to_native()),
            name: text(name)?,
            logins: text(logins)?,
        });
        rest = after;
    }
    if rest.is_empty() { Ok(Found { more: head.more != 0, pupils }) } else { Err(FrameError::Malformed) }
}

/// At most so many bytes of a text, whole characters.
fn shortened(text: &str, most: usize) -> &[u8] {
    let end = (0..=text.len().min(most)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.as_bytes().get(..end).unwrap_or_default()
}

fn length(bytes: &[u8]) -> u16 {
    u16::try_from(bytes.len()).unwrap_or(u16::MAX)
}

fn limited(records: &[Record]) -> (&[Record], u16) {
    let records = records.get(..records.len().min(POSTINGS_LIMIT)).unwrap_or_default();
    (records, u16::try_from(records.len()).unwrap_or(u16::MAX))
}

fn postings(bytes: &[u8], count: u16) -> Result<Vec<Record>, FrameError> {
    if bytes.len() != usize::from(count) * posting::SIZE {
        return Err(FrameError::Malformed);
    }
    bytes.chunks_exact(posting::SIZE).map(posting::decode).collect()
}

fn decode_welcome(body: &[u8]) -> Result<Welcome, FrameError> {
    let body = access::<ArchivedWelcomeBody>(body)?;
    let role = Role::ALL.into_iter().find(|role| role_code(*role) == body.role).ok_or(FrameError::Malformed)?;
    Ok(Welcome {
        caller: CallerId(body.caller.to_native()),
        role,
        school: SchoolId(body.school.to_native()),
        in_flight: body.in_flight.to_native(),
        now: Timestamp(body.now_ms.to_native()),
    })
}

fn decode_view(body: &[u8]) -> Result<AccountView, FrameError> {
    let body = access::<ArchivedView>(body)?;
    let card = if body.flags & HAS_CARD == 0 {
        None
    } else {
        Some(CardNumber::from_bytes(body.card).map_err(|_| FrameError::Malformed)?)
    };
    Ok(AccountView {
        account: AccountId(body.account.to_native()),
        school: SchoolId(body.school.to_native()),
        balance: Amount::from_ore(body.balance_ore.to_native()),
        card,
        blocked: body.flags & BLOCKED != 0,
        daily_limit: (body.flags & HAS_LIMIT != 0).then(|| Amount::from_ore(body.daily_limit_ore.to_native())),
        spent_today: Amount::from_ore(body.spent_today_ore.to_native()),
        credit_limit: Amount::from_ore(body.credit_limit_ore.to_native()),
        auto_top_up: (body.flags & HAS_AUTO_TOP_UP != 0).then(|| Amount::from_ore(body.auto_top_up_ore.to_native())),
        charging: body.flags & CHARGING != 0,
        closed: body.flags & CLOSED != 0,
    })
}
