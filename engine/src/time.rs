//! Moments and Copenhagen days. The engine never asks what time it is: it is told, through [`Clock`].

use std::cell::Cell;
use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::TimeZone;

static COPENHAGEN: TimeZone = jiff::tz::get!("Europe/Copenhagen");

/// A moment: milliseconds since 1970-01-01T00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Milliseconds since `earlier`, 0 if that is later.
    #[must_use]
    pub fn millis_since(self, earlier: Timestamp) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The moment on Copenhagen's clocks. Moments after the year 9999 are shown as its end.
    #[must_use]
    pub fn local(self) -> jiff::Zoned {
        let millis = i64::try_from(self.0).unwrap_or(i64::MAX);
        jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX).to_zoned(COPENHAGEN.clone())
    }

    /// The calendar day in Copenhagen, on which a daily limit is counted (quick guide, item 28).
    #[must_use]
    pub fn day(self) -> Day {
        let date = self.date();
        Day(i32::from(date.year()) * 10_000 + i32::from(date.month()) * 100 + i32::from(date.day()))
    }

    /// The calendar month in Copenhagen, by which statements are grouped.
    #[must_use]
    pub fn month(self) -> Month {
        let date = self.date();
        Month { year: date.year(), month: date.month() }
    }

    /// Mostly that of a moment ago: each thread keeps one, with when it begins and ends.
    fn date(self) -> Date {
        thread_local! {
            static LAST: Cell<(Timestamp, Timestamp, Date)> = const { Cell::new((Timestamp(0), Timestamp(0), Date::ZERO)) };
        }
        let (begins, ends, date) = LAST.get();
        if begins <= self && self < ends {
            return date;
        }
        let local = self.local();
        let bounds = (local.start_of_day(), local.tomorrow().and_then(|tomorrow| tomorrow.start_of_day()));
        if let (Ok(begins), Ok(ends)) = bounds {
            let moment = |at: &jiff::Zoned| Timestamp(u64::try_from(at.timestamp().as_millisecond()).unwrap_or(0));
            LAST.set((moment(&begins), moment(&ends), local.date()));
        }
        local.date()
    }
}

/// A calendar day, as the number `yyyymmdd`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Day(pub i32);

/// A calendar month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Month {
    /// The year, 1 to 9999.
    pub year: i16,
    /// The month, 1 to 12.
    pub month: i8,
}

impl Month {
    /// Its number `yyyymm`, for keys and the wire.
    #[must_use]
    pub fn number(self) -> u32 {
        let year = u32::try_from(self.year).unwrap_or(0);
        year * 100 + u32::try_from(self.month).unwrap_or(0)
    }

    /// The month with that number, if there is one.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Month> {
        let year = i16::try_from(number / 100).ok()?;
        let month = i8::try_from(number % 100).ok()?;
        ((1..=9999).contains(&year) && (1..=12).contains(&month)).then_some(Month { year, month })
    }
}

/// What tells the time. The program hands in the system's; tests hand in one that jumps.
pub trait Clock: Send + Sync + 'static {
    /// Now. May go backwards or jump: limits and texts rest on it, and which keys are old only when it has gone on calmly (`forgetting.rs`).
    fn now(&self) -> Timestamp;

    /// How long it has been running: for measuring how long something takes, a flush of the disk, say, so in much less than milliseconds
    /// where speed matters. Never goes backwards: a clock that may jump has to tell this otherwise.
    fn running(&self) -> Duration {
        Duration::from_millis(self.now().0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        let moment: jiff::Timestamp = text.parse().unwrap();
        Timestamp(u64::try_from(moment.as_millisecond()).unwrap())
    }

    #[test]
    fn a_day_is_copenhagens_also_when_it_has_23_or_25_hours() {
        // 2026-03-29 has 23 hours, 2026-10-25 has 25.
        assert_eq!(at("2026-03-28T22:59:59Z").day(), Day(20_260_328));
        assert_eq!(at("2026-03-28T23:00:00Z").day(), Day(20_260_329));
        assert_eq!(at("2026-03-29T21:59:59Z").day(), Day(20_260_329));
        assert_eq!(at("2026-03-29T22:00:00Z").day(), Day(20_260_330));
        assert_eq!(at("2026-10-24T22:00:00Z").day(), Day(20_261_025));
        assert_eq!(at("2026-10-25T22:59:59Z").day(), Day(20_261_025));
        assert_eq!(at("2026-10-25T23:00:00Z").day(), Day(20_261_026));
        assert_eq!(at("2025-12-31T23:30:00Z").month(), Month { year: 2026, month: 1 });
    }

    /// In whatever order they are asked for, across midnights, months and both changes of the clocks.
    #[test]
    fn the_day_of_before_is_not_taken_for_another() {
        let begins = [at("2026-03-27T21:00:00Z"), at("2026-10-23T21:00:00Z"), at("2025-12-30T21:00:00Z")];
        let mut moments: Vec<Timestamp> = begins
            .into_iter()
            .flat_map(|begin| (0..4 * 24 * 12).map(move |n| Timestamp(begin.0 + n * 300_000)))
            .flat_map(|moment| [Timestamp(moment.0 - 1), moment])
            .chain([Timestamp(0), Timestamp(u64::MAX)])
            .collect();
        fastrand::Rng::with_seed(7).shuffle(&mut moments);
        let sorted = {
            let mut sorted = moments.clone();
            sorted.sort_unstable();
            sorted
        };
        for moment in moments.into_iter().chain(sorted) {
            assert_eq!(moment.date(), moment.local().date(), "{moment:?}");
        }
    }

    #[test]
    fn months_have_numbers() {
        let july = Month { year: 2023, month: 7 };
        assert_eq!(july.number(), 202_307);
        assert_eq!(Month::from_number(202_307), Some(july));
        assert_eq!(Month::from_number(202_313), None);
        assert_eq!(Month::from_number(7), None);
    }
}
