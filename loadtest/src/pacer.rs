//! The pacer: a thread of its own that says when a sale is due, in the open model. Timers of the async runtime are a millisecond
//! coarse, which is more than a sale takes; a sleeping thread is late by some tens of microseconds, and that is measured, too.

use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::till::Hours;

/// The longest the pacer sleeps before it looks whether it shall stop.
const NAP: Duration = Duration::from_millis(50);

/// Starts a pacer: the n-th sale is due n/rate after opening, at the tills in turn.
pub(crate) fn start(
    rate: f64,
    hours: Hours,
    tills: Vec<mpsc::UnboundedSender<Instant>>,
    stop: watch::Receiver<bool>,
) -> std::io::Result<JoinHandle<()>> {
    let pace = move || {
        for (n, till) in (0u64..).zip(tills.iter().cycle()) {
            let due = hours.open + after(n, rate);
            if due >= hours.close {
                return;
            }
            loop {
                if *stop.borrow() {
                    return;
                }
                let left = due.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                std::thread::sleep(left.min(NAP));
            }
            // A till that is gone sells no more; the report counts what was answered.
            let _ = till.send(due);
        }
    };
    std::thread::Builder::new().name("frokost-pacer".to_owned()).spawn(pace)
}

#[expect(clippy::cast_precision_loss, reason = "2^52 sales are not planned")]
fn after(n: u64, rate: f64) -> Duration {
    Duration::from_secs_f64(n as f64 / rate)
}
