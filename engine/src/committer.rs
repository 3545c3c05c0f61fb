//! The committer: one thread that owns the journal. It takes whatever has queued while the last flush ran as one group,
//! appends it, and only then hands the group's answers to the releaser. A group waits a moment for more where that is worth it.
//! A failed flush is final: no retry, no further answer.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use crate::amount::Amount;
use crate::committer_queue::Taker;
use crate::engine::Fatal;
use crate::entry::{Entry, Record};
use crate::id::{AccountId, Lsn, PersonId, RequestKey};
use crate::journal::{AppendError, Claim, Journal};
use crate::outcome::Outcome;
use crate::patience::{Flush, Patience};
use crate::pending::Pending;
use crate::permits::Permits;
use crate::releaser::{Release, silence};
use crate::text::Text;
use crate::time::{Clock, Timestamp};
use crate::watchdog::Busy;
use crate::wishes::Wishes;

/// How often an append whose answer was lost is asked for again before the engine gives up.
const ASK_AGAIN: usize = 5;

/// A record that has no position yet.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) at: Timestamp,
    pub(crate) key: RequestKey,
    pub(crate) fingerprint: u64,
    pub(crate) account: AccountId,
    pub(crate) balance: Amount,
    pub(crate) by: PersonId,
    pub(crate) text: Text,
    pub(crate) entry: Entry,
}

impl Draft {
    fn at(self, lsn: Lsn) -> Record {
        let Draft { at, key, fingerprint, account, balance, by, text, entry } = self;
        Record { lsn, at, key, fingerprint, account, balance, by, text, entry }
    }
}

/// What the committer is given, in the order in which it happened.
#[derive(Debug)]
pub(crate) enum Item {
    /// Something to journal, and who waits for it.
    Commit(Draft, Pending),
    /// The same with a companion, which follows it in the same group.
    CommitBoth(Box<(Draft, Draft)>, Pending),
    /// An answer that must not overtake what it rests on.
    Answer(Outcome, Pending),
    /// Tell when everything before this is durable.
    Barrier(oneshot::Sender<()>),
    /// Let the journal go of something before this position; tell whether there is more.
    Truncate(Lsn, oneshot::Sender<bool>),
    /// Nothing comes after this.
    Stop,
}

/// What is taken for one flush.
#[derive(Default)]
struct Group {
    records: Vec<Record>,
    answers: Release,
    barriers: Vec<oneshot::Sender<()>>,
    truncate: Option<(Lsn, oneshot::Sender<bool>)>,
    stopped: bool,
}

impl Group {
    /// Adds an item to a group that begins behind `head`.
    fn add(&mut self, item: Item, head: Lsn) {
        let next = self.records.last().map_or(head, |record| record.lsn).next();
        match item {
            Item::Commit(draft, pending) => self.add_record(draft.at(next), pending),
            Item::CommitBoth(both, pending) => {
                let (draft, companion) = *both;
                self.add_record(draft.at(next), pending);
                self.records.push(companion.at(next.next()));
            }
            Item::Answer(outcome, pending) => self.answers.push((outcome, Timestamp(0), pending)),
            Item::Barrier(tell) => self.barriers.push(tell),
            Item::Truncate(before, tell) => self.truncate = Some((before, tell)),
            Item::Stop => self.stopped = true,
        }
    }

    fn add_record(&mut self, record: Record, pending: Pending) {
        self.answers.extend(record.outcome().map(|outcome| (outcome, record.at, pending)));
        self.records.push(record);
    }
}

pub(crate) struct Committer {
    pub(crate) journal: Box<dyn Journal>,
    pub(crate) claim: Claim,
    pub(crate) queue: Taker<Item>,
    pub(crate) group_limit: usize,
    /// What is in flight.
    pub(crate) permits: Arc<Permits>,
    /// Where answers go when what they rest on is durable.
    pub(crate) releases: mpsc::UnboundedSender<Release>,
    pub(crate) durable: watch::Sender<Lsn>,
    pub(crate) projector: SyncSender<Arc<[Record]>>,
    pub(crate) wishes: Arc<Wishes>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) busy: Arc<Busy>,
    pub(crate) on_fatal: Arc<dyn Fn(Fatal) + Send + Sync>,
}

impl Committer {
    /// Runs until it is stopped or the journal fails. A panic here is as final as a failed flush.
    pub(crate) fn run_or_die(self) {
        let on_fatal = Arc::clone(&self.on_fatal);
        if catch_unwind(AssertUnwindSafe(|| self.run())).is_err() {
            on_fatal(Fatal::Panicked);
        }
    }

