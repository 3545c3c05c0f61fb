//! One stream of one caller: frames in, requests to the engine, answers out as they become durable, as many in one write as
//! there are. A caller that sends faster than it is answered, or does not read, is no longer read from; nobody else notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use frokost_engine::time::Month;
use frokost_engine::{AccountId, CallerHandle, CardNumber, Clock, Engine, Lsn, Outcome, Query, Rejection, Reply, Role};
use quinn::{RecvStream, SendStream, VarInt};
use tokio::sync::{Semaphore, mpsc};

use crate::server::{Desks, PictureDesk};
use crate::wire::frame::{self, FrameError, REQUEST_LIMIT};
use crate::wire::response::{POSTINGS_LIMIT, encode_outcome};
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
    /// Requests of all sessions whose answers have not been written yet.
    pub(crate) unsent: Arc<AtomicUsize>,
}

/// The two ways an answer reaches the writer. Both are bounded by the stream's places.
struct Answers {
    outcomes: mpsc::UnboundedSender<(u64, Outcome)>,
    others: mpsc::UnboundedSender<(u64, Response)>,
    places: Semaphore,
}

/// Serves a stream until either side ends it.
pub(crate) async fn run(session: Session, send: SendStream, mut receive: RecvStream) {
    let (outcomes, outcomes_out) = mpsc::unbounded_channel();
    let (others, others_out) = mpsc::unbounded_channel();
    let answers = Arc::new(Answers { outcomes, others, places: Semaphore::new(IN_FLIGHT as usize) });
    let (fault, faulted) = tokio::sync::oneshot::channel();
    let (writing, unsent) = (Arc::clone(&answers), Arc::clone(&session.unsent));
    let writer = tokio::spawn(async move {
        write(send, &writing, &unsent, outcomes_out, others_out, faulted).await;
        // Nothing can be answered any more: a reader that waits for a place is let go, and with it the stream. What it took a place for
        // before is counted behind that.
        writing.places.close();
        let never_sent = IN_FLIGHT as usize - writing.places.available_permits();
        unsent.fetch_sub(never_sent, Ordering::SeqCst);
    });
    if let Err(error) = read(&session, &mut receive, &answers).await {
        metrics::counter!("frokost_malformed_frames_total").increment(1);
        tracing::warn!(caller = %session.caller.caller().id, %error, "a stream is closed for what came over it");
        // The stream may be gone already; then there is nobody to tell.
        drop(receive.stop(VarInt::from_u32(error.code())));
        // The writer may have ended already.
        let _ = fault.send(error);
    } else {
        drop(fault);
    }
    // Cancelled is no news: the program is ending.
    if writer.await.is_err_and(|error| error.is_panic()) {
        tracing::error!("a session's writer panicked");
    }
}

/// Reads requests until the caller finishes, the connection ends or a frame cannot be read.
async fn read(session: &Session, receive: &mut RecvStream, answers: &Arc<Answers>) -> Result<(), FrameError> {
    let mut pending: Vec<u8> = Vec::with_capacity(READ);
    let mut incoming = vec![0; READ];
    while let Ok(Some(length)) = receive.read(&mut incoming).await {
        pending.extend_from_slice(incoming.get(..length).unwrap_or_default());
        let mut done = 0;
        while let Some((frame, length)) = frame::split(pending.get(done..).unwrap_or_default(), REQUEST_LIMIT)? {
            let request = Request::decode(&frame)?;
            let Ok(place) = answers.places.acquire().await else { return Ok(()) };
            place.forget();
            session.unsent.fetch_add(1, Ordering::SeqCst);
            dispatch(session, frame.tag, request, answers);
            done += length;
        }
        pending.drain(..done);
    }
    Ok(())
}

