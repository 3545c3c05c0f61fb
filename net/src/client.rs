//! The QUIC client: one connection, one stream, many requests in flight. What tills, the portal, operators and the load
//! tester are made of.
#![allow(clippy::wildcard_enum_match_arm, reason = "any other kind of answer is the same confusion")]

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use frokost_engine::time::Month;
use frokost_engine::wishes::Wish;
use frokost_engine::{AccountId, Asked, CardNumber, Lsn, Outcome, Query, Record, Sequence, Text};
use quinn::{Connection, ConnectionError, Endpoint, RecvStream, SendStream, TransportErrorCode, VarInt};
use tokio::sync::{mpsc, oneshot};

use crate::conversation::Listener;
use crate::enrol::{Bundle, SERVER_NAME};
use crate::lossy_socket::Loss;
use crate::socket;
use crate::tls::{TlsError, client_config};
use crate::wire::response::{Found, Progress};
use crate::wire::{Request, Response, Welcome, code};

/// For the farewell to leave. quinn would wait until nothing of the connection can come any more.
const CLOSE_WITHIN: Duration = Duration::from_millis(100);
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Longer than anything the server lets a request wait.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Why something could not be asked, or was not answered. Whether a command was carried out is then not known: ask again
/// with the same number.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClientError {
    /// TLS cannot be set up with this bundle.
    #[error("{0}")]
    Tls(String),
    /// Nobody answers there.
    #[error("no frokost server answers at {0}; is it running, and is the address right?")]
    NoServer(SocketAddr),
    /// The server does not accept the certificate, or is none of ours.
    #[error("the server at {address} and this bundle do not belong together: {why}")]
    Untrusted {
        /// Where.
        address: SocketAddr,
        /// What TLS says.
        why: String,
    },
    /// The server takes nobody in just now.
    #[error("the server at {0} takes no new connections; it may be closing down")]
    Refused(SocketAddr),
    /// The server closed the connection.
    #[error("the server closed the connection: {0}")]
    Closed(String),
    /// The installation has revoked this bundle: it is of no use to try again.
    #[error(
        "this bundle has been revoked: nothing can be sold with it; `frokost till readmit` lets it in again, `frokost till add` makes a new one under another name"
    )]
    Revoked,
    /// The installation has not enrolled whom this bundle names: it is of no use to try again.
    #[error(
        "this bundle names nobody the server's installation has enrolled; if it was restored from a backup, this bundle is newer: have a new one made with `frokost till add`"
    )]
    Unknown,
    /// The connection broke.
    #[error("the connection to the server was lost: {0}")]
    Lost(String),
    /// The server that answers there is not the one that was connected to, or has let go of a connection it heard nothing from.
    #[error(
        "the server does not know this connection any more; it was started again, or has heard nothing for too long"
    )]
    Forgotten,
    /// No answer in time.
    #[error("the server has not answered for {} seconds", ANSWER_WITHIN.as_secs())]
    TimedOut,
    /// The server answered something else than was asked.
    #[error("the server answered something that was not asked")]
    Confused,
}

impl ClientError {
    /// Is it of no use to connect again with the same bundle?
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, ClientError::Revoked | ClientError::Unknown)
    }
}

impl From<TlsError> for ClientError {
    fn from(error: TlsError) -> ClientError {
        ClientError::Tls(error.to_string())
    }
}

/// Where connections go out from; many can share one.
#[derive(Debug, Clone)]
pub struct Dialer {
    endpoint: Endpoint,
}

/// A connection to a server. Clones share it.
#[derive(Debug, Clone)]
pub struct Client {
    connection: Connection,
    /// The socket, if this connection has one of its own.
    own: Option<Endpoint>,
    shared: Arc<Shared>,
    outgoing: mpsc::UnboundedSender<Vec<u8>>,
}

