//! A living engine with snapshots, a cut journal, a full disk and a journal that hangs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use frokost_engine::forgetting::Old;
use frokost_engine::journal::{Journal, JournalError, JournalReader};
use frokost_engine::ledger_state::LedgerState;
use frokost_engine::rules::Rules;
use frokost_engine::snapshot::{Item, Snapshots, next_snapshot};
use frokost_engine::statement::{Projection, Statements};
use frokost_engine::{Amount, CallerHandle, Clock, Command, Fatal, Lsn, Outcome, Query, Sequence, Timestamp};

use crate::harness::*;

/// Long enough for statements to be made durable, behind which alone the journal is cut.
const PAUSE: Duration = Duration::from_millis(1_200);

/// Something has to come within this time, however busy the machine is.
async fn at_last(what: &str, mut come: impl FnMut() -> bool) {
    for _ in 0..2_000 {
        if come() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what}: it never comes");
}

/// Sells until the journal has been cut; returns how many sales that took.
async fn sell_until_cut(world: &World, till: &CallerHandle) -> u64 {
    let mut sequence = 0;
    while world.journal.reader().first().unwrap() == Lsn(1) {
        for _ in 0..30 {
            sequence += 1;
            approved(till.ask(Sequence(sequence), buy(1)).await);
        }
        tokio::time::sleep(PAUSE).await;
        assert!(sequence < 1_500, "the journal is never cut");
    }
    sequence
}

const CURSED: Amount = Amount::from_ore(13_13);

/// An account that is asked for this amount falls.
fn curse(world: &mut World) {
    world.config.probe = Some(Arc::new(|command| {
        assert!(!matches!(command, Command::Purchase { amount, .. } if *amount == CURSED), "the cursed amount");
    }));
}

