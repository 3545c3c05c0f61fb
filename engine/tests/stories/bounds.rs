//! Queues are bounded at the door, and actors come and go without anybody noticing.

use std::time::Duration;

use frokost_engine::{AccountId, Amount, Command, Outcome, Query, Reply, Sequence};
use tokio::sync::oneshot;

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
async fn an_account_that_goes_from_actor_to_actor_loses_nothing() {
    let world = World::new();
    let (engine, till) = world.with_pupil(1000).await;
    // Two at a time, at many distances: a message must never stay with an actor that has given the account back.
    for n in 0..2_000 {
        let ask = |sequence, after| {
            let till = till.clone();
            tokio::spawn(async move {
                for _ in 0..after {
                    std::hint::spin_loop();
                }
                let cheap = Command::Purchase { card: card(1), amount: Amount::from_ore(10) };
                tokio::time::timeout(Duration::from_secs(5), till.ask(Sequence(sequence), cheap)).await
            })
        };
        for asked in [ask(2 * n + 1, 0), ask(2 * n + 2, n % 200)] {
            approved(asked.await.unwrap().expect("a sale got lost between two actors"));
        }
    }
    let owner = operator(&engine).view(Query::CardBalance { card: card(1) }).await;
    assert!(matches!(owner, Outcome::View(view) if view.balance == Amount::from_kroner(600)), "{owner:?}");
    assert!(engine.actors() <= 3, "{} actors for one account", engine.actors());
    engine.shutdown().await;
}

/// One thread, so that everything is asked for before the first actor runs.
#[tokio::test]
async fn a_rush_has_an_actor_for_each_account_and_most_of_them_go_behind_it() {
    const ACCOUNTS: u64 = 600;
    let world = World::new();
    let engine = world.start().await;
    let operator = operator(&engine);
    for n in 1..=ACCOUNTS {
        let open = Command::Open { account: AccountId(n), school: SCHOOL };
        assert!(matches!(operator.ask(Sequence(n), open).await, Outcome::Approved(_)));
    }
    assert!(engine.actors() <= 2, "one at a time needs no more, and there are {}", engine.actors());
    let rush = async || {
        let asked: Vec<_> = (1..=ACCOUNTS)
            .map(|n| {
                let (to, answer) = oneshot::channel();
                operator.query(Query::AccountBalance { account: AccountId(n) }, Reply::Once(to));
                answer
            })
            .collect();
        for (n, answer) in (1..).zip(asked) {
            let answer = answer.await;
            assert!(matches!(answer, Ok(Outcome::View(view)) if view.account == AccountId(n)), "{answer:?}");
        }
    };
    rush().await;
    assert_eq!(engine.actors(), 600);
    for attempt in 0.. {
        if engine.actors() <= 256 {
            break;
        }
        assert!(attempt < 100, "{} actors are left that nobody needs", engine.actors());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    rush().await;
    assert_eq!(engine.actors(), 600);
    engine.shutdown().await;
}
