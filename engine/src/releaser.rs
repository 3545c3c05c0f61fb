//! The releaser: a task that lets answers go once what they rest on is durable, all of a group and then each session's at once. Not the
//! committer's own work: the next group can be written meanwhile, and whoever waits is woken from within the runtime, which costs a
//! fraction of waking from outside.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::engine::Fatal;
use crate::outcome::Outcome;
use crate::pending::{Fed, Pending};
use crate::time::Timestamp;

/// What so many answers need is asked of memory at once.
const FETCHED_AT_ONCE: usize = 8;

/// The answers of a group, in order. Bounded by permits like everything that is in flight.
pub(crate) type Release = Vec<(Outcome, Timestamp, Pending)>;

/// For answers that are durable and cannot be given any more: nobody is told to ask again, and no key is given back.
pub(crate) fn silence(answers: impl IntoIterator<Item = (Outcome, Timestamp, Pending)>) {
    answers.into_iter().for_each(|(_, _, pending)| pending.silence());
}

/// Lets one group's answers go after the other, for as long as there is a committer.
pub(crate) async fn release(mut groups: mpsc::UnboundedReceiver<Release>, on_fatal: Arc<dyn Fn(Fatal) + Send + Sync>) {
    let meter = Meter::new();
    let mut fed = Fed::new();
    while let Some(group) = groups.recv().await {
        let mut group = group.into_iter();
        let settled = catch_unwind(AssertUnwindSafe(|| {
            loop {
                let next = group.as_slice().iter().take(FETCHED_AT_ONCE);
                let some = next.len();
                next.for_each(|(_, _, pending)| pending.fetch());
                for (outcome, at, pending) in group.by_ref().take(some) {
                    pending.settle(at, outcome, &mut fed);
                    meter.answer(&outcome);
                }
                if some < FETCHED_AT_ONCE {
                    break;
                }
            }
            // Each session once, with all that it has in this group.
            for sink in fed.drain(..) {
                sink.flush();
            }
        }));
        if settled.is_err() {
            on_fatal(Fatal::Panicked);
            return silence(group);
        }
    }
}

/// Counters, looked up once.
struct Meter {
    approved: metrics::Counter,
    viewed: metrics::Counter,
}

impl Meter {
    fn new() -> Meter {
        Meter {
            approved: metrics::counter!("frokost_answers_total", "outcome" => "approved"),
            viewed: metrics::counter!("frokost_answers_total", "outcome" => "view"),
        }
    }

    fn answer(&self, outcome: &Outcome) {
        match outcome {
            Outcome::Approved(_) => self.approved.increment(1),
            Outcome::View(_) => self.viewed.increment(1),
            Outcome::Rejected(why) => metrics::counter!("frokost_answers_total", "outcome" => why.name()).increment(1),
            Outcome::Busy | Outcome::OutOfSpace | Outcome::Unavailable => {}
        }
    }
}
