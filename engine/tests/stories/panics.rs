//! An account whose actor panics is rebuilt from the journal, and nobody else notices. What lets answers go is not: the engine ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use frokost_engine::journal::JournalError;
use frokost_engine::{AccountId, Amount, AnswerSink, CardNumber, Command, Lsn, Outcome, Reply, Sequence};
use tokio::sync::oneshot;

use crate::harness::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panicking_account_is_rebuilt_while_others_go_on() {
    let mut world = World::new();
    // 13,13 kr. is what makes the rules panic.
    let cursed = Amount::from_ore(13_13);
    world.config.probe = Some(Arc::new(move |command| {
        assert!(!matches!(command, Command::Purchase { amount, .. } if *amount == cursed), "the cursed amount");
    }));
    let (engine, till) = world.with_pupil(100).await;
    let operator = operator(&engine);
    let neighbour = AccountId(2);
    let others: CardNumber = card(2);
    approved(operator.ask(Sequence(10), Command::Open { account: neighbour, school: SCHOOL }).await);
    approved(operator.ask(Sequence(11), Command::BindCard { account: neighbour, card: others }).await);
    let order = frokost_engine::OrderNumber(8);
    let amount = Amount::from_kroner(100);
    let source = frokost_engine::command::Source::Counter;
    approved(operator.ask(Sequence(12), Command::TopUp { account: neighbour, order, amount, source }).await);

    approved(till.ask(Sequence(1), buy(10)).await);
    for time in 1..=3 {
        let fell = till.ask(Sequence(100 * time), Command::Purchase { card: card(1), amount: cursed }).await;
        assert_eq!(fell, Outcome::Unavailable, "a panic claims nothing");
        let next_door = Command::Purchase { card: others, amount: Amount::from_kroner(1) };
        let left = Amount::from_kroner(100 - i64::try_from(time).unwrap());
        assert_eq!(approved(till.ask(Sequence(100 * time + 1), next_door).await), left);

        let mut outcome = Outcome::Unavailable;
        for _ in 0..500 {
            outcome = till.ask(Sequence(100 * time + 2), buy(10)).await;
            if outcome != Outcome::Unavailable {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let left = Amount::from_kroner(90 - 10 * i64::try_from(time).unwrap());
        assert_eq!(approved(outcome), left, "rebuilt with what was sold before");
    }
    assert!((1..=2).contains(&engine.actors()), "those that fell are counted still: {}", engine.actors());
    engine.shutdown().await;
}

/// As when a process has too many files open for a while.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_cannot_be_rebuilt_now_is_rebuilt_when_files_can_be_read() {
    let mut world = World::new();
    world.config.probe = Some(Arc::new(|command| {
        assert!(
            !matches!(command, Command::Purchase { amount, .. } if *amount == Amount::from_ore(1)),
            "the cursed amount"
        );
    }));
    let (journal, failed) = (Disturbed::default(), Arc::new(AtomicBool::new(false)));
    let engine = world.start_on(Box::new(journal.clone())).await;
    let till = open_pupil(&engine, 100).await;
    approved(till.ask(Sequence(1), buy(10)).await);
    let fails = Arc::clone(&failed);
    journal.next_time(move || {
        fails.store(true, Ordering::SeqCst);
        Err(JournalError::Storage("too many open files".to_owned()))
    });
    let cursed = Command::Purchase { card: card(1), amount: Amount::from_ore(1) };
    assert_eq!(till.ask(Sequence(2), cursed).await, Outcome::Unavailable);
    let mut outcome = Outcome::Unavailable;
    for _ in 0..1_000 {
        outcome = till.ask(Sequence(3), buy(10)).await;
        if outcome != Outcome::Unavailable {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(approved(outcome), Amount::from_kroner(80));
    assert!(failed.load(Ordering::SeqCst), "no reading failed: this shows nothing");
    engine.shutdown().await;
}

/// Long enough for what was asked to be decided.
const PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug)]
struct Falls;

impl AnswerSink for Falls {
    fn feed(&self, _: u64, _: Outcome) -> bool {
        panic!("it falls");
    }

    fn flush(self: Arc<Self>) {}
}

/// Until the program has ended, no sale that is durable is told to be made again, nor made again where it is asked for again: neither one of the
/// group in which it fell nor one of a later group.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_answers_cannot_be_let_go_no_sale_is_made_twice() {
    let world = World::new();
    let gate = Gate::default();
    gate.open(true);
    let engine = world.start_on(Box::new(Gated { journal: world.journal.clone(), gate: gate.clone() })).await;
    let till = open_pupil(&engine, 100).await;
    let before = engine.durable();
    let ask = |sequence| {
        let (to, answer) = oneshot::channel();
        till.submit(Sequence(sequence), buy(10), Reply::Once(to));
        answer
    };
    gate.open(false);
    let first = ask(1);
    tokio::time::sleep(PAUSE).await;
    // While that is written these two queue, and make one group.
    till.submit(Sequence(2), buy(10), Reply::Stream { to: Arc::new(Falls), tag: 2 });
    let same_group = ask(3);
    tokio::time::sleep(PAUSE).await;
    gate.open(true);
    approved(first.await.unwrap());
    while world.fatal.lock().unwrap().is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let later = ask(4);
    assert!(same_group.await.is_err() && later.await.is_err(), "they are durable and cannot be answered");
    // The one at which it fell was remembered before it was answered.
    approved(till.ask(Sequence(2), buy(10)).await);
    for sequence in [3, 4] {
        let again = tokio::time::timeout(Duration::from_millis(100), till.ask(Sequence(sequence), buy(10)));
        assert!(again.await.is_err(), "whoever asks again for {sequence} waits for what there is");
    }
    assert_eq!(engine.durable(), Lsn(before.0 + 4), "one was made twice");
}
