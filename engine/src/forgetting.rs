//! When a key is old enough to be forgotten: a day after it was answered, by a clock that can be believed. One that was wrong when the machine
//! began, or has jumped, is not believed until it has gone on for an hour, so that whoever asks again meanwhile still hears the first answer.

use std::time::Duration;

use crate::time::Timestamp;

/// How long a clock has to have gone on without a jump.
const CALM: Duration = Duration::from_secs(60 * 60);
/// A clock that is put right little by little stays within this from one look to the next.
const JUMP: Duration = Duration::from_secs(60);

/// Which keys are old.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Old {
    /// Those that were answered before this.
    pub before: Timestamp,
    /// What is dated behind this was dated by a clock that was wrong.
    pub now: Timestamp,
}

/// Watches the clock, and says what is old.
#[derive(Debug, Default)]
pub struct Forgetting {
    /// What the clock said at the last look, and how long it had been running.
    last: Option<(Timestamp, Duration)>,
    /// Since when it goes on calmly.
    since: Duration,
    /// Where a clock was that was put forward, and when: what it had dated is not older for that.
    behind: Option<(Timestamp, Duration)>,
}

impl Forgetting {
    /// To be called now and then, with what the clock says and for how long it has been running. Nothing is old before an hour has passed.
    pub fn look(&mut self, now: Timestamp, running: Duration, memory_ms: u64) -> Old {
        let calm = self.last.is_some_and(|(then, ran)| {
            let (gone, passed) = (i128::from(now.0) - i128::from(then.0), running.saturating_sub(ran));
            gone.abs_diff(i128::try_from(passed.as_millis()).unwrap_or(i128::MAX)) <= JUMP.as_millis()
        });
        if !calm {
            if let Some((then, _)) = self.last {
                if now > then {
                    self.behind = Some((self.behind_now(running).unwrap_or(then), running));
                }
                tracing::warn!(from = %then.local(), to = %now.local(), "the clock has jumped; no key is forgotten for an hour");
            }
            self.since = running;
        }
        self.last = Some((now, running));
        if running.saturating_sub(self.since) < CALM {
            return Old::default();
        }
        let over = |(_, since): &(Timestamp, Duration)| running.saturating_sub(*since).as_millis() > memory_ms.into();
        if self.behind.as_ref().is_some_and(over) {
            self.behind = None;
        }
        let earliest = self.behind_now(running).map_or(now, |behind| behind.min(now));
        Old { before: Timestamp(earliest.0.saturating_sub(memory_ms)), now }
    }

    /// What a clock would say that was put forward, had it not been.
    fn behind_now(&self, running: Duration) -> Option<Timestamp> {
        let (then, since) = self.behind?;
        let passed = u64::try_from(running.saturating_sub(since).as_millis()).unwrap_or(u64::MAX);
        Some(Timestamp(then.0.saturating_add(passed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: u64 = 3_600_000;
    const DAY_MS: u64 = 24 * HOUR_MS;
    const BEGIN: u64 = 1_790_000_000_000;

    /// Looks each quarter of an hour, from `from` until before `to`, at a clock that is `off` by so much; the last that was said.
    fn look(forgetting: &mut Forgetting, from: u64, to: u64, off: i64) -> Old {
        let quarters = (from..to).step_by(900_000);
        let said = quarters.map(|ran| {
            forgetting.look(Timestamp((BEGIN + ran).saturating_add_signed(off)), Duration::from_millis(ran), DAY_MS)
        });
        said.last().unwrap()
    }

    #[test]
    fn a_calm_clock_is_believed_after_an_hour() {
        let mut forgetting = Forgetting::default();
        assert_eq!(look(&mut forgetting, 0, HOUR_MS, 0), Old::default());
        let now = Timestamp(BEGIN + HOUR_MS);
        assert_eq!(look(&mut forgetting, HOUR_MS, HOUR_MS + 1, 0), Old { before: Timestamp(now.0 - DAY_MS), now });
    }

    #[test]
    fn one_that_jumps_ahead_or_back_is_not_until_another_hour_has_passed() {
        for off in [2 * DAY_MS.cast_signed(), -2 * DAY_MS.cast_signed(), -(BEGIN.cast_signed())] {
            let mut forgetting = Forgetting::default();
            assert_ne!(look(&mut forgetting, 0, 2 * HOUR_MS, 0), Old::default());
            assert_eq!(look(&mut forgetting, 2 * HOUR_MS, 2 * HOUR_MS + 1, off), Old::default());
            // And back again before anybody believed it.
            assert_eq!(look(&mut forgetting, 2 * HOUR_MS + 900_000, 3 * HOUR_MS + 900_000, 0), Old::default());
            let believed = look(&mut forgetting, 3 * HOUR_MS + 900_000, 4 * HOUR_MS, 0);
            assert_ne!(believed, Old::default());
            assert!(believed.before.0 + DAY_MS <= believed.now.0);
        }
    }

    #[test]
    fn what_one_that_was_behind_has_dated_is_remembered_for_a_day() {
        let behind = -(3 * DAY_MS.cast_signed());
        let mut forgetting = Forgetting::default();
        look(&mut forgetting, 0, HOUR_MS / 2, behind);
        // Dated when the machine had begun three days back.
        let dated = Timestamp(BEGIN.saturating_add_signed(behind));
        for hour in 2..24 {
            let old = look(&mut forgetting, (hour - 1) * HOUR_MS, hour * HOUR_MS, 0);
            assert!(old.before <= dated, "forgotten after {hour} hours");
        }
        let old = look(&mut forgetting, 24 * HOUR_MS, 26 * HOUR_MS, 0);
        assert_eq!(old.before.0 + DAY_MS, old.now.0, "a day later the clock alone counts");
    }

    #[test]
    fn one_that_is_put_right_little_by_little_has_not_jumped() {
        let mut forgetting = Forgetting::default();
        let mut off = 0;
        for quarter in 0..8_u64 {
            off += 59_000;
            let old = look(&mut forgetting, quarter * 900_000, quarter * 900_000 + 1, off);
            assert_eq!(old != Old::default(), quarter >= 4, "{quarter}");
        }
    }
}