#[derive(Debug)]
struct Shared {
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    answers: HashMap<u64, oneshot::Sender<Response>>,
    /// Why there will be no more answers.
    ended: Option<ClientError>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Dialer {
    /// For servers reached by the same kind of address as `server`.
    ///
    /// # Errors
    /// [`ClientError::Lost`] if there is no socket to be had.
    pub fn towards(server: SocketAddr) -> Result<Dialer, ClientError> {
        Dialer::losing(server, None)
    }

    /// The same on a network that loses packets, for load tests.
    ///
    /// # Errors
    /// As [`Dialer::towards`].
    pub fn losing(server: SocketAddr, loss: Option<Loss>) -> Result<Dialer, ClientError> {
        let from: SocketAddr =
            if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
        let endpoint = socket::endpoint_that_loses(from, socket::names(), None, loss)
            .map_err(|error| ClientError::Lost(error.to_string()))?;
        Ok(Dialer { endpoint })
    }

    /// Connects and asks the server who we are.
    ///
    /// # Errors
    /// [`ClientError`] that says what is wrong: no server, an untrusted one, or one that refuses us.
    pub async fn connect(&self, server: SocketAddr, bundle: &Bundle) -> Result<(Client, Welcome), ClientError> {
        let (connection, send, receive) = self.open(server, bundle).await?;
        let (outgoing, to_write) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared { waiting: Mutex::default() });
        tokio::spawn(write(send, to_write));
        let listener = Listener::new(connection.clone(), server, receive);
        tokio::spawn(read(listener, Arc::clone(&shared)));
        let client = Client { connection, own: None, shared, outgoing };
        // A certificate that the server refuses shows only now: the client's half of the handshake succeeds before.
        match client.ask(&Request::Hello).await? {
            Response::Welcome(welcome) => Ok((client, welcome)),
            _ => Err(ClientError::Confused),
        }
    }

    /// A connection and its one stream.
    pub(crate) async fn open(
        &self,
        server: SocketAddr,
        bundle: &Bundle,
    ) -> Result<(Connection, SendStream, RecvStream), ClientError> {
        let config = client_config(bundle)?;
        let connecting = self
            .endpoint
            .connect_with(config, server, SERVER_NAME)
            .map_err(|error| ClientError::Lost(error.to_string()))?;
        let connection = match tokio::time::timeout(CONNECT_WITHIN, connecting).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return Err(explain(server, &error)),
            Err(_) => return Err(ClientError::NoServer(server)),
        };
        let (send, receive) = connection.open_bi().await.map_err(|error| explain(server, &error))?;
        Ok((connection, send, receive))
    }
}

impl Client {
    /// Connects from a socket of its own; see [`Dialer::connect`].
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn connect(server: SocketAddr, bundle: &Bundle) -> Result<(Client, Welcome), ClientError> {
        let dialer = Dialer::towards(server)?;
        let (mut client, welcome) = dialer.connect(server, bundle).await?;
        client.own = Some(dialer.endpoint);
        Ok((client, welcome))
    }

    /// Sends a request; the answer comes through what is returned, or nothing does if the connection ends.
    ///
    /// # Errors
    /// Why the connection has ended, if it has.
    pub fn send(&self, request: &Request) -> Result<oneshot::Receiver<Response>, ClientError> {
        let (answer, answered) = oneshot::channel();
        let tag = {
            let mut waiting = self.shared.lock();
            if let Some(ended) = &waiting.ended {
                return Err(ended.clone());
            }
            waiting.next += 1;
            let tag = waiting.next;
            waiting.answers.insert(tag, answer);
            tag
        };
        let mut frame = Vec::with_capacity(64);
        request.encode(tag, &mut frame);
        // If the writer has gone, so will the reader, and it says why.
        drop(self.outgoing.send(frame));
        Ok(answered)
    }

