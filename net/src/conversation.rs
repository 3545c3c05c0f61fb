//! The lean client: one stream, held by one task, that asks as fast as it can and takes answers as they come. No map of who waits, no task in
//! between: what a load tester needs so as not to be the slower half. Everybody else uses [`crate::Client`], which listens
//! through the same [`Listener`].

use std::net::SocketAddr;

use quinn::{Connection, RecvStream, SendStream, VarInt};

use crate::client::{ClientError, Dialer, explain, reset_reason};
use crate::enrol::Bundle;
use crate::frames::Frames;
use crate::wire::frame::{self, FrameError, RESPONSE_LIMIT};
use crate::wire::{Request, Response, Welcome, code};

/// How much is read at once.
const READ: usize = 16 * 1024;

/// The asking half of a conversation.
#[derive(Debug)]
pub struct Asker {
    connection: Connection,
    send: SendStream,
    out: Vec<u8>,
    /// So much of it is sent.
    sent: usize,
}

/// The half that hears answers.
#[derive(Debug)]
pub struct Listener {
    connection: Connection,
    server: SocketAddr,
    receive: RecvStream,
    frames: Frames,
}

impl Dialer {
    /// Connects and asks the server who we are.
    ///
    /// # Errors
    /// [`ClientError`], as [`Dialer::connect`].
    pub async fn converse(
        &self,
        server: SocketAddr,
        bundle: &Bundle,
    ) -> Result<(Asker, Listener, Welcome), ClientError> {
        let (connection, send, receive) = self.open(server, bundle).await?;
        let mut asker = Asker { connection: connection.clone(), send, out: Vec::new(), sent: 0 };
        let mut listener = Listener::new(connection, server, receive);
        asker.ask(u64::MAX, &Request::Hello);
        asker.send().await?;
        let mut answers = Vec::new();
        listener.hear(&mut answers).await?;
        match answers.pop() {
            Some((u64::MAX, Response::Welcome(welcome))) => Ok((asker, listener, welcome)),
            Some(_) | None => Err(ClientError::Confused),
        }
    }
}

impl Asker {
    /// Puts a question beside those that are not sent yet. The answer bears its tag.
    pub fn ask(&mut self, tag: u64, request: &Request) {
        request.encode(tag, &mut self.out);
    }

    /// Was something put down that is not sent yet?
    #[must_use]
    pub fn has_unsent(&self) -> bool {
        !self.out.is_empty()
    }

    /// Sends what was put down. May be given up while it waits and goes on the next time. Who sends much has to hear meanwhile: a server whose
    /// answers are not read takes nothing more.
    ///
    /// # Errors
    /// [`ClientError::Lost`] if the connection has ended.
    pub async fn send(&mut self) -> Result<(), ClientError> {
        while let Some(rest) = self.out.get(self.sent..).filter(|rest| !rest.is_empty()) {
            self.sent += self.send.write(rest).await.map_err(|error| ClientError::Lost(error.to_string()))?;
        }
        self.out.clear();
        self.sent = 0;
        Ok(())
    }

    /// Ends the conversation. What is in flight is not waited for.
    pub fn close(&self) {
        self.connection.close(VarInt::from_u32(code::BYE), b"bye");
    }
}

impl Listener {
    pub(crate) fn new(connection: Connection, server: SocketAddr, receive: RecvStream) -> Listener {
        Listener { connection, server, receive, frames: Frames::default() }
    }

    /// Waits for answers and adds what has come, by their tags. May be given up while it waits; nothing is lost then.
    ///
    /// # Errors
    /// [`ClientError`] if there will be none any more.
    pub async fn hear(&mut self, answers: &mut Vec<(u64, Response)>) -> Result<(), ClientError> {
        let before = answers.len();
        while answers.len() == before {
            let chunk = match self.receive.read_chunk(READ, true).await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => return Err(ClientError::Closed("the stream was finished".to_owned())),
                Err(quinn::ReadError::Reset(why)) => return Err(ClientError::Closed(reset_reason(why))),
                Err(error) => {
                    return Err(match self.connection.close_reason() {
                        Some(reason) => explain(self.server, &reason),
                        None => ClientError::Lost(error.to_string()),
                    });
                }
            };
            if let Err(error) = self.cut(&chunk.bytes, answers) {
                // The stream may be gone already; then there is nobody to tell.
                drop(self.receive.stop(VarInt::from_u32(error.code())));
                return Err(ClientError::Lost(format!("the server sent {error}")));
            }
        }
        Ok(())
    }

    /// Cuts whole frames off what has come.
    fn cut(&mut self, came: &[u8], answers: &mut Vec<(u64, Response)>) -> Result<(), FrameError> {
        let bytes = self.frames.with(came);
        let mut done = 0;
        while let Some((frame, length)) = frame::split(bytes.get(done..).unwrap_or_default(), RESPONSE_LIMIT)? {
            answers.push((frame.tag, Response::decode(&frame)?));
            done += length;
        }
        self.frames.keep(bytes, done);
        Ok(())
    }
}
