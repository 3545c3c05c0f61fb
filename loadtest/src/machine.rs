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
/// Before so many were seen nobody knows what is usual, and nothing is counted; it is reckoned anew after as many.
const KNOWN_AFTER: u64 = 100;
/// How long after a slow moment a sale may still wait behind those that were slow.
const AFTER: Duration = Duration::from_millis(100);
/// Who waited longer waited for something else: the longer a wait is, the surer one of the machine's slow moments is in it, and the server's own
/// outages would be put down to them.
const EXCUSED: Duration = Duration::from_millis(250);

/// What was seen of the machine's speed. Each probe stands for the time since the one before.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Speed {
    /// How long it was looked at.
    pub looked: Duration,
    /// How long of that it was slow.
    pub slow: Duration,
    /// How often that began.
    pub stretches: u64,
    /// The longest it was slow at a stretch.
    pub longest: Duration,
    /// What was not done in that time, as time at the usual speed.
    pub lost: Duration,
}

impl Speed {
    /// Adds what was seen at another time.
    pub(crate) fn add(&mut self, other: &Speed) {
        self.looked += other.looked;
        self.slow += other.slow;
        self.stretches += other.stretches;
        self.longest = self.longest.max(other.longest);
        self.lost += other.lost;
    }

    /// The share of the time that was slow, 0 to 1.
    #[must_use]
    pub fn slow_share(&self) -> f64 {
        if self.looked.is_zero() { 0.0 } else { self.slow.div_duration_f64(self.looked) }
    }

    /// Less than this is not worth a word.
    #[must_use]
    pub fn was_slow(&self) -> bool {
        self.slow_share() >= 0.0005
    }
}

/// How fast the machine the tester ran on was, as a report has it, within the measured time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// The share of the time in which it did less than half of what it usually does, 0 to 1.
    pub slow_share: f64,
    /// What it did then, beside what it usually does, 0 to 1; nothing if it was never slow.
    pub slow_speed: Option<f64>,
    /// How many times it was slow.
    pub slow_stretches: u64,
    /// The longest it was slow at a stretch, in milliseconds.
    pub longest_slow_ms: f64,
}