    /// Sends a request and waits for the answer.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn ask(&self, request: &Request) -> Result<Response, ClientError> {
        match tokio::time::timeout(ANSWER_WITHIN, self.send(request)?).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(_)) => Err(self.shared.lock().ended.clone().unwrap_or(ClientError::Confused)),
            Err(_) => Err(ClientError::TimedOut),
        }
    }

    /// Asks for a command under the caller's number.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn command(&self, sequence: Sequence, asked: impl Into<Asked>) -> Result<Outcome, ClientError> {
        outcome(self.ask(&Request::Command { sequence, asked: asked.into() }).await?)
    }

    /// Asks for a balance.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn query(&self, query: Query) -> Result<Outcome, ClientError> {
        outcome(self.ask(&Request::Query(query)).await?)
    }

    /// A whole month's statement: the months there are, newest first, and the postings, oldest first; or the outcome that
    /// came instead.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn statement(
        &self,
        account: AccountId,
        month: Month,
    ) -> Result<Result<(Vec<Month>, Vec<Record>), Outcome>, ClientError> {
        let (mut all_months, mut all) = (Vec::new(), Vec::new());
        let mut after = Lsn::ZERO;
        loop {
            match self.ask(&Request::Statement { account, month, after }).await? {
                Response::Statement { more, months, postings } => {
                    if after == Lsn::ZERO {
                        all_months = months;
                    }
                    after = postings.last().map_or(after, |last| last.lsn);
                    all.extend(postings);
                    if !more {
                        return Ok(Ok((all_months, all)));
                    }
                }
                Response::Outcome(outcome) => return Ok(Err(outcome)),
                _ => return Err(ClientError::Confused),
            }
        }
    }

    /// The accounts after `after` that wish to be topped up, some hundred at a time; or the outcome that came instead.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn wishes(&self, after: AccountId) -> Result<Result<Vec<Wish>, Outcome>, ClientError> {
        match self.ask(&Request::Query(Query::Wishes { after })).await? {
            Response::Wishes(wishes) => Ok(Ok(wishes)),
            Response::Outcome(outcome) => Ok(Err(outcome)),
            _ => Err(ClientError::Confused),
        }
    }

    /// The picture of the pupil whose card it is, a JPEG, empty if there is none; or the outcome that came instead.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn picture(&self, card: CardNumber) -> Result<Result<Vec<u8>, Outcome>, ClientError> {
        match self.ask(&Request::Picture { card }).await? {
            Response::Picture(jpeg) => Ok(Ok(jpeg)),
            Response::Outcome(outcome) => Ok(Err(outcome)),
            _ => Err(ClientError::Confused),
        }
    }

    /// Pupils by account, or, where that is 0, by a part of the name, birth date or the mail address of a login; or the outcome that came
    /// instead.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn find(&self, account: AccountId, text: Text) -> Result<Result<Found, Outcome>, ClientError> {
        match self.ask(&Request::Find { account, text }).await? {
            Response::Found(found) => Ok(Ok(found)),
            Response::Outcome(outcome) => Ok(Err(outcome)),
            _ => Err(ClientError::Confused),
        }
    }

    /// Has the server make a backup, or asks how far it has come: it is done when there is a name or an error.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::Closed`] for a role that may not.
    pub async fn backup(&self) -> Result<Progress, ClientError> {
        match self.ask(&Request::Backup).await? {
            Response::Backup(progress) => Ok(progress),
            Response::Outcome(_) => Err(ClientError::Closed("only an operator may make a backup".to_owned())),
            _ => Err(ClientError::Confused),
        }
    }

    /// Journal records from `from` on, up to a few hundred, and the last durable position.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::Closed`] for a role that may not.
    pub async fn records(&self, from: Lsn) -> Result<(Lsn, Vec<Record>), ClientError> {
        match self.ask(&Request::Records { from }).await? {
            Response::Records { head, records } => Ok((head, records)),
            Response::Outcome(Outcome::Unavailable) => Err(ClientError::Lost("the journal cannot be read".to_owned())),
            Response::Outcome(_) => Err(ClientError::Closed("only an operator may read the journal".to_owned())),
            _ => Err(ClientError::Confused),
        }
    }

    /// Has the connection ended?
    #[must_use]
    pub fn ended(&self) -> Option<ClientError> {
        self.shared.lock().ended.clone()
    }

    /// Ends the connection in order. What is in flight is not waited for.
    pub async fn close(&self) {
        self.connection.close(VarInt::from_u32(code::BYE), b"bye");
        // A program that ended now would take the close with it, and the server would wait for the connection to time out.
        if let Some(endpoint) = &self.own {
            drop(tokio::time::timeout(CLOSE_WITHIN, endpoint.wait_idle()).await);
        }
    }
}

fn outcome(response: Response) -> Result<Outcome, ClientError> {
    match response {
        Response::Outcome(outcome) => Ok(outcome),
        _ => Err(ClientError::Confused),
    }
}

