//! The accounts that are blocked for as long as a run lasts: those that were not blocked before, so that afterwards everything is as it was.

use std::time::Duration;

use frokost_engine::{AccountId, Command, Outcome, Query, Sequence, Timestamp};
use frokost_net::wire::{Request, Response};
use frokost_net::{Client, ClientError, numbers};
use tokio::time::Instant;

use crate::coming::BACK_WITHIN;
use crate::plan::Plan;

/// Requests of the operator in flight at once.
const SWITCHING: usize = 128;
/// Who is not let in asks again so much later.
const PAUSE: Duration = Duration::from_millis(20);

pub(crate) struct Switch {
    /// Those that are to be blocked.
    pub(crate) chosen: Vec<AccountId>,
    /// Those that this run has blocked.
    pub(crate) blocked: Vec<AccountId>,
    /// The number of the operator's next command; above every number that one can have used before.
    next: u64,
}

impl Switch {
    pub(crate) fn new(plan: &Plan, accounts: &[AccountId], now: Timestamp) -> Switch {
        let mut random = fastrand::Rng::with_seed(plan.seed);
        let chosen = accounts.iter().copied().filter(|_| random.f64() < plan.blocked);
        let chosen = if plan.blocked > 0.0 { chosen.collect() } else { Vec::new() };
        Switch { chosen, blocked: Vec::new(), next: numbers::first(now).0 }
    }

    /// Blocks the chosen ones, but for those that are blocked already. Where it is given up in the middle, those that may be blocked are noted.
    pub(crate) async fn block(&mut self, operator: &Client) -> Result<(), ClientError> {
        let chosen = std::mem::take(&mut self.chosen);
        for some in chosen.chunks(SWITCHING) {
            let looks: Vec<Request> =
                some.iter().map(|account| Request::Query(Query::AccountBalance { account: *account })).collect();
            let seen = ask_all(operator, &looks).await?;
            let free = some.iter().zip(seen).filter(|(_, seen)| matches!(seen, Outcome::View(view) if !view.blocked));
            let free: Vec<AccountId> = free.map(|(account, _)| *account).collect();
            let noted = self.blocked.len();
            self.blocked.extend(&free);
            let commands = self.commands(&free, |account| Command::Block { account });
            let done = ask_all(operator, &commands).await?;
            let done = free.iter().zip(done).filter(|(_, outcome)| matches!(outcome, Outcome::Approved(_)));
            self.blocked.truncate(noted);
            self.blocked.extend(done.map(|(account, _)| *account));
        }
        Ok(())
    }

    /// Lets the blocked ones buy again, asked by an operator who came when it was `now`; how many of them may still be blocked.
    pub(crate) async fn activate(&mut self, operator: &Client, now: Timestamp) -> usize {
        // A run may last for days, and a number of a day ago is refused.
        self.next = self.next.max(numbers::first(now).0);
        let blocked = std::mem::take(&mut self.blocked);
        let mut left = blocked.len();
        for some in blocked.chunks(SWITCHING) {
            let commands = self.commands(some, |account| Command::Activate { account });
            if let Ok(done) = ask_all(operator, &commands).await {
                left -= done.iter().filter(|outcome| matches!(outcome, Outcome::Approved(_))).count();
            }
        }
        left
    }

    fn commands(&mut self, accounts: &[AccountId], command: impl Fn(AccountId) -> Command) -> Vec<Request> {
        let first = self.next;
        self.next += accounts.len() as u64;
        let numbered = (first..).zip(accounts);
        numbered
            .map(|(number, account)| Request::Command { sequence: Sequence(number), asked: command(*account).into() })
            .collect()
    }
}

/// Asks for all of it at once, and for what is not let in again until it is or half a minute has passed.
async fn ask_all(operator: &Client, requests: &[Request]) -> Result<Vec<Outcome>, ClientError> {
    let begin = Instant::now();
    let lost = || operator.ended().unwrap_or(ClientError::Confused);
    let asked = requests.iter().map(|request| operator.send(request)).collect::<Result<Vec<_>, _>>()?;
    let mut outcomes = Vec::with_capacity(requests.len());
    for (request, mut answer) in requests.iter().zip(asked) {
        loop {
            match answer.await.map_err(|_| lost())? {
                Response::Outcome(Outcome::Busy | Outcome::OutOfSpace | Outcome::Unavailable) => {
                    if begin.elapsed() > BACK_WITHIN {
                        return Err(ClientError::TimedOut);
                    }
                    tokio::time::sleep(PAUSE).await;
                    answer = operator.send(request)?;
                }
                Response::Outcome(outcome) => break outcomes.push(outcome),
                Response::Welcome(_)
                | Response::Statement { .. }
                | Response::Wishes(_)
                | Response::Picture(_)
                | Response::Found(_)
                | Response::Backup(_)
                | Response::Records { .. } => return Err(ClientError::Confused),
            }
        }
    }
    Ok(outcomes)
}
