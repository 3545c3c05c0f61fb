//! What identifies a pupil besides the card: the CPR number, or, where a school has no legal ground to hold those, name and birth
//! date (quick guide, item 5). A setting of the installation; a pupil that was taken in with a CPR number is recognised by its date, too.

use std::fmt;
use std::str::FromStr;

use frokost_persistence::SealingKey;
use serde::Deserialize;

use crate::cpr::{Cpr, NotACpr, is_date};
use crate::words::Words;

/// Which of the two an installation uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdentifyBy {
    /// The CPR number.
    #[default]
    Cpr,
    /// The birth date; with the name where pupils have to be told apart.
    BirthDate,
}

/// A pupil's identifier.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Identifier {
    /// A CPR number.
    Cpr(Cpr),
    /// A birth date.
    BirthDate(BirthDate),
}

/// A day that can be a birthday: `ddmmyyyy`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct BirthDate(String);

/// Why a text is no identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAnIdentifier {
    /// No CPR number.
    #[error("the CPR number is wrong: {0}")]
    Cpr(#[from] NotACpr),
    /// No birth date.
    #[error("the birth date is wrong; write it as 31-01-2014")]
    BirthDate,
}

/// What the pages say of an identifier.
pub(crate) struct IdentifierWords {
    pub(crate) label: &'static str,
    pub(crate) hint: &'static str,
    pub(crate) proof_wrong: &'static str,
    pub(crate) relation_how: &'static str,
    pub(crate) relation_proof_wrong: &'static str,
}

impl IdentifyBy {
    /// Reads what was typed, or stands in a list.
    ///
    /// # Errors
    /// [`NotAnIdentifier`]; it never repeats the text.
    pub fn read(self, text: &str) -> Result<Identifier, NotAnIdentifier> {
        Ok(match self {
            IdentifyBy::Cpr => Identifier::Cpr(text.parse()?),
            IdentifyBy::BirthDate => Identifier::BirthDate(text.parse()?),
        })
    }

    pub(crate) fn words(self, w: &Words) -> IdentifierWords {
        match self {
            IdentifyBy::Cpr => IdentifierWords {
                label: w.cpr,
                hint: w.cpr_how,
                proof_wrong: w.proof_wrong,
                relation_how: w.relation_how,
                relation_proof_wrong: w.relation_proof_wrong,
            },
            IdentifyBy::BirthDate => IdentifierWords {
                label: w.birth_date,
                hint: w.birth_date_how,
                proof_wrong: w.proof_wrong_birth_date,
                relation_how: w.relation_how_birth_date,
                relation_proof_wrong: w.relation_proof_wrong_birth_date,
            },
        }
    }
}

impl NotAnIdentifier {
    pub(crate) fn words(self, w: &Words) -> &'static str {
        match self {
            NotAnIdentifier::Cpr(NotACpr::Length) => w.cpr_wrong_length,
            NotAnIdentifier::Cpr(NotACpr::Date) => w.cpr_wrong_date,
            NotAnIdentifier::BirthDate => w.birth_date_wrong,
        }
    }
}

impl Identifier {
    /// All of it, to be sealed. Not for pages, logs or URLs.
    #[must_use]
    pub fn plain(&self) -> &str {
        match self {
            Identifier::Cpr(cpr) => cpr.digits(),
            Identifier::BirthDate(date) => &date.0,
        }
    }

    /// From what was sealed.
    #[must_use]
    pub fn from_plain(plain: &str) -> Option<Identifier> {
        let by = if plain.len() == 8 { IdentifyBy::BirthDate } else { IdentifyBy::Cpr };
        by.read(plain).ok()
    }

    /// As it is shown: of a CPR number the date alone.
    #[must_use]
    pub fn shown(&self) -> String {
        match self {
            Identifier::Cpr(cpr) => cpr.masked(),
            Identifier::BirthDate(BirthDate(date)) => {
                let part = |range: std::ops::Range<usize>| date.get(range).unwrap_or_default();
                format!("{}-{}-{}", part(0..2), part(2..4), part(4..8))
            }
        }
    }

    /// The day the pupil was born.
    #[must_use]
    pub fn birth_date(&self) -> BirthDate {
        match self {
            Identifier::Cpr(cpr) => BirthDate(cpr.birth_date()),
            Identifier::BirthDate(date) => date.clone(),
        }
    }

