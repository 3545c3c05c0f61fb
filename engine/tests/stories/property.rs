//! The running engine against the naive ledger, with crashes, lost groups, resends and clock jumps in between. After
//! every crash: what was acknowledged is there, nothing is there twice, and the same keys get the same answers.

use frokost_engine::audit::Auditor;
use frokost_engine::books::Books;
use frokost_engine::memory_journal::Fault;
use frokost_engine::{
    AccountId, Amount, Asked, CallerHandle, Clock, Command, Engine, Outcome, Query, Rejection, RequestKey, Sequence,
};

use crate::harness::*;
use crate::naive::Naive;

const PUPILS: u64 = 3;

struct Run {
    world: World,
    engine: Engine,
    naive: Naive,
    next: u64,
    /// Everything that was answered, when, and with what.
    answered: Vec<(RequestKey, Asked, Outcome, u64)>,
}

impl Run {
    async fn begin() -> Run {
        let world = World::new();
        let engine = world.start().await;
        let mut run = Run { world, engine, naive: Naive::default(), next: 0, answered: Vec::new() };
        for pupil in 1..=PUPILS {
            let account = AccountId(pupil);
            run.ask(Command::Open { account, school: SCHOOL }.into()).await;
            run.ask(Command::BindCard { account, card: card(100 + u32::try_from(pupil).unwrap()) }.into()).await;
        }
        run
    }

    fn handle(&self, command: &Command) -> CallerHandle {
        match command {
            Command::Purchase { .. } | Command::Refund { .. } => till(&self.engine),
            _ => operator(&self.engine),
        }
    }

    fn now(&self) -> u64 {
        self.world.clock.now().0
    }

    fn expect(&mut self, key: RequestKey, asked: &Asked) -> Result<i64, u16> {
        let day = self.world.clock.now().day().0;
        self.naive.expect(key, asked, self.now(), day)
    }

    async fn ask(&mut self, asked: Asked) {
        self.next += 1;
        let handle = self.handle(&asked.command);
        let key = RequestKey { caller: handle.caller().id, sequence: Sequence(self.next) };
        let outcome = handle.ask(key.sequence, asked).await;
        let expected = self.expect(key, &asked);
        assert_eq!(plain(outcome), expected, "{asked:?}");
        self.answered.push((key, asked, outcome, self.now()));
    }

    /// Nothing is closed: the engine's threads are simply left behind with a claim that is void from now on.
    async fn restart(&mut self) {
        self.engine = self.world.start().await;
        for (pupil, expected) in &self.naive.pupils {
            let view = operator(&self.engine).view(Query::AccountBalance { account: AccountId(*pupil) }).await;
            let Outcome::View(view) = view else { panic!("{view:?}") };
            assert_eq!(view.balance.ore(), expected.balance, "pupil {pupil} after a crash");
            assert_eq!(view.blocked, expected.blocked);
            assert_eq!(view.closed, expected.closed);
            assert_eq!(view.daily_limit.map(Amount::ore), expected.limit);
            assert_eq!(view.credit_limit.ore(), expected.credit);
            assert_eq!(view.auto_top_up.map(Amount::ore), expected.agreed);
            assert_eq!(view.charging, expected.charging);
        }
        let wishes = operator(&self.engine).wishes(AccountId(0)).unwrap();
        let charging = self.naive.pupils.iter().filter(|(_, pupil)| pupil.charging).map(|(id, _)| *id);
        assert_eq!(wishes.iter().map(|wish| wish.account.0).collect::<Vec<_>>(), charging.collect::<Vec<_>>());
    }

    async fn resend(&mut self, which: usize) {
        let (key, asked, outcome, at) = self.answered[which];
        let again = self.handle(&asked.command).ask(key.sequence, asked).await;
        // For a day the same answer; after that it may be forgotten, and is never carried out again.
        let forgotten = self.now() - at > 86_400_000 && again == Outcome::Rejected(Rejection::KeyExpired);
        assert!(again == outcome || forgotten, "{asked:?} was answered {outcome:?}, and now {again:?}");
    }

    async fn failed_flush(&mut self, asked: Asked, stored: bool) {
        self.world.journal.script([if stored { Fault::FailedButStored } else { Fault::Failed }]);
        self.next += 1;
        let handle = self.handle(&asked.command);
        let key = RequestKey { caller: handle.caller().id, sequence: Sequence(self.next) };
        assert_eq!(handle.ask(key.sequence, asked).await, Outcome::Unavailable, "a failed flush answers nothing");
        // The till cannot know; it asks again after the restart, and only then does it count.
        self.engine = self.world.start().await;
        let again = self.handle(&asked.command).ask(key.sequence, asked).await;
        let expected = self.expect(key, &asked);
        assert_eq!(plain(again), expected, "{asked:?} after a failed flush");
        self.answered.push((key, asked, again, self.now()));
    }

    async fn step(&mut self, rng: &mut fastrand::Rng) {
        match rng.u32(0..20) {
            0 => self.restart().await,
            1 => {
                let asked = self.naive.request(rng, PUPILS);
                self.failed_flush(asked, rng.bool()).await;
            }
            2..5 => {
                let which = rng.usize(0..self.answered.len());
                self.resend(which).await;
            }
            // More than four of them leave the keys' memory of a day.
            5 => self.world.clock.later(6 * 3_600_000),
            _ => {
                let asked = self.naive.request(rng, PUPILS);
                self.ask(asked).await;
            }
        }
    }

    fn audit(&self) {
        let (mut auditor, mut books) = (Auditor::default(), Books::default());
        for record in self.world.journal.records() {
            auditor.take(&record);
            books.take(&record).unwrap();
        }
        let report = auditor.finish();
        assert_eq!(report.findings, vec![]);
        assert!(books.pages().all(|(_, page)| page.sum() == 0), "every day of every school sums to zero");
        let held: i64 = self.naive.pupils.values().map(|pupil| pupil.balance).sum();
        let lines = books.sum(|_, _| true).unwrap();
        let booked = lines.iter().find(|line| line.ledger == "accounts").map_or(0, |line| line.amount.ore());
        assert_eq!(booked, held);
    }
}

fn plain(outcome: Outcome) -> Result<i64, u16> {
    match outcome {
        Outcome::Approved(receipt) => Ok(receipt.balance.ore()),
        Outcome::Rejected(why) => Err(why.code()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_engine_agrees_with_the_naive_ledger() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let wishes: u32 = (0..250u64)
        .map(|seed| {
            println!("seed {seed}");
            runtime.block_on(async {
                let mut rng = fastrand::Rng::with_seed(seed);
                let mut run = Run::begin().await;
                for _ in 0..60 {
                    run.step(&mut rng).await;
                }
                run.restart().await;
                run.audit();
                run.naive.wishes
            })
        })
        .sum();
    assert!(wishes > 50, "only {wishes} automatic top-ups were wished for: this shows little about them");
}
