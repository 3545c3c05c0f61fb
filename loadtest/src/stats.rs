//! What tills measure. Latency is the time from when a sale was *planned* (open model) or sent (closed loop) until its
//! answer was read; a server that stalls is charged for every pupil who had to wait, also for those not yet sent.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use frokost_engine::Outcome;
use hdrhistogram::Histogram;

use crate::machine::{LastSlow, Speed};

/// The longest latency that is told apart: a minute.
const LONGEST_NS: u64 = 60_000_000_000;

/// Counts and latencies.
#[derive(Debug, Clone)]
pub struct Stats {
    /// Latencies in nanoseconds, three digits exact.
    pub latency: Histogram<u64>,
    /// The same from the moment a sale was sent: what the server took, without the wait for those before.
    pub raw: Histogram<u64>,
    /// Latencies of those that were refused.
    pub refused_latency: Histogram<u64>,
    /// How long it took until those that never had an answer were given up.
    pub unanswered_latency: Histogram<u64>,
    /// Of those whose time has a slow moment of the machine in it, or soon after one.
    pub disturbed_latency: Histogram<u64>,
    /// How many sales were answered with a yes.
    pub approved: u64,
    /// How many were refused, by reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// Latencies of looks at accounts that showed something.
    pub reads: Histogram<u64>,
    /// How many looks were in vain.
    pub reads_failed: u64,
    /// How many were due and never begun, since the one before took so long.
    pub reads_missed: u64,
    /// How many sales were decided before the run's end: what comes later was not kept up with.
    pub in_time: u64,
    /// How many sales the tills began.
    pub begun: u64,
    /// With how many of them a till began more than 50 ms after they were due, although nothing but the tester itself kept it from it.
    pub begun_late: u64,
    /// How many were sent again because the answer was `Busy`, `Unavailable` or lost.
    pub resent: u64,
    /// How many connections were lost on purpose.
    pub broken: u64,
    /// How many of the sales that were asked for twice on purpose had both answers.
    pub repeated: u64,
    /// How many sales never had an answer, however often they were sent; their time until then is among the latencies.
    pub given_up: u64,
    /// Errors of the connection, by message.
    pub errors: BTreeMap<String, u64>,
    /// How fast the machine itself was.
    pub speed: Speed,
}

impl Default for Stats {
    fn default() -> Stats {
        let histogram = || Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("the bounds are sound");
        Stats {
            latency: histogram(),
            raw: histogram(),
            refused_latency: histogram(),
            unanswered_latency: histogram(),
            disturbed_latency: histogram(),
            reads: histogram(),
            reads_failed: 0,
            reads_missed: 0,
            in_time: 0,
            begun: 0,
            begun_late: 0,
            approved: 0,
            refused: BTreeMap::new(),
            given_up: 0,
            resent: 0,
            repeated: 0,
            broken: 0,
            errors: BTreeMap::new(),
            speed: Speed::default(),
        }
    }
}

impl Stats {
    /// Counts a sale that was decided. `disturbed`: did it have a slow moment of the machine in its time?
    pub fn decided(&mut self, outcome: &Outcome, latency: Duration, raw: Duration, disturbed: bool) {
        match outcome {
            Outcome::Approved(_) => self.approved += 1,
            Outcome::Rejected(why) => {
                *self.refused.entry(why.name()).or_default() += 1;
                self.refused_latency.saturating_record(nanos(latency));
            }
            Outcome::View(_) | Outcome::Busy | Outcome::OutOfSpace | Outcome::Unavailable => return,
        }
        self.raw.saturating_record(nanos(raw));
        self.took(latency, disturbed);
    }

    /// Counts a sale that was given up. Left out, a server that answers only what it can answer quickly would look good.
    pub fn abandoned(&mut self, after: Duration) {
        self.given_up += 1;
        self.unanswered_latency.saturating_record(nanos(after));
        self.took(after, false);
    }

    /// Counts a look at an account. One in vain has no latency: a server that is gone says no at once.
    pub fn looked(&mut self, answered: bool, latency: Duration) {
        if answered {
            self.reads.saturating_record(nanos(latency));
        } else {
            self.reads_failed += 1;
        }
    }

    /// Latencies of sales that were answered with a yes.
    #[must_use]
    pub fn approved_latency(&self) -> Histogram<u64> {
        let mut approved = self.latency.clone();
        for others in [&self.refused_latency, &self.unanswered_latency] {
            approved.subtract(others).expect("what is subtracted was added");
        }
        approved
    }

    /// Latencies of sales in whose time the machine was as fast as usual.
    #[must_use]
    pub fn undisturbed_latency(&self) -> Histogram<u64> {
        let mut undisturbed = self.latency.clone();
        undisturbed.subtract(&self.disturbed_latency).expect("what is subtracted was added");
        undisturbed
    }

    fn took(&mut self, latency: Duration, disturbed: bool) {
        self.latency.saturating_record(nanos(latency));
        if disturbed {
            self.disturbed_latency.saturating_record(nanos(latency));
        }
    }

    /// Adds what another has counted.
    pub fn add(&mut self, other: &Stats) {
        for (to, from) in [
            (&mut self.latency, &other.latency),
            (&mut self.raw, &other.raw),
            (&mut self.refused_latency, &other.refused_latency),
            (&mut self.unanswered_latency, &other.unanswered_latency),
            (&mut self.disturbed_latency, &other.disturbed_latency),
            (&mut self.reads, &other.reads),
        ] {
            to.add(from).expect("all have the same bounds");
        }
        self.speed.add(&other.speed);
        self.approved += other.approved;
        self.resent += other.resent;
        self.repeated += other.repeated;
        self.broken += other.broken;
        self.given_up += other.given_up;
        self.reads_failed += other.reads_failed;
        self.reads_missed += other.reads_missed;
        self.in_time += other.in_time;
        self.begun += other.begun;
        self.begun_late += other.begun_late;
        for (why, count) in &other.refused {
            *self.refused.entry(why).or_default() += count;
        }
        for (error, count) in &other.errors {
            *self.errors.entry(error.clone()).or_default() += count;
        }
    }

