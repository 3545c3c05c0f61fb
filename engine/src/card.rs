//! The number printed on a card. It points at an account and can be replaced; it never owns anything.

use std::fmt;
use std::str::FromStr;

/// A card number: 4 to 16 digits or upper-case letters, kept in 16 bytes filled up with zeros.
/// An installation's settings may ask for more (14 characters by default, see the portal's settings).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CardNumber([u8; CardNumber::BYTES]);

impl CardNumber {
    /// Room for a number, on the wire and in the journal.
    pub const BYTES: usize = 16;

    /// The number as it is stored and sent: ASCII, filled up with zero bytes.
    #[must_use]
    pub const fn bytes(self) -> [u8; CardNumber::BYTES] {
        self.0
    }

    /// Reads a stored or received number.
    ///
    /// # Errors
    /// [`NotACardNumber`] for anything that [`CardNumber::bytes`] cannot have made.
    pub fn from_bytes(bytes: [u8; CardNumber::BYTES]) -> Result<CardNumber, NotACardNumber> {
        let length = bytes.iter().position(|b| *b == 0).unwrap_or(CardNumber::BYTES);
        let (number, filling) = bytes.split_at(length);
        let sound = length >= 4
            && number.iter().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase())
            && filling.iter().all(|b| *b == 0);
        if sound { Ok(CardNumber(bytes)) } else { Err(NotACardNumber) }
    }

    /// The characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let length = self.0.iter().position(|b| *b == 0).unwrap_or(CardNumber::BYTES);
        self.0.get(..length).and_then(|b| std::str::from_utf8(b).ok()).unwrap_or_default()
    }
}

impl fmt::Display for CardNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Shows only the last four characters, so that a number does not end up in a log by way of `{:?}`.
impl fmt::Debug for CardNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.as_str();
        write!(f, "CardNumber(..{})", text.get(text.len().saturating_sub(4)..).unwrap_or_default())
    }
}

/// Why a text is not a card number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a card number has 4 to 16 characters, digits and letters A-Z only")]
pub struct NotACardNumber;

impl FromStr for CardNumber {
    type Err = NotACardNumber;

    /// Accepts lower case, spaces and hyphens, as people type them (quick guide, item 9).
    fn from_str(text: &str) -> Result<CardNumber, NotACardNumber> {
        let mut bytes = [0; CardNumber::BYTES];
        let mut places = bytes.iter_mut();
        for c in text.chars().filter(|c| !c.is_whitespace() && *c != '-') {
            let upper = u8::try_from(c.to_ascii_uppercase()).map_err(|_| NotACardNumber)?;
            *places.next().ok_or(NotACardNumber)? = upper;
        }
        CardNumber::from_bytes(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_lower_case_and_spaces_and_stores_upper() {
        let card: CardNumber = "12 34abcd-5678 90".parse().unwrap();
        assert_eq!(card.as_str(), "1234ABCD567890");
        assert_eq!(CardNumber::from_bytes(card.bytes()), Ok(card));
        assert_eq!(format!("{card:?}"), "CardNumber(..7890)");
    }

    #[test]
    fn refuses_what_is_no_number() {
        for text in ["", "123", "12345678901234567", "1234Æ", "12?4", "1234\u{0}5"] {
            assert_eq!(text.parse::<CardNumber>(), Err(NotACardNumber), "{text:?}");
        }
        let mut holed = "12345678".parse::<CardNumber>().unwrap().bytes();
        holed[3] = 0;
        assert!(CardNumber::from_bytes(holed).is_err());
    }
}
