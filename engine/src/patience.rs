//! How long a group waits for more before it is flushed. Pure: the committer tells it what happened and when.
//!
//! Whoever sells as fast as answers come splits, by itself, into two halves, of which one comes back while the other is
//! flushed. Where those who were answered are back in much less time than a flush takes, it is better to wait for the second half, too:
//! then every flush carries everybody. Where they take longer it is better to flush what there is, or a good part of it.

use std::time::Duration;

/// A flush costs as much processor as ten sales or more, whatever is in it. So while many sell a group waits a little for what is in flight.
/// Behind a group of fewer records it does not wait: then there is a processor to spare.
const MANY: usize = 8;
/// Nor while no more than so many requests are in flight: they come back in two halves, one while the other is flushed.
const FEW: usize = 16;
/// It waits for so much of what is in flight, in hundredths: what comes later is worked on while this is flushed.
const PART: usize = 40;
/// Nor for more than so many answers: what a flush costs does not matter any more.
const ENOUGH: usize = 160;
/// It waits so long, and again while something comes: what is in flight may be on its way to somewhere else.
const WAIT: Duration = Duration::from_micros(500);
const WAITS: usize = 3;

/// Everybody is waited for when so many flushes one after the other have found those back who had been answered before them,
const SURE: usize = 4;
/// and took so long each, since behind a flush of 0.15 ms nothing was won and behind one of 2 ms much; where between the two it begins is not known,
const LONG: Duration = Duration::from_micros(500);
/// for this part of a flush at most: then no more is lost than half of what is won where they come,
const OF_A_FLUSH: u32 = 2;
/// and for so long, since a disk that has stood still for seconds says nothing about the next flush,
const AT_MOST: Duration = Duration::from_millis(3);
/// not again for so many groups after it was in vain, and for twice as many each time until it has once been worth it for a while,
const PAUSE: usize = 64;
const LONGEST_PAUSE: usize = 4_096;
const A_WHILE: usize = 16;
/// and for so many groups before it is found out anew who there is.
const ANEW: usize = 256;

/// What a group waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wait {
    /// So many answers in all,
    pub(crate) answers: usize,
    /// and no longer than that.
    pub(crate) at_most: Duration,
}

/// A flush that has ended.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Flush {
    /// What was in it.
    pub(crate) records: usize,
    pub(crate) answers: usize,
    /// How many had queued for the next one when it ended.
    pub(crate) queued: usize,
    pub(crate) took: Duration,
    pub(crate) ended: Duration,
}

/// Knows how long to wait.
#[derive(Debug)]
pub(crate) struct Patience {
    last: Flush,
    /// Answers of the group before the last.
    before: usize,
    /// Flushes in a row that found back whoever had been answered before them.
    found_back: usize,
    /// Everybody, while it is worth waiting for them; and for how many groups still.
    everybody: Option<(usize, usize)>,
    /// So many groups until everybody may be waited for again, and how many after the next time in vain.
    rests: usize,
    pause: usize,
    /// How often this group has waited, and what was there then.
    waits: usize,
    there: usize,
}

impl Patience {
    pub(crate) fn new() -> Patience {
        let (last, pause) = (Flush::default(), PAUSE);
        Patience { last, before: 0, found_back: 0, everybody: None, rests: 0, pause, waits: 0, there: 0 }
    }

    /// A group is durable; a new one begins.
    pub(crate) fn flushed(&mut self, flush: Flush) {
        self.before = std::mem::replace(&mut self.last, flush).answers;
        (self.waits, self.there) = (0, 0);
        self.rests = self.rests.saturating_sub(1);
        match &mut self.everybody {
            Some((_, groups)) if *groups > 0 => {
                *groups -= 1;
                if ANEW - *groups == A_WHILE {
                    self.pause = PAUSE;
                }
            }
            _ => {
                self.everybody = None;
                let back = self.before > 0 && flush.answers > 0 && flush.queued >= self.before && flush.took >= LONG;
                self.found_back = if back { self.found_back + 1 } else { 0 };
                if self.found_back >= SURE && self.rests == 0 {
                    self.everybody = Some((flush.queued + flush.answers, ANEW));
                    self.found_back = 0;
                }
            }
        }
    }

    /// What a group that has so many answers waits for, if it is not to be flushed now.
    pub(crate) fn wait(&mut self, there: usize, in_flight: usize, now: Duration) -> Option<Wait> {
        match self.everybody {
            Some((all, _)) => self.wait_for_everybody(all, there, now),
            None => self.wait_for_a_part(there, in_flight),
        }
    }

    fn wait_for_everybody(&mut self, all: usize, there: usize, now: Duration) -> Option<Wait> {
        if there >= all {
            return None;
        }
        let part = (self.last.took / OF_A_FLUSH).min(AT_MOST);
        let at_most = (self.last.ended + part).saturating_sub(now).min(part);
        if at_most.is_zero() || self.waits == WAITS {
            self.everybody = None;
            // Where nobody has waited, since it was quiet, it was not in vain.
            if self.waits > 0 {
                self.rests = self.pause;
                self.pause = (2 * self.pause).min(LONGEST_PAUSE);
            }
            return None;
        }
        self.waits += 1;
        Some(Wait { answers: all, at_most })
    }

    fn wait_for_a_part(&mut self, there: usize, in_flight: usize) -> Option<Wait> {
        let answers = (in_flight * PART / 100).min(ENOUGH);
        let worth_it = in_flight > FEW && self.last.records >= MANY && self.waits < WAITS && there > self.there;
        if there >= answers || !worth_it {
            return None;
        }
        self.there = there;
        self.waits += 1;
        Some(Wait { answers, at_most: WAIT })
    }
}

