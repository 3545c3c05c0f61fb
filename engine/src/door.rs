//! The door: one caller's way into the engine. Permits are taken, keys looked up and refusals that concern no account made here,
//! before anything is queued; everything else is an account's to decide.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::account::Account;
use crate::actors::account::{AccountCell, AccountMessage, CommandMessage, TransferMessage};
use crate::amount::Amount;
use crate::caller::Caller;
use crate::command::{Asked, Command, Query};
use crate::committer::{Draft, Item};
use crate::dedup::Seen;
use crate::engine::Engine;
use crate::entry::Entry;
use crate::id::{AccountId, RequestKey, Sequence};
use crate::outcome::Outcome;
use crate::pending::{CallerState, Pending, Reply, Ticket, Waiter};
use crate::permits::Closed;
use crate::rejection::Rejection;
use crate::statement::{Statement, StatementError};
use crate::time::Month;
use crate::wishes::Wish;

/// The most wishes that are shown at once.
const WISHES: usize = 512;

/// Who decides a command.
enum Route {
    One(Arc<AccountCell>),
    /// The account with the lower number is asked first, always, so that no two wait for each other.
    Both {
        first: Arc<AccountCell>,
        second: Arc<AccountCell>,
    },
}

/// One caller's way into the engine.
#[derive(Clone)]
pub struct CallerHandle {
    pub(crate) engine: Engine,
    pub(crate) caller: Caller,
    pub(crate) state: Arc<CallerState>,
}

impl CallerHandle {
    /// Who it is.
    #[must_use]
    pub fn caller(&self) -> Caller {
        self.caller
    }

    /// Asks for a command under the caller's own number `sequence`. Returns at once; the answer comes through
    /// `reply` when what it rests on is durable.
    pub fn submit(&self, sequence: Sequence, asked: impl Into<Asked>, reply: Reply) {
        let asked: Asked = asked.into();
        if !self.caller.role.may(&asked.command) {
            return reply.send(refused(Rejection::NotAllowed));
        }
        let Some(waiter) = self.enter(reply) else { return };
        let fingerprint = asked.fingerprint();
        let seen = self.state.window().begin(sequence, fingerprint, waiter);
        let waiter = match seen {
            Seen::New(waiter) => waiter,
            Seen::Waiting => return,
            Seen::Before(waiter, outcome) => {
                count("again");
                return waiter.answer(outcome);
            }
            Seen::Refused(waiter, rejection) => return waiter.answer(refused(rejection)),
            Seen::Undecided(waiter) => {
                count("busy");
                return waiter.answer(Outcome::Busy);
            }
        };
        if self.engine.shared.full.load(Ordering::Relaxed) {
            // Not within the loop: the window would be locked while answers are written.
            let waiting = self.state.window().abandon(sequence);
            for also in waiting {
                also.answer(Outcome::OutOfSpace);
            }
            count("out_of_space");
            return waiter.answer(Outcome::OutOfSpace);
        }
        let pending = Pending::new(waiter, Some(Ticket { sequence, fingerprint }));
        let key = RequestKey { caller: self.caller.id, sequence };
        let shared = &self.engine.shared;
        match self.route(&asked.command) {
            Ok(Route::One(cell)) => {
                let message = CommandMessage { caller: self.caller, key, fingerprint, asked, pending };
                shared.tell(cell, AccountMessage::Command(message));
            }
            Ok(Route::Both { first, second }) => {
                let message = CommandMessage { caller: self.caller, key, fingerprint, asked, pending };
                shared.tell(first, AccountMessage::Transfer(Box::new(TransferMessage { message, other: second })));
            }
            Err(rejection) => {
                // No account decides this, so it is journalled from here: the same key is refused the same way for ever.
                let draft = Draft {
                    at: shared.clock.now(),
                    key,
                    fingerprint,
                    account: AccountId(0),
                    balance: Amount::ZERO,
                    by: asked.details.by,
                    text: asked.details.text,
                    entry: Entry::Refused { rejection },
                };
                shared.commit(Item::Commit(draft, pending));
            }
        }
    }

    /// Like [`CallerHandle::submit`], and waits for the answer. `Unavailable` if the engine falls meanwhile.
    pub async fn ask(&self, sequence: Sequence, asked: impl Into<Asked>) -> Outcome {
        let (to, answer) = oneshot::channel();
        self.submit(sequence, asked, Reply::Once(to));
        answer.await.unwrap_or(Outcome::Unavailable)
    }

    /// Asks for a balance; statements come from [`CallerHandle::statement`]. A query by card or account is answered
    /// when everything that made up the balance is durable.
    pub fn query(&self, query: Query, reply: Reply) {
        if !self.caller.role.may_query(&query) {
            return reply.send(refused(Rejection::NotAllowed));
        }
        let Some(waiter) = self.enter(reply) else { return };
        let directory = &self.engine.shared.directory;
        let (cell, unknown) = match query {
            Query::CardBalance { card } => (directory.by_card(&card), Rejection::UnknownCard),
            Query::AccountBalance { account } | Query::Statement { account, .. } => {
                (directory.by_account(account), Rejection::UnknownAccount)
            }
            // Wishes are no account's business; they come from `wishes`.
            Query::Wishes { .. } => (None, Rejection::NotAllowed),
        };
        let pending = Pending::new(waiter, None);
        match cell {
            Some(cell) => self.engine.shared.tell(cell, AccountMessage::View(self.caller, pending)),
            None => self.engine.shared.commit(Item::Answer(Outcome::Rejected(unknown), pending)),
        }
    }

