//! Where a caller's numbers begin. Whoever remembers none begins where the server's clock is, above whatever was used before. A clock that was
//! wrong then, or is now, makes that untrue: a number that was never sent is called used or forgotten, and numbers go on far ahead of it.

use frokost_engine::{Outcome, Rejection, Sequence, Timestamp};

/// How many years a clock may have been ahead, to be tried in turn.
pub const AHEAD_YEARS: [u64; 3] = [1, 10, 100];

const YEAR_MS: u64 = 366 * 24 * 60 * 60 * 1000;

/// The first number of who remembers none. The lower bits leave room for 65,536 requests a millisecond before two lives of a caller could meet.
#[must_use]
pub fn first(now: Timestamp) -> Sequence {
    Sequence(now.0 << 16)
}

/// A number so many years ahead.
#[must_use]
pub fn ahead(of: Sequence, years: u64) -> Sequence {
    Sequence(of.0.saturating_add((years * YEAR_MS) << 16))
}

/// Is this what a request hears whose number was used or forgotten before? Then it was not carried out, and one that was never sent before may be sent
/// again under another number.
#[must_use]
pub fn is_taken(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Rejected(Rejection::KeyExpired | Rejection::KeyReused))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_ahead_are_those_of_a_later_clock() {
        let now = Timestamp(1_790_000_000_000);
        for years in AHEAD_YEARS {
            let later = Timestamp(now.0 + years * YEAR_MS);
            assert_eq!(ahead(first(now), years), first(later));
        }
    }
}