    /// The keyed hash by which a list finds the pupil again: a CPR number is enough, a birthday is shared.
    #[must_use]
    pub fn lookup(&self, key: &SealingKey, school: u32, name: &str) -> String {
        match self {
            Identifier::Cpr(cpr) => key.lookup("cpr", cpr.digits()),
            Identifier::BirthDate(BirthDate(date)) => {
                key.lookup("birth-date", &format!("{school}/{date}/{}", name.to_lowercase()))
            }
        }
    }
}

impl BirthDate {
    /// Is it `ddmmyy`, whatever the century?
    #[must_use]
    pub fn is_short(&self, ddmmyy: &str) -> bool {
        let (day, year) = self.0.split_at_checked(4).unwrap_or_default();
        ddmmyy.split_at_checked(4) == Some((day, year.get(2..).unwrap_or_default()))
    }
}

/// Shows no digits.
impl fmt::Debug for BirthDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BirthDate(..)")
    }
}

impl FromStr for BirthDate {
    type Err = NotAnIdentifier;

    /// `31-01-2014`, with hyphens, dots, slashes or spaces or with nothing between.
    fn from_str(text: &str) -> Result<BirthDate, NotAnIdentifier> {
        let text = text.trim();
        let parts: Vec<&str> = text.split(['-', '.', '/', ' ']).collect();
        let digits = match parts[..] {
            [whole] if whole.len() == 8 => whole.to_owned(),
            [day, month, year] if year.len() == 4 => format!("{day:0>2}{month:0>2}{year}"),
            _ => return Err(NotAnIdentifier::BirthDate),
        };
        let number = |range: std::ops::Range<usize>| digits.get(range).and_then(|d| d.parse::<u32>().ok()).unwrap_or(0);
        let (day, month, year) = (number(0..2), number(2..4), number(4..8));
        let sound = digits.len() == 8
            && digits.bytes().all(|b| b.is_ascii_digit())
            && (1900..2100).contains(&year)
            && is_date(day, month, year);
        if sound { Ok(BirthDate(digits)) } else { Err(NotAnIdentifier::BirthDate) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_birth_date_is_read_as_people_write_it() {
        for text in ["01-02-2014", "1-2-2014", "1.2.2014", "01/02/2014", " 01022014 ", "1 2 2014"] {
            assert_eq!(text.parse::<BirthDate>().unwrap().0, "01022014", "{text}");
        }
        for text in [
            "",
            "31-02-2014",
            "2014-02-01",
            "01-02-14",
            "01-13-2014",
            "0102201",
            "010220145",
            "a1-02-2014",
            "+1-02-2014",
        ] {
            assert_eq!(text.parse::<BirthDate>(), Err(NotAnIdentifier::BirthDate), "{text}");
        }
        let date: BirthDate = "01-02-2014".parse().unwrap();
        assert!(
            date.is_short("010214") && !date.is_short("010215") && !date.is_short("020114") && !date.is_short("0102")
        );
        assert_eq!(format!("{:?}", "01022014".parse::<BirthDate>().unwrap()), "BirthDate(..)");
    }

    #[test]
    fn a_cpr_number_has_a_birth_date_and_both_are_found_again_from_what_was_sealed() {
        let cpr = IdentifyBy::Cpr.read("290204-5123").unwrap();
        assert_eq!(cpr.birth_date(), "29-02-2004".parse().unwrap());
        assert_eq!(cpr.shown(), "290204-XXXX");
        assert_eq!(Identifier::from_plain(cpr.plain()), Some(cpr));
        let date = IdentifyBy::BirthDate.read("1-2-2014").unwrap();
        assert_eq!(date.shown(), "01-02-2014");
        assert_eq!(Identifier::from_plain(date.plain()), Some(date));
        // 1899 and 1999 are told apart by the seventh digit.
        assert_eq!(IdentifyBy::Cpr.read("010199-5123").unwrap().birth_date().0, "01011899");
        assert_eq!(IdentifyBy::Cpr.read("010199-3123").unwrap().birth_date().0, "01011999");
    }

    #[test]
    fn a_birthday_that_is_shared_leads_to_the_pupil_of_that_name() {
        let folder = tempfile::tempdir().unwrap();
        let key = SealingKey::load_or_create(&folder.path().join("key")).unwrap();
        let date = IdentifyBy::BirthDate.read("1-2-2014").unwrap();
        let anna = date.lookup(&key, 1, "Anna Holm");
        assert_eq!(anna, date.lookup(&key, 1, "anna holm"));
        assert_ne!(anna, date.lookup(&key, 1, "Bo Holm"));
        assert_ne!(anna, date.lookup(&key, 2, "Anna Holm"));
    }
}
