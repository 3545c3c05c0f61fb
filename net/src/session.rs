//! One stream of one caller: frames in, requests to the engine; answers go out by the stream's [`Answers`] as they become durable.
//! A caller that sends faster than it is answered, or does not read, is no longer read from; nobody else notices.

use std::sync::Arc;

use frokost_engine::time::Month;
use frokost_engine::{AccountId, CallerHandle, CardNumber, Clock, Engine, Lsn, Outcome, Query, Rejection, Reply, Role};
use quinn::{RecvStream, SendStream, VarInt};
use tokio::sync::Semaphore;

use crate::answers::{Answers, Streams};
use crate::frames::Frames;
use crate::server::{Desks, PictureDesk};
use crate::wire::frame::{self, FrameError, REQUEST_LIMIT};
use crate::wire::response::POSTINGS_LIMIT;
use crate::wire::{Request, Response, Welcome};

/// How many requests of one stream may be in flight.
const IN_FLIGHT: u32 = 256;
/// How much is read at once.
const READ: usize = 16 * 1024;

pub(crate) struct Session {
    pub(crate) engine: Engine,
    pub(crate) caller: CallerHandle,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) desks: Desks,
    /// One look-up at a time, of all sessions.
    pub(crate) looking_up: Arc<Semaphore>,
    pub(crate) streams: Arc<Streams>,
}

/// While a stream is served. However that ends, a panic included, nothing waits for room and nothing counts as unsent behind it.
struct Served<'a>(&'a Answers);

impl Drop for Served<'_> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

/// Serves a stream until either side ends it.
pub(crate) async fn run(session: Session, send: SendStream, mut receive: RecvStream) {
    let answers = session.streams.begin(send, IN_FLIGHT);
    let _served = Served(&answers);
    match read(&session, &mut receive, &answers).await {
        Ok(()) => answers.finish().await,
        Err(error) => {
            metrics::counter!("frokost_malformed_frames_total").increment(1);
            tracing::warn!(caller = %session.caller.caller().id, %error, "a stream is closed for what came over it");
            // The stream may be gone already; then there is nobody to tell.
            drop(receive.stop(VarInt::from_u32(error.code())));
            answers.reset(error.code());
        }
    }
}

/// Reads requests until the caller finishes, the connection ends or a frame cannot be read.
async fn read(session: &Session, receive: &mut RecvStream, answers: &Arc<Answers>) -> Result<(), FrameError> {
    let mut frames = Frames::default();
    while let Ok(Some(chunk)) = receive.read_chunk(READ, true).await {
        let bytes = frames.with(&chunk.bytes);
        let mut done = 0;
        while let Some((frame, length)) = frame::split(bytes.get(done..).unwrap_or_default(), REQUEST_LIMIT)? {
            let request = Request::decode(&frame)?;
            if !answers.admit().await {
                return Ok(());
            }
            dispatch(session, frame.tag, request, answers);
            done += length;
        }
        frames.keep(bytes, done);
    }
    Ok(())
}

