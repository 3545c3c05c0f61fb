//! What parents type about themselves: is it in form, and do CPR number (or birth date) and card number belong together? Knowing both is
//! the proof that somebody may manage an account (quick guide, item 11). What is wrong with the proof is never said in parts.

use frokost_engine::{AccountId, CardNumber};

use crate::Portal;
use crate::error::PortalError;
use crate::identifier::{Identifier, NotAnIdentifier};
use crate::session::blocking;
use crate::words::Words;

/// What comes of an identifier and a card number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Typed {
    /// Both lead to this account.
    Proved(AccountId),
    /// They do not; which of the two is wrong is nobody's business.
    Wrong,
}

/// Do they lead to the same account? Both are looked up, whatever comes of the first.
pub(crate) async fn of_account(
    portal: &Portal,
    identifier: &Identifier,
    card: CardNumber,
) -> Result<Typed, PortalError> {
    // A card that was found is blocked by its family first of all: it proves nothing then.
    let by_card = portal.engine.card(card).await?.filter(|view| !view.blocked).map(|view| view.account);
    let by_identifier = match identifier {
        Identifier::Cpr(cpr) => {
            let (records, lookup) = (portal.setup.records.clone(), portal.setup.key.lookup("cpr", cpr.digits()));
            blocking(move || records.account_of_cpr(&lookup)).await?
        }
        // A birthday leads to nobody in particular: it is held against the pupil's whose card it is.
        Identifier::BirthDate(date) => {
            let kept = kept(portal, by_card.unwrap_or(AccountId(0)))?;
            by_card.filter(|_| kept.is_some_and(|kept| kept.birth_date() == *date))
        }
    };
    Ok(match (by_identifier, by_card) {
        (Some(account), Some(same)) if account == same => Typed::Proved(account),
        _ => Typed::Wrong,
    })
}

/// The identifier that is kept of an account's pupil.
pub(crate) fn kept(portal: &Portal, account: AccountId) -> Result<Option<Identifier>, PortalError> {
    let internal = |error: &dyn std::fmt::Display| PortalError::Internal(error.to_string());
    let pupil = portal.setup.records.pupil(account).map_err(|error| internal(&error))?;
    let Some(pupil) = pupil else { return Ok(None) };
    let place = format!("pupil/{}/cpr", account.0);
    let plain = portal.setup.key.open(&place, &pupil.cpr_sealed).map_err(|error| internal(&error))?;
    Ok(Identifier::from_plain(&plain))
}

/// What was typed as one, or what is wrong with it.
pub(crate) fn identifier(portal: &Portal, text: &str) -> Result<Identifier, NotAnIdentifier> {
    portal.setup.identify_by.read(text)
}

/// A card number as it is printed: spaces and lower case are mended, the length has to be right.
pub(crate) fn card(text: &str, length: usize) -> Option<CardNumber> {
    let number: CardNumber = text.parse().ok()?;
    (number.as_str().len() == length).then_some(number)
}

pub(crate) fn needed(text: &str, most: usize, w: &Words) -> Option<&'static str> {
    match text.trim() {
        "" => Some(w.field_missing),
        strange if strange.chars().any(char::is_control) => Some(w.field_strange),
        long if long.chars().count() > most => Some(w.field_too_long),
        _ => None,
    }
}

/// Of what goes to a bank; may be empty. Banks take letters of Europe's languages, digits and the usual signs.
pub(crate) fn for_the_bank(text: &str, most: usize, w: &Words) -> Option<&'static str> {
    match text.trim() {
        strange if strange.chars().any(|c| !is_for_a_bank(c)) => Some(w.field_strange),
        long if long.chars().count() > most => Some(w.field_too_long),
        _ => None,
    }
}

/// May a bank's file have it in a name or a message?
#[must_use]
pub fn is_for_a_bank(c: char) -> bool {
    /// The last of the Latin letters that one of the languages in Europe writes.
    const LAST_LATIN: char = '\u{24f}';
    c == ' ' || c.is_ascii_graphic() || (c.is_alphabetic() && c <= LAST_LATIN)
}

pub(crate) fn mail(text: &str, w: &Words) -> Option<&'static str> {
    let text = text.trim();
    let sound = text.len() <= 120
        && text.parse::<lettre::Address>().is_ok()
        && text.rsplit('@').next().is_some_and(|domain| domain.contains('.'));
    (!sound).then_some(w.mail_wrong)
}

pub(crate) fn postcode(text: &str, w: &Words) -> Option<&'static str> {
    let text = text.trim();
    (text.len() != 4 || !text.bytes().all(|b| b.is_ascii_digit())).then_some(w.postcode_wrong)
}

/// May be empty.
pub(crate) fn phone(text: &str, w: &Words) -> Option<&'static str> {
    let digits = text.chars().filter(char::is_ascii_digit).count();
    let others = text.trim_start().trim_start_matches('+').chars().any(|c| !c.is_ascii_digit() && c != ' ');
    (!text.trim().is_empty() && (others || !(8..=15).contains(&digits))).then_some(w.phone_wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::Language;

    #[test]
    fn what_is_typed_is_held_to_its_form() {
        let w = Language::Danish.words();
        for (text, sound) in
            [("mor@example.dk", true), (" mor@example.dk ", true), ("mor@example", false), ("mor", false), ("", false)]
        {
            assert_eq!(mail(text, w).is_none(), sound, "{text}");
        }
        for (text, sound) in [("5000", true), (" 5000 ", true), ("500", false), ("50000", false), ("5o00", false)] {
            assert_eq!(postcode(text, w).is_none(), sound, "{text}");
        }
        for (text, sound) in
            [("", true), ("12 34 56 78", true), ("+45 12345678", true), ("1234567", false), ("ring til mor", false)]
        {
            assert_eq!(phone(text, w).is_none(), sound, "{text}");
        }
        assert_eq!(card("abcd 5678 9012 34", 14).unwrap().as_str(), "ABCD5678901234");
        assert!(card("ABCD567890123", 14).is_none());
        assert_eq!(needed("  ", 5, w), Some(w.field_missing));
        assert_eq!(needed("to\nlinjer", 20, w), Some(w.field_strange));
        assert_eq!(needed("sildes", 5, w), Some(w.field_too_long));
        for (text, problem) in [
            ("", None),
            ("Søren Å. Müller-Šimić & Søn, 2. tv.", None),
            ("to\nlinjer", Some(w.field_strange)),
            ("hej \u{ffff}", Some(w.field_strange)),
            ("hej 🙂", Some(w.field_strange)),
            ("hej \u{202e}", Some(w.field_strange)),
            ("for langt, langt over femogtredive tegn", Some(w.field_too_long)),
        ] {
            assert_eq!(for_the_bank(text, 35, w), problem, "{text}");
        }
    }
}