    fn run(mut self) {
        let mut head = self.claim.head;
        let meter = Meter::new();
        let mut patience = Patience::new();
        let mut group = Group::default();
        while !group.stopped {
            let Ok(first) = self.queue.take() else { return };
            group.add(first, head);
            loop {
                while !group.stopped && group.answers.len() < self.group_limit {
                    let Some(item) = self.queue.try_take() else { break };
                    group.add(item, head);
                }
                let there = group.answers.len();
                if group.stopped || there >= self.group_limit {
                    break;
                }
                let Some(wait) = patience.wait(there, self.permits.taken(), self.clock.running()) else { break };
                self.queue.wait_for(wait.answers.min(self.group_limit) - there, wait.at_most);
            }
            let Group { records, answers, barriers, truncate, .. } = &mut group;
            let begin = self.clock.running();
            if let Some(last) = records.last() {
                let last = last.lsn;
                if let Err(error) = self.append(head, records) {
                    self.give_up(error, std::mem::take(answers));
                    return;
                }
                head = last;
                meter.group(records.len(), self.clock.running().saturating_sub(begin));
                records.iter().for_each(|record| self.wishes.note(record));
                self.durable.send_replace(head);
            }
            let ended = self.clock.running();
            patience.flushed(Flush {
                records: records.len(),
                answers: answers.len(),
                queued: self.queue.waiting(),
                took: ended.saturating_sub(begin),
                ended,
            });
            if !answers.is_empty() {
                // A releaser that has fallen has said so.
                let room = Vec::with_capacity(answers.len());
                if let Err(mpsc::error::SendError(answers)) = self.releases.send(std::mem::replace(answers, room)) {
                    silence(answers);
                }
            }
            if !records.is_empty() {
                self.publish(records);
                records.clear();
            }
            for tell in barriers.drain(..) {
                // Whoever asked may have gone; nothing to do then.
                let _ = tell.send(());
            }
            if let Some((before, tell)) = truncate.take() {
                let _working = self.busy.work();
                match self.journal.truncate_before(&self.claim, before) {
                    Ok(done) => drop(tell.send(!done)),
                    Err(error) => return self.give_up(error, Vec::new()),
                }
            }
        }
    }

    fn append(&mut self, head: Lsn, records: &[Record]) -> Result<(), AppendError> {
        let mut asked = 0;
        let _working = self.busy.work();
        loop {
            // A panic in the store is a failure like any other, so that the group's answers are silenced, not taken back.
            let appended = catch_unwind(AssertUnwindSafe(|| self.journal.append(&self.claim, head, records)));
            match appended.unwrap_or_else(|_| Err(AppendError::Failed("it panicked".to_owned()))) {
                Ok(_) => return Ok(()),
                Err(AppendError::Unknown(why)) if asked < ASK_AGAIN => {
                    asked += 1;
                    tracing::warn!(%why, asked, "the journal's answer was lost; asking again with the same group");
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Hands a durable group to the projector, if it has room; if not it reads the journal later.
    fn publish(&self, records: &[Record]) {
        match self.projector.try_send(records.into()) {
            Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }

    /// The journal failed: say so once, answer nobody, and swallow what still comes until everyone is gone.
    fn give_up(mut self, error: AppendError, answers: Release) {
        (self.on_fatal)(Fatal::Journal(error));
        silence(answers);
        while let Ok(item) = self.queue.take() {
            match item {
                Item::Commit(_, pending) | Item::CommitBoth(_, pending) | Item::Answer(_, pending) => pending.silence(),
                Item::Barrier(_) | Item::Truncate(..) => {}
                Item::Stop => return,
            }
        }
    }
}

/// Counters, looked up once.
struct Meter {
    groups: metrics::Counter,
    records: metrics::Counter,
    /// How many there are in a group, and how long it takes.
    sizes: metrics::Histogram,
    flushes: metrics::Histogram,
}

impl Meter {
    fn new() -> Meter {
        Meter {
            groups: metrics::counter!("frokost_journal_groups_total"),
            records: metrics::counter!("frokost_journal_records_total"),
            sizes: metrics::histogram!("frokost_journal_group_records"),
            flushes: metrics::histogram!("frokost_journal_flush_seconds"),
        }
    }

    fn group(&self, records: usize, took: Duration) {
        self.groups.increment(1);
        self.records.increment(records as u64);
        self.sizes.record(u32::try_from(records).unwrap_or(u32::MAX));
        self.flushes.record(took);
    }
}
