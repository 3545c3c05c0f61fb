//! The pacer: a thread of its own that says when a sale is due, in the open model. Timers of the async runtime are a millisecond
//! coarse, which is more than a sale takes; a sleeping thread is late by some tens of microseconds, and it
//! sleeps for a tenth of a millisecond at least where there are more than ten thousand sales a second. How late a till then is, the till counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::plan::Schedule;
use crate::till::Hours;

/// The longest the pacer sleeps before it looks whether it shall stop.
const NAP: Duration = Duration::from_millis(50);

/// Sales that are closer together than this are told of several at a time, after a sleep of so long: waking for each costs a thread, and
/// the tills it wakes, more than the sale is late.
const CLOSE: Duration = Duration::from_micros(100);

/// What became of the plan.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Sales that were planned within the measured time.
    pub(crate) planned: AtomicU64,
    /// Nobody sells any more.
    pub(crate) over: AtomicBool,
}

/// Starts a pacer: tells the tills in turn when the schedule says so.
pub(crate) fn start(
    schedule: Schedule,
    hours: Hours,
    tills: Vec<mpsc::UnboundedSender<Instant>>,
    pace: Arc<Pace>,
) -> std::io::Result<JoinHandle<()>> {
    let run = move || {
        let mut before = None;
        for (after, till) in schedule.zip(tills.iter().cycle()) {
            let due = hours.open + after;
            let close = before.replace(after).is_some_and(|before| after.saturating_sub(before) < CLOSE);
            let nap = if close { CLOSE } else { Duration::ZERO };
            if due >= hours.close {
                return;
            }
            loop {
                if pace.over.load(Ordering::Relaxed) {
                    return;
                }
                let left = due.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                std::thread::sleep(left.clamp(nap, NAP));
            }
            if due >= hours.measure {
                pace.planned.fetch_add(1, Ordering::Relaxed);
            }
            // A till that is gone sells no more; what it does not begin is missing in the report.
            let _ = till.send(due);
        }
    };
    std::thread::Builder::new().name("frokost-pacer".to_owned()).spawn(run)
}
