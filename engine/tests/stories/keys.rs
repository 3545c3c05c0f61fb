//! One key, one answer: at once, later, and across restarts.

use std::time::{Duration, Instant};

use frokost_engine::{
    Amount, Caller, CallerHandle, CallerId, Command, Outcome, Query, Rejection, Role, SchoolId, Sequence,
};

use crate::harness::{self, *};

#[tokio::test]
async fn a_resend_gets_the_first_answer_also_after_a_restart() {
    let world = World::new();
    let (engine, till_one) = world.with_pupil(100).await;
    let sale = till_one.ask(Sequence(1), buy(60)).await;
    let refusal = till_one.ask(Sequence(2), buy(60)).await;
    approved(operator(&engine).ask(Sequence(9), top_up(2, 500)).await);
    for _ in 0..2 {
        assert_eq!(till_one.ask(Sequence(1), buy(60)).await, sale);
        assert_eq!(till_one.ask(Sequence(2), buy(60)).await, refusal, "a no stays a no, though there is money now");
    }
    engine.shutdown().await;

    let engine = world.start().await;
    let till = till(&engine);
    assert_eq!(till.ask(Sequence(1), buy(60)).await, sale);
    assert_eq!(till.ask(Sequence(2), buy(60)).await, refusal);
    let balance = till.view(Query::CardBalance { card: card(1) }).await;
    assert!(matches!(balance, Outcome::View(view) if view.balance == Amount::from_kroner(540)));
    engine.shutdown().await;
}

#[tokio::test]
async fn a_resend_after_the_card_was_replaced_still_gets_the_first_answer() {
    let world = World::new();
    let (engine, till) = world.with_pupil(100).await;
    let sale = till.ask(Sequence(1), buy(60)).await;
    approved(operator(&engine).ask(Sequence(9), Command::BindCard { account: PUPIL, card: card(2) }).await);
    assert_eq!(till.ask(Sequence(1), buy(60)).await, sale);
    assert_eq!(rejected(till.ask(Sequence(2), buy(1)).await), Rejection::UnknownCard);
    engine.shutdown().await;
}

#[tokio::test]
async fn the_same_key_for_something_else_is_refused() {
    let world = World::new();
    let (engine, till) = world.with_pupil(100).await;
    approved(till.ask(Sequence(1), buy(60)).await);
    assert_eq!(rejected(till.ask(Sequence(1), buy(61)).await), Rejection::KeyReused);
    let unknown = Command::Purchase { card: card(77), amount: Amount::from_kroner(60) };
    assert_eq!(rejected(till.ask(Sequence(1), unknown).await), Rejection::KeyReused);
    assert_eq!(rejected(till.ask(Sequence(2), unknown).await), Rejection::UnknownCard);
    engine.shutdown().await;
}

#[tokio::test]
async fn sent_many_times_at_once_it_counts_once() {
    let world = World::new();
    let (engine, till) = world.with_pupil(100).await;
    let asks: Vec<_> = (0..50)
        .map(|_| {
            let till = till.clone();
            tokio::spawn(async move { till.ask(Sequence(1), buy(10)).await })
        })
        .collect();
    for ask in asks {
        assert_eq!(approved(ask.await.unwrap()), Amount::from_kroner(90));
    }
    engine.shutdown().await;
}

#[tokio::test]
async fn a_tills_key_from_two_days_ago_is_refused_not_repeated() {
    let world = World::new();
    let (engine, till) = world.with_pupil(100).await;
    approved(till.ask(Sequence(1), buy(10)).await);
    tokio::time::sleep(SWEPT).await;
    world.clock.later(2 * 86_400_000);
    approved(till.ask(Sequence(2), buy(10)).await);
    until_forgotten(&till, Sequence(1)).await;
    engine.shutdown().await;
}

/// Within this the engine has looked at its clock.
const SWEPT: Duration = Duration::from_millis(700);

