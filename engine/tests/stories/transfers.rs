//! Transfers between living accounts: atomic, never stuck, whoever falls; and wishes, as whoever charges sees them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use frokost_engine::audit::Auditor;
use frokost_engine::command::{ChargeFailure, Source};
use frokost_engine::{
    AccountId, AgreementNumber, Amount, Attempt, CallerHandle, Command, Engine, Entry, OrderNumber, Outcome, Query,
    Rejection, Sequence,
};
use tokio::time::timeout;

use crate::harness::*;

const AT_LAST: Duration = Duration::from_secs(20);

async fn open(operator: &CallerHandle, accounts: u64, kroner: i64) {
    for n in 1..=accounts {
        let account = AccountId(n);
        approved(operator.ask(Sequence(n * 10), Command::Open { account, school: SCHOOL }).await);
        let number = card(u32::try_from(n).unwrap());
        approved(operator.ask(Sequence(n * 10 + 1), Command::BindCard { account, card: number }).await);
        let amount = Amount::from_kroner(kroner);
        let top_up = Command::TopUp { account, order: OrderNumber(n), amount, source: Source::Provider };
        approved(operator.ask(Sequence(n * 10 + 2), top_up).await);
    }
}

fn transfer(from: u64, to: u64, kroner: i64) -> Command {
    Command::Transfer { from: AccountId(from), to: AccountId(to), amount: Amount::from_kroner(kroner) }
}

async fn balance(operator: &CallerHandle, account: u64) -> i64 {
    match operator.view(Query::AccountBalance { account: AccountId(account) }).await {
        Outcome::View(view) => view.balance.ore() / 100,
        other => panic!("{other:?}"),
    }
}

fn audit(world: &World) {
    let mut auditor = Auditor::default();
    world.journal.records().iter().for_each(|record| auditor.take(record));
    assert_eq!(auditor.finish().findings, vec![]);
}

#[tokio::test]
async fn both_statements_show_it_under_one_key() {
    let world = World::new();
    let engine = world.start().await;
    let operator = operator(&engine);
    open(&operator, 2, 100).await;
    for (sequence, from, to) in [(500, 1, 2), (501, 2, 1)] {
        let first = operator.ask(Sequence(sequence), transfer(from, to, 30)).await;
        approved(first);
        assert_eq!(operator.ask(Sequence(sequence), transfer(from, to, 30)).await, first, "once");
    }
    assert_eq!((balance(&operator, 1).await, balance(&operator, 2).await), (100, 100));
    let records = world.journal.records();
    let halves: Vec<_> = records.iter().filter(|record| record.change().ore().abs() == 3_000).collect();
    assert_eq!(halves.len(), 4);
    for pair in halves.chunks(2) {
        assert!(matches!(pair[0].entry, Entry::TransferredOut { .. }));
        assert!(matches!(pair[1].entry, Entry::TransferredIn { .. }));
        assert_eq!((pair[0].key, pair[0].lsn.next()), (pair[1].key, pair[1].lsn));
    }
    assert_eq!(rejected(operator.ask(Sequence(510), transfer(1, 1, 5)).await), Rejection::SameAccount);
    assert_eq!(rejected(operator.ask(Sequence(511), transfer(1, 9, 5)).await), Rejection::UnknownAccount);
    let missing = Amount::from_kroner(1);
    assert_eq!(rejected(operator.ask(Sequence(512), transfer(2, 1, 101)).await), Rejection::LowBalance { missing });
    assert_eq!(rejected(operator.ask(Sequence(513), transfer(1, 2, 101)).await), Rejection::LowBalance { missing });
    engine.shutdown().await;
    audit(&world);
}

