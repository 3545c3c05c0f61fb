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
    ($kind:ident, $danish_words:ident, $english_words:ident, $all:ident: $($name:ident: $danish:literal, $english:literal;)*) => {
        /// The words of one language.
        pub(crate) struct $kind {
            $(pub(crate) $name: &'static str,)*
        }

        static $danish_words: $kind = $kind { $($name: $danish,)* };
        static $english_words: $kind = $kind { $($name: $english,)* };

        #[cfg(test)]
        const $all: &[(&str, &str, &str)] = &[$((stringify!($name), $danish, $english),)*];
    };
}

/// The words of mails.
pub(crate) fn letters(language: Language) -> &'static Letters {
    match language {
        Language::Danish => &DANISH_LETTERS,
        Language::English => &ENGLISH_LETTERS,
    }
}

impl Words {
    /// Why an automatic top-up failed, from the provider's word for it, and what to do.
    pub(crate) fn trouble(&self, why: &str) -> &'static str {
        match why {
            "expired" => self.auto_trouble_expired,
            "no_cover" => self.auto_trouble_no_cover,
            "blocked" => self.auto_trouble_blocked,
            "canteen_card_blocked" => self.auto_trouble_canteen,
            _ => self.auto_trouble_refused,
        }
    }
}

words! { Words, DANISH, ENGLISH, ALL:
    other_language: "English", "Dansk";
    other_language_code: "en", "da";
    skip: "Gå til indholdet", "Skip to content";
    log_in_with_mail: "Log på med E-mail", "Log in with e-mail";
    log_in: "Login", "Log in";
    log_out: "Log ud", "Log out";
    mail: "E-mail", "E-mail";
    password: "Adgangskode", "Password";
    wrong_login: "E-mail eller adgangskode er forkert. Prøv igen.", "The e-mail or the password is wrong. Try again.";
    interrupted: "Du er blevet logget ud, så det, du sendte, er ikke nået frem. Der er ikke sket noget. Log på igen, så kan du sende det.",
        "You have been logged out, so what you sent has not arrived. Nothing has happened. Log in again, and you can send it.";
    resume_about: "Det her blev ikke sendt, fordi du var logget ud. Der er ikke sket noget endnu. Se efter, og send det nu.",
        "This was not sent, since you were logged out. Nothing has happened yet. Look it over, and send it now.";
    resume_send: "Send nu", "Send now";
    resume_leave: "Nej, lad være", "No, leave it";
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
    posting_purchase: "Køb,", "Purchase,";
    posting_refund: "Retur,", "Refund,";
    posting_till: "kasse", "till";
    posting_top_up: "Indbetaling, ordre", "Payment, order";
    posting_by_hand: "Indbetaling på skolen", "Paid in at the school";
    posting_opening: "Overført saldo", "Balance brought forward";
    posting_automatic: "Automatisk optankning, ordre", "Automatic top-up, order";
    posting_transfer_out: "Overført til", "Transferred to";
    posting_transfer_in: "Overført fra", "Transferred from";
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
    transfer_question: "Vil du overføre det samme beløb igen?", "Transfer the same amount again?";
    transfer_before: "Du overførte", "You transferred";
    transfer_yes: "Ja, overfør igen", "Yes, transfer again";
    again_no: "Nej, gå tilbage", "No, go back";
    order: "Ordre", "Order";
    order_credited: "Betalingen er gennemført. Pengene er på kortet nu.", "The payment is done. The money is on the card now.";
    order_paid: "Betalingen er modtaget. Pengene er på kortet om et øjeblik.",
        "The payment has been received. The money will be on the card in a moment.";
    order_started: "Vi venter på svar fra betalingsvinduet. Er pengene trukket, kommer de på kortet af sig selv.",
        "We are waiting for the payment window. If the money was taken, it will be on the card by itself.";
    order_returning: "Betalingen er modtaget, men kontoen kan ikke tage imod den. Pengene føres tilbage til betalingskortet.",
        "The payment has come in, but the account cannot take it. The money goes back to the payment card.";
    order_returned: "Kontoen kunne ikke tage imod betalingen. Pengene er ført tilbage til betalingskortet.",
        "The account could not take the payment. The money has gone back to the payment card.";
    order_failed: "Betalingen blev ikke gennemført. Der er ikke trukket penge.",
        "The payment was not carried out. No money was taken.";
    order_failed_refused: "Kortet blev afvist af banken. Prøv et andet kort.", "The bank refused the card. Try another card.";
    order_failed_expired: "Betalingskortet er udløbet. Brug et andet kort.", "The payment card has expired. Use another card.";
    order_failed_no_cover: "Der er ikke dækning på betalingskortet. Prøv et andet kort.", "The payment card has no cover. Try another card.";
    order_failed_cancelled: "Du afbrød betalingen.", "You cancelled the payment.";
    try_again: "Prøv igen", "Try again";
    to_account: "Til kontoen", "To the account";
    refresh: "Opdater", "Refresh";
    terms_text: "Indbetalte penge står på elevens kantinekort og kan bruges ved skolens kasser. Pengene tilhører jer og udbetales, når I beder om det. Køb kan ikke fortrydes, når maden er udleveret.",
        "Money paid in stands on the pupil's canteen card and can be used at the school's tills. It is yours and is paid out when you ask for it. A purchase cannot be undone once the food has been handed out.";
    sign_up: "Opret", "Sign up";
    sign_up_title: "Opret konto", "Sign up";
    sign_up_about: "Skriv oplysningerne om den elev, der skal bruge kortet. En e-mail kan bruges til én konto; flere børn tilføjes bagefter under Tilknytninger.",
        "Write about the pupil who will use the card. One e-mail is for one account; further children are added afterwards under Relations.";
    pupil_name: "Elevens navn", "The pupil's name";
    address: "Adresse", "Address";
    postcode: "Postnummer", "Postal code";
    city: "By", "Town";
    phone: "Tlf.", "Telephone";
    optional: "valgfrit", "optional";
    card_number_where: "Kortnummer findes trykt på kortet. Store og små bogstaver og mellemrum er lige meget.",
        "The card number is printed on the card. Upper or lower case and spaces do not matter.";
    birth_date: "Fødselsdato", "Birth date";
    birth_date_how: "Dag, måned og år, for eksempel 31-01-2014", "Day, month and year, for instance 31-01-2014";
    birth_date_wrong: "Skriv fødselsdatoen som 31-01-2014.", "Write the birth date as 31-01-2014.";
    cpr_how: "Ti cifre, med eller uden bindestreg", "Ten digits, with or without a hyphen";
    cpr_wrong_length: "Et CPR-nummer har ti cifre.", "A CPR number has ten digits.";
    cpr_wrong_date: "De første seks cifre er ikke en dato. Se efter på sundhedskortet.",
        "The first six digits are no date. Look at the health card.";
    field_missing: "Skal udfyldes.", "This is needed.";
    field_too_long: "Det er for langt.", "This is too long.";
    field_strange: "Skriv det på én linje, uden særlige tegn.", "Write it on one line, without special characters.";
    mail_wrong: "Det ligner ikke en e-mailadresse.", "This does not look like an e-mail address.";
    postcode_wrong: "Et postnummer har fire cifre.", "A postal code has four digits.";
    phone_wrong: "Et telefonnummer har otte cifre, eventuelt med + og landekode.",
        "A telephone number has eight digits, perhaps with + and a country code.";
    card_wrong: "Ugyldigt Kortnummer. Se efter på kortet.", "Invalid card number. Look at the card.";
    card_taken: "Kortet hører til en anden konto. Spørg skolens sekretær.", "The card belongs to another account. Ask the school's secretary.";
    proof_wrong_birth_date: "Kortnummer og fødselsdato passer ikke sammen, kortet er ukendt, eller kontoen har allerede en bruger. Se efter på kortet, eller spørg skolens sekretær.",
        "Card number and birth date do not match, the card is unknown, or the account has a user already. Look at the card, or ask the school's secretary.";
    proof_wrong: "Kortnummer og CPR-nummer passer ikke sammen, kortet er ukendt, eller kontoen har allerede en bruger. Se efter på kortet, eller spørg skolens sekretær.",
        "Card number and CPR number do not match, the card is unknown, or the account has a user already. Look at the card, or ask the school's secretary.";
    too_many: "Der er prøvet for mange gange. Vent lidt, og prøv igen.", "That was tried too often. Wait a little, and try again.";
    activation: "Aktivering", "Activation";
    activation_sent: "Vi har sendt en mail til", "We have sent a mail to";
    activation_about: "Skriv aktiveringskoden fra mailen, og vælg en adgangskode. Du kan lukke siden og fortsætte fra mailen senere. Kommer der ingen mail, så kig i Junk-mail.",
        "Type the activation code from the mail, and choose a password. You can close this page and go on from the mail later. If no mail comes, look among junk mail.";
    activation_code: "Aktiveringskode", "Activation code";
    activation_wrong: "Koden passer ikke. Du kan få en ny.", "The code does not fit. You can have a new one.";
    activation_over: "Aktiveringen er udløbet, eller der er prøvet for mange gange. Begynd forfra med Opret.",
        "The activation has expired, or was tried too often. Begin again with Sign up.";
    activate: "Aktiver", "Activate";
    send_again: "Send koden igen", "Send the code again";
    account_made: "Konto oprettet", "Account made";
    new_password: "Ny adgangskode", "New password";
    new_password_again: "Gentag adgangskode", "Repeat the password";
    password_rules: "Mindst 10 tegn. Flere ord er bedre end tal og tegn.", "At least 10 characters. Several words are better than digits and signs.";
    password_short: "Adgangskoden skal have mindst 10 tegn.", "The password needs at least 10 characters.";
    password_weak: "Adgangskoden er for let at gætte. Tag flere ord, der ikke hører sammen.",
        "The password is too easy to guess. Take several words that do not belong together.";
    password_differs: "De to adgangskoder er ikke ens.", "The two passwords are not the same.";
    password_now: "Din adgangskode", "Your password";
    password_not_yours: "Adgangskoden er forkert.", "The password is wrong.";
    forgotten: "Glemt adgangskode", "Forgotten password";
    forgotten_about: "Skriv den e-mail, du logger på med. Så får du en mail med et link.", "Type the e-mail you log in with. You get a mail with a link.";
    reset: "Nulstil", "Reset";
    forgotten_sent: "Er e-mailen kendt her, er der nu en mail på vej med titlen Nulstil adgangskode. Kig også i Junk-mail. Kommer der ingen inden for en halv time, så kontakt skolen.",
        "If the e-mail is known here, a mail titled Reset password is on its way. Look among junk mail, too. If none comes within half an hour, ask the school.";
    save_password: "Gem adgangskode", "Save password";
    password_saved: "Adgangskoden er gemt. Log på med den nye.", "The password is saved. Log in with the new one.";
    link_over: "Linket er brugt eller udløbet. Bed om et nyt.", "The link has been used or has expired. Ask for a new one.";
    relations: "Tilknytninger", "Relations";
    relations_about: "Administrer flere konti med samme login.", "Manage several accounts with one login.";
    relation_new: "Ny tilknytning", "New relation";
    relations_now: "Nuværende tilknytninger", "Present relations";
    relation_how_birth_date: "Angiv fødselsdato og kortnummer for den bruger, du ønsker at tilføje en tilknytning til.",
        "Type the birth date and card number of the user you want to add.";
    relation_how: "Angiv CPR-nummer og kortnummer for den bruger, du ønsker at tilføje en tilknytning til.",
        "Type the CPR number and card number of the user you want to add.";
    add: "Tilføj", "Add";
    allow: "Godkend tilladelse", "Approve permission";
    allowed: "Godkendt tilladelse", "Permission approved";
    waits_for_word: "Venter på din godkendelse", "Waits for your approval";
    relation_delete: "Slet tilknytning", "Delete relation";
    relation_own: "Din egen konto", "Your own account";
    relation_proof_over: "Det er for længe siden, eller kortet er spærret eller skiftet siden. Slet tilknytningen, og tilføj den igen.",
        "It is too long ago, or the card was blocked or replaced since. Delete the relation, and add it again.";
    too_new_here: "Du har lige fået adgang til kontoen. Det første døgn kan dens penge ikke flyttes, så de andre, der har kontoen, kan nå at sige fra.",
        "You have just been given the account. For the first day its money cannot be moved, so that the others who have it can say no.";
    relation_known: "Kontoen er allerede tilknyttet.", "The account is related already.";
    relation_proof_wrong_birth_date: "Fødselsdato og kortnummer passer ikke sammen. Se efter på kortet.", "Birth date and card number do not match. Look at the card.";
    relation_proof_wrong: "CPR-nummer og kortnummer passer ikke sammen. Se efter på kortet.", "CPR number and card number do not match. Look at the card.";
    relation_revoked: "Tilknytningen er fjernet. Pengene er, hvor de var.", "The relation is removed. The money is where it was.";
    revoke_about: "Fjern tilknytningen for", "Remove the relation of";
    details: "Brugeroplysninger", "User details";
    user_info: "Brugerinfo", "User info";
    user: "Bruger", "User";
    name: "Navn", "Name";
    save: "Gem", "Save";
    saved: "Gemt.", "Saved.";
    max_spending_daily: "Maks forbrug – Dagligt", "Spending limit – Daily";
    max_spending_about: "Det meste, der kan købes for på en dag. Tomt betyder ingen grænse.", "The most that can be bought for on a day. Empty means no limit.";
    limit_wrong: "Skriv et beløb i kroner, for eksempel 40 eller 40,50, eller lad feltet være tomt.",
        "Write an amount in kroner, for instance 40 or 40.50, or leave it empty.";
    my_cards: "Mine kort", "My cards";
    new_card_about: "Har du fået et nyt kort på skolen, så skriv dets nummer her. Det gamle kort kan ikke bruges mere, og saldoen følger med.",
        "If you got a new card at the school, type its number here. The old card cannot be used any more, and the balance comes along.";
    picture: "Billede", "Picture";
    picture_about: "Et billede af eleven, så kassen kan se, at kortet er i de rette hænder. JPEG eller PNG, højst 5 MB.",
        "A picture of the pupil, so that the till can see that the card is in the right hands. JPEG or PNG, at most 5 MB.";
    picture_wrong: "Billedet kan ikke læses. Brug JPEG eller PNG på højst 5 MB.", "The picture cannot be read. Use JPEG or PNG of at most 5 MB.";
    picture_of: "Billede af", "Picture of";
    picture_save: "Gem billede", "Save picture";
    picture_delete: "Slet billede", "Delete picture";
    mail_change: "Skift e-mail", "Change e-mail";
    mail_new: "Ny e-mail", "New e-mail";
    mail_change_sent: "Vi har sendt en mail til den nye adresse. Åbn linket i den for at skifte.", "We have sent a mail to the new address. Open its link to change.";
    mail_changed: "E-mailen er skiftet. Log på med den nye.", "The e-mail is changed. Log in with the new one.";
    mail_of_another: "Adressen hører til et andet login, så intet er ændret. Log på med den, eller vælg en anden adresse.", "The address belongs to another login, so nothing has changed. Log in with it, or choose another address.";
    changed_meanwhile: "Det er ændret, siden siden blev åbnet. Se, hvad der står nu, og skriv det igen.", "It has been changed since this page was opened. See what it is now, and type it again.";
    mail_confirm_about: "Brug denne e-mail til at logge på fra nu af:", "Use this e-mail to log in from now on:";
    password_change: "Skift adgangskode", "Change password";
    everywhere_out: "Log ud alle andre steder", "Log out everywhere else";
    everywhere_out_done: "Du er logget ud alle andre steder.", "You are logged out everywhere else.";
    auto_top_up: "Auto-optank", "Auto top-up";
    auto_about: "Når kortet bruges ved en kasse, og saldoen er under 50,00 kr., indsættes beløbet fra dit betalingskort. Det træder i kraft, når der er indbetalt mindst 100,00 kr. i alt. Den første betaling sker nu.",
        "When the card is used at a till and the balance is under 50.00 kr., the amount is taken from your payment card. It takes effect once at least 100.00 kr. has been paid in altogether. The first payment is made now.";
    auto_amount: "Beløb der ønskes indbetalt hver gang, i hele kroner", "Amount to pay in each time, in whole kroner";
    auto_active: "Automatisk optankning er slået til.", "Automatic top-up is on.";
    auto_each: "Beløb hver gang", "Amount each time";
    auto_since: "Siden", "Since";
    auto_cancel: "Annuller Automatisk optankning", "Cancel automatic top-up";
    auto_change: "Har du fået nyt betalingskort, så annuller og opret igen.", "If you have a new payment card, cancel and set it up again.";
    auto_card_blocked: "Kantinekortet er spærret, så der optankes ikke. Aktiver kortet under Brugeroplysninger.",
        "The canteen card is blocked, so nothing is topped up. Activate it under User info.";
    auto_trouble_expired: "Den sidste optankning mislykkedes: betalingskortet er udløbet. Annuller, og opret igen med et nyt kort.",
        "The last top-up failed: the payment card has expired. Cancel, and set it up again with a new card.";
    auto_trouble_no_cover: "Den sidste optankning mislykkedes: der er ikke dækning på betalingskortet. Indbetal selv, eller brug et andet kort.",
        "The last top-up failed: the payment card has no cover. Pay in yourself, or use another card.";
    auto_trouble_blocked: "Den sidste optankning mislykkedes: betalingskortet er spærret. Annuller, og opret igen med et andet kort.",
        "The last top-up failed: the payment card is blocked. Cancel, and set it up again with another card.";
    auto_trouble_canteen: "Den sidste optankning mislykkedes: kantinekortet er spærret. Aktiver kortet under Brugeroplysninger.",
        "The last top-up failed: the canteen card is blocked. Activate the card under User details.";
    auto_trouble_refused: "Den sidste optankning mislykkedes: banken afviste betalingen. Indbetal selv, eller brug et andet kort.",
        "The last top-up failed: the bank refused the payment. Pay in yourself, or use another card.";
    receipt_mail: "E-mail til kvittering", "E-mail for the receipt";
    orders: "Mine betalinger", "My payments";
    orders_none: "Der er ingen betalinger endnu.", "There are no payments yet.";
    state: "Status", "State";
    state_started: "Venter på betaling", "Waiting for payment";
    state_paid: "Betalt, på vej til kortet", "Paid, on its way to the card";
    state_credited: "På kortet", "On the card";
    state_returning: "På vej tilbage til betalingskortet", "On its way back to the payment card";
    state_returned: "Ført tilbage til betalingskortet", "Gone back to the payment card";
    state_failed: "Ikke gennemført", "Not carried out";
    kind_pay_in: "Indbetaling", "Payment";
    kind_agreement: "Oprettelse af auto-optank", "Setting up auto top-up";
    kind_automatic: "Auto-optank", "Auto top-up";
    pay_out: "Udbetal", "Pay out";
    pay_out_title: "Bankoverførsel", "Bank transfer";
    pay_out_about: "Beløbet trækkes fra saldoen med det samme og sendes til din bankkonto.", "The amount leaves the balance at once and is sent to your bank account.";
    bank_name: "Kontohavers navn", "Account holder's name";
    bank_reg: "Registreringsnummer", "Registration number";
    bank_account: "Kontonummer", "Account number";
    bank_message: "Besked", "Message";
    bank_reg_wrong: "Registreringsnummeret har fire cifre.", "The registration number has four digits.";
    bank_account_wrong: "Kontonummeret har op til ti cifre.", "The account number has up to ten digits.";
    amount_kroner: "Beløb i kroner", "Amount in kroner";
    amount_kroner_wrong: "Skriv et beløb i kroner, for eksempel 40 eller 40,50.", "Write an amount in kroner, for instance 40 or 40.50.";
    amount_over_balance: "Beløbet er større end saldoen. Der er", "The amount is larger than the balance. There is";
    payouts: "Udbetalinger", "Pay-outs";
    payout_asked: "Anmodet", "Asked for";
    payout_sent: "Sendt", "Sent";
    payout_done: "Gennemført", "Carried out";
    payout_returned: "Afvist, pengene er tilbage på saldoen", "Refused, the money is back on the balance";
    payout_refused: "Afvist, saldoen rakte ikke", "Refused, the balance did not cover it";
    transfer: "Overfør", "Transfer";
    transfer_about: "Flyt penge mellem konti, du administrerer.", "Move money between accounts that you manage.";
    transfer_from: "Fra", "From";
    transfer_to: "Til", "To";
    transfer_alone: "Du har kun én konto. Tilføj en under Tilknytninger for at kunne overføre.", "You have one account only. Add one under Relations to be able to transfer.";
    transfer_done: "Beløbet er overført.", "The amount is transferred.";
    account_refuses: "Det kan ikke lade sig gøre lige nu:", "That cannot be done now:";
    refusal_too_high: "Der ville stå for meget på kontoen.", "There would be too much on the account.";
    refusal_closed: "Kontoen er lukket.", "The account is closed.";
    refusal_other: "Systemet siger nej. Kontakt support.", "The system refuses. Ask support.";
    download_csv: "Hent som regneark (CSV)", "Download as a spreadsheet (CSV)";
    download_pdf: "Hent som PDF", "Download as a PDF";
    page: "Side", "Page";
    month: "Måned", "Month";
    print_hint: "Udskriv siden for en kopi på papir.", "Print the page for a copy on paper.";
    live: "Siden følger med, mens den er åben.", "The page follows along while it is open.";
    support: "Support", "Support";
    support_about_stranger: "Skriv til os, og skriv, hvilken skole det er. Skriv aldrig CPR-nummer eller kortoplysninger.",
        "Write to us, and say which school it is. Never write a CPR number or payment card details.";
    pay_out_done: "Udbetalingen er anmodet. Den står herunder.", "The pay-out was asked for. It stands below.";
    sent_again: "Der er sendt en ny kode. Den gamle virker ikke mere.", "A new code was sent. The old one no longer works.";
    support_about: "Skriv til os. Det, vi skal bruge om kontoen, følger med af sig selv. Skriv aldrig CPR-nummer eller kortoplysninger.",
        "Write to us. What we need to know of the account comes along by itself. Never write a CPR number or payment card details.";
    support_subject: "Emne", "Subject";
    support_text: "Besked", "Message";
    send: "Send", "Send";
    support_sent: "Tak. Din besked er sendt, og vi svarer på mail.", "Thank you. Your message is sent, and we answer by mail.";
}

