//! An account whose actor panics is rebuilt from the journal, and nobody else notices.

use std::sync::Arc;
use std::time::Duration;

use frokost_engine::{AccountId, Amount, CardNumber, Command, Outcome, Sequence};

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
    let fell = till.ask(Sequence(2), Command::Purchase { card: card(1), amount: cursed }).await;
    assert_eq!(fell, Outcome::Unavailable, "a panic claims nothing");
    let next_door = Command::Purchase { card: others, amount: Amount::from_kroner(1) };
    assert_eq!(approved(till.ask(Sequence(3), next_door).await), Amount::from_kroner(99));

    let mut outcome = Outcome::Unavailable;
    for _ in 0..500 {
        outcome = till.ask(Sequence(4), buy(10)).await;
        if outcome != Outcome::Unavailable {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(approved(outcome), Amount::from_kroner(80), "rebuilt with what was sold before");
    engine.shutdown().await;
}
