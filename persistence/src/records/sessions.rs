//! Open browser sessions, and tickets: secrets that travel in a mail, of which only the hash is kept, good once and for a while.

use serde::{Deserialize, Serialize};

use super::{Letter, Matter, Records, RecordsError, SignUp, parse};
use crate::durable_db::explain;
use crate::keys;

/// An open browser session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebSession {
    /// Whose.
    pub login: String,
    /// Against forged forms: has to come back with every form.
    pub form_token: String,
    /// When it was opened.
    pub opened_ms: u64,
    /// When it was last used.
    pub used_ms: u64,
}

/// What a ticket is good for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TicketFor {
    /// A new password for a login.
    Password {
        /// The login's mail address.
        login: String,
    },
    /// Taking an account away from a login that has just got it.
    Revoke {
        /// The login's mail address.
        login: String,
        /// The account.
        account: u64,
    },
    /// Another mail address for a login.
    Mail {
        /// The login's present mail address.
        login: String,
        /// The new one.
        mail: String,
    },
}

/// A ticket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// What it is good for.
    pub good_for: TicketFor,
    /// Until when, in milliseconds since 1970.
    pub until_ms: u64,
}

impl Records {
    /// The browser session with that hash.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn session(&self, hash: &str) -> Result<Option<WebSession>, RecordsError> {
        self.get(&keys::session(hash))
    }

    /// Opens or changes a browser session.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn put_session(&self, hash: &str, session: &WebSession) -> Result<(), RecordsError> {
        self.change(|change| change.put(&keys::session(hash), session))
    }

    /// Notes that a browser session was used, unless it has ended meanwhile.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn note_session_used(&self, hash: &str, now_ms: u64) -> Result<(), RecordsError> {
        self.change(|change| match self.session(hash)? {
            Some(session) => change.put(&keys::session(hash), &WebSession { used_ms: now_ms, ..session }),
            None => Ok(()),
        })
    }

    /// Ends every browser session that was last used before `idle` or opened before `opened` (milliseconds since 1970).
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn end_old_sessions(&self, idle: u64, opened: u64) -> Result<(), RecordsError> {
        self.change(|change| {
            for item in self.db.tree().scan_prefix("session/") {
                let (key, bytes) = item.map_err(|error| explain(&self.path, error))?;
                let session: WebSession = parse(&String::from_utf8_lossy(&key), &bytes)?;
                if session.used_ms < idle || session.opened_ms < opened {
                    change.remove(&String::from_utf8_lossy(&key));
                }
            }
            Ok(())
        })
    }

    /// Ends a browser session.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn end_session(&self, hash: &str) -> Result<(), RecordsError> {
        self.change(|change| {
            change.remove(&keys::session(hash));
            Ok(())
        })
    }

    /// Ends every browser session of a login but the one with the hash `keep`.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn end_sessions_of(&self, mail: &str, keep: Option<&str>) -> Result<(), RecordsError> {
        let mail = mail.to_lowercase();
        self.change(|change| {
            for item in self.db.tree().scan_prefix("session/") {
                let (key, bytes) = item.map_err(|error| explain(&self.path, error))?;
                let key = String::from_utf8_lossy(&key);
                let session: WebSession = parse(&key, &bytes)?;
                if session.login.to_lowercase() == mail && keep.is_none_or(|keep| keys::session(keep) != key) {
                    change.remove(&key);
                }
            }
            Ok(())
        })
    }

    /// Keeps a ticket under the hash of its secret.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn put_ticket(&self, hash: &str, ticket: &Ticket) -> Result<(), RecordsError> {
        self.change(|change| change.put(&keys::ticket(hash), ticket))
    }

    /// A ticket that is still good, without using it.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn ticket(&self, hash: &str, now_ms: u64) -> Result<Option<TicketFor>, RecordsError> {
        let ticket: Option<Ticket> = self.get(&keys::ticket(hash))?;
        Ok(ticket.filter(|ticket| now_ms <= ticket.until_ms).map(|ticket| ticket.good_for))
    }

    /// Uses a ticket up: of two who come with it at once, one gets it.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn take_ticket(&self, hash: &str, now_ms: u64) -> Result<Option<TicketFor>, RecordsError> {
        self.change(|change| {
            let ticket = self.ticket(hash, now_ms)?;
            if ticket.is_some() {
                change.remove(&keys::ticket(hash));
            }
            Ok(ticket)
        })
    }

    /// Takes away whatever could still change a login's password or mail address, in mails that were sent and in mails on their way.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn end_tickets_of(&self, mail: &str) -> Result<(), RecordsError> {
        let same = |other: &str| other.to_lowercase() == mail.to_lowercase();
        self.change(|change| {
            for (key, ticket) in self.tickets()? {
                if let TicketFor::Password { login } | TicketFor::Mail { login, .. } = &ticket.good_for
                    && same(login)
                {
                    change.remove(&key);
                }
            }
            for letter in self.letters()? {
                let ends = matches!(&letter.matter, Matter::ConfirmMail { login } if same(login))
                    || (letter.matter == Matter::Forgotten && same(&letter.to));
                if ends {
                    change.remove(&keys::letter(letter.number));
                }
            }
            Ok(())
        })
    }

    /// Whatever can be taken back from a login is taken back from it under its new address, too.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn rename_in_tickets(&self, old: &str, new: &str) -> Result<(), RecordsError> {
        let same = |other: &str| other.to_lowercase() == old.to_lowercase();
        self.change(|change| {
            for (key, ticket) in self.tickets()? {
                if let TicketFor::Revoke { login, account } = &ticket.good_for
                    && same(login)
                {
                    let good_for = TicketFor::Revoke { login: new.to_owned(), account: *account };
                    change.put(&key, &Ticket { good_for, ..ticket })?;
                }
            }
            for letter in self.letters()? {
                if let Matter::RelationAdded { account, login } = &letter.matter
                    && same(login)
                {
                    let matter = Matter::RelationAdded { account: *account, login: new.to_owned() };
                    change.put(&keys::letter(letter.number), &Letter { matter, ..letter })?;
                }
            }
            Ok(())
        })
    }

    fn tickets(&self) -> Result<Vec<(String, Ticket)>, RecordsError> {
        let items = self.db.tree().scan_prefix("ticket/").map(|item| {
            let (key, bytes) = item.map_err(|error| explain(&self.path, error))?;
            let key = String::from_utf8_lossy(&key).into_owned();
            let ticket = parse(&key, &bytes)?;
            Ok((key, ticket))
        });
        items.collect()
    }

    /// Takes away sign-ups that nobody finished in time.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn end_old_sign_ups(&self, now_ms: u64) -> Result<(), RecordsError> {
        self.change(|change| {
            for item in self.db.tree().scan_prefix("signup/") {
                let (key, bytes) = item.map_err(|error| explain(&self.path, error))?;
                let key = String::from_utf8_lossy(&key);
                let sign_up: SignUp = parse(&key, &bytes)?;
                if sign_up.until_ms < now_ms {
                    change.remove(&key);
                }
            }
            Ok(())
        })
    }

    /// Sign-ups that wait for their code.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn sign_ups(&self) -> Result<Vec<SignUp>, RecordsError> {
        self.all("signup/")
    }

    /// Takes away tickets that are good no more.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn end_old_tickets(&self, now_ms: u64) -> Result<(), RecordsError> {
        self.change(|change| {
            for (key, ticket) in self.tickets()? {
                if ticket.until_ms < now_ms {
                    change.remove(&key);
                }
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_sessions_end_and_others_stay() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::open(&folder.path().join("records")).unwrap();
        let session =
            |opened_ms, used_ms| WebSession { login: "m@x.dk".into(), form_token: "t".into(), opened_ms, used_ms };
        records.put_session("idle", &session(50, 60)).unwrap();
        records.put_session("long", &session(10, 99)).unwrap();
        records.put_session("good", &session(50, 90)).unwrap();
        records.end_old_sessions(80, 40).unwrap();
        let there = |name| records.session(name).unwrap().is_some();
        assert_eq!([there("idle"), there("long"), there("good")], [false, false, true]);
        // A page that was under way while its session ended does not bring it back.
        records.note_session_used("idle", 100).unwrap();
        assert!(!there("idle"));
    }

    #[test]
    fn a_ticket_is_good_once_and_for_a_while() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::open(&folder.path().join("records")).unwrap();
        let good_for = TicketFor::Password { login: "a@b.dk".into() };
        records.put_ticket("x", &Ticket { good_for: good_for.clone(), until_ms: 10 }).unwrap();
        assert_eq!(records.take_ticket("x", 11).unwrap(), None, "too late");
        assert_eq!(records.ticket("x", 10).unwrap(), Some(good_for.clone()));
        assert_eq!(records.take_ticket("x", 10).unwrap(), Some(good_for));
        assert_eq!(records.take_ticket("x", 10).unwrap(), None, "used up");
    }

    #[test]
    fn a_new_password_ends_what_could_undo_it_and_a_new_address_hides_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::open(&folder.path().join("records")).unwrap();
        let put = |hash: &str, good_for| records.put_ticket(hash, &Ticket { good_for, until_ms: 10 }).unwrap();
        let login = || "M@x.dk".to_owned();
        put("password", TicketFor::Password { login: login() });
        put("mail", TicketFor::Mail { login: login(), mail: "evil@x.dk".into() });
        put("revoke", TicketFor::Revoke { login: login(), account: 7 });
        put("other", TicketFor::Password { login: "f@x.dk".into() });
        records.post("evil@x.dk", "da", Matter::ConfirmMail { login: login() }).unwrap();
        records.post("far@x.dk", "da", Matter::RelationAdded { account: 7, login: login() }).unwrap();
        records.end_tickets_of("m@x.dk").unwrap();
        let good = |hash: &str| records.ticket(hash, 1).unwrap().is_some();
        assert_eq!([good("password"), good("mail"), good("revoke"), good("other")], [false, false, true, true]);
        records.rename_in_tickets("m@x.dk", "new@x.dk").unwrap();
        let new = || "new@x.dk".to_owned();
        assert_eq!(records.ticket("revoke", 1).unwrap(), Some(TicketFor::Revoke { login: new(), account: 7 }));
        let letters = records.letters().unwrap();
        assert_eq!(letters.len(), 1);
        assert_eq!(letters[0].matter, Matter::RelationAdded { account: 7, login: new() });
    }

    #[test]
    fn all_sessions_of_a_login_end_but_one() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::open(&folder.path().join("records")).unwrap();
        let session =
            |login: &str| WebSession { login: login.into(), form_token: "t".into(), opened_ms: 1, used_ms: 1 };
        for (hash, login) in [("a", "M@x.dk"), ("b", "m@x.dk"), ("c", "f@x.dk")] {
            records.put_session(hash, &session(login)).unwrap();
        }
        records.end_sessions_of("m@x.dk", Some("b")).unwrap();
        let there = |name| records.session(name).unwrap().is_some();
        assert_eq!([there("a"), there("b"), there("c")], [false, true, true]);
    }
}