words! { Letters, DANISH_LETTERS, ENGLISH_LETTERS, ALL_LETTERS:
    greeting: "Hej", "Hello";
    farewell: "Venlig hilsen\nfrokost", "Kind regards\nfrokost";
    not_you: "Var det ikke dig, så gør ingenting. Sker det igen, så skriv til support.",
        "If this was not you, do nothing. If it happens again, write to support.";
    activation_subject: "Din aktiveringskode", "Your activation code";
    activation_about: "Skriv koden på siden for at oprette din konto. Den gælder i to timer.",
        "Type the code on the page to make your account. It is good for two hours.";
    activation_link: "Fortsæt aktiveringen", "Go on with the activation";
    known_subject: "Du har allerede en konto", "You have an account already";
    known_about: "Nogen har prøvet at oprette en konto med denne e-mail, men den er i brug. Log på, og tilføj flere børn under Tilknytninger. Har du glemt adgangskoden, så nulstil den.",
        "Somebody tried to sign up with this e-mail, but it is in use. Log in, and add further children under Relations. If you have forgotten the password, reset it.";
    known_link: "Nulstil adgangskode", "Reset password";
    reset_subject: "Nulstil adgangskode", "Reset password";
    reset_about: "Vælg en ny adgangskode på siden bag linket. Det gælder i en time og kan bruges én gang.",
        "Choose a new password on the page behind the link. It is good for an hour, and once.";
    reset_link: "Vælg en ny adgangskode", "Choose a new password";
    changed_subject: "Din adgangskode er skiftet", "Your password was changed";
    changed_about: "Adgangskoden til din konto er skiftet, og du er logget ud alle steder. Var det ikke dig, så nulstil den straks.",
        "The password of your account was changed, and you are logged out everywhere. If this was not you, reset it at once.";
    relation_subject: "En ny bruger har adgang til kontoen", "A new user has access to the account";
    relation_about: "En bruger, der kender kortnummeret, har tilføjet en konto, som du også administrerer. Er det i orden, skal du ikke gøre noget. Ellers fjern adgangen med linket inden for et døgn.",
        "A user who knows the card number has added an account that you manage, too. If that is all right, do nothing. Otherwise take the access away with the link within a day.";
    relation_link: "Fjern adgangen", "Take the access away";
    receipt_subject: "Kvittering for indbetaling", "Receipt for a payment";
    receipt_about: "Betalingen er gennemført, og pengene er på kortet.", "The payment is done, and the money is on the card.";
    holder: "Pengene opbevares af", "The money is held by";
    returned_subject: "Din indbetaling er ført tilbage", "Your payment has gone back";
    charge_subject: "Automatisk optankning mislykkedes", "Automatic top-up failed";
    payout_subject: "Anmodning om udbetaling", "A pay-out was asked for";
    payout_about: "Der er bedt om en udbetaling fra kontoen. Beløbet er trukket fra saldoen.", "A pay-out was asked for. The amount has left the balance.";
    transferred_subject: "Der er overført penge fra kontoen", "Money was transferred from the account";
    transferred_about: "En anden, der administrerer kontoen, har overført penge fra den. Er det en fejl, så kontakt den, der står herunder, eller skolen.",
        "Somebody else who manages the account has transferred money from it. If that is wrong, ask whoever stands below, or the school.";
    payout_back_subject: "Udbetalingen blev afvist af banken", "The bank refused the pay-out";
    payout_back_about: "Banken kunne ikke gennemføre udbetalingen. Pengene er tilbage på saldoen. Se efter registrerings- og kontonummer, og prøv igen.",
        "The bank could not carry out the pay-out. The money is back on the balance. Look at registration and account number, and try again.";
    mail_subject: "Bekræft din nye e-mail", "Confirm your new e-mail";
    mail_about: "Åbn linket for at logge på med denne e-mail fra nu af. Det gælder i en time.", "Open the link to log in with this e-mail from now on. It is good for an hour.";
    mail_link: "Brug denne e-mail", "Use this e-mail";
    mail_changing_subject: "Din e-mail er ved at blive skiftet", "Your e-mail is being changed";
    mail_changing_about: "Der er bedt om at bruge en anden e-mail til at logge på. Den gælder, når den er bekræftet.",
        "Another e-mail was asked for to log in with. It counts once it is confirmed.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_word_is_empty_or_left_in_danish() {
        // Words that are the same in both languages on purpose.
        let same = ["mail", "status", "menu", "support", "send"];
        for (name, danish, english) in ALL.iter().chain(ALL_LETTERS) {
            assert!(!danish.trim().is_empty() && !english.trim().is_empty(), "{name}");
            assert!(danish != english || same.contains(name), "{name}: '{danish}' in both languages");
            assert!(!english.contains(['æ', 'ø', 'å', 'Æ', 'Ø', 'Å']), "{name}: '{english}'");
        }
    }
}
