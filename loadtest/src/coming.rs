//! How a till comes in, and for how long whoever finds nobody there tries again.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use frokost_net::client::Dialer;
use frokost_net::conversation::{Asker, Listener};
use frokost_net::wire::Welcome;
use frokost_net::{Bundle, ClientError};
use tokio::time::Instant;

use crate::plan::Plan;
use crate::stats::Board;

/// How long a till tries to come back.
pub(crate) const BACK_WITHIN: Duration = Duration::from_secs(30);

/// A till's first connection. Who sets out to lose packets can lose all of a handshake's, and the server is there all the same.
pub(crate) async fn come_in(
    dialer: &Dialer,
    server: SocketAddr,
    bundle: &Bundle,
    plan: &Plan,
    board: &Board,
) -> Result<(Asker, Listener, Welcome), ClientError> {
    let patience = if plan.loss > 0.0 { BACK_WITHIN } else { Duration::ZERO };
    let begin = Instant::now();
    loop {
        match dialer.converse(server, bundle).await {
            Err(ClientError::NoServer(_)) if begin.elapsed() < patience => {
                board.lost_handshakes.fetch_add(1, Ordering::Relaxed);
            }
            tried => return tried,
        }
    }
}