/// The account falls and is made anew; returns the answer to the next sale.
async fn fall_and_rise(till: &CallerHandle) -> Outcome {
    let fall = Command::Purchase { card: card(1), amount: CURSED };
    assert_eq!(till.ask(Sequence(9_000), fall).await, Outcome::Unavailable);
    for _ in 0..500 {
        let outcome = till.ask(Sequence(9_001), buy(1)).await;
        if outcome != Outcome::Unavailable {
            return outcome;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the account stays closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_journal_is_cut_behind_two_snapshots_and_nothing_is_forgotten() {
    let mut world = World::new();
    world.config.snapshot_every = 50;
    let (engine, till_one) = world.with_pupil(5_000).await;
    let first_sale = till_one.ask(Sequence(1), buy(1)).await;
    let first = || world.journal.reader().first().unwrap();
    let mut sequence = 1;
    while first() == Lsn(1) {
        for _ in 0..60 {
            sequence += 1;
            approved(till_one.ask(Sequence(sequence), buy(1)).await);
        }
        tokio::time::sleep(PAUSE).await;
        assert!(sequence < 4_000, "the journal is never cut");
    }
    assert!(world.snapshots.list().unwrap().len() >= 2);
    assert!(first() <= world.snapshots.list().unwrap()[1].next(), "the older snapshot has its journal");
    let records = engine.records(Lsn(1), 10).await.unwrap();
    assert_eq!(records[0].lsn, Lsn(1), "what the journal let go of is in the statements");
    let newest = world.snapshots.list().unwrap()[0];
    for _ in 0..60 {
        sequence += 1;
        approved(till_one.ask(Sequence(sequence), buy(1)).await);
    }
    at_last("a third snapshot", || world.snapshots.list().unwrap()[0] > newest).await;
    at_last("two of them only", || world.snapshots.list().unwrap().len() == 2).await;
    engine.shutdown().await;

    let engine = world.start().await;
    let till = till(&engine);
    let left = Amount::from_kroner(5_000 - i64::try_from(sequence).unwrap());
    let view = till.view(Query::CardBalance { card: card(1) }).await;
    assert!(matches!(view, Outcome::View(view) if view.balance == left), "{view:?}");
    assert_eq!(till.ask(Sequence(1), buy(1)).await, first_sale, "a key from before the cut still has its answer");
    let all = world.statements.records_from(Lsn(1)).count();
    assert_eq!(all as u64, engine.durable().0);
    engine.shutdown().await;
}

/// What cannot be removed takes up room; the next snapshot does not wait for it, nor does it begin where this one began.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_snapshot_that_cannot_be_removed_does_not_hold_up_the_next() {
    let mut world = World::new();
    world.config.snapshot_every = 20;
    let (engine, till) = world.with_pupil(2_000).await;
    world.snapshots.hold_on();
    let mut sequence = 0;
    for snapshots in 1..=5 {
        for _ in 0..30 {
            sequence += 1;
            approved(till.ask(Sequence(sequence), buy(1)).await);
        }
        at_last("the next snapshot", || world.snapshots.list().unwrap().len() >= snapshots).await;
    }
    engine.shutdown().await;
}

/// On a thread that ends with the snapshot: the one that makes them all could never come forward again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_makes_a_snapshot_steps_back_first() {
    let mut world = World::new();
    world.config.snapshot_every = 20;
    let stepped_back: Arc<Mutex<Vec<String>>> = Arc::default();
    let notes = Arc::clone(&stepped_back);
    world.config.step_back = Some(Arc::new(move || {
        notes.lock().unwrap().push(std::thread::current().name().unwrap_or_default().to_owned());
    }));
    let (engine, till) = world.with_pupil(2_000).await;
    for sequence in 1..=30 {
        approved(till.ask(Sequence(sequence), buy(1)).await);
    }
    at_last("a snapshot", || !world.snapshots.list().unwrap().is_empty()).await;
    assert_eq!(stepped_back.lock().unwrap().first().map(String::as_str), Some("frokost-snapshot"));
    engine.shutdown().await;
}

/// Where others always have something to do it would otherwise go on for as long as they have, and the journal never be cut.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_becomes_late_while_it_is_made_is_made_by_somebody_who_has_not_stepped_back() {
    let mut world = World::new();
    world.config.snapshot_every = 20;
    let (began, goes_on) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (has_begun, may_go_on) = (Arc::clone(&began), Arc::clone(&goes_on));
    world.config.step_back = Some(Arc::new(move || {
        has_begun.store(true, Ordering::SeqCst);
        while !may_go_on.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }));
    let (engine, till) = world.with_pupil(2_000).await;
    for sequence in 1..=30 {
        approved(till.ask(Sequence(sequence), buy(1)).await);
    }
    at_last("a snapshot is begun", || began.load(Ordering::SeqCst)).await;
    for sequence in 31..=150 {
        approved(till.ask(Sequence(sequence), buy(1)).await);
    }
    tokio::time::sleep(PAUSE).await;
    goes_on.store(true, Ordering::SeqCst);
    at_last("a snapshot", || !world.snapshots.list().unwrap().is_empty()).await;
    assert_eq!(world.snapshots.writers()[0], "frokost-snapshots");
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_falls_after_the_cut_is_rebuilt_from_the_snapshot() {
    let mut world = World::new();
    world.config.snapshot_every = 20;
    curse(&mut world);
    let (engine, till) = world.with_pupil(2_000).await;
    let sequence = sell_until_cut(&world, &till).await;
    let outcome = fall_and_rise(&till).await;
    assert_eq!(approved(outcome), Amount::from_kroner(2_000 - i64::try_from(sequence).unwrap() - 1));
    engine.shutdown().await;
}

/// It does not end snapshots for good, nor takes the place of a sound one, and an account that falls meanwhile is made from the one before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_while_the_journal_is_cut_misses_nothing() {
    let world = World::new();
    let journal = Disturbed::default();
    let engine = world.start_on(Box::new(journal.clone())).await;
    let till = open_pupil(&engine, 100).await;
    for sequence in 1..=20 {
        approved(till.ask(Sequence(sequence), buy(1)).await);
    }
    at_last("the statements", || world.statements.watermark() == engine.durable()).await;
    journal.next_time(|| Ok(Lsn(10)));
    let read = engine.records(Lsn(1), 100).await.unwrap();
    assert_eq!(journal.journal.first().unwrap(), Lsn(10), "it was cut");
    let lsns: Vec<u64> = read.iter().map(|record| record.lsn.0).collect();
    assert_eq!(lsns, (1..=engine.durable().0).collect::<Vec<_>>());
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_is_rebuilt_while_the_journal_is_cut_is_whole() {
    let mut world = World::new();
    curse(&mut world);
    let journal = Disturbed::default();
    let engine = world.start_on(Box::new(journal.clone())).await;
    let till = open_pupil(&engine, 100).await;
    for sequence in 1..=20 {
        approved(till.ask(Sequence(sequence), buy(1)).await);
    }
    let (records, snapshots) = (journal.journal.clone(), world.snapshots.clone());
    journal.next_time(move || {
        let wanted = records.read_from(Lsn(1)).take(15).map(|record| Ok(record?));
        let rules = Rules::default();
        let items = next_snapshot(Box::new(std::iter::empty()), wanted, &rules, Old::default()).unwrap();
        snapshots.write(Lsn(15), items).unwrap();
        Ok(Lsn(16))
    });
    assert_eq!(approved(fall_and_rise(&till).await), Amount::from_kroner(79));
    assert_eq!(journal.journal.first().unwrap(), Lsn(16), "it was cut");
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_snapshot_is_put_aside_and_the_next_is_made_from_the_one_before() {
    let mut world = World::new();
    world.config.snapshot_every = 20;
    curse(&mut world);
    let (engine, till) = world.with_pupil(2_000).await;
    let mut sequence = sell_until_cut(&world, &till).await;
    let newest = world.snapshots.list().unwrap()[0];
    world.snapshots.damage(newest);
    let outcome = fall_and_rise(&till).await;
    approved(outcome);
    for _ in 0..30 {
        sequence += 1;
        approved(till.ask(Sequence(sequence), buy(1)).await);
    }
    at_last("the next snapshot", || {
        let list = world.snapshots.list().unwrap();
        list[0] > newest && !list.contains(&newest) && list.len() == 2
    })
    .await;
    engine.shutdown().await;
    let engine = world.start().await;
    let left = Amount::from_kroner(2_000 - i64::try_from(sequence).unwrap() - 1);
    let view = operator(&engine).view(Query::CardBalance { card: card(1) }).await;
    assert!(matches!(view, Outcome::View(view) if view.balance == left), "{view:?}");
    engine.shutdown().await;

    // And one that is found damaged by a start: the one before is enough, for money, cards and keys.
    let newest = world.snapshots.list().unwrap()[0];
    world.snapshots.damage(newest);
    let engine = world.start().await;
    let durable = engine.durable();
    assert_eq!(approved(crate::harness::till(&engine).ask(Sequence(sequence), buy(1)).await), left);
    assert_eq!(engine.durable(), durable, "it was sold once");
    engine.shutdown().await;

    // A snapshot of what the journal does not have any more: it has lost something.
    let head = engine.durable();
    let reader = world.journal.reader();
    world.snapshots.write(Lsn(head.0 + 10), Box::new(std::iter::empty())).unwrap();
    let lost = LedgerState::<()>::recover(reader.as_ref(), &world.snapshots, head, &world.config.rules);
    assert!(matches!(lost, Err(JournalError::Damaged { lsn, .. }) if lsn == head.next()), "{lost:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_what_is_new_and_nothing_else() {
    let world = World::new();
    let (engine, till) = world.with_pupil(100).await;
    let sale = till.ask(Sequence(1), buy(10)).await;
    world.room.store(false, Ordering::SeqCst);
    let mut sequence = 1;
    loop {
        sequence += 1;
        match till.ask(Sequence(sequence), buy(1)).await {
            Outcome::Approved(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            Outcome::OutOfSpace => break,
            other => panic!("{other:?}"),
        }
        assert!(sequence < 80, "the door stays open");
    }
    let durable = engine.durable();
    assert_eq!(till.ask(Sequence(sequence), buy(1)).await, Outcome::OutOfSpace);
    assert_eq!(till.ask(Sequence(1), buy(10)).await, sale, "what was answered is answered again");
    let view = till.view(Query::CardBalance { card: card(1) }).await;
    assert!(matches!(view, Outcome::View(_)), "balances can be read: {view:?}");
    let month = world.clock.now().month();
    assert!(operator(&engine).statement(PUPIL, month).await.is_ok(), "statements can be read");
    assert_eq!(engine.durable(), durable, "nothing was written");
    world.room.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(400)).await;
    approved(till.ask(Sequence(sequence), buy(1)).await);
    engine.shutdown().await;
}

/// A clock that stands for the day, and runs for the watchdog.
struct Running(std::time::Instant);

impl Clock for Running {
    fn now(&self) -> Timestamp {
        Timestamp(1_790_000_000_000)
    }

    fn running(&self) -> Duration {
        self.0.elapsed()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_that_hangs_is_noticed() {
    let mut world = World::new();
    let (engine, _) = world.with_pupil(100).await;
    engine.shutdown().await;
    world.config.hung_after = Duration::from_millis(300);
    let gate = Gate::default();
    let journal = Box::new(Gated { journal: world.journal.clone(), gate: gate.clone() });
    let engine = world.start_with(journal, Arc::new(Running(std::time::Instant::now()))).await;
    // A disk that hangs does so for everybody who asks it something.
    world.disk_hangs.store(true, Ordering::SeqCst);
    let asking = tokio::spawn({
        let till = till(&engine);
        async move { till.ask(Sequence(1), buy(1)).await }
    });
    at_last("the watchdog", || matches!(*world.fatal.lock().unwrap(), Some(Fatal::Hung(_)))).await;
    assert!(!asking.is_finished(), "nothing was answered");
    world.disk_hangs.store(false, Ordering::SeqCst);
    gate.open(true);
    drop(asking.await);
    engine.shutdown().await;
}

#[tokio::test]
async fn a_snapshot_that_says_something_else_is_told_from_one_that_does_not() {
    let world = World::new();
    let (engine, till) = world.with_pupil(100).await;
    for sequence in 1..=5 {
        approved(till.ask(Sequence(sequence), buy(1)).await);
    }
    engine.shutdown().await;
    let (reader, rules) = (world.journal.reader(), Rules::default());
    let mut state: LedgerState = LedgerState::default();
    for record in reader.read_from(Lsn(1)) {
        state.replay(&record.unwrap(), &rules).unwrap();
    }
    let made = |old| -> Vec<Item> {
        let records = reader.read_from(Lsn(1)).map(|record| Ok(record?));
        let items = next_snapshot(Box::new(std::iter::empty()), records, &rules, old).unwrap();
        items.collect::<Result<_, _>>().unwrap()
    };
    let differs = |items: &[Item]| state.differs_from(Box::new(items.iter().cloned().map(Ok))).unwrap();
    let whole = made(Old::default());
    assert_eq!(differs(&whole), None);
    // What it has forgotten it may lack, and says so.
    let later = Timestamp(world.clock.now().0 + 1);
    let without_keys = made(Old { before: later, now: later });
    assert!(without_keys.len() < whole.len());
    assert_eq!(differs(&without_keys), None);
    // One thing less, each in its turn.
    for missing in 0..whole.len() {
        let mut less = whole.clone();
        let what = less.remove(missing);
        assert!(differs(&less).is_some(), "{what:?} is missing");
    }
    for missing in 0..without_keys.len() {
        let mut less = without_keys.clone();
        let what = less.remove(missing);
        assert!(differs(&less).is_some(), "{what:?} is missing");
    }
    // And one thing otherwise.
    for place in 0..whole.len() {
        let mut other = whole.clone();
        match &mut other[place] {
            Item::Account(state) => state.balance = Amount::from_kroner(1),
            Item::Card(_, account) => account.0 += 1,
            Item::Key(_, key) => key.fingerprint += 1,
            Item::Forgotten(..) => continue,
        }
        assert!(differs(&other).is_some(), "{:?}", other[place]);
    }
    let mut refuses = without_keys;
    for item in &mut refuses {
        if let Item::Forgotten(_, sequence) = item {
            sequence.0 += 1;
        }
    }
    assert!(differs(&refuses).is_some(), "it would refuse what was never asked");
}
