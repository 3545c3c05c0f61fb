//! CPR numbers: what makes one, and how it is shown. The check digit (modulus 11) is not looked at: since 2007 it does not
//! hold for everyone.

use std::fmt;
use std::str::FromStr;

/// A CPR number that can exist: ten digits, of which the first six are a date in the century the seventh names.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Cpr(String);

/// Why a text is no CPR number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotACpr {
    /// Not ten digits.
    #[error("a CPR number has ten digits")]
    Length,
    /// No such day.
    #[error("the first six digits are no date")]
    Date,
}

impl Cpr {
    /// The ten digits. Not for pages, logs or URLs.
    #[must_use]
    pub fn digits(&self) -> &str {
        &self.0
    }

    /// The date with its century: `ddmmyyyy`.
    pub(crate) fn birth_date(&self) -> String {
        let number = |range: std::ops::Range<usize>| self.0.get(range).and_then(|d| d.parse::<u32>().ok()).unwrap_or(0);
        let year = number(4..6);
        format!("{}{}", self.0.get(..4).unwrap_or_default(), century(year, number(6..7)) + year)
    }

    /// As it is shown: the date, the rest hidden.
    #[must_use]
    pub fn masked(&self) -> String {
        format!("{}-XXXX", self.0.get(..6).unwrap_or_default())
    }
}

/// Shows no digits.
impl fmt::Debug for Cpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cpr(..)")
    }
}

impl FromStr for Cpr {
    type Err = NotACpr;

    /// With or without the hyphen, and with spaces.
    fn from_str(text: &str) -> Result<Cpr, NotACpr> {
        let digits: String = text.chars().filter(|c| !c.is_whitespace() && *c != '-').collect();
        if digits.len() != 10 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(NotACpr::Length);
        }
        let number = |range: std::ops::Range<usize>| digits.get(range).and_then(|d| d.parse::<u32>().ok()).unwrap_or(0);
        let (day, month, year, seventh) = (number(0..2), number(2..4), number(4..6), number(6..7));
        let year = century(year, seventh) + year;
        if is_date(day, month, year) { Ok(Cpr(digits)) } else { Err(NotACpr::Date) }
    }
}

/// Is there such a day?
pub(crate) fn is_date(day: u32, month: u32, year: u32) -> bool {
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        _ => 0,
    };
    (1..=days).contains(&day)
}

/// The century that the seventh digit names, by the CPR office's table.
fn century(year: u32, seventh: u32) -> u32 {
    match (seventh, year) {
        (4 | 9, 0..=36) | (5..=8, 0..=57) => 2000,
        (5..=8, _) => 1800,
        _ => 1900,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpr_number_is_a_date_and_four_digits() {
        let cpr: Cpr = "290204-5123".parse().unwrap();
        assert_eq!(cpr.masked(), "290204-XXXX");
        assert_eq!(format!("{cpr:?}"), "Cpr(..)");
        // 2004 is a leap year, 1900 is not.
        for (text, expected) in [
            ("2902045123", Ok(())),
            ("290200 5123", Ok(())),
            ("2902001123", Err(NotACpr::Date)),
            ("3104105123", Err(NotACpr::Date)),
            ("0113105123", Err(NotACpr::Date)),
            ("0000105123", Err(NotACpr::Date)),
            ("010110512", Err(NotACpr::Length)),
            ("01011051234", Err(NotACpr::Length)),
            ("01011O5123", Err(NotACpr::Length)),
        ] {
            assert_eq!(text.parse::<Cpr>().map(drop), expected, "{text}");
        }
    }
}