    /// How many sales were decided.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.approved + self.refused_in_all()
    }

    /// How many sales were refused, whatever the reason.
    #[must_use]
    pub fn refused_in_all(&self) -> u64 {
        self.refused.values().sum()
    }
}

fn nanos(latency: Duration) -> u64 {
    u64::try_from(latency.as_nanos()).unwrap_or(LONGEST_NS)
}

/// Where all tills count: what came since the last look, and what was planned within the measured time.
#[derive(Debug)]
pub(crate) struct Board {
    /// As many as there are processors: one for all would have threads wait for each other, and a till's own would take megabytes.
    seats: Vec<Mutex<Seat>>,
    /// What was planned within the measured time and has been looked at.
    total: Mutex<Stats>,
    /// When the machine itself was slow.
    pub(crate) last_slow: LastSlow,
    /// Packets lost on purpose.
    pub(crate) lost_packets: Arc<AtomicU64>,
    /// First connections that were lost with them and tried again.
    pub(crate) lost_handshakes: AtomicU64,
}

/// What some threads have counted since the last look. Each sale is counted once, here or there.
#[derive(Debug, Default)]
// No two in one line of a cache, nor in two that are fetched together.
#[repr(align(128))]
pub(crate) struct Seat {
    warm_up: Stats,
    measured: Stats,
}

impl Seat {
    /// Where to count what belongs to the measured time, or does not.
    pub(crate) fn of(&mut self, measured: bool) -> &mut Stats {
        if measured { &mut self.measured } else { &mut self.warm_up }
    }
}

impl Default for Board {
    fn default() -> Board {
        let seats = std::thread::available_parallelism().map_or(1, usize::from);
        let seats = (0..seats).map(|_| Mutex::default()).collect();
        Board {
            seats,
            total: Mutex::default(),
            last_slow: LastSlow::default(),
            lost_packets: Arc::default(),
            lost_handshakes: AtomicU64::default(),
        }
    }
}

impl Board {
    /// Where this thread counts: what it wrote last is still near its processor.
    pub(crate) fn seat(&self) -> MutexGuard<'_, Seat> {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static NUMBER: usize = THREADS.fetch_add(1, Ordering::Relaxed);
        }
        self.nth_seat(NUMBER.with(|number| *number))
    }

    /// Any of them.
    pub(crate) fn nth_seat(&self, n: usize) -> MutexGuard<'_, Seat> {
        let seat = self.seats.get(n % self.seats.len().max(1));
        lock(seat.expect("a remainder is below what it was divided by"))
    }

    /// What came since the last look.
    pub(crate) fn look(&self) -> Stats {
        let mut all = Stats::default();
        for seat in &self.seats {
            // Megabytes of zeros, before somebody waits for it.
            let empty = Seat::default();
            let Seat { warm_up, measured } = std::mem::replace(&mut *lock(seat), empty);
            all.add(&warm_up);
            all.add(&measured);
            lock(&self.total).add(&measured);
        }
        all
    }

    /// What was planned within the measured time.
    pub(crate) fn total(&self) -> Stats {
        let mut all = lock(&self.total).clone();
        for seat in &self.seats {
            all.add(&lock(seat).measured);
        }
        all
    }
}

fn lock<T>(counted: &Mutex<T>) -> MutexGuard<'_, T> {
    counted.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_seen_once_and_the_measured_is_kept() {
        let board = Board::default();
        let count = |seat, measured, times: u64| board.nth_seat(seat).of(measured).broken += times;
        count(0, false, 1);
        count(1, true, 10);
        assert_eq!((board.look().broken, board.total().broken), (11, 10));
        count(7, true, 100);
        assert_eq!(board.total().broken, 110, "also what nobody has looked at yet");
        assert_eq!((board.look().broken, board.look().broken, board.total().broken), (100, 0, 110));
    }

    #[test]
    fn latencies_are_told_apart_by_what_came_of_the_sale() {
        let mut stats = Stats::default();
        let yes = Outcome::Approved(frokost_engine::Receipt {
            lsn: frokost_engine::Lsn(1),
            balance: frokost_engine::Amount::ZERO,
        });
        let no = Outcome::Rejected(frokost_engine::Rejection::CardBlocked);
        let millis = Duration::from_millis;
        (0..10).for_each(|_| stats.decided(&yes, millis(5), millis(5), false));
        (0..4).for_each(|_| stats.decided(&no, millis(900), millis(900), false));
        stats.decided(&yes, millis(5), millis(5), true);
        stats.abandoned(millis(30_000));
        stats.looked(true, millis(7));
        stats.looked(false, millis(0));
        let undisturbed = stats.undisturbed_latency();
        // Who was given up is never left out.
        assert!(undisturbed.len() == 15 && undisturbed.max() / 1_000_000_000 >= 29, "{}", undisturbed.max());
        let approved = stats.approved_latency();
        assert_eq!((approved.len(), approved.max() / 1_000_000), (11, 5));
        assert_eq!((stats.refused_latency.len(), stats.unanswered_latency.len(), stats.latency.len()), (4, 1, 16));
        assert_eq!((stats.reads.len(), stats.reads_failed, stats.reads.max() / 1_000_000), (1, 1, 7));
    }
}
