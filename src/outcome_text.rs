//! What an answer means, in words a cashier can say at the counter: what is the matter, and what to do about it (quick guide, I).

use frokost_engine::{Outcome, Rejection};

use crate::cli::Lang;

/// An answer in one line.
pub(crate) fn explain(outcome: &Outcome, lang: Lang) -> String {
    let (danish, english) = match outcome {
        Outcome::Approved(receipt) => {
            (format!("Godkendt. Ny saldo {}", receipt.balance), format!("Approved. New balance {}", receipt.balance))
        }
        Outcome::Rejected(why) => return reason(*why, lang),
        Outcome::View(view) => (format!("Saldo {}", view.balance), format!("Balance {}", view.balance)),
        Outcome::Busy => ("Systemet har travlt. Prøv igen.".to_owned(), "The system is busy. Try again.".to_owned()),
        Outcome::OutOfSpace => (
            "Systemet kan ikke tage imod mere lige nu. Prøv igen om lidt.".to_owned(),
            "The server's disk is full; nothing was done. Try again when there is room.".to_owned(),
        ),
        Outcome::Unavailable => (
            "Intet svar endnu. Købet sendes igen; det tæller kun én gang.".to_owned(),
            "No answer yet. The sale is sent again; it counts once.".to_owned(),
        ),
    };
    if lang == Lang::Da { danish } else { english }
}

fn reason(why: Rejection, lang: Lang) -> String {
    let (danish, english) = match why {
        Rejection::UnknownCard => (
            "Ukendt eller udgået kort. Brug det nyeste kort; det gamle kan ikke bruges mere.".to_owned(),
            "Unknown or expired card. Use the newest card; the old one cannot be used any more.".to_owned(),
        ),
        Rejection::CardBlocked => (
            "Kortet er spærret. Forældrene kan aktivere det på portalen: Aktiver kort.".to_owned(),
            "The card is blocked. The parents can activate it on the portal.".to_owned(),
        ),
        Rejection::DailyLimit { remaining } => (
            format!("Maks forbrug i dag er nået – rest {remaining} Forældrene kan hæve det på portalen."),
            format!("Today's spending limit is reached - {remaining} left. The parents can raise it on the portal."),
        ),
        Rejection::LowBalance { missing } => (
            format!("Saldoen er for lav – mangler {missing} Forældrene kan indbetale på portalen."),
            format!("The balance is too low - {missing} missing. The parents can pay in on the portal."),
        ),
        Rejection::AmountTooLarge { most } => (
            format!("Beløbet er for stort. Det må højst være {most}"),
            format!("The amount is too large; at most {most}"),
        ),
        Rejection::AmountZero => {
            ("Beløbet er nul. Skriv et beløb.".to_owned(), "The amount is nothing. Enter an amount.".to_owned())
        }
        Rejection::AmountNegative => (
            "Beløbet er under nul. Skriv et beløb over nul.".to_owned(),
            "The amount is below zero. Enter one above zero.".to_owned(),
        ),
        Rejection::WrongCurrency => (
            "Beløbet er i en forkert valuta. Der kan kun bruges danske kroner.".to_owned(),
            "The amount is in the wrong currency; accounts are kept in Danish kroner.".to_owned(),
        ),
        Rejection::AccountClosed => {
            ("Kontoen er lukket.".to_owned(), "The account is closed. Money on it can be paid out.".to_owned())
        }
        Rejection::NotEmpty { balance } => (
            format!("Kontoen kan ikke lukkes: saldo {balance} Udbetal først, og vent på det, der er undervejs."),
            format!(
                "The account cannot be closed: balance {balance} Pay it out first, and wait for what is on its way."
            ),
        ),
        Rejection::UnknownPayout => {
            ("Udbetalingen findes ikke på kontoen.".to_owned(), "The account has no such pay-out.".to_owned())
        }
        Rejection::PayoutSettled => (
            "Udbetalingen er allerede gennemført eller afvist.".to_owned(),
            "The pay-out is settled already; nothing was changed.".to_owned(),
        ),
        Rejection::PayoutExists => (
            "Udbetalingens nummer er allerede brugt på kontoen.".to_owned(),
            "The account has a pay-out with this number already; nothing was taken again.".to_owned(),
        ),
        Rejection::SameAccount => (
            "Vælg to forskellige konti.".to_owned(),
            "Money moves between two accounts; choose another one.".to_owned(),
        ),
        Rejection::NoAgreement => (
            "Der er ingen automatisk optankning at annullere.".to_owned(),
            "There is no automatic top-up to cancel.".to_owned(),
        ),
        Rejection::UnknownAttempt => (
            "Der er ingen automatisk optankning i gang med det nummer.".to_owned(),
            "No such automatic charge is under way.".to_owned(),
        ),
        Rejection::UnknownAccount => ("Kontoen findes ikke.".to_owned(), "There is no such account.".to_owned()),
        Rejection::AccountExists => ("Kontoen findes allerede.".to_owned(), "The account exists already.".to_owned()),
        Rejection::CardTaken => (
            "Kortet hører til en anden konto.".to_owned(),
            "The card belongs to another account. Check the number, or issue another card.".to_owned(),
        ),
        Rejection::UnknownSale => (
            "Købet findes ikke på kontoen, eller det er mere end 14 dage gammelt.".to_owned(),
            "There is no such sale on the account, or it is more than 14 days old.".to_owned(),
        ),
        Rejection::RefundTooLarge { refundable } => (
            format!("Der kan højst gives {refundable} tilbage af dette køb."),
            format!("At most {refundable} of this sale can be given back."),
        ),
        Rejection::OrderCredited => (
            "Indbetalingen er allerede på kontoen.".to_owned(),
            "This payment is on the account already; it was not counted again.".to_owned(),
        ),
        Rejection::BalanceTooHigh { room } => (
            format!("Der kan højst indbetales {room} lige nu."),
            format!("At most {room} can be paid in now; an account holds 50,000 kr."),
        ),
        Rejection::KeyReused => (
            "Nummeret er brugt til et andet køb. Start kassen igen.".to_owned(),
            "This till has used the number for another sale. Restart the till; if it goes on, enrol it anew."
                .to_owned(),
        ),
        Rejection::KeyExpired => (
            "Købet er mere end et døgn gammelt og kan ikke sendes igen. Se kontoudtoget.".to_owned(),
            "The sale is more than a day old and cannot be sent again. Look at the statement.".to_owned(),
        ),
        Rejection::NotAllowed => {
            ("Det må denne kasse ikke.".to_owned(), "This caller's certificate does not allow that.".to_owned())
        }
        Rejection::OtherSchool => {
            ("Kortet hører til en anden skole.".to_owned(), "The card belongs to another school.".to_owned())
        }
    };
    if lang == Lang::Da { danish } else { english }
}

#[cfg(test)]
mod tests {
    use super::*;
    use frokost_engine::Amount;

    #[test]
    fn every_refusal_has_words_of_its_own_in_both_languages() {
        let all: Vec<Rejection> =
            (1..=27).filter_map(|code| Rejection::from_code(code, Amount::from_ore(250))).collect();
        assert_eq!(all.len(), 27);
        for lang in [Lang::Da, Lang::En] {
            let texts: std::collections::HashSet<String> = all.iter().map(|why| reason(*why, lang)).collect();
            assert_eq!(texts.len(), all.len());
        }
        let low = reason(Rejection::LowBalance { missing: Amount::from_ore(250) }, Lang::Da);
        assert!(low.starts_with("Saldoen er for lav – mangler 2,50 kr."), "{low}");
    }
}
