//! The test vectors of docs/wire.md: every message there, byte by byte, is what this program writes and reads.

use frokost_engine::command::Source;
use frokost_engine::time::Month;
use frokost_engine::{
    AccountId, AccountView, Amount, CallerId, Command, Entry, Lsn, OrderNumber, Outcome, Query, Receipt, Record,
    Rejection, RequestKey, Role, SchoolId, Sequence, Timestamp,
};
use frokost_net::wire::frame::{RESPONSE_LIMIT, split};
use frokost_net::wire::{Request, Response, Welcome};

use crate::world::card;

fn requests() -> Vec<(&'static str, Request)> {
    let account = AccountId(42);
    let amount = Amount::from_ore(2550);
    let sale = RequestKey { caller: CallerId(3), sequence: Sequence(17) };
    let month = Month { year: 2026, month: 9 };
    let command = |command| Request::Command { sequence: Sequence(18), command };
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
    };
    let welcome = Welcome {
        caller: CallerId(3),
        role: Role::Till,
        school: SchoolId(7),
        in_flight: 256,
        now: Timestamp(1_790_000_000_000),
    };
    let missing = Amount::from_ore(550);
    vec![
        ("welcome", Response::Welcome(welcome)),
        ("approved", Response::Outcome(Outcome::Approved(Receipt { lsn: Lsn(258), balance }))),
        ("rejected", Response::Outcome(Outcome::Rejected(Rejection::LowBalance { missing }))),
        ("busy", Response::Outcome(Outcome::Busy)),
        ("unavailable", Response::Outcome(Outcome::Unavailable)),
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
