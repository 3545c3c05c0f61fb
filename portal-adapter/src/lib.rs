//! The parents' portal: pages over HTTP for what the engine knows, asked over QUIC with the role `portal`.
//!
//! It decides nothing about money and never opens the engine's files. Names, CPR numbers and logins are its own records;
//! balances are asked for each time they are shown.

pub mod cpr;
mod engine_link;
mod error;
mod money;
mod password;
pub mod payment;
mod routes;
mod session;
mod views;
mod words;

use std::net::SocketAddr;
use std::sync::Arc;

use frokost_engine::{Amount, Clock};
use frokost_net::Bundle;
use frokost_persistence::{Records, SealingKey};
use tokio::net::TcpListener;

pub use engine_link::EngineLink;
pub use password::hash as hash_password;
use payment::PaymentProvider;

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
}

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
    let portal = Portal(Arc::new(Inner { setup, engine, hashing: password::Hashing::new() }));
    let reconciling = tokio::spawn(payment::orders::reconcile(portal.clone()));
    let sweeping = tokio::spawn(session::sweep(portal.clone()));
    let served = axum::serve(listener, routes::table(portal)).with_graceful_shutdown(stop).await;
    reconciling.abort();
    sweeping.abort();
    served
}
