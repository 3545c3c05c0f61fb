//! Account actors that own no account now. The one that rested last is taken first: what it touches is in the caches still.

use std::sync::{Mutex, MutexGuard, PoisonError};

use ractor::ActorRef;

use crate::actors::account::Delivery;

/// So many are kept; those above it go, a few at a time, once a rush is over.
const KEPT: usize = 256;

/// The most that go at once: each is some microseconds of work.
const GO_AT_ONCE: usize = 256;

/// Account actors, and those of them that own no account.
#[derive(Debug, Default)]
pub(crate) struct Pool(Mutex<Actors>);

#[derive(Debug, Default)]
struct Actors {
    resting: Vec<ActorRef<Delivery>>,
    /// How many there are, resting or not.
    all: usize,
    /// The fewest that rested since the last trim.
    fewest: usize,
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, Actors> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The actor that rested last, if any rests.
    pub(crate) fn take(&self) -> Option<ActorRef<Delivery>> {
        let mut actors = self.lock();
        let taken = actors.resting.pop();
        actors.fewest = actors.fewest.min(actors.resting.len());
        taken
    }

    /// An actor has given its account back.
    pub(crate) fn rest(&self, actor: ActorRef<Delivery>) {
        self.lock().resting.push(actor);
    }

    /// There is one more, which owns an account.
    pub(crate) fn spawned(&self) {
        self.lock().all += 1;
    }

    /// One that owned an account has fallen.
    pub(crate) fn fallen(&self) {
        self.lock().all -= 1;
    }

    /// How many there are, whether they own an account or rest.
    pub(crate) fn all(&self) -> usize {
        self.lock().all
    }

    /// Lets some of those go that nobody has needed since the last time.
    pub(crate) fn trim(&self) {
        let gone: Vec<_> = {
            let mut actors = self.lock();
            let many = actors.fewest.saturating_sub(KEPT).min(GO_AT_ONCE);
            let gone = actors.resting.drain(..many).collect();
            actors.all -= many;
            actors.fewest = actors.resting.len();
            gone
        };
        for actor in gone {
            actor.stop(None);
        }
    }
}
