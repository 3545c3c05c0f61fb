//! The engine against a ledger so plain that it cannot be wrong, with crashes, lost groups, resends and clock jumps in between.
//! After every crash: what was acknowledged is there, nothing is there twice, and the same keys get the same answers.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use frokost_engine::audit::Auditor;
use frokost_engine::command::Source;
use frokost_engine::memory_journal::Fault;
use frokost_engine::{
    AccountId, Amount, CallerHandle, Command, Engine, OrderNumber, Outcome, Query, Rejection, RequestKey, Sequence,
};
use proptest::prelude::*;

use crate::harness::*;

const PUPILS: u64 = 3;

#[derive(Debug, Clone)]
enum Step {
    Buy { pupil: u64, ore: i64 },
    TopUp { pupil: u64, ore: i64, order: u64 },
    Refund { pupil: u64, sale: prop::sample::Index, ore: i64 },
    Block { pupil: u64 },
    Activate { pupil: u64 },
    Limit { pupil: u64, ore: Option<i64> },
    Rebind { pupil: u64 },
    Resend { which: prop::sample::Index },
    SixHours,
    Crash,
    FailedFlush { stored: bool },
}

fn step() -> impl Strategy<Value = Step> {
    let pupil = 1..=PUPILS;
    let ore = prop_oneof![8 => 1..20_000i64, 1 => Just(0), 1 => Just(-5), 1 => Just(i64::MAX), 1 => Just(i64::MIN)];
    prop_oneof![
        10 => (pupil.clone(), ore.clone()).prop_map(|(pupil, ore)| Step::Buy { pupil, ore }),
        5 => (pupil.clone(), ore.clone(), 1..30u64).prop_map(|(pupil, ore, order)| Step::TopUp { pupil, ore, order }),
        4 => (pupil.clone(), any::<prop::sample::Index>(), ore.clone())
            .prop_map(|(pupil, sale, ore)| Step::Refund { pupil, sale, ore }),
        1 => pupil.clone().prop_map(|pupil| Step::Block { pupil }),
        2 => pupil.clone().prop_map(|pupil| Step::Activate { pupil }),
        2 => (pupil.clone(), prop::option::of(0..30_000i64)).prop_map(|(pupil, ore)| Step::Limit { pupil, ore }),
        1 => pupil.prop_map(|pupil| Step::Rebind { pupil }),
        4 => any::<prop::sample::Index>().prop_map(|which| Step::Resend { which }),
        2 => Just(Step::SixHours),
        2 => Just(Step::Crash),
        2 => any::<bool>().prop_map(|stored| Step::FailedFlush { stored }),
    ]
}

/// The naive ledger: one field a fact, no cleverness.
#[derive(Debug, Clone, Default)]
struct Pupil {
    balance: i64,
    card: u32,
    blocked: bool,
    limit: Option<i64>,
    spent: BTreeMap<i32, i64>,
    orders: Vec<u64>,
}

#[derive(Debug, Clone, Default)]
struct Naive {
    pupils: BTreeMap<u64, Pupil>,
    /// Every sale: whose, on which day, how much, how much of it given back.
    sales: BTreeMap<RequestKey, (u64, i32, i64, i64)>,
}