#[cfg(all(test, not(frokost_loom)))]
mod tests {
    use super::*;

    const FLUSH: Duration = Duration::from_millis(2);

    /// So many who each ask again as soon as they are answered, one sale after the other being worked on for so long, for 5,000 flushes: how often
    /// they are answered, in thousandths of what two halves that take turns have.
    fn rush(patience: &mut Patience, flush: Duration, askers: u32, a_sale: Duration) -> u128 {
        let mut now = Duration::ZERO;
        let mut worked_until = now;
        let mut arrivals: Vec<Duration> = Vec::new();
        let mut ask = |arrivals: &mut Vec<Duration>, many: usize, now: Duration| {
            for _ in 0..many {
                worked_until = worked_until.max(now) + a_sale;
                arrivals.push(worked_until);
            }
        };
        ask(&mut arrivals, askers as usize, now);
        let mut answered = 0;
        while now < 5_000 * flush {
            now = now.max(arrivals.first().copied().expect("everybody has asked"));
            let there = loop {
                let there = arrivals.iter().filter(|at| **at <= now).count();
                match patience.wait(there, askers as usize, now) {
                    Some(wait) => {
                        let all = arrivals.get(wait.answers - 1).copied().unwrap_or(Duration::MAX);
                        now = (now + wait.at_most).min(all);
                    }
                    None => break there,
                }
            };
            arrivals.drain(..there);
            now += flush;
            let queued = arrivals.iter().filter(|at| **at <= now).count();
            patience.flushed(Flush { records: there, answers: there, queued, took: flush, ended: now });
            answered += there as u128;
            ask(&mut arrivals, there, now);
        }
        answered * 1_000 * 2 * flush.as_nanos() / (u128::from(askers) * now.as_nanos())
    }

    #[test]
    fn whoever_comes_back_quickly_is_waited_for() {
        for askers in [2, 16, 64, 400] {
            let won = rush(&mut Patience::new(), FLUSH, askers, FLUSH / 4 / askers);
            assert!(won > 1_500, "{askers} askers are answered {won} thousandths as often as in two halves");
        }
    }

    #[test]
    fn nobody_is_kept_waiting_on_a_quick_disk() {
        let mut patience = Patience::new();
        rush(&mut patience, LONG - Duration::from_micros(1), 16, Duration::from_nanos(300));
        assert_eq!((patience.everybody, patience.found_back), (None, 0));
        rush(&mut patience, LONG, 16, Duration::from_nanos(300));
        assert!(patience.everybody.is_some(), "{patience:?}");
    }

    #[test]
    fn whoever_comes_back_slowly_is_not_waited_for_again_and_again() {
        // In tenths of a flush: when all of them are back.
        for (askers, back) in [(2, 6), (2, 30), (16, 6), (16, 12), (64, 8), (64, 25), (64, 50)] {
            for flush in [FLUSH, LONG, Duration::from_micros(150)] {
                let a_sale = flush * back / 10 / askers;
                let with = rush(&mut Patience::new(), flush, askers, a_sale);
                let without = rush(&mut Patience { rests: usize::MAX, ..Patience::new() }, flush, askers, a_sale);
                assert!(with * 100 >= without * 97, "{askers}, {back} tenths of {flush:?}: {with}, {without}");
            }
        }
    }

    #[test]
    fn somebody_alone_is_never_kept_waiting() {
        let mut patience = Patience::new();
        for n in 0..10_000u32 {
            let now = 2 * FLUSH * n;
            assert_eq!(patience.wait(1, 1, now), None);
            patience.flushed(Flush { records: 1, answers: 1, queued: 0, took: FLUSH, ended: now + FLUSH });
        }
    }

    /// Everybody is waited for, 64 of them; half are there.
    fn used_to_everybody() -> Patience {
        let mut patience = Patience::new();
        rush(&mut patience, FLUSH, 64, Duration::from_nanos(300));
        patience
    }

    #[test]
    fn a_disk_that_stood_still_and_a_clock_that_does_hold_nobody_up_for_long() {
        let mut patience = used_to_everybody();
        let ended = patience.last.ended + Duration::from_secs(4);
        patience.flushed(Flush { records: 64, answers: 64, queued: 0, took: Duration::from_secs(4), ended });
        for _ in 0..WAITS {
            assert_eq!(patience.wait(63, 63, ended), Some(Wait { answers: 64, at_most: AT_MOST }));
        }
        assert_eq!(patience.wait(63, 63, ended), None);
    }

    #[test]
    fn a_quiet_moment_is_not_taken_for_a_wait_in_vain() {
        let mut patience = used_to_everybody();
        let later = patience.last.ended + Duration::from_secs(1);
        assert_eq!(patience.wait(1, 1, later), None);
        assert_eq!((patience.rests, patience.everybody), (0, None));
    }

    #[test]
    fn those_who_stay_away_are_waited_for_once() {
        let mut patience = used_to_everybody();
        let now = patience.last.ended;
        let Some(Wait { answers: 64, at_most }) = patience.wait(32, 32, now) else { panic!("{patience:?}") };
        assert_eq!(at_most, FLUSH / 2);
        assert_eq!(patience.wait(32, 32, now + at_most), None);
        for _ in 1..PAUSE {
            patience.flushed(Flush { records: 32, answers: 32, queued: 32, took: FLUSH, ended: now });
            assert_ne!(patience.wait(32, 32, now).map(|wait| wait.answers), Some(64));
        }
    }
}
