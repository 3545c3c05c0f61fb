//! Mails: a worker that takes letters from the records, writes them, and hands them to a mail server or puts them into a folder. What
//! cannot be sent is tried again, later and later, for two days; no page ever waits for one.

mod letters;
mod transport;

use std::time::Duration;

use frokost_persistence::records::{Letter, Matter};

pub use transport::MailSetup;
pub(crate) use transport::Transport;

use crate::Portal;
use crate::session::blocking;

const LOOKS_EVERY: Duration = Duration::from_millis(250);
/// The first pause after a failure; each later one is twice as long.
const PAUSE_MS: u64 = 15_000;
const LONGEST_PAUSE_MS: u64 = 3_600_000;
/// About two days of trying.
const MOST_TRIES: u32 = 55;

/// Sends whatever is to be sent, for as long as the portal runs.
pub(crate) async fn deliver(portal: Portal) {
    let mut ticks = tokio::time::interval(LOOKS_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let records = portal.setup.records.clone();
        let waiting = match blocking(move || records.letters()).await {
            Ok(waiting) => waiting,
            Err(error) => {
                tracing::error!(%error, "mails cannot be read");
                continue;
            }
        };
        let now = portal.setup.clock.now().0;
        for letter in waiting.into_iter().filter(|letter| letter.next_ms <= now) {
            let number = letter.number;
            let sent = send(&portal, &letter).await;
            let settled = settle(&portal, letter, sent).await;
            if let Err(error) = settled {
                tracing::error!(number, %error, "what became of a mail cannot be kept");
            }
        }
    }
}

/// Writes a letter and sends it, unless there is nothing to say.
async fn send(portal: &Portal, letter: &Letter) -> Result<(), String> {
    match letters::write(portal, letter).await.map_err(|error| error.to_string())? {
        Some(text) => {
            // Written anew, an activation mail has another code: it is not the mail that may have arrived.
            let written = if matches!(letter.matter, Matter::SignUp { .. }) { letter.tries } else { 0 };
            let named = format!("{}/{}/{}/{written}", letter.number, letter.to, text.subject);
            portal.mail.send(&named, &letter.to, &text).await
        }
        None => Ok(()),
    }
}

async fn settle(portal: &Portal, letter: Letter, sent: Result<(), String>) -> Result<(), crate::error::PortalError> {
    let records = portal.setup.records.clone();
    let number = letter.number;
    match sent {
        Ok(()) => blocking(move || records.remove_letter(number)).await,
        Err(why) if letter.tries + 1 >= MOST_TRIES => {
            metrics::counter!("frokost_mails_given_up_total").increment(1);
            tracing::error!(number, %why, "a mail is given up");
            blocking(move || records.remove_letter(number)).await
        }
        Err(why) => {
            metrics::counter!("frokost_mail_failures_total").increment(1);
            tracing::warn!(number, %why, tries = letter.tries + 1, "a mail cannot be sent now; it is tried again");
            let pause = PAUSE_MS.saturating_mul(1 << letter.tries.min(20)).min(LONGEST_PAUSE_MS);
            let later = Letter { tries: letter.tries + 1, next_ms: portal.setup.clock.now().0 + pause, ..letter };
            blocking(move || records.keep_letter(&later)).await
        }
    }
}
