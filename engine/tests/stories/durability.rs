//! No answer leaves before what it rests on is durable: a yes, a no and a balance alike.

use std::time::Duration;

use frokost_engine::memory_journal::Fault;
use frokost_engine::{Lsn, Outcome, Query, Rejection, Sequence};
use tokio::time::timeout;

use crate::harness::*;

/// Nothing may come within this time.
const SOON: Duration = Duration::from_millis(100);
/// Something has to come within this time, however busy the machine is.
const AT_LAST: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_yes_a_no_and_a_balance_wait_for_the_flush() {
    let world = World::new();
    let (engine, _) = world.with_pupil(100).await;
    engine.shutdown().await;

    let gate = Gate::default();
    let engine = world.start_on(Box::new(Gated { journal: world.journal.clone(), gate: gate.clone() })).await;
    let till = till(&engine);
    let ask = |sequence, kroner| {
        let till = till.clone();
        tokio::spawn(async move { till.ask(Sequence(sequence), buy(kroner)).await })
    };
    let mut yes = ask(1, 60);
    assert!(timeout(SOON, &mut yes).await.is_err(), "a yes left before it was durable");
    // 100 - 60 = 40: this refusal and this balance rest on a sale that is not durable yet.
    let mut no = ask(2, 60);
    let mut balance = tokio::spawn({
        let till = till.clone();
        async move { till.view(Query::CardBalance { card: card(1) }).await }
    });
    assert!(timeout(SOON, &mut no).await.is_err(), "a no left before what it rests on was durable");
    assert!(timeout(SOON, &mut balance).await.is_err(), "a balance left before what it rests on was durable");
    gate.open(true);
    assert_eq!(approved(yes.await.unwrap()).ore(), 40_00);
    assert!(matches!(rejected(no.await.unwrap()), Rejection::LowBalance { missing } if missing.ore() == 20_00));
    assert!(matches!(balance.await.unwrap(), Outcome::View(view) if view.balance.ore() == 40_00));
    engine.shutdown().await;
}

#[tokio::test]
async fn a_balance_in_the_same_group_as_what_it_rests_on_waits_for_that_flush() {
    let world = World::new();
    let (engine, _) = world.with_pupil(100).await;
    engine.shutdown().await;

    let gate = Gate::default();
    let engine = world.start_on(Box::new(Gated { journal: world.journal.clone(), gate: gate.clone() })).await;
    let till = till(&engine);
    let ask = |sequence| {
        let till = till.clone();
        tokio::spawn(async move { till.ask(Sequence(sequence), buy(10)).await })
    };
    // While the first is at the gate, a second and a balance queue up behind it: they are the next group.
    let first = ask(1);
    tokio::time::sleep(SOON).await;
    let second = ask(2);
    tokio::time::sleep(SOON).await;
    let mut balance = tokio::spawn({
        let till = till.clone();
        async move { till.view(Query::CardBalance { card: card(1) }).await }
    });
    tokio::time::sleep(SOON).await;
    gate.let_in(1);
    assert_eq!(approved(first.await.unwrap()).ore(), 90_00);
    assert!(timeout(SOON, &mut balance).await.is_err(), "a balance left before the sale in its own group was durable");
    assert!(!second.is_finished());
    gate.open(true);
    assert_eq!(approved(second.await.unwrap()).ore(), 80_00);
    assert!(matches!(balance.await.unwrap(), Outcome::View(view) if view.balance.ore() == 80_00));
    engine.shutdown().await;
}

#[tokio::test]
async fn a_failed_flush_is_final_and_claims_nothing() {
    for (fault, stored) in [(Fault::Failed, false), (Fault::FailedButStored, true)] {
        let world = World::new();
        let (engine, till_one) = world.with_pupil(100).await;
        world.journal.script([fault]);
        let first = timeout(AT_LAST, till_one.ask(Sequence(1), buy(10))).await.unwrap();
        assert_eq!(first, Outcome::Unavailable, "a failed flush answers neither yes nor no");
        assert!(world.fatal.lock().unwrap().is_some(), "the program is told to stop");
        let later = timeout(AT_LAST, till_one.ask(Sequence(2), buy(10))).await.unwrap();
        assert_eq!(later, Outcome::Unavailable, "nothing is tried again on a journal that failed");
        drop(engine);

        // After the restart the till asks again with the same key, and the sale is there exactly once either way.
        let engine = world.start().await;
        assert_eq!(engine.durable(), Lsn(if stored { 4 } else { 3 }));
        let till = till(&engine);
        assert_eq!(approved(till.ask(Sequence(1), buy(10)).await).ore(), 90_00);
        assert_eq!(approved(till.ask(Sequence(2), buy(10)).await).ore(), 80_00);
        engine.shutdown().await;
    }
}

