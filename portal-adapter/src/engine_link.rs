//! The portal's connection to the engine: made when first needed, made anew when it is lost. A command without an answer is
//! asked again under the same number, so that it counts once whatever happens in between.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use frokost_engine::time::Month;
use frokost_engine::wishes::Wish;
use frokost_engine::{AccountId, AccountView, Asked, CardNumber, Outcome, Query, Record, Sequence};
use frokost_net::{Bundle, Client, ClientError, numbers};
use tokio::sync::Mutex;

const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(50);
/// How long a failed attempt to connect counts for everybody.
const SHARED_FOR: Duration = Duration::from_secs(1);

/// A connection to the engine. Clones share it.
#[derive(Debug, Clone)]
pub struct EngineLink(Arc<Link>);

#[derive(Debug)]
struct Link {
    engine: SocketAddr,
    bundle: Bundle,
    kept: Mutex<Kept>,
    /// The last number used; starts at the server's clock, so that a restarted portal never uses one again.
    sequence: AtomicU64,
}

#[derive(Debug, Default)]
struct Kept {
    client: Option<Client>,
    /// When and why it could not be reached last.
    failed: Option<(Instant, ClientError)>,
}

/// The engine cannot be asked. Whether a command was carried out is not known.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the engine does not answer: {0}")]
pub struct EngineGone(pub String);

impl EngineLink {
    /// To the engine at `engine`, as `bundle`. Connects when it is first needed.
    #[must_use]
    pub fn new(engine: SocketAddr, bundle: Bundle) -> EngineLink {
        EngineLink(Arc::new(Link { engine, bundle, kept: Mutex::default(), sequence: AtomicU64::new(0) }))
    }

    async fn client(&self) -> Result<Client, ClientError> {
        let mut kept = self.0.kept.lock().await;
        if let Some(client) = kept.client.as_ref().filter(|client| client.ended().is_none()) {
            return Ok(client.clone());
        }
        // Whoever waited here while the engine was found gone need not find it out once more.
        if let Some((when, error)) = &kept.failed
            && when.elapsed() < SHARED_FOR
        {
            return Err(error.clone());
        }
        let (client, welcome) = match Client::connect(self.0.engine, &self.0.bundle).await {
            Ok(connected) => connected,
            Err(error) => {
                kept.failed = Some((Instant::now(), error.clone()));
                return Err(error);
            }
        };
        self.0.sequence.fetch_max(numbers::first(welcome.now).0, Ordering::SeqCst);
        *kept = Kept { client: Some(client.clone()), failed: None };
        Ok(client)
    }

    /// Asks until there is an answer, over a connection that is made anew if it has to be. `once` gives nothing for an answer
    /// that only says to ask again.
    async fn until_answered<T, F>(&self, once: impl Fn(Client) -> F) -> Result<T, EngineGone>
    where
        F: Future<Output = Result<Option<T>, ClientError>>,
    {
        let mut why = String::new();
        for _ in 0..TRIES {
            let answered = match self.client().await {
                Ok(client) => once(client).await,
                Err(error) => Err(error),
            };
            match answered {
                Ok(Some(answer)) => return Ok(answer),
                Ok(None) => "it is busy".clone_into(&mut why),
                Err(error) => why = error.to_string(),
            }
            tokio::time::sleep(PAUSE).await;
        }
        Err(EngineGone(why))
    }

    /// Has a command carried out; approved or rejected.
    ///
    /// # Errors
    /// [`EngineGone`] if there is no answer after several tries.
    pub async fn command(&self, asked: impl Into<Asked>) -> Result<Outcome, EngineGone> {
        self.command_numbered(asked, |fresh, _| std::future::ready(Ok(fresh))).await
    }