fn dispatch(session: &Session, tag: u64, request: Request, answers: &Arc<Answers>) {
    let caller = &session.caller;
    let reply = || Reply::Stream { to: answers.outcomes.clone(), tag };
    match request {
        Request::Command { sequence, asked } => caller.submit(sequence, asked, reply()),
        Request::Query(Query::Wishes { after }) => {
            let response = caller.wishes(after).map_or_else(Response::Outcome, Response::Wishes);
            drop(answers.others.send((tag, response)));
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
            drop(answers.others.send((tag, Response::Welcome(welcome))));
        }
        Request::Statement { account, month, after } => {
            let (caller, answers) = (caller.clone(), Arc::clone(answers));
            tokio::spawn(async move {
                let response = statement(&caller, account, month, after).await;
                drop(answers.others.send((tag, response)));
            });
        }
        Request::Picture { card } => {
            let (caller, pictures, answers) =
                (caller.clone(), Arc::clone(&session.desks.pictures), Arc::clone(answers));
            tokio::spawn(async move {
                let response = picture(&caller, pictures, card).await;
                drop(answers.others.send((tag, response)));
            });
        }
        Request::Find { account, text } => {
            let (who, pupils, answers) = (caller.caller(), Arc::clone(&session.desks.pupils), Arc::clone(answers));
            let school = who.school;
            if !matches!(who.role, Role::Secretary | Role::Operator) {
                drop(answers.others.send((tag, Response::Outcome(Outcome::Rejected(Rejection::NotAllowed)))));
                return;
            }
            // One at a time: it may go through everybody there is.
            let Ok(place) = Arc::clone(&session.looking_up).try_acquire_owned() else {
                drop(answers.others.send((tag, Response::Outcome(Outcome::Busy))));
                return;
            };
            tokio::spawn(async move {
                let look = move || {
                    let _place = place;
                    pupils(school, account, text.as_str())
                };
                let found = tokio::task::spawn_blocking(look).await;
                let response = found.ok().flatten().map_or(Response::Outcome(Outcome::Unavailable), Response::Found);
                drop(answers.others.send((tag, response)));
            });
        }
        Request::Backup => {
            let response = match caller.caller().role {
                Role::Operator => Response::Backup((session.desks.backups)()),
                Role::Till | Role::Portal | Role::Secretary => {
                    Response::Outcome(Outcome::Rejected(Rejection::NotAllowed))
                }
            };
            drop(answers.others.send((tag, response)));
        }
        Request::Records { from } => {
            let (engine, role, answers) = (session.engine.clone(), caller.caller().role, Arc::clone(answers));
            tokio::spawn(async move {
                let response = records(&engine, role, from).await;
                drop(answers.others.send((tag, response)));
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

/// Writes answers as they come, until the caller has finished and everything is answered, or the stream is gone.
async fn write(
    mut send: SendStream,
    answers: &Answers,
    unsent: &AtomicUsize,
    mut outcomes: mpsc::UnboundedReceiver<(u64, Outcome)>,
    mut others: mpsc::UnboundedReceiver<(u64, Response)>,
    mut faulted: tokio::sync::oneshot::Receiver<FrameError>,
) {
    const MANY: usize = 256;
    let mut batch = Vec::with_capacity(MANY);
    let mut out = Vec::with_capacity(READ);
    let mut finishing = false;
    loop {
        if finishing && answers.places.available_permits() == IN_FLIGHT as usize {
            // Everything that was asked is answered.
            drop(send.finish());
            return;
        }
        let mut written = 0;
        // In this order, without throwing dice each time: what is rare first, so that it is not kept waiting.
        tokio::select! {
            biased;
            Some((tag, response)) = others.recv() => {
                response.encode(tag, &mut out);
                written = 1;
            }
            many = outcomes.recv_many(&mut batch, MANY) => {
                for (tag, outcome) in batch.drain(..) {
                    encode_outcome(&outcome, tag, &mut out);
                }
                written = many;
            }
            fault = &mut faulted, if !finishing => match fault {
                Ok(error) => {
                    drop(send.reset(VarInt::from_u32(error.code())));
                    return;
                }
                Err(_) => finishing = true,
            },
        }
        if !out.is_empty() {
            if send.write_all(&out).await.is_err() {
                return;
            }
            out.clear();
        }
        // Only now: a caller that does not read has its places taken, and is no longer read from.
        answers.places.add_permits(written);
        unsent.fetch_sub(written, Ordering::SeqCst);
    }
}
