//! The one place of an account: it holds either the account's state, or the actor that owns the state, and never both.
//! Its small lock is held while a message is put into the mailbox, which is what makes retiring an idle actor safe;
//! it is never held across an await or a map call.

use std::sync::Arc;

#[cfg(frokost_loom)]
use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};
use std::sync::PoisonError;
#[cfg(not(frokost_loom))]
use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use crate::id::AccountId;

/// The one place of an account. `S` is its state, `A` the handle of the actor that owns the state while it lives.
#[derive(Debug)]
pub(crate) struct Cell<S, A> {
    pub(crate) id: AccountId,
    slot: Mutex<Slot<S, A>>,
    /// Messages that were put into the mailbox and not handled yet. Raised under the lock only.
    waiting: AtomicUsize,
    /// Used since the last sweep?
    used: AtomicBool,
}

#[derive(Debug)]
enum Slot<S, A> {
    Idle(S),
    Live(A),
    /// Its actor has fallen; the state is being made anew from the journal.
    Rebuilding,
}

impl<S, A> Cell<S, A> {
    pub(crate) fn new(id: AccountId, state: S) -> Arc<Cell<S, A>> {
        Arc::new(Cell {
            id,
            slot: Mutex::new(Slot::Idle(state)),
            waiting: AtomicUsize::new(0),
            used: AtomicBool::new(false),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Slot<S, A>> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings the account's actor to life if it sleeps, and gives it a message through `deliver`. False if
    /// the account is being rebuilt: the message stays with the caller.
    pub(crate) fn send(&self, spawn: impl FnOnce(S) -> A, deliver: impl FnOnce(&A)) -> bool {
        let mut slot = self.lock();
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
        let actor = match std::mem::replace(&mut *slot, Slot::Rebuilding) {
            Slot::Idle(state) => spawn(state),
            Slot::Live(actor) => actor,
            Slot::Rebuilding => return false,
        };
        self.waiting.fetch_add(1, Ordering::Relaxed);
        deliver(&actor);
        *slot = Slot::Live(actor);
        true
    }

    /// The actor says that it has handled a message.
    pub(crate) fn handled(&self) {
        self.waiting.fetch_sub(1, Ordering::Release);
    }

    /// The actor gives its state back, unless a message waits for it; then it keeps it and goes on.
    pub(crate) fn retire(&self, state: S) -> Result<(), S> {
        let mut slot = self.lock();
        // Nobody can raise the count while the lock is held, so nothing is left behind in the mailbox.
        if self.waiting.load(Ordering::Acquire) > 0 || !matches!(*slot, Slot::Live(_)) {
            return Err(state);
        }
        *slot = Slot::Idle(state);
        Ok(())
    }

    /// The actor has fallen; whatever waited in its mailbox is gone with it.
    pub(crate) fn fallen(&self) {
        let mut slot = self.lock();
        *slot = Slot::Rebuilding;
        self.waiting.store(0, Ordering::Relaxed);
    }

    /// The state is made anew.
    pub(crate) fn rebuilt(&self, state: S) {
        *self.lock() = Slot::Idle(state);
    }

    /// Has it an actor?
    pub(crate) fn is_awake(&self) -> bool {
        matches!(*self.lock(), Slot::Live(_))
    }

    /// The actor, if it lives and was not used since the last sweep.
    pub(crate) fn idle_actor(&self) -> Option<A>
    where
        A: Clone,
    {
        if self.used.swap(false, Ordering::Relaxed) {
            return None;
        }
        match &*self.lock() {
            Slot::Live(actor) => Some(actor.clone()),
            Slot::Idle(_) | Slot::Rebuilding => None,
        }
    }
}

#[cfg(all(test, frokost_loom))]
mod loom_tests {
    use super::*;

    /// A mailbox that counts what an "actor" has to do, and a state that counts what it did.
    type Mailbox = Arc<Mutex<u32>>;

    /// A sender against an actor that retires, in every interleaving: a message is either in the mailbox of an
    /// actor that goes on, or starts a new one; it never stays behind in the mailbox of a retired one.
    #[test]
    fn no_message_is_left_with_a_retired_actor() {
        loom::model(|| {
            let cell: Arc<Cell<u32, Mailbox>> = Cell::new(AccountId(1), 0);
            let first: Mailbox = Arc::new(Mutex::new(0));
            let mailbox = Arc::clone(&first);
            assert!(cell.send(|_| mailbox, |m| *m.lock().unwrap() += 1));

            let sender = {
                let cell = Arc::clone(&cell);
                loom::thread::spawn(move || {
                    assert!(cell.send(|_| Arc::new(Mutex::new(0)), |m| *m.lock().unwrap() += 1));
                })
            };
            // The first actor: handles its message, then tries to retire.
            *first.lock().unwrap() -= 1;
            cell.handled();
            let retired = cell.retire(1).is_ok();
            sender.join().unwrap();
            let left_behind = *first.lock().unwrap();
            if retired {
                assert_eq!(left_behind, 0, "a message waits for an actor that is gone");
                assert!(
                    matches!(&*cell.lock(), Slot::Live(m) if *m.lock().unwrap() == 1),
                    "the message went to a new actor"
                );
            } else {
                assert_eq!(left_behind, 1, "the actor stayed for the message");
            }
        });
    }

    /// Two senders find an account asleep, in every interleaving: one actor is started, and both messages are in its mailbox.
    #[test]
    fn an_account_that_sleeps_is_woken_once() {
        loom::model(|| {
            let cell: Arc<Cell<u32, Mailbox>> = Cell::new(AccountId(1), 0);
            let woken = Arc::new(AtomicUsize::new(0));
            let send = |cell: Arc<Cell<u32, Mailbox>>, woken: Arc<AtomicUsize>| {
                let wake = |_| {
                    woken.fetch_add(1, Ordering::SeqCst);
                    Arc::new(Mutex::new(0))
                };
                assert!(cell.send(wake, |mailbox| *mailbox.lock().unwrap() += 1));
            };
            let other = {
                let (cell, woken) = (Arc::clone(&cell), Arc::clone(&woken));
                loom::thread::spawn(move || send(cell, woken))
            };
            send(Arc::clone(&cell), Arc::clone(&woken));
            other.join().unwrap();
            assert_eq!(woken.load(Ordering::SeqCst), 1);
            assert!(matches!(&*cell.lock(), Slot::Live(mailbox) if *mailbox.lock().unwrap() == 2));
            assert_eq!(cell.waiting.load(Ordering::SeqCst), 2);
        });
    }

    /// An actor falls while somebody sends: the message is dropped with it or refused, and the account is rebuilt once, asleep.
    #[test]
    fn an_account_that_falls_takes_no_later_message() {
        loom::model(|| {
            let cell: Arc<Cell<u32, Mailbox>> = Cell::new(AccountId(1), 0);
            let first: Mailbox = Arc::new(Mutex::new(0));
            let mailbox = Arc::clone(&first);
            assert!(cell.send(|_| mailbox, |m| *m.lock().unwrap() += 1));
            let sender = {
                let cell = Arc::clone(&cell);
                loom::thread::spawn(move || cell.send(|_| Arc::new(Mutex::new(0)), |m| *m.lock().unwrap() += 1))
            };
            cell.fallen();
            cell.rebuilt(7);
            let taken = sender.join().unwrap();
            let in_the_old = *first.lock().unwrap() == 2;
            let slot = cell.lock();
            match &*slot {
                // Sent before the fall, and gone with it; or refused while it was being rebuilt.
                Slot::Idle(state) => assert!(*state == 7 && (in_the_old || !taken)),
                // Sent after it: a new actor.
                Slot::Live(mailbox) => assert!(taken && !in_the_old && *mailbox.lock().unwrap() == 1),
                Slot::Rebuilding => panic!("it stays fallen"),
            }
        });
    }
}