/// Everybody pays everybody, in circles and across, while every account goes from actor to actor.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_in_a_circle() {
    const ACCOUNTS: u64 = 6;
    let world = World::new();
    let engine = world.start().await;
    open(&operator(&engine), ACCOUNTS, 1_000).await;
    let mut rng = fastrand::Rng::with_seed(5);
    let mut asked = Vec::new();
    for n in 0..4_000u64 {
        let (from, to) = (rng.u64(1..=ACCOUNTS), rng.u64(1..=ACCOUNTS));
        let kroner = rng.i64(1..400);
        let handle = operator(&engine);
        asked.push(tokio::spawn(async move { handle.ask(Sequence(10_000 + n), transfer(from, to, kroner)).await }));
        if n % 500 == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    let mut made = 0;
    for asked in asked {
        match timeout(AT_LAST, asked).await.expect("a transfer is stuck").unwrap() {
            Outcome::Approved(_) => made += 1,
            Outcome::Rejected(_) | Outcome::Busy => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(made > 500, "only {made} transfers were made");
    let operator = operator(&engine);
    let mut sum = 0;
    for account in 1..=ACCOUNTS {
        sum += balance(&operator, account).await;
    }
    assert_eq!(sum, 1_000 * i64::try_from(ACCOUNTS).unwrap());
    engine.shutdown().await;
    audit(&world);
}

/// Whichever half panics: the other account goes on, and the money is where it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_falls_in_the_middle_takes_nothing_with_it() {
    let mut world = World::new();
    let halves = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let counted = Arc::clone(&halves);
    // The first transfer falls in its first half, the next in its second.
    world.config.probe = Some(Arc::new(move |command| {
        if matches!(command, Command::Transfer { .. }) {
            let half = counted.fetch_add(1, Ordering::SeqCst);
            assert!(half != 0 && half != 2, "cursed half {half}");
        }
    }));
    let engine = world.start().await;
    let operator = operator(&engine);
    open(&operator, 2, 100).await;
    for sequence in [900, 901] {
        let fell = timeout(AT_LAST, operator.ask(Sequence(sequence), transfer(1, 2, 30))).await.unwrap();
        assert_eq!(fell, Outcome::Unavailable, "a panic claims nothing");
    }
    // Asked again until the fallen account is there again, it happens once.
    let mut outcome = Outcome::Unavailable;
    for _ in 0..500 {
        outcome = timeout(AT_LAST, operator.ask(Sequence(901), transfer(1, 2, 30))).await.unwrap();
        if outcome != Outcome::Unavailable {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(approved(outcome), Amount::from_kroner(70));
    assert_eq!((balance(&operator, 1).await, balance(&operator, 2).await), (70, 130));
    engine.shutdown().await;
    audit(&world);
}

/// A balance asked for in the middle of a transfer rests on both halves, and so waits for the flush.
#[tokio::test]
async fn nobody_sees_one_half() {
    let world = World::new();
    let engine = world.start().await;
    open(&operator(&engine), 2, 100).await;
    engine.shutdown().await;
    let gate = Gate::default();
    let engine = world.start_on(Box::new(Gated { journal: world.journal.clone(), gate: gate.clone() })).await;
    let handle = operator(&engine);
    let moving = tokio::spawn({
        let handle = handle.clone();
        async move { handle.ask(Sequence(700), transfer(2, 1, 40)).await }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    let views: Vec<_> = [1, 2]
        .map(|account| {
            let handle = handle.clone();
            tokio::spawn(async move { balance(&handle, account).await })
        })
        .into();
    tokio::time::sleep(Duration::from_millis(80)).await;
    assert!(views.iter().all(|view| !view.is_finished()), "a balance left before the transfer was durable");
    gate.open(true);
    approved(moving.await.unwrap());
    let mut seen = Vec::new();
    for view in views {
        seen.push(view.await.unwrap());
    }
    assert_eq!(seen, [140, 60]);
    engine.shutdown().await;
}

#[tokio::test]
async fn a_wish_is_shown_once_it_is_durable_and_until_it_is_settled() {
    let world = World::new();
    let engine = world.start().await;
    let handle = operator(&engine);
    open(&handle, 3, 200).await;
    let agree = |account| Command::AgreeAutoTopUp {
        account: AccountId(account),
        agreement: AgreementNumber(account),
        amount: Amount::from_kroner(300),
    };
    for account in 1..=3 {
        approved(handle.ask(Sequence(100 + account), agree(account)).await);
    }
    let till = till(&engine);
    for (n, kroner) in [(1u32, 160), (2, 120), (3, 300)] {
        let buy = Command::Purchase { card: card(n), amount: Amount::from_kroner(kroner) };
        till.ask(Sequence(n.into()), buy).await;
    }
    let wishing = |engine: &Engine| -> Vec<u64> {
        operator(engine).wishes(AccountId(0)).unwrap().iter().map(|wish| wish.account.0).collect()
    };
    // Account 1 has 40 kr. left, 2 has 80, 3 could not buy.
    assert_eq!(wishing(&engine), [1, 3]);
    assert_eq!(operator(&engine).wishes(AccountId(1)).unwrap()[0].account, AccountId(3));
    assert_eq!(till.wishes(AccountId(0)), Err(Outcome::Rejected(Rejection::NotAllowed)));
    engine.shutdown().await;

    let engine = world.start().await;
    assert_eq!(wishing(&engine), [1, 3], "they outlive a restart");
    let handle = operator(&engine);
    let failed =
        Command::ReportChargeFailed { account: AccountId(1), attempt: Attempt(1), failure: ChargeFailure::Expired };
    approved(handle.ask(Sequence(200), failed).await);
    let (order, amount) = (OrderNumber(99), Amount::from_kroner(300));
    let charged = Command::TopUp { account: AccountId(3), order, amount, source: Source::Automatic };
    assert_eq!(approved(handle.ask(Sequence(201), charged).await), Amount::from_kroner(500));
    assert_eq!(wishing(&engine), Vec::<u64>::new());
    engine.shutdown().await;
    audit(&world);
}
