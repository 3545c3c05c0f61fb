//! The parents' portal: pages over HTTP for what the engine knows, asked over QUIC with the role `portal`.
//!
//! It decides nothing about money and never opens the engine's files. Names, CPR numbers and logins are its own records;
//! balances are asked for each time they are shown.

mod connections;
pub mod cpr;
mod engine_link;
mod error;
pub mod identifier;
mod limits;
pub mod mail;
mod money;
mod once;
mod password;
pub mod payment;
mod pdf;
mod picture;
pub mod proof;
mod resume;
mod routes;
mod security_log;
mod session;
mod tickets;
mod views;
mod words;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use frokost_engine::{Amount, CallerId, Clock, SchoolId};
use frokost_net::Bundle;
use frokost_persistence::{Records, SealingKey};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

pub use engine_link::EngineLink;
use identifier::IdentifyBy;
use limits::Limits;
use mail::MailSetup;
pub use password::{hash as hash_password, weakness as password_weakness};
use payment::PaymentProvider;
pub use picture::file as picture_file;

/// What a portal is set up with.
pub struct Setup {
    /// Names, logins, orders.
    pub records: Records,
    /// Opens CPR numbers for the page that shows their first half.
    pub key: SealingKey,
    /// Where the engine listens.
    pub engine: SocketAddr,
    /// The portal's own certificate.
    pub bundle: Bundle,
    /// Who takes payments.
    pub provider: Arc<dyn PaymentProvider>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// What a browser calls us: scheme, host and port, without a slash at the end.
    pub public_url: String,
    /// Who holds the money, and under which CVR number.
    pub holder: Holder,
    /// The least that can be paid in.
    pub min_top_up: Amount,
    /// What identifies a pupil besides the card.
    pub identify_by: IdentifyBy,
    /// Characters of a card number.
    pub card_length: usize,
    /// How mails leave.
    pub mail: MailSetup,
    /// Where pictures of pupils are kept.
    pub pictures: PathBuf,
    /// What tills are called.
    pub till_names: TillNames,
    /// Is there a proxy of ours in front, whose word about addresses counts?
    pub behind_proxy: bool,
}

impl Setup {
    /// Do browsers come by HTTPS? A proxy does that.
    fn is_https(&self) -> bool {
        self.public_url.starts_with("https://")
    }
}

/// What a till is called and at which school it stands, for people to read.
pub type TillNames = Arc<dyn Fn(CallerId) -> Option<(String, SchoolId)> + Send + Sync>;

/// Who holds the families' money; stated where it is paid in (quick guide, item 13).
#[derive(Debug, Clone)]
pub struct Holder {
    /// The company's name.
    pub name: String,
    /// Its CVR number.
    pub cvr: String,
}

/// What every handler sees.
#[derive(Clone)]
pub(crate) struct Portal(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) setup: Setup,
    pub(crate) engine: EngineLink,
    pub(crate) hashing: password::Hashing,
    pub(crate) limits: Limits,
    pub(crate) mail: mail::Transport,
    /// Places for pages that are looked after.
    pub(crate) watching: limits::Watching,
    /// How many pictures may be drawn at once.
    pub(crate) drawing: Semaphore,
    /// How many pictures may be on their way in at once.
    pub(crate) uploads: Semaphore,
    stopping: AtomicBool,
}

impl Inner {
    /// Is the portal closing down? Pages that are open are let go of then.
    pub(crate) fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

impl std::ops::Deref for Portal {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

/// Serves the portal on `listener` until `stop` is ready, then lets open requests finish.
///
/// # Errors
/// If the listener fails.
pub async fn serve(
    listener: TcpListener,
    setup: Setup,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let engine = EngineLink::new(setup.engine, setup.bundle.clone());
    let mail = mail::Transport::open(&setup.mail).map_err(std::io::Error::other)?;
    let portal = Portal(Arc::new(Inner {
        setup,
        engine,
        hashing: password::Hashing::new()?,
        limits: Limits::new(),
        mail,
        watching: limits::Watching::default(),
        drawing: Semaphore::new(1),
        uploads: Semaphore::new(4),
        stopping: AtomicBool::new(false),
    }));
    let mut working = tokio::task::JoinSet::new();
    working.spawn(payment::orders::reconcile(portal.clone()));
    working.spawn(payment::charges::charge_wishes(portal.clone()));
    working.spawn(mail::deliver(portal.clone()));
    working.spawn(session::sweep(portal.clone()));
    working.spawn(routes::money_out::take_up(portal.clone()));
    let closing = portal.clone();
    let stop = async move {
        stop.await;
        closing.stopping.store(true, Ordering::Relaxed);
    };
    let table = routes::table(portal).into_make_service_with_connect_info::<connections::Peer>();
    let served = axum::serve(connections::Bounded::new(listener), table).with_graceful_shutdown(stop).await;
    working.shutdown().await;
    served
}
