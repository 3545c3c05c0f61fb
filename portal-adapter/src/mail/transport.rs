//! How mails leave: by SMTP, or into a maildir where no mail server is set, for development and demonstrations.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use lettre::message::{Mailbox, MultiPart};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};

use crate::session::digest;

/// A mail, written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text {
    pub(crate) subject: String,
    pub(crate) plain: String,
    pub(crate) html: String,
    /// Who is answered, if not the sender.
    pub(crate) reply_to: Option<String>,
}

/// Where mails go.
#[derive(Debug, Clone)]
pub struct MailSetup {
    /// For instance `smtps://user:password@mail.example.dk`, or `smtp://127.0.0.1:2525`; a maildir where empty.
    pub smtp: String,
    /// Where mails are put when there is no mail server.
    pub maildir: PathBuf,
    /// Whom they come from.
    pub from: String,
    /// Who answers questions.
    pub support: String,
}

/// A way out, open.
pub(crate) struct Transport {
    from: Mailbox,
    way: Way,
}

enum Way {
    Smtp(AsyncSmtpTransport<Tokio1Executor>),
    Maildir { folder: PathBuf, count: AtomicU64 },
}

impl MailSetup {
    /// Can mails be sent like this?
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn check(&self) -> Result<(), String> {
        Transport::open(self).map(drop)?;
        self.support.parse::<Mailbox>().map(drop).map_err(|error| format!("'{}': {error}", self.support))
    }
}

impl Transport {
    pub(crate) fn open(setup: &MailSetup) -> Result<Transport, String> {
        let from = setup.from.parse().map_err(|error| format!("'{}' is no sender: {error}", setup.from))?;
        let way = if setup.smtp.is_empty() {
            Way::Maildir { folder: setup.maildir.clone(), count: AtomicU64::new(0) }
        } else {
            // The address may have a password in it: it is never repeated.
            let builder = AsyncSmtpTransport::<Tokio1Executor>::from_url(&setup.smtp)
                .map_err(|error| format!("the mail server's address cannot be used: {error}"))?;
            Way::Smtp(builder.timeout(Some(std::time::Duration::from_secs(20))).build())
        };
        Ok(Transport { from, way })
    }

    /// Sends a mail. `letter` names it: sent again because the answer was lost, it is the same to a mail server that looks.
    pub(crate) async fn send(&self, letter: &str, to: &str, text: &Text) -> Result<(), String> {
        let id = format!("<{}@{}>", digest(letter).get(..32).unwrap_or_default(), self.from.email.domain());
        let to: Mailbox = to.parse().map_err(|error| format!("the address cannot be used: {error}"))?;
        let mut builder = Message::builder().message_id(Some(id)).from(self.from.clone()).to(to).subject(&text.subject);
        if let Some(Ok(reply_to)) = text.reply_to.as_ref().map(|address| address.parse()) {
            builder = builder.reply_to(reply_to);
        }
        let body = MultiPart::alternative_plain_html(text.plain.clone(), text.html.clone());
        let message = builder.multipart(body).map_err(|error| error.to_string())?;
        match &self.way {
            Way::Smtp(server) => server.send(message).await.map(drop).map_err(|error| {
                // The server's words name the address; only its code goes into a log.
                error.status().map_or_else(
                    || "the mail server cannot be reached".to_owned(),
                    |code| format!("the mail server says {code}"),
                )
            }),
            Way::Maildir { folder, count } => {
                let number = count.fetch_add(1, Ordering::Relaxed);
                put(folder, number, &message.formatted()).map_err(|error| format!("{}: {error}", folder.display()))
            }
        }
    }
}

/// As maildir has it: written in `tmp`, whole in `new`.
fn put(folder: &Path, number: u64, bytes: &[u8]) -> std::io::Result<()> {
    for part in ["tmp", "new", "cur"] {
        fs::create_dir_all(folder.join(part))?;
    }
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let name = format!("{}.{}_{number}.frokost", since.as_micros(), std::process::id());
    fs::write(folder.join("tmp").join(&name), bytes)?;
    fs::rename(folder.join("tmp").join(&name), folder.join("new").join(&name))
}