impl Naive {
    /// What should come of a command: the balance after it, or the refusal's number.
    fn expect(&mut self, key: RequestKey, command: &Command, day: i32) -> Result<i64, u16> {
        let owner = |naive: &Naive, card: frokost_engine::CardNumber| {
            naive.pupils.iter().find(|(_, p)| super::harness::card(p.card) == card).map(|(id, _)| *id)
        };
        match *command {
            Command::Purchase { card, amount } => {
                let id = owner(self, card);
                if id.is_some() && !(1..=500_000).contains(&amount.ore()) {
                    return Err(1);
                }
                let pupil = self.pupils.get_mut(&id.ok_or(2u16)?).unwrap();
                let spent = pupil.spent.entry(day).or_default();
                if pupil.blocked {
                    return Err(3);
                }
                if pupil.limit.is_some_and(|limit| *spent + amount.ore() > limit) {
                    return Err(4);
                }
                if amount.ore() > pupil.balance {
                    return Err(5);
                }
                pupil.balance -= amount.ore();
                *spent += amount.ore();
                self.sales.insert(key, (id.unwrap(), day, amount.ore(), 0));
                Ok(pupil.balance)
            }
            Command::Refund { card, sale, amount } => {
                let id = owner(self, card);
                if id.is_some() && amount.ore() < 1 {
                    return Err(1);
                }
                let id = id.ok_or(2u16)?;
                let (_, on, sold, back) = self.sales.get_mut(&sale).filter(|sale| sale.0 == id).ok_or(9u16)?;
                if amount.ore() > *sold - *back {
                    return Err(10);
                }
                *back += amount.ore();
                let pupil = self.pupils.get_mut(&id).unwrap();
                pupil.balance += amount.ore();
                *pupil.spent.get_mut(on).unwrap() -= amount.ore();
                Ok(pupil.balance)
            }
            Command::TopUp { account, order, amount, .. } => {
                let pupil = self.pupils.get_mut(&account.0).unwrap();
                if !(1..=1_000_000).contains(&amount.ore()) {
                    return Err(1);
                }
                if pupil.orders.contains(&order.0) {
                    return Err(11);
                }
                if pupil.balance + amount.ore() > 5_000_000 {
                    return Err(12);
                }
                pupil.orders.push(order.0);
                pupil.balance += amount.ore();
                Ok(pupil.balance)
            }
            Command::Block { account } | Command::Activate { account } => {
                let pupil = self.pupils.get_mut(&account.0).unwrap();
                pupil.blocked = matches!(command, Command::Block { .. });
                Ok(pupil.balance)
            }
            Command::SetDailyLimit { account, limit } => {
                let pupil = self.pupils.get_mut(&account.0).unwrap();
                pupil.limit = limit.map(Amount::ore);
                Ok(pupil.balance)
            }
            Command::BindCard { account, card } => {
                let pupil = self.pupils.get_mut(&account.0).unwrap();
                pupil.card = card.as_str().parse().unwrap();
                Ok(pupil.balance)
            }
            Command::Open { .. } => Ok(0),
        }
    }
}

struct Run {
    world: World,
    engine: Engine,
    naive: Naive,
    next: u64,
    cards: u32,
    /// Everything that was answered, when, and with what.
    answered: Vec<(RequestKey, Command, Outcome, u64)>,
}

impl Run {
    async fn begin() -> Run {
        let world = World::new();
        let engine = world.start().await;
        let mut run = Run { world, engine, naive: Naive::default(), next: 0, cards: 100, answered: Vec::new() };
        for pupil in 1..=PUPILS {
            run.naive.pupils.insert(pupil, Pupil::default());
            run.ask(Command::Open { account: AccountId(pupil), school: SCHOOL }).await;
            run.rebind(pupil).await;
        }
        run
    }

    async fn rebind(&mut self, pupil: u64) {
        self.cards += 1;
        self.ask(Command::BindCard { account: AccountId(pupil), card: card(self.cards) }).await;
    }

    fn handle(&self, command: &Command) -> CallerHandle {
        match command {
            Command::Purchase { .. } | Command::Refund { .. } => till(&self.engine),
            _ => operator(&self.engine),
        }
    }

    fn card_of(&self, pupil: u64) -> frokost_engine::CardNumber {
        card(self.naive.pupils[&pupil].card)
    }

    fn day(&self) -> i32 {
        frokost_engine::Clock::now(self.world.clock.as_ref()).day().0
    }

    async fn ask(&mut self, command: Command) {
        self.next += 1;
        let handle = self.handle(&command);
        let key = RequestKey { caller: handle.caller().id, sequence: Sequence(self.next) };
        let outcome = handle.ask(key.sequence, command).await;
        let expected = self.naive.expect(key, &command, self.day());
        let got = match outcome {
            Outcome::Approved(receipt) => Ok(receipt.balance.ore()),
            Outcome::Rejected(why) => Err(why.code()),
            other => panic!("{command:?} got {other:?}"),
        };
        assert_eq!(got, expected, "{command:?}");
        self.answered.push((key, command, outcome, self.now()));
    }

    fn now(&self) -> u64 {
        self.world.clock.0.load(Ordering::SeqCst)
    }

