//! One till: connects, sells according to plan, asks again when it has no answer, and remembers what it was told for the audit.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use frokost_engine::{Amount, CallerId, CardNumber, Command, Lsn, Outcome, Sequence};
use frokost_net::client::Dialer;
use frokost_net::{Bundle, Client};
use std::net::SocketAddr;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::plan::Chooser;
use crate::stats::Board;

/// How often a sale without an answer is sent again.
const TRIES: u32 = 50;
/// How long to wait before.
const PAUSE: Duration = Duration::from_millis(20);

/// What a till was told about one sale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    Nothing,
    Approved(Lsn),
    Refused,
}

/// A sale of this run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sale {
    pub(crate) card: CardNumber,
    pub(crate) amount: Amount,
    pub(crate) told: Told,
}

/// Everything a till sold: the sale with sequence `first + n` is the n-th.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) caller: CallerId,
    pub(crate) first: u64,
    pub(crate) sales: Vec<Sale>,
}

/// When a run begins and ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hours {
    pub(crate) open: Instant,
    /// What is planned from here on is measured.
    pub(crate) measure: Instant,
    pub(crate) close: Instant,
}

pub(crate) struct Till {
    client: Client,
    dialer: Dialer,
    server: SocketAddr,
    bundle: Bundle,
    board: Arc<Board>,
    /// Set when the run begins.
    measure_from: std::sync::OnceLock<Instant>,
    log: Mutex<Log>,
    /// A connection that is being made anew, shared by all sales that wait for it.
    renewed: tokio::sync::Mutex<Option<Client>>,
}

impl Till {
    pub(crate) async fn connect(
        dialer: &Dialer,
        server: SocketAddr,
        bundle: Bundle,
        board: Arc<Board>,
    ) -> Result<Till, frokost_net::ClientError> {
        let (client, welcome) = dialer.connect(server, &bundle).await?;
        // Above every number an earlier run of the same till can have used.
        let first = welcome.now.0 << 16;
        let log = Mutex::new(Log { caller: welcome.caller, first, sales: Vec::new() });
        Ok(Till {
            client,
            dialer: dialer.clone(),
            server,
            bundle,
            board,
            measure_from: std::sync::OnceLock::new(),
            log,
            renewed: tokio::sync::Mutex::new(None),
        })
    }

    /// Open model: sells whenever `due` says so, and waits for the last answers.
    pub(crate) async fn sell_when_due(
        self: Arc<Till>,
        mut due: mpsc::UnboundedReceiver<Instant>,
        mut chooser: Chooser,
        cards: Arc<[CardNumber]>,
    ) {
        let mut selling = tokio::task::JoinSet::new();
        while let Some(planned) = due.recv().await {
            let Some((card, amount)) = chooser.next(&cards) else { break };
            let sequence = self.begin(card, amount);
            let till = Arc::clone(&self);
            selling.spawn(async move { till.finish(sequence, card, amount, planned).await });
            while selling.try_join_next().is_some() {}
        }
        selling.join_all().await;
    }

    /// Closed loop: keeps so many sales in flight until the hours are over or `stop` says so.
    pub(crate) async fn sell_in_loops(
        self: Arc<Till>,
        in_flight: usize,
        hours: Hours,
        chooser: Chooser,
        cards: Arc<[CardNumber]>,
        stop: watch::Receiver<bool>,
    ) {
        let chooser = Arc::new(Mutex::new(chooser));
        let mut loops = tokio::task::JoinSet::new();
        for _ in 0..in_flight {
            let (till, cards, stop, chooser) =
                (Arc::clone(&self), Arc::clone(&cards), stop.clone(), Arc::clone(&chooser));
            loops.spawn(async move {
                tokio::time::sleep_until(hours.open).await;
                while Instant::now() < hours.close && !*stop.borrow() {
                    let next = chooser.lock().unwrap_or_else(PoisonError::into_inner).next(&cards);
                    let Some((card, amount)) = next else { return };
                    let sequence = till.begin(card, amount);
                    till.finish(sequence, card, amount, Instant::now()).await;
                }
            });
        }
        loops.join_all().await;
    }

    /// Says from when on sales are measured.
    pub(crate) fn measure_from(&self, from: Instant) {
        let _ = self.measure_from.set(from);
    }

    pub(crate) fn into_log(self) -> Log {
        self.log.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) async fn close(&self) {
        self.client.close().await;
    }

    /// Gives a sale its number and writes it down.
    fn begin(&self, card: CardNumber, amount: Amount) -> Sequence {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.sales.push(Sale { card, amount, told: Told::Nothing });
        Sequence(log.first + log.sales.len() as u64 - 1)
    }

    async fn finish(&self, sequence: Sequence, card: CardNumber, amount: Amount, planned: Instant) {
        let command = Command::Purchase { card, amount };
        let measured = self.measure_from.get().is_some_and(|from| planned >= *from);
        let mut client = match self.client.ended() {
            None => self.client.clone(),
            Some(_) => self.renew().await.unwrap_or_else(|| self.client.clone()),
        };
        for _ in 0..TRIES {
            match client.command(sequence, command).await {
                Ok(outcome @ (Outcome::Approved(_) | Outcome::Rejected(_))) => {
                    let latency = planned.elapsed();
                    self.told(sequence, &outcome);
                    self.board.count(measured, |stats| stats.decided(&outcome, latency));
                    return;
                }
                Ok(Outcome::Busy | Outcome::OutOfSpace | Outcome::Unavailable | Outcome::View(_)) => {}
                Err(error) => {
                    self.board.count(measured, |stats| *stats.errors.entry(error.to_string()).or_default() += 1);
                    if let Some(renewed) = self.renew().await {
                        client = renewed;
                    }
                }
            }
            self.board.count(measured, |stats| stats.resent += 1);
            tokio::time::sleep(PAUSE).await;
        }
        let after = planned.elapsed();
        self.board.count(measured, |stats| stats.abandoned(after));
    }

    fn told(&self, sequence: Sequence, outcome: &Outcome) {
        let told = match outcome {
            Outcome::Approved(receipt) => Told::Approved(receipt.lsn),
            Outcome::Rejected(_) => Told::Refused,
            Outcome::View(_) | Outcome::Busy | Outcome::OutOfSpace | Outcome::Unavailable => Told::Nothing,
        };
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let index = usize::try_from(sequence.0 - log.first).unwrap_or(usize::MAX);
        if let Some(sale) = log.sales.get_mut(index) {
            sale.told = told;
        }
    }

    /// A connection that works, if one can be had; made once for everyone who waits.
    async fn renew(&self) -> Option<Client> {
        let mut renewed = self.renewed.lock().await;
        if let Some(client) = renewed.as_ref().filter(|client| client.ended().is_none()) {
            return Some(client.clone());
        }
        let (client, _) = self.dialer.connect(self.server, &self.bundle).await.ok()?;
        *renewed = Some(client.clone());
        Some(client)
    }
}
