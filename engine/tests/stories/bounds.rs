//! Queues are bounded at the door, and actors come and go without anybody noticing.

use std::time::Duration;

use frokost_engine::{Outcome, Sequence};

use crate::harness::*;

#[tokio::test]
async fn over_the_limit_the_answer_is_busy_at_once() {
    let mut world = World::new();
    let (engine, _) = world.with_pupil(100).await;
    engine.shutdown().await;
    world.config.permits = 8;
    let gate = Gate::default();
    let engine = world.start_on(Box::new(Gated { journal: world.journal.clone(), gate: gate.clone() })).await;
    let till = till(&engine);
    let asks: Vec<_> = (1..=8)
        .map(|n| {
            let till = till.clone();
            tokio::spawn(async move { till.ask(Sequence(n), buy(1)).await })
        })
        .collect();
    while engine.in_flight() < 8 {
        tokio::task::yield_now().await;
    }
    assert_eq!(till.ask(Sequence(9), buy(1)).await, Outcome::Busy);
    assert_eq!(till.ask(Sequence(1), buy(1)).await, Outcome::Busy, "a resend needs a permit like everyone");
    gate.open(true);
    for ask in asks {
        approved(ask.await.unwrap());
    }
    assert_eq!(approved(till.ask(Sequence(9), buy(1)).await).ore(), 91_00, "nothing of what was Busy was queued");
    engine.shutdown().await;
    assert_eq!(till.ask(Sequence(10), buy(1)).await, Outcome::Unavailable, "after closing time nobody is let in");
}

#[tokio::test]
async fn a_caller_that_floods_leaves_room_for_the_others() {
    let mut world = World::new();
    let (engine, _) = world.with_pupil(100).await;
    engine.shutdown().await;
    world.config.permits_per_caller = 4;
    let gate = Gate::default();
    let engine = world.start_on(Box::new(Gated { journal: world.journal.clone(), gate: gate.clone() })).await;
    let till = till(&engine);
    let ask = |n| {
        let till = till.clone();
        tokio::spawn(async move { till.ask(Sequence(n), buy(1)).await })
    };
    let asks: Vec<_> = (1..=4).map(ask).collect();
    while engine.in_flight() < 4 {
        tokio::task::yield_now().await;
    }
    assert_eq!(till.ask(Sequence(5), buy(1)).await, Outcome::Busy);
    let neighbour = tokio::spawn({
        let operator = operator(&engine);
        async move { operator.ask(Sequence(50), top_up(77, 1)).await }
    });
    while engine.in_flight() < 5 {
        tokio::task::yield_now().await;
    }
    gate.open(true);
    approved(neighbour.await.unwrap());
    for ask in asks {
        approved(ask.await.unwrap());
    }
    approved(till.ask(Sequence(5), buy(1)).await);
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_actor_retires_and_loses_nothing() {
    let mut world = World::new();
    world.config.idle_after = Duration::from_millis(2);
    let (engine, till) = world.with_pupil(1000).await;
    // Sales meet the sweep at every possible distance: a message must never stay with a retired actor.
    for n in 1..=400 {
        let sale = tokio::time::timeout(Duration::from_secs(5), till.ask(Sequence(n), buy(1))).await;
        approved(sale.expect("a sale got lost between two actors"));
        tokio::time::sleep(Duration::from_micros(n * 37 % 5000)).await;
    }
    for attempt in 0.. {
        if engine.awake() == 0 {
            break;
        }
        assert!(attempt < 500, "an actor that nobody asks does not retire");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    engine.shutdown().await;
}