    async fn restart(&mut self) {
        // Nothing is closed: the engine's threads are simply left behind with a claim that is void from now on.
        self.engine = self.world.start().await;
        for (pupil, expected) in &self.naive.pupils {
            let view = operator(&self.engine).view(Query::AccountBalance { account: AccountId(*pupil) }).await;
            let Outcome::View(view) = view else { panic!("{view:?}") };
            assert_eq!(view.balance.ore(), expected.balance, "pupil {pupil} after a crash");
            assert_eq!(view.blocked, expected.blocked);
            assert_eq!(view.daily_limit.map(Amount::ore), expected.limit);
        }
    }

    async fn step(&mut self, step: &Step) {
        let amount = Amount::from_ore;
        match *step {
            Step::Buy { pupil, ore } => {
                self.ask(Command::Purchase { card: self.card_of(pupil), amount: amount(ore) }).await;
            }
            Step::TopUp { pupil, ore, order } => {
                let (account, order) = (AccountId(pupil), OrderNumber(order));
                self.ask(Command::TopUp { account, order, amount: amount(ore), source: Source::Counter }).await;
            }
            Step::Refund { pupil, sale, ore } => {
                let sales: Vec<_> = self.naive.sales.keys().copied().collect();
                let sale = if sales.is_empty() { RequestKey::default() } else { *sale.get(&sales) };
                self.ask(Command::Refund { card: self.card_of(pupil), sale, amount: amount(ore) }).await;
            }
            Step::Block { pupil } => self.ask(Command::Block { account: AccountId(pupil) }).await,
            Step::Activate { pupil } => self.ask(Command::Activate { account: AccountId(pupil) }).await,
            Step::Limit { pupil, ore } => {
                self.ask(Command::SetDailyLimit { account: AccountId(pupil), limit: ore.map(amount) }).await;
            }
            Step::Rebind { pupil } => self.rebind(pupil).await,
            Step::Resend { which } => {
                let (key, command, outcome, at) = *which.get(&self.answered);
                let again = self.handle(&command).ask(key.sequence, command).await;
                // For a day the same answer; after that it may be forgotten, and is never carried out again.
                let forgotten = self.now() - at > 86_400_000 && again == Outcome::Rejected(Rejection::KeyExpired);
                assert!(again == outcome || forgotten, "{command:?} was answered {outcome:?}, and now {again:?}");
            }
            // More than four of them leave the keys' memory of a day.
            Step::SixHours => drop(self.world.clock.0.fetch_add(6 * 3_600_000, Ordering::SeqCst)),
            Step::Crash => self.restart().await,
            Step::FailedFlush { stored } => {
                self.world.journal.script([if stored { Fault::FailedButStored } else { Fault::Failed }]);
                self.next += 1;
                let command = Command::Purchase { card: self.card_of(1), amount: amount(1) };
                let key = RequestKey { caller: till(&self.engine).caller().id, sequence: Sequence(self.next) };
                let outcome = till(&self.engine).ask(key.sequence, command).await;
                assert_eq!(outcome, Outcome::Unavailable, "a failed flush answers nothing");
                // The till cannot know; it asks again after the restart, and only then does it count.
                self.engine = self.world.start().await;
                let again = till(&self.engine).ask(key.sequence, command).await;
                let expected = self.naive.expect(key, &command, self.day());
                match (again, expected) {
                    (Outcome::Approved(receipt), Ok(balance)) => assert_eq!(receipt.balance.ore(), balance),
                    (Outcome::Rejected(why), Err(code)) => assert_eq!(why.code(), code),
                    other => panic!("{other:?}"),
                }
                self.answered.push((key, command, again, self.now()));
            }
        }
    }

    fn audit(&self) {
        let mut auditor = Auditor::default();
        self.world.journal.records().iter().for_each(|record| auditor.take(record));
        let report = auditor.finish();
        assert_eq!(report.findings, vec![]);
        let held: i64 = self.naive.pupils.values().map(|pupil| pupil.balance).sum();
        let booked: i64 = report
            .trial
            .iter()
            .filter(|(ledger, _)| matches!(ledger, frokost_engine::ledger::Ledger::Account(_)))
            .map(|(_, amount)| amount.ore())
            .sum();
        assert_eq!(booked, held);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn the_engine_agrees_with_the_naive_ledger(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut run = Run::begin().await;
            for step in &steps {
                run.step(step).await;
            }
            run.restart().await;
            run.audit();
        });
    }
}