/// Asks for the same sale again until it is refused as one of a day that is forgotten; before that it is answered as it was.
async fn until_forgotten(till: &CallerHandle, sequence: Sequence) {
    let begin = Instant::now();
    loop {
        match till.ask(sequence, buy(10)).await {
            Outcome::Rejected(Rejection::KeyExpired) => return,
            again => assert_eq!(approved(again), Amount::from_kroner(90)),
        }
        assert!(begin.elapsed() < Duration::from_secs(10), "it is not forgotten");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The clock was wrong when the machine began, or jumps while it runs: whoever asks again within the hour hears what it heard.
#[tokio::test]
async fn a_clock_that_jumps_has_nothing_forgotten_for_an_hour() {
    let world = World::new();
    let (engine, till) = world.with_pupil(100).await;
    approved(till.ask(Sequence(1), buy(10)).await);
    engine.shutdown().await;
    // Three days ahead from the beginning.
    world.clock.jump(3 * 86_400_000);
    let engine = world.start().await;
    let till = harness::till(&engine);
    tokio::time::sleep(SWEPT).await;
    assert_eq!(approved(till.ask(Sequence(1), buy(10)).await), Amount::from_kroner(90));
    // And three more while it runs, when it had been believed.
    world.clock.later(3_600_000);
    until_forgotten(&till, Sequence(1)).await;
    approved(till.ask(Sequence(2), buy(10)).await);
    world.clock.jump(3 * 86_400_000);
    tokio::time::sleep(SWEPT).await;
    assert_eq!(approved(till.ask(Sequence(2), buy(10)).await), Amount::from_kroner(80));
    engine.shutdown().await;
}

#[tokio::test]
async fn roles_are_held_to_what_they_may() {
    let world = World::new();
    let (engine, till) = world.with_pupil(100).await;
    assert_eq!(rejected(till.ask(Sequence(1), top_up(5, 100)).await), Rejection::NotAllowed);
    assert_eq!(rejected(operator(&engine).ask(Sequence(10), buy(10)).await), Rejection::NotAllowed);
    assert_eq!(rejected(till.view(Query::AccountBalance { account: PUPIL }).await), Rejection::NotAllowed);
    // Another school's till and secretary see nothing of this account.
    let elsewhere = |id, role| engine.caller(Caller { id: CallerId(id), role, school: SchoolId(2) });
    let looked = elsewhere(40, Role::Till).view(Query::CardBalance { card: card(1) }).await;
    assert_eq!(rejected(looked), Rejection::OtherSchool);
    let month = frokost_engine::Clock::now(world.clock.as_ref()).month();
    let looked = elsewhere(41, Role::Secretary).statement(PUPIL, month).await.unwrap_err();
    assert_eq!(rejected(looked), Rejection::OtherSchool);
    engine.shutdown().await;
}

#[tokio::test]
async fn of_two_accounts_that_want_one_card_one_gets_it() {
    let world = World::new();
    let (engine, _) = world.with_pupil(1).await;
    let operator = operator(&engine);
    let other = frokost_engine::AccountId(2);
    approved(operator.ask(Sequence(10), Command::Open { account: other, school: SCHOOL }).await);
    assert_eq!(
        rejected(operator.ask(Sequence(11), Command::BindCard { account: other, card: card(1) }).await),
        Rejection::CardTaken
    );
    approved(operator.ask(Sequence(12), Command::BindCard { account: other, card: card(5) }).await);
    // A bind that is refused leaves the card free, also while the account's own secretary asks for the same.
    let stranger = engine.caller(Caller { id: CallerId(30), role: Role::Secretary, school: SchoolId(2) });
    let own = engine.caller(Caller { id: CallerId(31), role: Role::Secretary, school: SCHOOL });
    for n in 0..50 {
        let bind = Command::BindCard { account: PUPIL, card: card(100 + n) };
        let key = Sequence(u64::from(n) + 1);
        let (refused, bound) = tokio::join!(stranger.ask(key, bind), own.ask(key, bind));
        assert_eq!(rejected(refused), Rejection::OtherSchool);
        approved(bound);
        let theirs = Command::BindCard { account: other, card: card(100 + n) };
        assert_eq!(rejected(operator.ask(Sequence(100 + u64::from(n)), theirs).await), Rejection::CardTaken);
        let refused =
            stranger.ask(Sequence(1000 + u64::from(n)), Command::BindCard { account: PUPIL, card: card(500 + n) });
        assert_eq!(rejected(refused.await), Rejection::OtherSchool);
        let free = Command::BindCard { account: other, card: card(500 + n) };
        approved(operator.ask(Sequence(500 + u64::from(n)), free).await);
    }
    engine.shutdown().await;
    // What was refused stays refused for the journal's reader, too.
    world.start().await.shutdown().await;
}
