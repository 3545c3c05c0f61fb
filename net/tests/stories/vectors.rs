//! The test vectors of docs/wire.md: every message there, byte by byte, is what this program writes and reads.

use frokost_engine::command::{ChargeFailure, Reason, Source};
use frokost_engine::time::Month;
use frokost_engine::wishes::Wish;
use frokost_engine::{
    AccountId, AccountView, AgreementNumber, Amount, Asked, Attempt, CallerId, Command, Currency, Details, Entry, Lsn,
    OrderNumber, Outcome, PayoutNumber, PersonId, Query, Receipt, Record, Rejection, RequestKey, Role, SchoolId,
    Sequence, Timestamp,
};
use frokost_net::wire::frame::{RESPONSE_LIMIT, split};
use frokost_net::wire::response::{Found, FoundPupil, Progress};
use frokost_net::wire::{Request, Response, Welcome};

use crate::world::card;

fn requests() -> Vec<(&'static str, Request)> {
    let account = AccountId(42);
    let amount = Amount::from_ore(2550);
    let sale = RequestKey { caller: CallerId(3), sequence: Sequence(17) };
    let month = Month { year: 2026, month: 9 };
    let sequence = Sequence(18);
    let command = |command: Command| Request::Command { sequence, asked: command.into() };
    let payout = PayoutNumber(5001);
    let text = "2 sandwich, 1 mælk".parse().unwrap();
    let details = Details { by: PersonId(77), currency: Currency::DKK, text };
    vec![
        ("hello", Request::Hello),
        ("purchase", command(Command::Purchase { card: card(), amount })),
        ("refund", command(Command::Refund { card: card(), sale, amount })),
        ("top-up", command(Command::TopUp { account, order: OrderNumber(1001), amount, source: Source::Provider })),
        ("open", command(Command::Open { account, school: SchoolId(7) })),
        ("bind-card", command(Command::BindCard { account, card: card() })),
        ("block", command(Command::Block { account })),
        ("activate", command(Command::Activate { account })),
        ("set-daily-limit", command(Command::SetDailyLimit { account, limit: Some(amount) })),
        ("lift-daily-limit", command(Command::SetDailyLimit { account, limit: None })),
        (
            "purchase-with-details",
            Request::Command {
                sequence,
                asked: Asked { command: Command::Purchase { card: card(), amount }, details },
            },
        ),
        ("set-credit-limit", command(Command::SetCreditLimit { account, limit: amount })),
        ("transfer", command(Command::Transfer { from: account, to: AccountId(43), amount })),
        ("request-payout", command(Command::RequestPayout { account, payout, amount })),
        ("mark-payout-sent", command(Command::MarkPayoutSent { account, payout })),
        ("mark-payout-done", command(Command::MarkPayoutDone { account, payout })),
        ("return-payout", command(Command::ReturnPayout { account, payout })),
        ("correct", command(Command::Correct { account, amount: Amount::from_ore(-2550), reason: Reason::TillError })),
        (
            "agree-auto-top-up",
            command(Command::AgreeAutoTopUp {
                account,
                agreement: AgreementNumber(9),
                amount: Amount::from_kroner(200),
            }),
        ),
        ("cancel-auto-top-up", command(Command::CancelAutoTopUp { account })),
        (
            "report-charge-failed",
            command(Command::ReportChargeFailed { account, attempt: Attempt(3), failure: ChargeFailure::NoCover }),
        ),
        ("close", command(Command::Close { account })),
        ("wishes", Request::Query(Query::Wishes { after: account })),
        ("backup", Request::Backup),
        ("picture", Request::Picture { card: card() }),
        ("find", Request::Find { account: AccountId(0), text: "Søren".parse().unwrap() }),
        ("card-balance", Request::Query(Query::CardBalance { card: card() })),
        ("account-balance", Request::Query(Query::AccountBalance { account })),
        ("statement", Request::Statement { account, month, after: Lsn(5) }),
        ("records", Request::Records { from: Lsn(1) }),
    ]
}

