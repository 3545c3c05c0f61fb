//! How fast the machine itself is while a run is measured. Processors that are shared with others can do a fifth of their usual work for some
//! tens of milliseconds, several times in a few seconds; whoever does not know that takes it for the server's doing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::stats::Board;
use crate::till::Hours;

/// How often it is looked.
const EVERY: Duration = Duration::from_millis(2);
/// What is done each time, three times: some microseconds.
const STEPS: u32 = 2_000;
/// Slower than this by the usual time is slow: processors that share their insides with another differ by as much without anything being wrong.
const SLOW: u64 = 2;
/// Before so many were seen nobody knows what is usual; it is reckoned anew after as many.
const KNOWN_AFTER: u64 = 100;
/// How long after a slow moment a sale may still wait behind those that were slow.
const AFTER: Duration = Duration::from_millis(100);

/// What was seen of the machine's speed.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Speed {
    /// How often it was looked.
    pub probes: u64,
    /// How often it was slow then.
    pub slow: u64,
    /// The longest time it was slow at a stretch.
    pub longest: Duration,
    /// What was not done in the slow moments, in probes.
    pub lost: f64,
}

impl Speed {
    /// Adds what was seen at another time.
    pub(crate) fn add(&mut self, other: &Speed) {
        self.probes += other.probes;
        self.slow += other.slow;
        self.longest = self.longest.max(other.longest);
        self.lost += other.lost;
    }

    /// The share of the time that was slow, 0 to 1.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "2^52 probes are not made")]
    pub fn slow_share(&self) -> f64 {
        self.slow as f64 / self.probes.max(1) as f64
    }

    /// What was done in the slow moments, beside what usually is, 0 to 1.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "2^52 probes are not made")]
    pub fn slow_speed(&self) -> f64 {
        1.0 - self.lost / self.slow.max(1) as f64
    }
}

/// How fast the machine the tester ran on was, as a report has it, within the measured time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// The share of the time in which it did less than half of what it usually does, 0 to 1.
    pub slow_share: f64,
    /// What it did then, beside what it usually does, 0 to 1; nothing if it was never slow.
    pub slow_speed: Option<f64>,
    /// The longest it was slow at a stretch, in milliseconds.
    pub longest_slow_ms: f64,
}

impl From<Speed> for Machine {
    fn from(speed: Speed) -> Machine {
        Machine {
            slow_share: speed.slow_share(),
            slow_speed: (speed.slow > 0).then(|| speed.slow_speed()),
            longest_slow_ms: speed.longest.as_secs_f64() * 1e3,
        }
    }
}

/// When the machine was slow the last time. Written by the probe, asked by every till.
#[derive(Debug)]
pub(crate) struct LastSlow {
    begun: Instant,
    /// Nanoseconds since then at which what was planned is disturbed no more.
    until: AtomicU64,
}

impl Default for LastSlow {
    fn default() -> LastSlow {
        LastSlow { begun: Instant::now(), until: AtomicU64::new(0) }
    }
}

impl LastSlow {
    fn is_slow(&self, now: Instant) {
        self.until.store(nanos(now + AFTER - self.begun), Ordering::Relaxed);
    }