    /// Like [`CallerHandle::query`], and waits for the answer.
    pub async fn view(&self, query: Query) -> Outcome {
        let (to, answer) = oneshot::channel();
        self.query(query, Reply::Once(to));
        answer.await.unwrap_or(Outcome::Unavailable)
    }

    /// An account's month, with everything in it that was durable when it was asked for.
    ///
    /// # Errors
    /// The outcome that came instead: a rejection, `Busy`, or `Unavailable` where statements cannot be read.
    pub async fn statement(&self, account: AccountId, month: Month) -> Result<Statement, Outcome> {
        // Held to the end: reading storage is work like any other, and a shutdown waits for it.
        let Ok(place) = self.state.enter() else { return Err(Outcome::Unavailable) };
        let Some(_place) = place else { return Err(Outcome::Busy) };
        match self.view(Query::Statement { account, month }).await {
            Outcome::View(_) => {}
            other @ (Outcome::Approved(_)
            | Outcome::Rejected(_)
            | Outcome::Busy
            | Outcome::OutOfSpace
            | Outcome::Unavailable) => {
                return Err(other);
            }
        }
        let shared = &self.engine.shared;
        let durable = self.engine.durable();
        let mut projected = shared.projected.clone();
        let caught_up = async { projected.wait_for(|lsn| *lsn >= durable).await.is_ok() };
        if !matches!(tokio::time::timeout(Duration::from_secs(5), caught_up).await, Ok(true)) {
            return Err(Outcome::Unavailable);
        }
        let statements = Arc::clone(&shared.statements);
        let read = tokio::task::spawn_blocking(move || -> Result<Statement, StatementError> {
            Ok(Statement { months: statements.months(account)?, postings: statements.postings(account, month)? })
        });
        match read.await {
            Ok(Ok(statement)) => Ok(statement),
            Ok(Err(error)) => {
                tracing::error!(%error, "a statement cannot be read");
                Err(Outcome::Unavailable)
            }
            Err(_) => Err(Outcome::Unavailable),
        }
    }

    /// The accounts after `after` that wish to be topped up, in the order of their numbers, some hundred at a time.
    ///
    /// # Errors
    /// [`Rejection::NotAllowed`] for a role that charges nothing.
    pub fn wishes(&self, after: AccountId) -> Result<Vec<Wish>, Outcome> {
        if !self.caller.role.may_query(&Query::Wishes { after }) {
            return Err(refused(Rejection::NotAllowed));
        }
        Ok(self.engine.shared.wishes.after(after, WISHES))
    }

    /// A place for a reply, or the reply sent off.
    fn enter(&self, reply: Reply) -> Option<Waiter> {
        match self.state.enter() {
            Ok(Some(place)) => return Some(Waiter { reply, place }),
            Ok(None) => {
                count("busy");
                reply.send(Outcome::Busy);
            }
            Err(Closed) => reply.send(Outcome::Unavailable),
        }
        None
    }

    /// Which account decides a command.
    fn route(&self, command: &Command) -> Result<Route, Rejection> {
        let directory = &self.engine.shared.directory;
        let account = match *command {
            Command::Purchase { card, .. } | Command::Refund { card, .. } => {
                return directory.by_card(&card).map(Route::One).ok_or(Rejection::UnknownCard);
            }
            Command::Transfer { from, to, .. } if from != to => {
                let first = directory.by_account(from.min(to)).ok_or(Rejection::UnknownAccount)?;
                let second = directory.by_account(from.max(to)).ok_or(Rejection::UnknownAccount)?;
                return Ok(Route::Both { first, second });
            }
            // Account 0 is the mark of records that concern no account.
            Command::Open { account: AccountId(0), .. } => return Err(Rejection::UnknownAccount),
            Command::Open { account, .. } => {
                return Ok(Route::One(directory.get_or_insert(account, || Box::new(Account::unopened(account)))));
            }
            Command::BindCard { account, .. }
            | Command::TopUp { account, .. }
            | Command::Block { account }
            | Command::Activate { account }
            | Command::SetDailyLimit { account, .. }
            | Command::SetCreditLimit { account, .. }
            | Command::Transfer { from: account, .. }
            | Command::RequestPayout { account, .. }
            | Command::MarkPayoutSent { account, .. }
            | Command::MarkPayoutDone { account, .. }
            | Command::ReturnPayout { account, .. }
            | Command::Correct { account, .. }
            | Command::AgreeAutoTopUp { account, .. }
            | Command::CancelAutoTopUp { account }
            | Command::ReportChargeFailed { account, .. }
            | Command::Close { account } => account,
        };
        directory.by_account(account).map(Route::One).ok_or(Rejection::UnknownAccount)
    }
}

/// An answer that no account has given: the releaser, which counts those, does not see it.
fn count(outcome: &'static str) {
    metrics::counter!("frokost_answers_total", "outcome" => outcome).increment(1);
}

fn refused(rejection: Rejection) -> Outcome {
    count(rejection.name());
    Outcome::Rejected(rejection)
}
