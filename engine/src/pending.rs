//! Answers that wait for what they rest on. A pending request carries its permit, its place in the caller's window and
//! the way back to the caller; whatever happens to it, exactly one of settle, silence or drop ends it.

use std::fmt::Debug;
use std::hint::black_box;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot};

use crate::dedup::{Answer, Answered, Window};
use crate::id::Sequence;
use crate::outcome::Outcome;
use crate::permits::{Closed, Permits};
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

/// What the engine keeps of one caller, shared by its sessions and whatever it has in flight. In one place: a sale comes back to it when
/// everybody else's have been through the caches.
#[derive(Debug)]
pub(crate) struct CallerState {
    /// The caller's own part of the permits.
    own: Permits,
    /// Everybody's.
    all: Arc<Permits>,
    window: Mutex<Window<Waiter>>,
}

impl CallerState {
    pub(crate) fn new(own: usize, all: Arc<Permits>, window: Window<Waiter>) -> Arc<CallerState> {
        Arc::new(CallerState { own: Permits::new(own), all, window: Mutex::new(window) })
    }

    pub(crate) fn window(&self) -> MutexGuard<'_, Window<Waiter>> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for one request: a permit of the caller's own and one of everybody's. Nothing if one of them is not to be had.
    ///
    /// # Errors
    /// [`Closed`].
    pub(crate) fn enter(self: &Arc<CallerState>) -> Result<Option<Place>, Closed> {
        // The caller's own part first: one that floods takes nothing from the others.
        if !self.own.take() {
            return Ok(None);
        }
        match self.all.enter() {
            Ok(true) => Ok(Some(Place(Arc::clone(self)))),
            Ok(false) => {
                self.own.give();
                Ok(None)
            }
            Err(closed) => {
                self.own.give();
                Err(closed)
            }
        }
    }
}

/// The place of one request: its permits, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place(Arc<CallerState>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.all.give();
        self.0.own.give();
    }
}

/// A reply and the place it is entitled by.
#[derive(Debug)]
pub(crate) struct Waiter {
    pub(crate) reply: Reply,
    pub(crate) place: Place,
}

impl Waiter {
    pub(crate) fn answer(self, outcome: Outcome) {
        // The place is given up first: whoever hears the answer may ask again at once.
        drop(self.place);
        self.reply.send(outcome);
    }

    /// The same as one of many: what is to be flushed after the last comes to `fed`.
    fn answer_among(self, outcome: Outcome, fed: &mut Fed) {
        drop(self.place);
        fed.extend(self.reply.feed(outcome));
    }

    fn window(&self) -> MutexGuard<'_, Window<Waiter>> {
        self.place.0.window()
    }

    /// Looks at what has to be there for the answer, without a use for it: see [`Pending::fetch`].
    fn fetch(&self) {
        black_box(Arc::strong_count(&self.place.0));
        if let Reply::Stream { to, .. } = &self.reply {
            black_box(Arc::strong_count(to));
        }
    }
}

/// A key in flight.
#[derive(Debug)]
pub(crate) struct Ticket {
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

    /// Has the processor get what [`Pending::settle`] will need. Each of that stands behind a lock, so that one would be waited for after the
    /// other; whoever calls this for several first waits for all of them at once.
    pub(crate) fn fetch(&self) {
        self.waiter.iter().for_each(Waiter::fetch);
    }

    /// Ends it with an answer that is durable, and remembers that under its key. What is to be flushed then comes to `fed`.
    pub(crate) fn settle(mut self, at: Timestamp, outcome: Outcome, fed: &mut Fed) {
        // Taken out first: should the window fall, nobody is told anything.
        let (waiter, ticket) = (self.waiter.take(), self.ticket.take());
        let Some(waiter) = waiter else { return };
        let also = match ticket {
            Some(Ticket { sequence, fingerprint }) => match Answer::of(outcome) {
                Some(answer) => waiter.window().settle(Answered { sequence, fingerprint, at, answer }),
                None => waiter.window().abandon(sequence),
            },
            None => Vec::new(),
        };
        for waiter in std::iter::once(waiter).chain(also) {
            waiter.answer_among(outcome, fed);
        }
    }

    /// Ends it without a word and without giving the key back: nothing is known about it any more.
    pub(crate) fn silence(mut self) {
        if let (Some(waiter), Some(Ticket { sequence, .. })) = (self.waiter.take(), self.ticket.take()) {
            let waiters = waiter.window().take_waiters(sequence);
            drop(waiters);
        }
    }
}

impl Drop for Pending {
    /// Nobody decided it: the key is free again, and everyone who waits is told to ask once more.
    fn drop(&mut self) {
        let Some(waiter) = self.waiter.take() else { return };
        let also = match self.ticket.take() {
            Some(Ticket { sequence, .. }) => waiter.window().abandon(sequence),
            None => Vec::new(),
        };
        for waiter in std::iter::once(waiter).chain(also) {
            waiter.answer(Outcome::Unavailable);
        }
    }
}
