//! The QUIC server: accepts connections, finds out from the certificate who is calling, and gives every stream to a session.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use frokost_engine::{AccountId, Caller, Clock, Engine, SchoolId};
use quinn::{Connection, Endpoint, Incoming, VarInt};
use rustls::pki_types::CertificateDer;
use tokio::sync::Semaphore;

use crate::admission::{Admission, Verdict};
use crate::answers::Streams;
use crate::enrol::{Authority, EnrolError};
use crate::identity::Identity;
use crate::reset_key::RESET_EVERY;
use crate::session::{self, Session};
use crate::socket;
use crate::tls::{TlsError, server_config};
use crate::wire::code;
use crate::wire::response::{Found, Progress};

/// How many connections a till may have open.
const CONNECTIONS_PER_TILL: usize = 2;
/// The portal and operators may have more.
const CONNECTIONS_PER_OTHER: usize = 16;
/// How long a shutdown waits for answers to be read.
const LINGER: Duration = Duration::from_secs(1);
/// And for farewells: QUIC keeps what is closed for three of its probe timeouts, which are a second where nothing was heard yet.
const FAREWELL: Duration = Duration::from_secs(3);
/// Above this many open connections a newcomer has to prove its address first.
const RETRY_ABOVE: usize = 256;

/// How often it is looked who may come in.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// There is no certificate for it, or it cannot be told who may come in.
    #[error(transparent)]
    Enrol(#[from] EnrolError),
    /// The address cannot be listened on.
    #[error("cannot listen for tills on {address} (UDP): {source}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// Who makes backups: starts one if none is being made, and tells how far it has come. One that has ended is told once.
pub type BackupDesk = Arc<dyn Fn() -> Progress + Send + Sync>;

/// Finds the picture of an account's pupil, a JPEG; nothing if there is none. May read a file.
pub type PictureDesk = Arc<dyn Fn(AccountId) -> Option<Vec<u8>> + Send + Sync>;

/// Finds pupils: of which school (0 for all), the account (0 to look for the text), the text. Nothing if it cannot be looked up. May read files.
pub type PupilDesk = Arc<dyn Fn(SchoolId, AccountId, &str) -> Option<Found> + Send + Sync>;

/// What is asked of the server and is not the engine's.
#[derive(Clone)]
pub struct Desks {
    /// Backups, for operators.
    pub backups: BackupDesk,
    /// Pictures, for tills.
    pub pictures: PictureDesk,
    /// Who is meant, for secretaries and operators.
    pub pupils: PupilDesk,
}

/// A listening server.
#[derive(Debug)]
pub struct Server {
    endpoint: Endpoint,
    address: SocketAddr,
    streams: Arc<Streams>,
}

struct Reception {
    engine: Engine,
    clock: Arc<dyn Clock>,
    desks: Desks,
    streams: Arc<Streams>,
    looking_up: Arc<Semaphore>,
    admission: Admission,
    /// The open connections of each caller, oldest first.
    connections: DashMap<Caller, Vec<Connection>>,
}

impl Server {
    /// Listens on `address`, with a certificate of `authority`'s.
    ///
    /// # Errors
    /// [`ServerError`].
    pub fn start(
        address: SocketAddr,
        authority: &Authority,
        engine: Engine,
        clock: Arc<dyn Clock>,
        desks: Desks,
    ) -> Result<Server, ServerError> {
        let config = server_config(&authority.server()?)?;
        let admission = Admission::begin(authority.callers().clone())?;
        let mut names = socket::names();
        names.reset_key(Arc::new(authority.reset_key())).min_reset_interval(RESET_EVERY);
        let listen = |source| ServerError::Listen { address, source };
        let endpoint = socket::endpoint(address, names, Some(config)).map_err(listen)?;
        let address = endpoint.local_addr().map_err(listen)?;
        let streams = Arc::new(Streams::default());
        let looking_up = Arc::new(Semaphore::new(1));
        let connections = DashMap::new();
        let served = Arc::clone(&streams);
        let reception = Reception { engine, clock, desks, streams: served, looking_up, admission, connections };
        tokio::spawn(accept(endpoint.clone(), Arc::new(reception)));
        Ok(Server { endpoint, address, streams })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many requests have been let in and their answers not written. A stream's are none any more when it has ended.
    #[must_use]
    pub fn unsent(&self) -> usize {
        self.streams.unsent()
    }

    /// Lets what is answered reach the callers, closes every connection and stops listening. To be called when the engine has
    /// shut down, so that there is nothing more to come. A caller that does not read is not waited for.
    pub async fn shutdown(&self) {
        let give_up = tokio::time::Instant::now() + LINGER;
        while self.unsent() > 0 && tokio::time::Instant::now() < give_up {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // What was written is on its way within a moment; closing would take it back.
        tokio::time::sleep(Duration::from_millis(50)).await;
        self.endpoint.close(VarInt::from_u32(code::SHUTDOWN), b"the server is closing down");
        // Who has not left by then is not heard any more. QUIC waits for a connection that began with its end as long as for a silent one.
        drop(tokio::time::timeout(FAREWELL, self.endpoint.wait_idle()).await);
    }
}

async fn accept(endpoint: Endpoint, reception: Arc<Reception>) {
    let looker = Arc::clone(&reception);
    let looking = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        loop {
            ticks.tick().await;
            looker.look_again().await;
        }
    });
    while let Some(incoming) = endpoint.accept().await {
        if endpoint.open_connections() > RETRY_ABOVE && !incoming.remote_address_validated() && incoming.may_retry() {
            // It comes back with a token; if the packet cannot be sent, the client tries again by itself.
            drop(incoming.retry());
            continue;
        }
        tokio::spawn(greet(incoming, Arc::clone(&reception)));
    }
    looking.abort();
}

/// Turns a connection out, unless its caller is welcome.
fn refuse(connection: &Connection, caller: Caller, verdict: Verdict) {
    let (code, why, event, reason): (_, _, _, &[u8]) = match verdict {
        Verdict::Welcome => return,
        Verdict::Revoked => (code::REVOKED, "revoked", "revoked_till", b"this caller has been revoked"),
        Verdict::Unknown => (code::UNKNOWN_CALLER, "unknown", "unknown_caller", b"this caller is not enrolled here"),
    };
    metrics::counter!("frokost_connections_refused_total", "why" => why).increment(1);
    let address = connection.remote_address();
    tracing::warn!(target: "security", event, caller = %caller.id, role = caller.role.name(), %address, "security");
    connection.close(VarInt::from_u32(code), reason);
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
    reception.admit(caller, &connection, limit);
    // From here on it is turned out when the lists change.
    let mut verdict = reception.admission.of(caller);
    if verdict != Verdict::Welcome {
        // It may have been enrolled or readmitted a moment ago.
        reception.look_again().await;
        verdict = reception.admission.of(caller);
    }
    if verdict != Verdict::Welcome {
        refuse(&connection, caller, verdict);
        reception.leave(caller, &connection);
        return;
    }
    tracing::info!(%remote, caller = %caller.id, role = caller.role.name(), "connected");
    let open = metrics::gauge!("frokost_connections", "role" => caller.role.name());
    open.increment(1);
    let handle = reception.engine.caller(caller);
    while let Ok((send, receive)) = connection.accept_bi().await {
        let session = Session {
            engine: reception.engine.clone(),
            caller: handle.clone(),
            clock: Arc::clone(&reception.clock),
            desks: reception.desks.clone(),
            streams: Arc::clone(&reception.streams),
            looking_up: Arc::clone(&reception.looking_up),
        };
        tokio::spawn(session::run(session, send, receive));
    }
    open.decrement(1);
    reception.leave(caller, &connection);
    tracing::info!(%remote, caller = %caller.id, "disconnected");
}

fn identity(connection: &Connection) -> Option<Identity> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    Identity::from_certificate(chain.first()?)
}

