//! The QUIC server: accepts connections, finds out from the certificate who is calling, and gives every stream to a session.

use std::net::SocketAddr;
use std::sync::Arc;

use dashmap::DashMap;
use frokost_engine::{CallerId, Clock, Engine};
use quinn::{Connection, Endpoint, Incoming, VarInt};
use rustls::pki_types::CertificateDer;

use crate::enrol::Bundle;
use crate::identity::Identity;
use crate::session::{self, Session};
use crate::tls::{TlsError, server_config};
use crate::wire::code;

/// How many connections one caller may have open: two, so that a till whose power failed is let in again at once.
const CONNECTIONS_PER_TILL: usize = 2;
/// The portal and operators may have more.
const CONNECTIONS_PER_OTHER: usize = 16;
/// Above this many open connections a newcomer has to prove its address first.
const RETRY_ABOVE: usize = 256;

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The address cannot be listened on.
    #[error("cannot listen for tills on {address} (UDP): {source}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// A listening server.
#[derive(Debug)]
pub struct Server {
    endpoint: Endpoint,
    address: SocketAddr,
}

struct Reception {
    engine: Engine,
    clock: Arc<dyn Clock>,
    connections: DashMap<CallerId, usize>,
}

impl Server {
    /// Listens on `address`, as `bundle` (see [`crate::Authority::server`]).
    ///
    /// # Errors
    /// [`ServerError`].
    pub fn start(
        address: SocketAddr,
        bundle: &Bundle,
        engine: Engine,
        clock: Arc<dyn Clock>,
    ) -> Result<Server, ServerError> {
        let config = server_config(bundle)?;
        let listen = |source| ServerError::Listen { address, source };
        let endpoint = Endpoint::server(config, address).map_err(listen)?;
        let address = endpoint.local_addr().map_err(listen)?;
        let reception = Arc::new(Reception { engine, clock, connections: DashMap::new() });
        tokio::spawn(accept(endpoint.clone(), reception));
        Ok(Server { endpoint, address })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections are open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.endpoint.open_connections()
    }

    /// Closes every connection in order and stops listening.
    pub async fn shutdown(&self) {
        self.endpoint.close(VarInt::from_u32(code::SHUTDOWN), b"the server is closing down");
        self.endpoint.wait_idle().await;
    }
}

async fn accept(endpoint: Endpoint, reception: Arc<Reception>) {
    while let Some(incoming) = endpoint.accept().await {
        if endpoint.open_connections() > RETRY_ABOVE && !incoming.remote_address_validated() && incoming.may_retry() {
            // It comes back with a token; if the packet cannot be sent, the client tries again by itself.
            drop(incoming.retry());
            continue;
        }
        tokio::spawn(greet(incoming, Arc::clone(&reception)));
    }
}

/// One connection, from handshake to end.
async fn greet(incoming: Incoming, reception: Arc<Reception>) {
    let remote = incoming.remote_address();
    let connection = match incoming.await {
        Ok(connection) => connection,
        Err(error) => {
            metrics::counter!("frokost_connections_refused_total", "why" => "handshake").increment(1);
            tracing::info!(%remote, %error, "a connection was refused");
            return;
        }
    };
    let Some(Identity(caller)) = identity(&connection) else {
        metrics::counter!("frokost_connections_refused_total", "why" => "identity").increment(1);
        connection.close(VarInt::from_u32(code::UNKNOWN_CALLER), b"the certificate names no caller");
        return;
    };
    let limit = match caller.role {
        frokost_engine::Role::Till => CONNECTIONS_PER_TILL,
        frokost_engine::Role::Portal | frokost_engine::Role::Secretary | frokost_engine::Role::Operator => {
            CONNECTIONS_PER_OTHER
        }
    };
    let Some(_place) = Place::take(&reception, caller.id, limit) else {
        metrics::counter!("frokost_connections_refused_total", "why" => "too_many").increment(1);
        tracing::warn!(%remote, caller = %caller.id, limit, "a caller wants more connections than it may have");
        connection.close(VarInt::from_u32(code::TOO_MANY_CONNECTIONS), b"too many connections of this caller");
        return;
    };
    tracing::info!(%remote, caller = %caller.id, role = caller.role.name(), "connected");
    let handle = reception.engine.caller(caller);
    while let Ok((send, receive)) = connection.accept_bi().await {
        let session =
            Session { engine: reception.engine.clone(), caller: handle.clone(), clock: Arc::clone(&reception.clock) };
        tokio::spawn(session::run(session, send, receive));
    }
    tracing::info!(%remote, caller = %caller.id, "disconnected");
}

fn identity(connection: &Connection) -> Option<Identity> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    Identity::from_certificate(chain.first()?)
}

/// One of a caller's connections.
struct Place {
    reception: Arc<Reception>,
    caller: CallerId,
}

impl Place {
    fn take(reception: &Arc<Reception>, caller: CallerId, limit: usize) -> Option<Place> {
        let mut open = reception.connections.entry(caller).or_insert(0);
        if *open >= limit {
            return None;
        }
        *open += 1;
        drop(open);
        Some(Place { reception: Arc::clone(reception), caller })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(mut open) = self.reception.connections.get_mut(&self.caller) {
            *open = open.saturating_sub(1);
        }
        self.reception.connections.remove_if(&self.caller, |_, open| *open == 0);
    }
}
