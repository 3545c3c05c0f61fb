//! Every word of the pages, in both languages. A word that is missing in one of them does not compile; the Danish terms are
//! those of the quick guide.

/// A language of the portal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    Danish,
    English,
}

impl Language {
    /// As in `lang=` and in the cookie.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Language::Danish => "da",
            Language::English => "en",
        }
    }

    /// The language with that code; Danish if there is none.
    pub(crate) fn from_code(code: &str) -> Language {
        if code == "en" { Language::English } else { Language::Danish }
    }

    pub(crate) fn words(self) -> &'static Words {
        match self {
            Language::Danish => &DANISH,
            Language::English => &ENGLISH,
        }
    }
}

macro_rules! words {
    ($($name:ident: $danish:literal, $english:literal;)*) => {
        /// The words of one language.
        pub(crate) struct Words {
            $(pub(crate) $name: &'static str,)*
        }

        static DANISH: Words = Words { $($name: $danish,)* };
        static ENGLISH: Words = Words { $($name: $english,)* };

        #[cfg(test)]
        const ALL: &[(&str, &str, &str)] = &[$((stringify!($name), $danish, $english),)*];
    };
}

words! {
    other_language: "English", "Dansk";
    other_language_code: "en", "da";
    skip: "Gå til indholdet", "Skip to content";
    log_in_with_mail: "Log på med E-mail", "Log in with e-mail";
    log_in: "Login", "Log in";
    log_out: "Log ud", "Log out";
    mail: "E-mail", "E-mail";
    password: "Adgangskode", "Password";
    wrong_login: "E-mail eller adgangskode er forkert. Prøv igen.", "The e-mail or the password is wrong. Try again.";
    welcome: "Velkommen til frokost", "Welcome to frokost";
    welcome_text: "Her ser du, hvad der er på dit barns kantinekort, og fylder det op.",
        "See what is on your child's canteen card, and top it up.";
    accounts: "Konti", "Accounts";
    account: "Konto", "Account";
    pay_in: "Indbetal", "Pay in";
    statement: "Kontoudtog", "Statement";
    menu: "Menu", "Menu";
    switch_account: "Skift konto", "Switch account";
    cpr: "CPR-nummer", "CPR number";
    balance: "Saldo", "Balance";
    card: "Madkort", "Canteen card";
    card_number: "Kortnummer", "Card number";
    no_card: "Intet kort", "No card";
    status: "Status", "Status";
    active: "Aktiv", "Active";
    blocked: "Spærret", "Blocked";
    block_card: "Spær kort", "Block card";
    activate_card: "Aktiver kort", "Activate card";
    block_explained: "Et spærret kort kan ikke bruges ved nogen kasse. Pengene bliver på kontoen.",
        "A blocked card cannot be used at any till. The money stays on the account.";
    school: "Skole", "School";
    month_empty: "Der er ingen posteringer i denne måned.", "There are no postings in this month.";
    no_postings: "Der er ingen posteringer endnu.", "There are no postings yet.";
    months: "Måneder", "Months";
    date: "Dato", "Date";
    text: "Tekst", "Text";
    amount: "Beløb", "Amount";
    balance_after: "Saldo efter", "Balance after";
    posting_purchase: "Køb, kasse", "Purchase, till";
    posting_refund: "Retur, kasse", "Refund, till";
    posting_top_up: "Indbetaling, ordre", "Payment, order";
    posting_by_hand: "Indbetaling på skolen", "Paid in at the school";
    posting_opening: "Overført saldo", "Balance brought forward";
    posting_automatic: "Automatisk optankning, ordre", "Automatic top-up, order";
    posting_transfer_out: "Overført til konto", "Transferred to account";
    posting_transfer_in: "Overført fra konto", "Transferred from account";
    posting_payout: "Udbetaling", "Pay-out";
    posting_payout_returned: "Udbetaling afvist og returneret", "Pay-out refused and returned";
    posting_correction: "Rettelse", "Correction";
    pay_in_for: "Konto for indbetaling", "Account to pay into";
    pay_in_amount: "Beløb der ønskes indbetalt, i hele kroner", "Amount to pay in, in whole kroner";
    pay_in_least: "Mindst", "At least";
    pay_in_cards: "Du kan bruge Dankort, MasterCard og Visa.", "You can use Dankort, MasterCard and Visa.";
    pay_in_holder: "Pengene opbevares af", "The money is held by";
    consent: "Jeg har læst og accepteret betalingsbetingelserne", "I have read and accept the terms of payment";
    terms: "Betalingsbetingelser", "Terms of payment";
    next: "Næste", "Next";
    amount_wrong: "Skriv beløbet i hele kroner, for eksempel 300.", "Write the amount in whole kroner, for instance 300.";
    amount_too_small: "Beløbet er for lille. Det mindste er", "The amount is too small. The least is";
    amount_too_large: "Beløbet er for stort. Lige nu kan der højst indbetales",
        "The amount is too large. At most this can be paid in now:";
    consent_missing: "Sæt kryds ved betalingsbetingelserne for at gå videre.", "Tick the terms of payment to go on.";
    again_question: "Vil du indbetale det samme beløb igen?", "Pay in the same amount again?";
    again_before: "Du indbetalte", "You paid in";
    again_at: "kl.", "at";
    again_yes: "Ja, indbetal igen", "Yes, pay in again";
    again_no: "Nej, gå tilbage", "No, go back";
    order: "Ordre", "Order";
    order_credited: "Betalingen er gennemført. Pengene er på kortet nu.", "The payment is done. The money is on the card now.";
    order_paid: "Betalingen er modtaget. Pengene er på kortet om et øjeblik.",
        "The payment has been received. The money will be on the card in a moment.";
    order_started: "Vi venter på svar fra betalingsvinduet. Er pengene trukket, kommer de på kortet af sig selv.",
        "We are waiting for the payment window. If the money was taken, it will be on the card by itself.";
    order_failed: "Betalingen blev ikke gennemført. Der er ikke trukket penge.",
        "The payment was not carried out. No money was taken.";
    order_failed_refused: "Kortet blev afvist af banken. Prøv et andet kort.", "The bank refused the card. Try another card.";
    order_failed_expired: "Betalingskortet er udløbet. Brug et andet kort.", "The payment card has expired. Use another card.";
    order_failed_cancelled: "Du afbrød betalingen.", "You cancelled the payment.";
    try_again: "Prøv igen", "Try again";
    to_account: "Til kontoen", "To the account";
    refresh: "Opdater", "Refresh";
    terms_text: "Indbetalte penge står på elevens kantinekort og kan bruges ved skolens kasser. Pengene tilhører jer og udbetales, når I beder om det. Køb kan ikke fortrydes, når maden er udleveret.",
        "Money paid in stands on the pupil's canteen card and can be used at the school's tills. It is yours and is paid out when you ask for it. A purchase cannot be undone once the food has been handed out.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_word_is_empty_or_left_in_danish() {
        // Words that are the same in both languages on purpose.
        let same = ["mail", "status", "menu"];
        for (name, danish, english) in ALL {
            assert!(!danish.trim().is_empty() && !english.trim().is_empty(), "{name}");
            assert!(danish != english || same.contains(name), "{name}: '{danish}' in both languages");
            assert!(!english.contains(['æ', 'ø', 'å', 'Æ', 'Ø', 'Å']), "{name}: '{english}'");
        }
    }
}