fn dispatch(session: &Session, tag: u64, request: Request, answers: &Arc<Answers>) {
    let caller = &session.caller;
    let reply = || Reply::Stream { to: Arc::<Answers>::clone(answers), tag };
    match request {
        Request::Command { sequence, asked } => caller.submit(sequence, asked, reply()),
        Request::Query(Query::Wishes { after }) => {
            let response = caller.wishes(after).map_or_else(Response::Outcome, Response::Wishes);
            answers.respond(tag, &response);
        }
        Request::Query(query) => caller.query(query, reply()),
        Request::Hello => {
            let who = caller.caller();
            let welcome = Welcome {
                caller: who.id,
                role: who.role,
                school: who.school,
                in_flight: IN_FLIGHT,
                now: session.clock.now(),
            };
            answers.respond(tag, &Response::Welcome(welcome));
        }
        Request::Statement { account, month, after } => {
            let (caller, answers) = (caller.clone(), Arc::clone(answers));
            tokio::spawn(async move {
                let response = statement(&caller, account, month, after).await;
                answers.respond(tag, &response);
            });
        }
        Request::Picture { card } => {
            let (caller, pictures, answers) =
                (caller.clone(), Arc::clone(&session.desks.pictures), Arc::clone(answers));
            tokio::spawn(async move {
                let response = picture(&caller, pictures, card).await;
                answers.respond(tag, &response);
            });
        }
        Request::Find { account, text } => {
            let (who, pupils, answers) = (caller.caller(), Arc::clone(&session.desks.pupils), Arc::clone(answers));
            let school = who.school;
            if !matches!(who.role, Role::Secretary | Role::Operator) {
                answers.respond(tag, &Response::Outcome(Outcome::Rejected(Rejection::NotAllowed)));
                return;
            }
            // One at a time: it may go through everybody there is.
            let Ok(place) = Arc::clone(&session.looking_up).try_acquire_owned() else {
                answers.respond(tag, &Response::Outcome(Outcome::Busy));
                return;
            };
            tokio::spawn(async move {
                let look = move || {
                    let _place = place;
                    pupils(school, account, text.as_str())
                };
                let found = tokio::task::spawn_blocking(look).await;
                let response = found.ok().flatten().map_or(Response::Outcome(Outcome::Unavailable), Response::Found);
                answers.respond(tag, &response);
            });
        }
        Request::Backup => {
            let response = match caller.caller().role {
                Role::Operator => Response::Backup((session.desks.backups)()),
                Role::Till | Role::Portal | Role::Secretary => {
                    Response::Outcome(Outcome::Rejected(Rejection::NotAllowed))
                }
            };
            answers.respond(tag, &response);
        }
        Request::Records { from } => {
            let (engine, role, answers) = (session.engine.clone(), caller.caller().role, Arc::clone(answers));
            tokio::spawn(async move {
                let response = records(&engine, role, from).await;
                answers.respond(tag, &response);
            });
        }
    }
}

async fn statement(caller: &CallerHandle, account: AccountId, month: Month, after: Lsn) -> Response {
    match caller.statement(account, month).await {
        Ok(statement) => {
            let mut postings = statement.postings;
            postings.retain(|posting| posting.lsn > after);
            let more = postings.len() > POSTINGS_LIMIT;
            postings.truncate(POSTINGS_LIMIT);
            let months = if after == Lsn::ZERO { statement.months } else { Vec::new() };
            Response::Statement { more, months, postings }
        }
        Err(outcome) => Response::Outcome(outcome),
    }
}

/// Who may ask for a card's balance may see whose it is; the parents' portal has its own way.
async fn picture(caller: &CallerHandle, pictures: PictureDesk, card: CardNumber) -> Response {
    if caller.caller().role == Role::Portal {
        return Response::Outcome(Outcome::Rejected(Rejection::NotAllowed));
    }
    match caller.view(Query::CardBalance { card }).await {
        Outcome::View(view) => {
            let found = tokio::task::spawn_blocking(move || pictures(view.account)).await;
            Response::Picture(found.ok().flatten().unwrap_or_default())
        }
        other @ (Outcome::Approved(_)
        | Outcome::Rejected(_)
        | Outcome::Busy
        | Outcome::OutOfSpace
        | Outcome::Unavailable) => Response::Outcome(other),
    }
}

async fn records(engine: &Engine, role: Role, from: Lsn) -> Response {
    if role != Role::Operator {
        return Response::Outcome(Outcome::Rejected(Rejection::NotAllowed));
    }
    let head = engine.durable();
    match engine.records(from, POSTINGS_LIMIT).await {
        Ok(records) => Response::Records { head, records },
        Err(error) => {
            tracing::error!(%error, "the journal cannot be read");
            Response::Outcome(Outcome::Unavailable)
        }
    }
}