async fn write(mut send: SendStream, mut frames: mpsc::UnboundedReceiver<Vec<u8>>) {
    const MANY: usize = 256;
    let mut batch = Vec::with_capacity(MANY);
    while frames.recv_many(&mut batch, MANY).await > 0 {
        let out = batch.concat();
        batch.clear();
        if send.write_all(&out).await.is_err() {
            return;
        }
    }
    // The last handle is gone; the server answers what is in flight to nobody.
    drop(send.finish());
}

async fn read(mut listener: Listener, shared: Arc<Shared>) {
    let mut answers = Vec::new();
    let ended = loop {
        let heard = listener.hear(&mut answers).await;
        let mut waiting = shared.lock();
        for (tag, response) in answers.drain(..) {
            if let Some(answer) = waiting.answers.remove(&tag) {
                // Whoever asked may have stopped waiting.
                drop(answer.send(response));
            }
        }
        if let Err(error) = heard {
            break error;
        }
    };
    let mut waiting = shared.lock();
    waiting.ended = Some(ended);
    waiting.answers.clear();
}

pub(crate) fn reset_reason(why: VarInt) -> String {
    let reason = match u32::try_from(why.into_inner()) {
        Ok(code::MALFORMED) => "it could not read what we sent",
        Ok(code::TOO_LARGE) => "we sent something too large",
        Ok(code::UNKNOWN_KIND) => "it does not know this kind of request; is it older than this program?",
        Ok(code::VERSION) => "it speaks another version of the protocol",
        _ => "for a reason this program does not know",
    };
    format!("{reason} (code {why})")
}

pub(crate) fn explain(address: SocketAddr, error: &ConnectionError) -> ClientError {
    match error {
        ConnectionError::TimedOut => ClientError::NoServer(address),
        ConnectionError::TransportError(transport) => ClientError::Untrusted { address, why: transport.to_string() },
        ConnectionError::ConnectionClosed(close) if close.error_code == TransportErrorCode::CONNECTION_REFUSED => {
            ClientError::Refused(address)
        }
        ConnectionError::ConnectionClosed(close) => ClientError::Untrusted { address, why: close.to_string() },
        ConnectionError::ApplicationClosed(close) => match u32::try_from(close.error_code.into_inner()) {
            Ok(code::REVOKED) => ClientError::Revoked,
            Ok(code::UNKNOWN_CALLER) => ClientError::Unknown,
            _ => ClientError::Closed(String::from_utf8_lossy(&close.reason).into_owned()),
        },
        ConnectionError::Reset => ClientError::Forgotten,
        ConnectionError::VersionMismatch | ConnectionError::LocallyClosed | ConnectionError::CidsExhausted => {
            ClientError::Lost(error.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use quinn::{ApplicationClose, ConnectionClose};

    use super::*;

    #[test]
    fn why_a_server_does_not_talk_to_us_is_told_apart() {
        let address: SocketAddr = "127.0.0.1:4433".parse().unwrap();
        let why = |error: ConnectionError| explain(address, &error).to_string();
        let by_tls = |error_code| ConnectionClose { error_code, frame_type: None, reason: b"x".as_slice().into() };
        let by_us =
            |code| ApplicationClose { error_code: VarInt::from_u32(code), reason: b"it closes".as_slice().into() };
        let refused = why(ConnectionError::ConnectionClosed(by_tls(TransportErrorCode::CONNECTION_REFUSED)));
        assert_eq!(refused, "the server at 127.0.0.1:4433 takes no new connections; it may be closing down");
        let stranger = why(ConnectionError::ConnectionClosed(by_tls(TransportErrorCode::crypto(42))));
        assert!(stranger.contains("do not belong together"), "{stranger}");
        assert!(why(ConnectionError::ApplicationClosed(by_us(code::REVOKED))).contains("has been revoked"));
        assert!(why(ConnectionError::ApplicationClosed(by_us(code::UNKNOWN_CALLER))).contains("names nobody"));
        let closed = why(ConnectionError::ApplicationClosed(by_us(code::SHUTDOWN)));
        assert_eq!(closed, "the server closed the connection: it closes");
        assert!(why(ConnectionError::TimedOut).starts_with("no frokost server answers"));
    }
}
