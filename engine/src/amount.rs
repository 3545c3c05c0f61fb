//! Money: a whole number of øre. Kroner with decimals exist only where people read or write them, as
//! [`rust_decimal::Decimal`]; nothing here or anywhere else computes money in floating point.

use std::fmt;
use std::str::FromStr;

use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;

/// An amount in øre (1/100 krone). May be negative where a difference is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Amount(i64);

impl Amount {
    /// Nothing.
    pub const ZERO: Amount = Amount(0);

    /// From øre.
    #[must_use]
    pub const fn from_ore(ore: i64) -> Amount {
        Amount(ore)
    }

    /// From whole kroner. For constants: panics (at compile time there) beyond 92 quadrillion.
    #[must_use]
    pub const fn from_kroner(kroner: i64) -> Amount {
        match kroner.checked_mul(100) {
            Some(ore) => Amount(ore),
            None => panic!("more kroner than there are"),
        }
    }

    /// In øre.
    #[must_use]
    pub const fn ore(self) -> i64 {
        self.0
    }

    /// In kroner, exactly.
    #[must_use]
    pub fn kroner(self) -> Decimal {
        Decimal::new(self.0, 2)
    }

    /// The exact number of øre in `kroner`, or nothing if it has fractions of an øre or is out of range.
    #[must_use]
    pub fn from_decimal(kroner: Decimal) -> Option<Amount> {
        let ore = kroner.checked_mul(Decimal::ONE_HUNDRED)?;
        if ore.fract().is_zero() { ore.to_i64().map(Amount) } else { None }
    }

    /// The sum, or nothing on overflow.
    #[must_use]
    pub fn checked_add(self, other: Amount) -> Option<Amount> {
        self.0.checked_add(other.0).map(Amount)
    }

    /// The difference, or nothing on overflow.
    #[must_use]
    pub fn checked_sub(self, other: Amount) -> Option<Amount> {
        self.0.checked_sub(other.0).map(Amount)
    }

    /// The same amount the other way.
    #[must_use]
    pub fn checked_neg(self) -> Option<Amount> {
        self.0.checked_neg().map(Amount)
    }

    /// More than nothing?
    #[must_use]
    pub const fn is_positive(self) -> bool {
        self.0 > 0
    }

    /// With the given thousands and decimal separators and two decimals, without a currency: `1.234,50`.
    #[must_use]
    pub fn grouped(self, thousands: char, decimal: char) -> String {
        let sign = if self.0 < 0 { "-" } else { "" };
        let ore = self.0.unsigned_abs();
        let kroner = (ore / 100).to_string();
        let mut text = String::with_capacity(kroner.len() + kroner.len() / 3 + 4);
        text.push_str(sign);
        for (place, digit) in kroner.chars().enumerate() {
            if place > 0 && (kroner.len() - place).is_multiple_of(3) {
                text.push(thousands);
            }
            text.push(digit);
        }
        text.push(decimal);
        text.push_str(&format!("{:02}", ore % 100));
        text
    }
}

impl fmt::Display for Amount {
    /// The Danish way, as the quick guide shows it: `1.234,50 kr.`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} kr.", self.grouped('.', ','))
    }
}

/// Why a text is not an amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not an amount in kroner; write for instance 25 or 25,50")]
pub struct NotAnAmount(pub String);

impl FromStr for Amount {
    type Err = NotAnAmount;

    /// Kroner as people write them: `25`, `25,50`, `25.50`, `1.234,50`, with or without `kr.`. A single point
    /// followed by exactly three digits is a thousands separator, as everywhere in Denmark.
    fn from_str(text: &str) -> Result<Amount, NotAnAmount> {
        let wrong = || NotAnAmount(text.to_owned());
        let bare = text.trim();
        let bare = bare.strip_suffix("kr.").or_else(|| bare.strip_suffix("kr")).unwrap_or(bare).trim();
        let plain = match (bare.contains(','), bare.rsplit_once('.')) {
            (true, _) => {
                let (whole, fraction) = bare.split_once(',').ok_or_else(wrong)?;
                format!("{}.{fraction}", without_thousands(whole).ok_or_else(wrong)?)
            }
            (false, Some((_, end))) if end.len() == 3 => without_thousands(bare).ok_or_else(wrong)?,
            (false, _) => bare.to_owned(),
        };
        let sound = plain.strip_prefix('-').unwrap_or(&plain);
        if sound.is_empty()
            || !sound.starts_with(|c: char| c.is_ascii_digit())
            || sound.ends_with('.')
            || !sound.chars().all(|c| c.is_ascii_digit() || c == '.')
        {
            return Err(wrong());
        }
        Decimal::from_str_exact(&plain).ok().and_then(Amount::from_decimal).ok_or_else(wrong)
    }
}

/// `1.234` without its points, if they stand where thousands are parted.
fn without_thousands(whole: &str) -> Option<String> {
    let mut parts = whole.split('.');
    let first = parts.next()?;
    let mut plain = first.to_owned();
    let mut parted = false;
    for part in parts {
        if part.len() != 3 {
            return None;
        }
        parted = true;
        plain.push_str(part);
    }
    let first = first.trim_start_matches('-');
    // `0.500` is half a krone somewhere else, and five hundred nowhere.
    (!parted || ((1..=3).contains(&first.len()) && !first.starts_with('0'))).then_some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_people_write() {
        for (text, ore) in [
            ("25", 2500),
            ("25,5", 2550),
            ("25,50", 2550),
            ("25.50", 2550),
            ("1.234,50", 123_450),
            ("1.234", 123_400),
            ("0,05", 5),
            ("-3,00", -300),
            (" 12 kr. ", 1200),
        ] {
            assert_eq!(text.parse::<Amount>(), Ok(Amount::from_ore(ore)), "{text}");
        }
        for text in [
            "",
            "kr.",
            "1,234.50",
            "12,345",
            "1.23,00",
            "0.500",
            "-0.500",
            ".500",
            "012.500,00",
            "abc",
            "1e3",
            "--1",
            "1,",
            ",5",
            "99999999999999999999",
            "+5",
            "1_000",
        ] {
            assert!(text.parse::<Amount>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(ore in any::<i64>()) {
            let amount = Amount::from_ore(ore);
            prop_assert_eq!(amount.to_string().parse::<Amount>(), Ok(amount));
            prop_assert_eq!(Amount::from_decimal(amount.kroner()), Some(amount));
        }
    }
}
