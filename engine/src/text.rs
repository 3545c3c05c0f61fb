//! What a command carries beside its body: for whom it is asked, in which currency, and a short text for the statement.

use std::fmt;
use std::str::FromStr;

use crate::id::PersonId;

/// A line for the statement, at most 48 bytes of UTF-8 without control characters: "2 sandwich, 1 mælk". It is
/// journalled, so it says what was sold and never who bought it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Text([u8; Text::BYTES]);

impl Text {
    /// Room for a text.
    pub const BYTES: usize = 48;
    /// No text.
    pub const EMPTY: Text = Text([0; Text::BYTES]);

    /// Reads a stored or received text: its bytes, without filling.
    ///
    /// # Errors
    /// [`NotAText`] for what cannot be one.
    pub fn from_bytes(bytes: &[u8]) -> Result<Text, NotAText> {
        std::str::from_utf8(bytes).map_err(|_| NotAText)?.parse()
    }

    /// The text as it is sent where every text has the same room: filled up with zero bytes.
    #[must_use]
    pub const fn bytes(self) -> [u8; Text::BYTES] {
        self.0
    }

    /// Reads [`Text::bytes`].
    ///
    /// # Errors
    /// [`NotAText`] for what they cannot be.
    pub fn from_filled(bytes: [u8; Text::BYTES]) -> Result<Text, NotAText> {
        let length = bytes.iter().position(|b| *b == 0).unwrap_or(Text::BYTES);
        let (text, filling) = bytes.split_at(length);
        if filling.iter().any(|b| *b != 0) {
            return Err(NotAText);
        }
        Text::from_bytes(text)
    }

    /// The characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let length = self.0.iter().position(|b| *b == 0).unwrap_or(Text::BYTES);
        self.0.get(..length).and_then(|b| std::str::from_utf8(b).ok()).unwrap_or_default()
    }

    /// Is there none?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.first() == Some(&0)
    }
}

impl Default for Text {
    fn default() -> Text {
        Text::EMPTY
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

/// Why something is not a text for a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a text on a statement has at most {} bytes and no control characters", Text::BYTES)]
pub struct NotAText;

impl FromStr for Text {
    type Err = NotAText;

    fn from_str(text: &str) -> Result<Text, NotAText> {
        if text.chars().any(char::is_control) {
            return Err(NotAText);
        }
        let mut bytes = [0; Text::BYTES];
        bytes.get_mut(..text.len()).ok_or(NotAText)?.copy_from_slice(text.as_bytes());
        Ok(Text(bytes))
    }
}

/// A currency by its ISO 4217 code.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Currency([u8; 3]);

impl Currency {
    /// Danish kroner.
    pub const DKK: Currency = Currency(*b"DKK");

    /// Its code.
    #[must_use]
    pub const fn bytes(self) -> [u8; 3] {
        self.0
    }

    /// The currency with that code, if it is three capital letters.
    #[must_use]
    pub fn from_bytes(code: [u8; 3]) -> Option<Currency> {
        code.iter().all(u8::is_ascii_uppercase).then_some(Currency(code))
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.0).unwrap_or_default())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a command carries beside its body. The default says nothing: nobody in particular, kroner, no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Details {
    /// Which person at the caller asked, as the caller knows them: a portal's login, a cashier. 0 where it does not say.
    pub by: PersonId,
    /// What the amounts are in.
    pub currency: Currency,
    /// For the statement.
    pub text: Text,
}

impl Default for Details {
    fn default() -> Details {
        Details { by: PersonId(0), currency: Currency::DKK, text: Text::EMPTY }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_short_and_printable() {
        let text: Text = "2 sandwich, 1 mælk".parse().unwrap();
        assert_eq!(text.as_str(), "2 sandwich, 1 mælk");
        assert_eq!(Text::from_bytes(text.as_str().as_bytes()), Ok(text));
        assert!("x".repeat(48).parse::<Text>().is_ok());
        for wrong in ["x".repeat(49), "a\nb".to_owned(), "a\u{0}".to_owned()] {
            assert_eq!(wrong.parse::<Text>(), Err(NotAText), "{wrong:?}");
        }
        assert_eq!(Text::from_bytes(&[0xff, 0xfe]), Err(NotAText));
        assert!(Text::EMPTY.is_empty() && Text::default().as_str().is_empty());
    }

    #[test]
    fn a_currency_is_three_capitals() {
        assert_eq!(Currency::from_bytes(*b"EUR").map(|c| c.to_string()), Some("EUR".to_owned()));
        assert_eq!(Currency::from_bytes(*b"eur"), None);
    }
}
