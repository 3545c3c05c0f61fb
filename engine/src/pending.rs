//! Answers that wait for what they rest on. A pending request carries its permit, its place in the caller's window and
//! the way back to the caller; whatever happens to it, exactly one of settle, silence or drop ends it.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot};

use crate::dedup::{Answer, Answered, Window};
use crate::id::Sequence;
use crate::outcome::Outcome;
use crate::permits::Permit;
use crate::time::Timestamp;

/// Where the answers of many requests come together, told apart by their tags. Called by whoever lets answers go, for everybody, so it may not
/// wait for the caller; what it keeps is bounded by the session's own count of requests in flight.
pub trait AnswerSink: Debug + Send + Sync {
    /// Takes an answer. True if it is the first that is not on its way: whoever is told that calls [`AnswerSink::flush`] when it has no more
    /// for now. Nobody else will.
    #[must_use = "what was fed stays where it is until it is flushed"]
    fn feed(&self, tag: u64, outcome: Outcome) -> bool;

    /// Sends what was taken.
    fn flush(self: Arc<Self>);
}

/// A channel, for callers in this process.
impl AnswerSink for mpsc::UnboundedSender<(u64, Outcome)> {
    fn feed(&self, tag: u64, outcome: Outcome) -> bool {
        // Who has stopped listening is told nothing.
        let _ = self.send((tag, outcome));
        false
    }

    fn flush(self: Arc<Self>) {}
}

/// What is to be flushed when a group has been answered.
pub(crate) type Fed = Vec<Arc<dyn AnswerSink>>;

/// The way back to whoever asked.
#[derive(Debug)]
pub enum Reply {
    /// To one waiter.
    Once(oneshot::Sender<Outcome>),
    /// To where a session's answers come together.
    Stream {
        /// There.
        to: Arc<dyn AnswerSink>,
        /// The caller's mark on the request.
        tag: u64,
    },
}

impl Reply {
    /// Answers. A caller that has gone away is no error: the answer is in its window when it comes back.
    pub(crate) fn send(self, outcome: Outcome) {
        if let Some(sink) = self.feed(outcome) {
            sink.flush();
        }
    }

    /// Answers, and gives back what is to be flushed then.
    fn feed(self, outcome: Outcome) -> Option<Arc<dyn AnswerSink>> {
        match self {
            Reply::Once(to) => {
                let _ = to.send(outcome);
                None
            }
            Reply::Stream { to, tag } => to.feed(tag, outcome).then_some(to),
        }
    }
}

/// A reply and the permits it is entitled by: one of all, and one of the caller's own.
#[derive(Debug)]
pub(crate) struct Waiter {
    pub(crate) reply: Reply,
    pub(crate) permit: [Permit; 2],
}

impl Waiter {
    pub(crate) fn answer(self, outcome: Outcome) {
        // The permit goes back first: whoever hears the answer may ask again at once.
        drop(self.permit);
        self.reply.send(outcome);
    }

    /// The same as one of many: what is to be flushed after the last comes to `fed`.
    fn answer_among(self, outcome: Outcome, fed: &mut Fed) {
        drop(self.permit);
        fed.extend(self.reply.feed(outcome));
    }
}

/// A caller's window, shared by its sessions and the committer.
pub(crate) type SharedWindow = Arc<Mutex<Window<Waiter>>>;

pub(crate) fn lock(window: &SharedWindow) -> MutexGuard<'_, Window<Waiter>> {
    window.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A key in flight.
#[derive(Debug)]
pub(crate) struct Ticket {
    pub(crate) window: SharedWindow,
    pub(crate) sequence: Sequence,
    pub(crate) fingerprint: u64,
}

/// A request that was let in and is not answered yet.
#[derive(Debug)]
pub(crate) struct Pending {
    waiter: Option<Waiter>,
    /// `None` for a query.
    ticket: Option<Ticket>,
}

impl Pending {
    pub(crate) fn new(waiter: Waiter, ticket: Option<Ticket>) -> Pending {
        Pending { waiter: Some(waiter), ticket }
    }

    /// Ends it with an answer that is durable, and remembers that under its key. What is to be flushed then comes to `fed`.
    pub(crate) fn settle(mut self, at: Timestamp, outcome: Outcome, fed: &mut Fed) {
        // Taken out first: should the window fall, nobody is told anything.
        let waiter = self.waiter.take();
        let also = match self.ticket.take() {
            Some(Ticket { window, sequence, fingerprint }) => match Answer::of(outcome) {
                Some(answer) => lock(&window).settle(Answered { sequence, fingerprint, at, answer }),
                None => lock(&window).abandon(sequence),
            },
            None => Vec::new(),
        };
        for waiter in waiter.into_iter().chain(also) {
            waiter.answer_among(outcome, fed);
        }
    }

    /// Ends it without a word and without giving the key back: nothing is known about it any more.
    pub(crate) fn silence(mut self) {
        if let Some(Ticket { window, sequence, .. }) = self.ticket.take() {
            let waiters = lock(&window).take_waiters(sequence);
            drop(waiters);
        }
        self.waiter = None;
    }
}

impl Drop for Pending {
    /// Nobody decided it: the key is free again, and everyone who waits is told to ask once more.
    fn drop(&mut self) {
        let also = match self.ticket.take() {
            Some(Ticket { window, sequence, .. }) => lock(&window).abandon(sequence),
            None => Vec::new(),
        };
        for waiter in self.waiter.take().into_iter().chain(also) {
            waiter.answer(Outcome::Unavailable);
        }
    }
}
