//! The portal's connection to the engine: made when first needed, made anew when it is lost. A command without an answer is
//! asked again under the same number, so that it counts once whatever happens in between.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use frokost_engine::time::Month;
use frokost_engine::{AccountId, AccountView, Command, Outcome, Query, Record, Sequence};
use frokost_net::{Bundle, Client, ClientError};
use tokio::sync::Mutex;

const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(50);

/// A connection to the engine. Clones share it.
#[derive(Debug, Clone)]
pub struct EngineLink(Arc<Link>);

#[derive(Debug)]
struct Link {
    engine: SocketAddr,
    bundle: Bundle,
    client: Mutex<Option<Client>>,
    /// The last number used; starts at the server's clock, so that a restarted portal never uses one again.
    sequence: AtomicU64,
}

/// The engine cannot be asked. Whether a command was carried out is not known.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the engine does not answer: {0}")]
pub struct EngineGone(pub String);

impl EngineLink {
    /// To the engine at `engine`, as `bundle`. Connects when it is first needed.
    #[must_use]
    pub fn new(engine: SocketAddr, bundle: Bundle) -> EngineLink {
        EngineLink(Arc::new(Link { engine, bundle, client: Mutex::new(None), sequence: AtomicU64::new(0) }))
    }

    async fn client(&self) -> Result<Client, ClientError> {
        let mut kept = self.0.client.lock().await;
        if let Some(client) = kept.as_ref().filter(|client| client.ended().is_none()) {
            return Ok(client.clone());
        }
        let (client, welcome) = Client::connect(self.0.engine, &self.0.bundle).await?;
        // The lower bits leave room for 65,536 commands a millisecond before two lives of a portal could meet.
        self.0.sequence.fetch_max(welcome.now.0 << 16, Ordering::SeqCst);
        *kept = Some(client.clone());
        Ok(client)
    }

    /// Has a command carried out; approved or rejected.
    ///
    /// # Errors
    /// [`EngineGone`] if there is no answer after several tries.
    pub async fn command(&self, command: Command) -> Result<Outcome, EngineGone> {
        let mut sequence = None;
        let mut why = String::new();
        for _ in 0..TRIES {
            match self.client().await {
                Ok(client) => {
                    let number = *sequence.get_or_insert_with(|| self.0.sequence.fetch_add(1, Ordering::SeqCst) + 1);
                    match client.command(Sequence(number), command).await {
                        Ok(outcome @ (Outcome::Approved(_) | Outcome::Rejected(_))) => return Ok(outcome),
                        Ok(Outcome::Busy | Outcome::Unavailable | Outcome::View(_)) => {
                            "it is busy".clone_into(&mut why)
                        }
                        Err(error) => why = error.to_string(),
                    }
                }
                Err(error) => why = error.to_string(),
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(EngineGone(why))
    }

    /// An account as it is now; nothing if there is no such account.
    ///
    /// # Errors
    /// [`EngineGone`] if there is no answer after several tries.
    pub async fn account(&self, account: AccountId) -> Result<Option<AccountView>, EngineGone> {
        let mut why = String::new();
        for _ in 0..TRIES {
            match self.client().await {
                Ok(client) => match client.query(Query::AccountBalance { account }).await {
                    Ok(Outcome::View(view)) => return Ok(Some(view)),
                    Ok(Outcome::Rejected(_)) => return Ok(None),
                    Ok(Outcome::Busy | Outcome::Unavailable | Outcome::Approved(_)) => {
                        "it is busy".clone_into(&mut why)
                    }
                    Err(error) => why = error.to_string(),
                },
                Err(error) => why = error.to_string(),
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(EngineGone(why))
    }

    /// The months that have postings, newest first, and one month's postings, oldest first.
    ///
    /// # Errors
    /// [`EngineGone`] if there is no answer after several tries.
    pub async fn statement(&self, account: AccountId, month: Month) -> Result<(Vec<Month>, Vec<Record>), EngineGone> {
        let mut why = String::new();
        for _ in 0..TRIES {
            match self.client().await {
                Ok(client) => match client.statement(account, month).await {
                    Ok(Ok(statement)) => return Ok(statement),
                    Ok(Err(Outcome::Rejected(_))) => return Ok((Vec::new(), Vec::new())),
                    Ok(Err(_)) => "it is busy".clone_into(&mut why),
                    Err(error) => why = error.to_string(),
                },
                Err(error) => why = error.to_string(),
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(EngineGone(why))
    }
}