    /// The same under the number that `number` makes of a fresh one: that, or one it has kept, unless that is the other it is given. A fresh
    /// number that is called used or forgotten was not carried out, and another takes its place.
    ///
    /// # Errors
    /// [`EngineGone`] if there is no answer after several tries, and what `number` says.
    pub async fn command_numbered<E, F>(
        &self,
        asked: impl Into<Asked>,
        number: impl Fn(Sequence, Option<Sequence>) -> F,
    ) -> Result<Outcome, E>
    where
        E: From<EngineGone>,
        F: Future<Output = Result<Sequence, E>>,
    {
        let asked = asked.into();
        // One number for all tries. Given at the first, since the numbers begin where the server's clock is.
        let mut fresh = self.next_number().await?;
        let mut instead_of = None;
        let mut ahead = numbers::AHEAD_YEARS.into_iter();
        loop {
            let used = number(fresh, instead_of).await?;
            let outcome = self.command_as(used, asked).await?;
            let taken = used == fresh && numbers::is_taken(&outcome);
            let Some(years) = ahead.next().filter(|_| taken) else { return Ok(outcome) };
            instead_of = Some(fresh);
            fresh = self.number_ahead(years).await?;
        }
    }

    /// A number that was never used either, so far ahead of the engine's clock: for where a new number is called used or forgotten. The clock was wrong then,
    /// when this connection began or when another did.
    ///
    /// # Errors
    /// [`EngineGone`] if the engine cannot be reached.
    async fn number_ahead(&self, years: u64) -> Result<Sequence, EngineGone> {
        let known = self.next_number().await?;
        self.0.sequence.fetch_max(numbers::ahead(known, years).0, Ordering::SeqCst);
        tracing::warn!(
            years,
            "a new number was called used or forgotten: the server's clock is wrong, or was; numbers go on so far ahead of it"
        );
        self.next_number().await
    }

    /// A number that was never used, for a command that may be asked again later.
    ///
    /// # Errors
    /// [`EngineGone`] if the engine, whose clock the numbers follow, cannot be reached.
    pub async fn next_number(&self) -> Result<Sequence, EngineGone> {
        self.until_answered(|_| async { Ok(Some(Sequence(self.0.sequence.fetch_add(1, Ordering::SeqCst) + 1))) }).await
    }

    /// The same under a number that was given before: however often it is asked, it is carried out once.
    ///
    /// # Errors
    /// [`EngineGone`] if there is no answer after several tries.
    pub async fn command_as(&self, number: Sequence, asked: impl Into<Asked>) -> Result<Outcome, EngineGone> {
        let asked: Asked = asked.into();
        self.until_answered(|client| async move {
            Ok(match client.command(number, asked).await? {
                outcome @ (Outcome::Approved(_) | Outcome::Rejected(_)) => Some(outcome),
                Outcome::Busy | Outcome::OutOfSpace | Outcome::Unavailable | Outcome::View(_) => None,
            })
        })
        .await
    }

    /// The accounts after `after` that wish to be topped up, some hundred at a time.
    ///
    /// # Errors
    /// [`EngineGone`] if there is no answer after several tries.
    pub async fn wishes(&self, after: AccountId) -> Result<Vec<Wish>, EngineGone> {
        self.until_answered(|client| async move { Ok(client.wishes(after).await?.ok()) }).await
    }

    /// An account as it is now; nothing if there is no such account.
    ///
    /// # Errors
    /// [`EngineGone`] if there is no answer after several tries.
    pub async fn account(&self, account: AccountId) -> Result<Option<AccountView>, EngineGone> {
        self.view(Query::AccountBalance { account }).await
    }

    /// The account a card belongs to, as it is now; nothing if there is no such card.
    ///
    /// # Errors
    /// [`EngineGone`] if there is no answer after several tries.
    pub async fn card(&self, card: CardNumber) -> Result<Option<AccountView>, EngineGone> {
        // A card that was replaced still leads to its account, and proves nothing any more.
        let view = self.view(Query::CardBalance { card }).await?;
        Ok(view.filter(|view| view.card == Some(card)))
    }

    async fn view(&self, query: Query) -> Result<Option<AccountView>, EngineGone> {
        self.until_answered(|client| async move {
            Ok(match client.query(query).await? {
                Outcome::View(view) => Some(Some(view)),
                Outcome::Rejected(_) => Some(None),
                Outcome::Busy | Outcome::OutOfSpace | Outcome::Unavailable | Outcome::Approved(_) => None,
            })
        })
        .await
    }

