//! Parents who look at their accounts while tills sell: each asks for a balance and the month's statement now and then, the way the portal
//! asks the engine for them, over the one connection that a portal has.

use std::sync::Arc;
use std::time::Duration;

use frokost_engine::time::Month;
use frokost_engine::{AccountId, Outcome, Query};
use frokost_net::Client;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::plan::Readers;
use crate::stats::Board;
use crate::till::Hours;

/// Where parents look.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) portal: Client,
    pub(crate) accounts: Arc<[AccountId]>,
    pub(crate) month: Month,
    pub(crate) board: Arc<Board>,
    pub(crate) hours: Hours,
}

/// Every reader in a task of its own, until the run is over.
pub(crate) fn start(desk: &Desk, readers: Readers, seed: u64, stop: &watch::Receiver<bool>) -> JoinSet<()> {
    let mut reading = JoinSet::new();
    for number in 0..readers.count {
        let random = fastrand::Rng::with_seed(seed.wrapping_mul(999_983).wrapping_add(number.into()));
        reading.spawn(read(desk.clone(), readers.every, random, stop.clone(), number as usize));
    }
    reading
}

async fn read(desk: Desk, every: Duration, mut random: fastrand::Rng, stop: watch::Receiver<bool>, number: usize) {
    let mut planned = desk.hours.open + every.mul_f64(random.f64());
    while planned < desk.hours.close && !*stop.borrow() {
        tokio::time::sleep_until(planned).await;
        let Some(account) = desk.accounts.get(random.usize(..desk.accounts.len().max(1))).copied() else { return };
        let seen = look(&desk, account).await;
        desk.board.seat(number).of(planned >= desk.hours.measure).looked(seen, planned.elapsed());
        // Who was kept waiting looks again when it is due, not once for every time missed.
        planned = (planned + every).max(Instant::now());
    }
}

/// What a page of the portal asks for; whether it was answered.
async fn look(desk: &Desk, account: AccountId) -> bool {
    let balance = desk.portal.query(Query::AccountBalance { account }).await;
    let statement = desk.portal.statement(account, desk.month).await;
    matches!(balance, Ok(Outcome::View(_))) && matches!(statement, Ok(Ok(_)))
}