fn responses() -> Vec<(&'static str, Response)> {
    let balance = Amount::from_ore(97_450);
    let posting = Record {
        lsn: Lsn(258),
        at: Timestamp(1_790_000_000_000),
        key: RequestKey { caller: CallerId(3), sequence: Sequence(18) },
        fingerprint: 0,
        account: AccountId(42),
        balance,
        by: PersonId(77),
        text: "2 sandwich, 1 mælk".parse().unwrap(),
        entry: Entry::Purchased { amount: Amount::from_ore(2550) },
    };
    let view = AccountView {
        account: AccountId(42),
        school: SchoolId(7),
        balance,
        card: Some(card()),
        blocked: true,
        daily_limit: Some(Amount::from_ore(5000)),
        spent_today: Amount::from_ore(2550),
        credit_limit: Amount::from_ore(10_000),
        auto_top_up: Some(Amount::from_kroner(200)),
        charging: true,
        closed: false,
    };
    let welcome = Welcome {
        caller: CallerId(3),
        role: Role::Till,
        school: SchoolId(7),
        in_flight: 256,
        now: Timestamp(1_790_000_000_000),
    };
    let found = FoundPupil {
        account: AccountId(42),
        school: SchoolId(7),
        name: "Søren Holm".to_owned(),
        logins: "mor@example.dk far@example.dk".to_owned(),
    };
    let missing = Amount::from_ore(550);
    vec![
        ("welcome", Response::Welcome(welcome)),
        ("approved", Response::Outcome(Outcome::Approved(Receipt { lsn: Lsn(258), balance }))),
        ("rejected", Response::Outcome(Outcome::Rejected(Rejection::LowBalance { missing }))),
        ("busy", Response::Outcome(Outcome::Busy)),
        ("unavailable", Response::Outcome(Outcome::Unavailable)),
        ("out-of-space", Response::Outcome(Outcome::OutOfSpace)),
        (
            "wishes-page",
            Response::Wishes(vec![Wish {
                account: AccountId(42),
                attempt: Attempt(3),
                agreement: AgreementNumber(9),
                amount: Amount::from_kroner(200),
                at: Timestamp(1_790_000_000_000),
            }]),
        ),
        (
            "backup-progress",
            Response::Backup(Progress {
                done: 512,
                all: 700,
                name: "20261124-120000".to_owned(),
                error: String::new(),
            }),
        ),
        ("picture-begins", Response::Picture(vec![0xff, 0xd8, 0xff, 0xe0])),
        ("no-picture", Response::Picture(Vec::new())),
        ("found", Response::Found(Found { more: true, pupils: vec![found] })),
        ("view", Response::Outcome(Outcome::View(view))),
        (
            "statement-page",
            Response::Statement { more: false, months: vec![Month { year: 2026, month: 9 }], postings: vec![posting] },
        ),
        ("records-page", Response::Records { head: Lsn(258), records: vec![posting] }),
    ]
}

/// The line that docs/wire.md must have for a message.
fn line(name: &str, bytes: &[u8]) -> String {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{name} {hex}")
}

#[test]
fn the_document_has_every_message_and_no_other() {
    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/wire.md")).unwrap();
    let block = document.split("```vectors\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap_or_default();
    let mut expected = String::new();
    for (name, request) in requests() {
        let mut bytes = Vec::new();
        request.encode(9, &mut bytes);
        let (frame, length) = split(&bytes, RESPONSE_LIMIT).unwrap().unwrap();
        assert_eq!((frame.tag, length), (9, bytes.len()));
        assert_eq!(Request::decode(&frame).unwrap(), request);
        expected.push_str(&line(name, &bytes));
        expected.push('\n');
    }
    for (name, response) in responses() {
        let mut bytes = Vec::new();
        response.encode(9, &mut bytes);
        let (frame, _) = split(&bytes, RESPONSE_LIMIT).unwrap().unwrap();
        assert_eq!(Response::decode(&frame).unwrap(), response);
        expected.push_str(&line(name, &bytes));
        expected.push('\n');
    }
    assert!(block == expected, "docs/wire.md should have these vectors:\n{expected}");
}