    /// The months that have postings, newest first, and one month's postings, oldest first.
    ///
    /// # Errors
    /// [`EngineGone`] if there is no answer after several tries.
    pub async fn statement(&self, account: AccountId, month: Month) -> Result<(Vec<Month>, Vec<Record>), EngineGone> {
        self.until_answered(|client| async move {
            Ok(match client.statement(account, month).await? {
                Ok(statement) => Some(statement),
                Err(Outcome::Rejected(_)) => Some((Vec::new(), Vec::new())),
                Err(
                    Outcome::Approved(_)
                    | Outcome::View(_)
                    | Outcome::Busy
                    | Outcome::OutOfSpace
                    | Outcome::Unavailable,
                ) => None,
            })
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64 as Millis;

    use frokost_engine::memory_journal::MemoryJournal;
    use frokost_engine::memory_snapshots::MemorySnapshots;
    use frokost_engine::memory_statements::MemoryStatements;
    use frokost_engine::{
        Amount, Caller, CallerId, Clock, Command, Config, Engine, Ports, Rejection, Role, SchoolId, Timestamp,
    };
    use frokost_net::server::Desks;
    use frokost_net::{Authority, Server};

    use super::*;

    const DAY_MS: u64 = 24 * 60 * 60 * 1000;

    struct SetClock(Millis);

    impl Clock for SetClock {
        fn now(&self) -> Timestamp {
            Timestamp(self.0.load(Ordering::SeqCst))
        }
    }

    /// The clock stands a month ahead for two days, and right again afterwards: numbers that begin at the right time lie below those that were
    /// used and forgotten meanwhile, and are no older for that.
    #[tokio::test]
    async fn a_clock_that_was_ahead_locks_nobody_out_when_it_is_right() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::load_or_create(folder.path()).unwrap();
        let (_, pem) = authority.enrol("portal", Role::Portal, SchoolId(0)).unwrap();
        let bundle = Bundle::from_pem(pem.as_bytes()).unwrap();
        let right = 1_790_000_000_000;
        let clock = Arc::new(SetClock(Millis::new(right)));
        let statements = MemoryStatements::default();
        let ports = Ports {
            journal: Box::new(MemoryJournal::default()),
            projection: Box::new(statements.clone()),
            statements: Arc::new(statements),
            snapshots: Arc::new(MemorySnapshots::default()),
            room: Arc::new(|| true),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            on_fatal: Arc::new(|why| panic!("{why}")),
        };
        let engine = Engine::start(ports, Config::default()).await.unwrap();
        let account = AccountId(1);
        let operator = engine.caller(Caller { id: CallerId(999), role: Role::Operator, school: SchoolId(0) });
        operator.ask(Sequence(1), Command::Open { account, school: SchoolId(1) }).await;
        let desks = Desks {
            backups: Arc::new(Default::default),
            pictures: Arc::new(|_| None),
            pupils: Arc::new(|_, _, _| None),
        };
        let served: Arc<dyn Clock> = Arc::clone(&clock) as Arc<dyn Clock>;
        let server = Server::start("127.0.0.1:0".parse().unwrap(), &authority, engine, served, desks).unwrap();
        let limit = |kroner| Command::SetDailyLimit { account, limit: Some(Amount::from_kroner(kroner)) };
        // The engine looks at its clock four times a second.
        let looked = Duration::from_millis(700);
        for day in [30, 32] {
            tokio::time::sleep(looked).await;
            clock.0.store(right + day * DAY_MS, Ordering::SeqCst);
            let link = EngineLink::new(server.address(), bundle.clone());
            assert!(matches!(link.command(limit(day.cast_signed())).await.unwrap(), Outcome::Approved(_)));
        }
        tokio::time::sleep(looked).await;
        clock.0.store(right + 1_000, Ordering::SeqCst);
        let link = EngineLink::new(server.address(), bundle.clone());
        let (client, _) = Client::connect(server.address(), &bundle).await.unwrap();
        let plain = client.command(Sequence((right + 1_000) << 16), limit(1)).await.unwrap();
        assert_eq!(plain, Outcome::Rejected(Rejection::KeyExpired), "nothing was forgotten: this shows nothing");
        for kroner in [2, 3] {
            assert!(matches!(link.command(limit(kroner)).await.unwrap(), Outcome::Approved(_)));
        }
        let view = link.account(account).await.unwrap().unwrap();
        assert_eq!(view.daily_limit, Some(Amount::from_kroner(3)));
    }
}