    /// Was the machine slow between shortly before something was planned and now?
    pub(crate) fn disturbs(&self, planned: Instant) -> bool {
        nanos(planned.saturating_duration_since(self.begun)) < self.until.load(Ordering::Relaxed)
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Tells slow moments from others.
#[derive(Debug)]
struct Judge {
    seen: Histogram<u64>,
    /// Longer is slow; nothing is known at first.
    bound: Option<u64>,
    usual: u64,
    slow_since: Option<Instant>,
}

impl Judge {
    fn new() -> Judge {
        let seen = Histogram::new_with_bounds(1, 1_000_000_000, 2).expect("the bounds are sound");
        Judge { seen, bound: None, usual: 0, slow_since: None }
    }

    /// What a probe of `took` nanoseconds says, `now`.
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of a moment")]
    fn take(&mut self, took: u64, now: Instant) -> Speed {
        self.seen.saturating_record(took);
        if self.seen.len().is_multiple_of(KNOWN_AFTER) {
            self.usual = self.seen.value_at_quantile(0.5);
            self.bound = Some(self.usual.saturating_mul(SLOW));
        }
        if self.bound.is_none_or(|bound| took <= bound) {
            self.slow_since = None;
            return Speed { probes: 1, ..Speed::default() };
        }
        let since = *self.slow_since.get_or_insert(now);
        let longest = now.saturating_duration_since(since) + EVERY;
        Speed { probes: 1, slow: 1, longest, lost: 1.0 - self.usual as f64 / took as f64 }
    }
}

/// The thread that looks.
#[derive(Debug)]
pub(crate) struct Probe {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Probe {
    /// Looks until it is dropped, and counts on the board.
    pub(crate) fn start(board: Arc<Board>, hours: Hours) -> std::io::Result<Probe> {
        let over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&over);
        let run = move || {
            let mut judge = Judge::new();
            while !told.load(Ordering::Relaxed) {
                let took = middle([count(), count(), count()]);
                let now = Instant::now();
                let speed = judge.take(took, now);
                if speed.slow > 0 {
                    board.last_slow.is_slow(now);
                }
                board.seat(0).of(now >= hours.measure).speed.add(&speed);
                std::thread::sleep(EVERY);
            }
        };
        let thread = std::thread::Builder::new().name("frokost-probe".to_owned()).spawn(run)?;
        Ok(Probe { over, thread: Some(thread) })
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It counts and sleeps; it has nothing to fail with.
            let _ = thread.join();
        }
    }
}

/// Counts in registers, and says for how many nanoseconds the thread had a processor for it.
fn count() -> u64 {
    let begin = clock_gettime(ClockId::ThreadCPUTime);
    let mut number = 88_172_645_463_325_252_u64;
    for _ in 0..STEPS {
        number ^= number << 13;
        number ^= number >> 7;
        number ^= number << 17;
    }
    std::hint::black_box(number);
    let took = clock_gettime(ClockId::ThreadCPUTime) - begin;
    Duration::try_from(took).map_or(u64::MAX, nanos)
}

fn middle(mut times: [u64; 3]) -> u64 {
    times.sort_unstable();
    times[1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_moment_is_told_from_what_is_usual() {
        let begin = Instant::now();
        let mut judge = Judge::new();
        let mut all = Speed::default();
        let mut at = begin;
        let mut look = |took: u64, times: u32, all: &mut Speed| {
            for _ in 0..times {
                at += EVERY;
                all.add(&judge.take(took, at));
            }
        };
        // Nobody knows yet what is usual.
        look(50_000, 20, &mut all);
        look(5_000, 980, &mut all);
        assert_eq!((all.probes, all.slow), (1_000, 0));
        look(9_000, 50, &mut all);
        assert_eq!(all.slow, 0, "less than twice the usual");
        look(25_000, 40, &mut all);
        look(5_000, 1, &mut all);
        look(25_000, 10, &mut all);
        assert_eq!((all.probes, all.slow, all.longest), (1_101, 50, EVERY * 40));
        assert!((all.slow_speed() - 0.2).abs() < 0.01 && (all.slow_share() - 50.0 / 1_101.0).abs() < 1e-9, "{all:?}");
    }

    #[test]
    fn what_was_planned_long_after_a_slow_moment_is_not_disturbed() {
        let slow = LastSlow::default();
        let at = |millis| slow.begun + Duration::from_millis(millis);
        assert!(!slow.disturbs(slow.begun) && !slow.disturbs(at(1)), "it was never slow");
        slow.is_slow(at(1_000));
        // Also what was planned before and is answered only now.
        assert!(slow.disturbs(at(400)) && slow.disturbs(at(1_000)) && slow.disturbs(at(1_099)));
        assert!(!slow.disturbs(at(1_100)) && !slow.disturbs(at(5_000)));
    }

    #[test]
    fn the_probe_looks_and_counts_where_it_belongs() {
        let board = Arc::new(Board::default());
        let open = Instant::now();
        let hours = Hours { open, measure: open + Duration::from_millis(100), close: open + Duration::from_secs(9) };
        let probe = Probe::start(Arc::clone(&board), hours).unwrap();
        std::thread::sleep(Duration::from_millis(600));
        drop(probe);
        let measured = board.total().speed.probes;
        let all = board.look().speed.probes;
        assert!(measured >= 10 && all > measured, "{measured} of {all}");
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(board.look().speed.probes, 0, "it goes on after its end");
    }
}
