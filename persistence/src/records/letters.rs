//! Mails on their way: kept until the mail server has taken them, so that none is lost when the server is restarted and no page waits
//! for one to be sent.

use serde::{Deserialize, Serialize};

use super::{Change, Records, RecordsError};
use crate::keys;

/// What a mail is about. The text is made when it is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "about")]
pub enum Matter {
    /// Somebody signs up with this address: the code, unless the address is in use already.
    SignUp {
        /// The secret in the sign-up's address.
        secret: String,
    },
    /// Somebody has forgotten a password, or says so.
    Forgotten,
    /// The password was changed.
    PasswordChanged,
    /// Somebody else manages an account now, too.
    RelationAdded {
        /// The account.
        account: u64,
        /// Who.
        login: String,
    },
    /// A receipt.
    Receipt {
        /// The order.
        order: u64,
    },
    /// A payment could not be credited and went back to the card.
    PaymentReturned {
        /// The order.
        order: u64,
    },
    /// An automatic top-up failed.
    ChargeFailed {
        /// The account.
        account: u64,
        /// The provider's word for why.
        why: String,
    },
    /// A pay-out was asked for.
    PayoutAsked {
        /// The pay-out.
        payout: u64,
    },
    /// Somebody else who manages the account has moved money to another.
    Transferred {
        /// The account.
        from: u64,
        /// Where it went.
        to: u64,
        /// How much, in øre.
        amount_ore: i64,
        /// Who.
        login: String,
    },
    /// A pay-out came back.
    PayoutReturned {
        /// The pay-out.
        payout: u64,
    },
    /// Is this the new address of a login? Goes to the new one.
    ConfirmMail {
        /// The login's present address.
        login: String,
    },
    /// The address is to be changed. Goes to the old one.
    MailChanging {
        /// The new address.
        mail: String,
    },
    /// Somebody asks for support. Goes to whoever gives it.
    Support {
        /// Who asks.
        from: String,
        /// The subject.
        subject: String,
        /// What they say, and what the portal knows about it.
        text: String,
    },
}

/// A mail that is to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Letter {
    /// Its number.
    pub number: u64,
    /// To whom.
    pub to: String,
    /// In which language, `da` or `en`.
    pub language: String,
    /// What about.
    pub matter: Matter,
    /// How often it was tried.
    pub tries: u32,
    /// When to try next, in milliseconds since 1970.
    pub next_ms: u64,
}

impl Records {
    /// Every mail that is to be sent, oldest first.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn letters(&self) -> Result<Vec<Letter>, RecordsError> {
        self.all("letter/")
    }

    /// Puts a mail on its way.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn post(&self, to: &str, language: &str, matter: Matter) -> Result<(), RecordsError> {
        self.change(|change| change.post(to, language, matter))
    }

    /// A mail was sent, or never can be.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn remove_letter(&self, number: u64) -> Result<(), RecordsError> {
        self.change(|change| {
            change.remove(&keys::letter(number));
            Ok(())
        })
    }

    /// A mail could not be sent: it is tried again.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn keep_letter(&self, letter: &Letter) -> Result<(), RecordsError> {
        self.change(|change| change.put(&keys::letter(letter.number), letter))
    }
}

impl Change<'_> {
    /// Puts a mail on its way together with whatever else changes.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn post(&mut self, to: &str, language: &str, matter: Matter) -> Result<(), RecordsError> {
        let number = self.number("letter")?;
        let (to, language) = (to.to_owned(), language.to_owned());
        self.put(&keys::letter(number), &Letter { number, to, language, matter, tries: 0, next_ms: 0 })
    }
}