impl From<Speed> for Machine {
    fn from(speed: Speed) -> Machine {
        Machine {
            slow_share: speed.slow_share(),
            slow_speed: speed.was_slow().then(|| 1.0 - speed.lost.div_duration_f64(speed.slow)),
            slow_stretches: speed.stretches,
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

    /// May a wait be the machine's doing? It was slow between shortly before something was planned and now, which is not long.
    pub(crate) fn disturbs(&self, planned: Instant, now: Instant) -> bool {
        let until = self.until.load(Ordering::Relaxed);
        nanos(planned.saturating_duration_since(self.begun)) < until
            && now.saturating_duration_since(planned) <= EXCUSED
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Tells slow moments from others.
#[derive(Debug)]
struct Judge {
    seen: Histogram<u64>,
    usual: u64,
    /// When the probe before was made, and was that measured?
    before: Option<(Instant, bool)>,
    /// How many in a row were slow, and since when.
    in_a_row: u32,
    since: Instant,
}

impl Judge {
    fn new(now: Instant) -> Judge {
        let seen = Histogram::new_with_bounds(1, 1_000_000_000, 2).expect("the bounds are sound");
        Judge { seen, usual: 0, before: None, in_a_row: 0, since: now }
    }

    /// What a probe of `took` nanoseconds says, `now`. Two in a row make a slow moment: one alone may be an interrupt's doing.
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of a moment")]
    fn take(&mut self, took: u64, now: Instant, measured: bool) -> Speed {
        self.seen.saturating_record(took);
        if self.seen.len().is_multiple_of(KNOWN_AFTER) {
            self.usual = self.seen.value_at_quantile(0.5);
        }
        let (before, was_measured) = self.before.replace((now, measured)).unwrap_or((now, measured));
        if self.usual == 0 {
            return Speed::default();
        }
        let looked = now.saturating_duration_since(before);
        let slow = took > self.usual.saturating_mul(SLOW);
        self.in_a_row = if slow && measured == was_measured { self.in_a_row + 1 } else { u32::from(slow) };
        if self.in_a_row == 1 {
            self.since = now;
        }
        if self.in_a_row < 2 {
            return Speed { looked, ..Speed::default() };
        }
        let longest = now.saturating_duration_since(self.since);
        let lost = looked.mul_f64(1.0 - self.usual as f64 / took as f64);
        Speed { looked, slow: looked, stretches: u64::from(self.in_a_row == 2), longest, lost }
    }

    /// Takes what a probe says to the board.
    fn tell(&mut self, took: u64, now: Instant, hours: Hours, counts: bool, board: &Board) {
        let measured = now >= hours.measure;
        let speed = self.take(took, now, measured);
        if !speed.slow.is_zero() {
            board.last_slow.is_slow(now);
        }
        if counts {
            board.nth_seat(0).of(measured).speed.add(&speed);
        }
    }
}

/// The thread that looks.
#[derive(Debug)]
pub(crate) struct Probe {
    told: Arc<Told>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Told {
    /// The measured time is over: what is seen is no longer counted.
    closed: AtomicBool,
    over: AtomicBool,
}

impl Probe {
    /// Looks until it is dropped, and counts on the board.
    pub(crate) fn start(board: Arc<Board>, hours: Hours) -> std::io::Result<Probe> {
        let told = Arc::new(Told::default());
        let hears = Arc::clone(&told);
        let run = move || {
            let mut judge = Judge::new(Instant::now());
            while !hears.over.load(Ordering::Relaxed) {
                let took = middle([count(), count(), count()]);
                judge.tell(took, Instant::now(), hours, !hears.closed.load(Ordering::Relaxed), &board);
                std::thread::sleep(EVERY);
            }
        };
        let thread = std::thread::Builder::new().name("frokost-probe".to_owned()).spawn(run)?;
        Ok(Probe { told, thread: Some(thread) })
    }

    /// The measured time is over. What comes still disturbs the sales that are open.
    pub(crate) fn count_no_more(&self) {
        self.told.closed.store(true, Ordering::Relaxed);
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.told.over.store(true, Ordering::Relaxed);
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

    /// Hours whose measured time begins a tenth of a second after `open`.
    fn hours(open: Instant) -> Hours {
        Hours { open, measure: open + Duration::from_millis(100), close: open + Duration::from_secs(9) }
    }

    #[test]
    fn a_slow_moment_is_told_from_what_is_usual() {
        let mut at = Instant::now();
        let mut judge = Judge::new(at);
        let mut all = Speed::default();
        let mut look = |took: u64, times: u32, all: &mut Speed| {
            for _ in 0..times {
                at += EVERY;
                all.add(&judge.take(took, at, true));
            }
        };
        // Nobody knows yet what is usual.
        look(50_000, 20, &mut all);
        look(5_000, 79, &mut all);
        assert_eq!(all, Speed::default());
        look(5_000, 901, &mut all);
        assert_eq!((all.looked, all.slow), (EVERY * 901, Duration::ZERO));
        look(9_000, 50, &mut all);
        look(25_000, 1, &mut all);
        look(5_000, 1, &mut all);
        assert_eq!(all.slow, Duration::ZERO, "less than twice the usual, and one alone");
        look(25_000, 41, &mut all);
        look(5_000, 1, &mut all);
        look(25_000, 11, &mut all);
        assert_eq!((all.slow, all.stretches, all.longest), (EVERY * 50, 2, EVERY * 40));
        let machine = Machine::from(all);
        assert!((machine.slow_speed.unwrap() - 0.2).abs() < 0.01, "{machine:?}");
        assert!((machine.slow_share - 50.0 / 1_006.0).abs() < 1e-9, "{machine:?}");
        assert_eq!(Machine::from(Speed::default()).slow_share, 0.0, "nobody looked");
    }

    #[test]
    fn what_a_probe_says_is_counted_where_it_belongs() {
        let board = Board::default();
        let open = Instant::now();
        let hours = hours(open);
        let mut judge = Judge::new(open);
        let mut at = open - EVERY * 200;
        let mut look = |took: u64, times: u32, counts: bool| {
            for _ in 0..times {
                at += EVERY;
                judge.tell(took, at, hours, counts, &board);
            }
        };
        look(5_000, 190, true);
        assert!(!board.last_slow.disturbs(open, open));
        // From 10 ms before the measured time to 10 ms after.
        look(5_000, 55, true);
        look(25_000, 10, true);
        assert_eq!(board.total().speed.stretches, 1, "the warm-up has a stretch of its own");
        assert!(board.last_slow.disturbs(open, open));
        let all = board.look().speed;
        assert_eq!((all.stretches, all.longest, all.slow), (2, EVERY * 5, EVERY * 8), "{all:?}");
        look(25_000, 10, false);
        assert_eq!(board.look().speed, Speed::default(), "the measured time is over");
        let soon_after = open + Duration::from_millis(220);
        assert!(board.last_slow.disturbs(soon_after, soon_after), "and yet it disturbs");
    }

    #[test]
    fn what_was_planned_long_after_a_slow_moment_is_not_disturbed() {
        let slow = LastSlow::default();
        let at = |millis| slow.begun + Duration::from_millis(millis);
        let disturbs = |planned, now| slow.disturbs(at(planned), at(now));
        assert!(!disturbs(0, 1) && !disturbs(1, 1), "it was never slow");
        slow.is_slow(at(1_000));
        // Also what was planned before and is answered only now.
        assert!(disturbs(900, 1_000) && disturbs(1_000, 1_100) && disturbs(1_099, 1_200));
        assert!(!disturbs(1_100, 1_200) && !disturbs(5_000, 5_001));
    }

    /// A server that stands still for seconds: nearly every wait has a slow moment in it then.
    #[test]
    fn a_long_wait_is_not_put_down_to_the_machine() {
        let slow = LastSlow::default();
        let at = |millis| slow.begun + Duration::from_millis(millis);
        slow.is_slow(at(1_000));
        assert!(slow.disturbs(at(900), at(1_150)) && !slow.disturbs(at(900), at(1_151)));
    }

    #[test]
    fn the_probe_looks_until_it_is_dropped() {
        let board = Arc::new(Board::default());
        let probe = Probe::start(Arc::clone(&board), hours(Instant::now())).unwrap();
        // What is usual is known after a hundred.
        let begin = Instant::now();
        while board.total().speed.looked < EVERY * 5 {
            assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", board.total().speed);
            std::thread::sleep(EVERY);
        }
        drop(probe);
        board.look();
        std::thread::sleep(EVERY * 10);
        assert_eq!(board.look().speed, Speed::default(), "it goes on after its end");
    }
}
