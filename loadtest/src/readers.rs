//! Parents who look at their accounts while tills sell: each asks for a balance and the month's statement now and then, the way the portal
//! asks the engine for them, over the one connection that a portal has.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use frokost_engine::time::Month;
use frokost_engine::{AccountId, Outcome, Query};
use frokost_net::{Bundle, Client, ClientError};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::plan::Readers;
use crate::stats::Board;
use crate::till::Hours;

/// Nobody tries more often than this to have a connection again; whoever looks meanwhile looks in vain.
const PAUSE: Duration = Duration::from_secs(1);

/// Where parents look.
pub(crate) struct Desk {
    pub(crate) portal: Portal,
    pub(crate) accounts: Arc<[AccountId]>,
    pub(crate) month: Month,
    pub(crate) board: Arc<Board>,
    pub(crate) hours: Hours,
}

/// A portal's connection, made again when it is lost.
pub(crate) struct Portal {
    server: SocketAddr,
    bundle: Bundle,
    line: Mutex<Line>,
}

struct Line {
    client: Client,
    /// When a connection was last asked for.
    tried: Instant,
}

impl Portal {
    pub(crate) async fn connect(server: SocketAddr, bundle: Bundle) -> Result<Portal, ClientError> {
        let (client, _) = Client::connect(server, &bundle).await?;
        Ok(Portal { server, bundle, line: Mutex::new(Line { client, tried: Instant::now() }) })
    }

    /// The connection; a new one if the last has ended. Nothing while there is none to be had, and at once: many look.
    async fn client(&self) -> Option<Client> {
        {
            let mut line = lock(&self.line);
            if line.client.ended().is_none() {
                return Some(line.client.clone());
            }
            if line.tried.elapsed() < PAUSE {
                return None;
            }
            line.tried = Instant::now();
        }
        let (again, _) = Client::connect(self.server, &self.bundle).await.ok()?;
        lock(&self.line).client = again.clone();
        Some(again)
    }

    pub(crate) async fn close(&self) {
        let client = lock(&self.line).client.clone();
        client.close().await;
    }
}

fn lock(line: &Mutex<Line>) -> MutexGuard<'_, Line> {
    line.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Every reader in a task of its own, until the run is over.
pub(crate) fn start(desk: &Arc<Desk>, readers: Readers, seed: u64, stop: &watch::Receiver<bool>) -> JoinSet<()> {
    let mut reading = JoinSet::new();
    for number in 0..readers.count {
        let random = fastrand::Rng::with_seed(seed.wrapping_mul(999_983).wrapping_add(number.into()));
        reading.spawn(read(Arc::clone(desk), readers.every, random, stop.clone()));
    }
    reading
}

/// Looks whenever it is due. Who was kept waiting makes up for it, one look after the other: each has waited since it was due.
async fn read(desk: Arc<Desk>, every: Duration, mut random: fastrand::Rng, stop: watch::Receiver<bool>) {
    let Hours { open, measure, close } = desk.hours;
    let mut planned = open + every.mul_f64(random.f64());
    while planned < close && !*stop.borrow() {
        tokio::time::sleep_until(planned).await;
        let measured = planned >= measure;
        if Instant::now() < close {
            let Some(account) = desk.accounts.get(random.usize(..desk.accounts.len().max(1))).copied() else { return };
            let seen = look(&desk, account).await;
            desk.board.seat().of(measured).looked(seen, planned.elapsed());
        } else {
            desk.board.seat().of(measured).reads_missed += 1;
        }
        planned += every;
    }
}

/// What a page of the portal asks for; whether it was answered.
async fn look(desk: &Desk, account: AccountId) -> bool {
    let Some(portal) = desk.portal.client().await else { return false };
    let balance = portal.query(Query::AccountBalance { account }).await;
    let statement = portal.statement(account, desk.month).await;
    matches!(balance, Ok(Outcome::View(_))) && matches!(statement, Ok(Ok(_)))
}