#[tokio::test]
async fn a_lost_answer_of_the_journal_is_settled_by_asking_again() {
    for fault in [Fault::UnknownButStored, Fault::UnknownAndLost] {
        let world = World::new();
        let (engine, till) = world.with_pupil(100).await;
        world.journal.script([fault, fault]);
        assert_eq!(approved(till.ask(Sequence(1), buy(10)).await).ore(), 90_00);
        assert_eq!(world.journal.records().len(), 4, "the group is there once");
        engine.shutdown().await;
        assert!(world.fatal.lock().unwrap().is_none());
    }
}

#[tokio::test]
async fn a_store_that_panics_is_a_failed_flush() {
    let world = World::new();
    let (engine, _) = world.with_pupil(100).await;
    engine.shutdown().await;
    let engine = world.start_on(Box::new(Panicking(world.journal.clone()))).await;
    let outcome = timeout(AT_LAST, till(&engine).ask(Sequence(1), buy(10))).await.unwrap();
    assert_eq!(outcome, Outcome::Unavailable);
    assert!(world.fatal.lock().unwrap().is_some(), "the program is told to stop");
    let later = timeout(SOON, till(&engine).ask(Sequence(1), buy(10))).await;
    assert!(!matches!(later, Ok(Outcome::Approved(_) | Outcome::Rejected(_))), "{later:?}");
}

/// Outside of an append the committer's own panic is as final.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_committer_that_panics_ends_the_engine() {
    let mut world = World::new();
    let (engine, _) = world.with_pupil(5_000).await;
    engine.shutdown().await;
    world.config.snapshot_every = 20;
    let engine = world.start_on(Box::new(PanickingCut(world.journal.clone()))).await;
    let till = till(&engine);
    let mut sequence = 0;
    while world.fatal.lock().unwrap().is_none() {
        sequence += 1;
        assert!(sequence < 4_000, "the journal is never cut");
        let outcome = timeout(AT_LAST, till.ask(Sequence(sequence), buy(1))).await.unwrap();
        assert!(matches!(outcome, Outcome::Approved(_) | Outcome::Unavailable), "{outcome:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let fatal = format!("{:?}", world.fatal.lock().unwrap());
    assert!(fatal.contains("Panicked"), "{fatal}");
    let later = timeout(SOON, till.ask(Sequence(9_999), buy(1))).await;
    assert!(!matches!(later, Ok(Outcome::Approved(_) | Outcome::Rejected(_))), "{later:?}");
}

#[tokio::test]
async fn an_engine_that_lost_its_claim_answers_nobody() {
    let world = World::new();
    let (_old, till_of_old) = world.with_pupil(100).await;
    let new = world.start().await;
    assert_eq!(timeout(AT_LAST, till_of_old.ask(Sequence(1), buy(10))).await.unwrap(), Outcome::Unavailable);
    assert!(world.fatal.lock().unwrap().is_some());
    assert_eq!(approved(till(&new).ask(Sequence(1), buy(10)).await).ore(), 90_00);
    new.shutdown().await;
}

#[tokio::test]
async fn a_statement_shows_a_sale_right_after_its_answer() {
    let world = World::new();
    let (engine, till) = world.with_pupil(100).await;
    for n in 1..=5 {
        approved(till.ask(Sequence(n), buy(1)).await);
        let month = frokost_engine::Clock::now(world.clock.as_ref()).month();
        let statement = operator(&engine).statement(PUPIL, month).await.unwrap();
        assert_eq!(statement.months, vec![month]);
        assert_eq!(statement.postings.len() as u64, 1 + n);
        assert_eq!(statement.postings.last().unwrap().balance.ore(), 10_000 - 100 * i64::try_from(n).unwrap());
    }
    engine.shutdown().await;
}