impl Reception {
    /// Reads who may come in, which may wait for a disk; where that has changed, turns out those who may be here no more. If it
    /// panics, things stay as they were.
    async fn look_again(self: &Arc<Reception>) {
        let reception = Arc::clone(self);
        let look = tokio::task::spawn_blocking(move || reception.admission.look());
        if look.await.unwrap_or(false) {
            for open in &self.connections {
                let verdict = self.admission.of(*open.key());
                open.value().iter().for_each(|connection| refuse(connection, *open.key(), verdict));
            }
        }
    }

    /// Lets a connection in. Where that makes too many of one caller, its oldest goes: a till that comes back after a power
    /// cut is let in at once, and what it left open behind cannot keep it out.
    fn admit(&self, caller: Caller, connection: &Connection, limit: usize) {
        let mut open = self.connections.entry(caller).or_default();
        open.push(connection.clone());
        let oldest = if open.len() > limit { Some(open.remove(0)) } else { None };
        drop(open);
        if let Some(oldest) = oldest {
            metrics::counter!("frokost_connections_replaced_total").increment(1);
            tracing::warn!(caller = %caller.id, limit, "a caller has more connections than it may have; its oldest is closed");
            oldest.close(
                VarInt::from_u32(code::TOO_MANY_CONNECTIONS),
                b"a newer connection of this caller took its place",
            );
        }
    }

    fn leave(&self, caller: Caller, connection: &Connection) {
        if let Some(mut open) = self.connections.get_mut(&caller) {
            open.retain(|other| other.stable_id() != connection.stable_id());
        }
        self.connections.remove_if(&caller, |_, open| open.is_empty());
    }
}
