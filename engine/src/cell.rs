//! The one place of an account: it holds either the account's state, or the actor that owns the state, and never both.
//! Its small lock is held while a message is put into the mailbox, which is what makes giving a state back safe;
//! it is never held across an await or a map call.

use std::sync::{Arc, PoisonError};

#[cfg(frokost_loom)]
use loom::sync::{Mutex, MutexGuard};
#[cfg(not(frokost_loom))]
use std::sync::{Mutex, MutexGuard};

use crate::id::AccountId;

/// The one place of an account. `S` is its state, `A` the handle of the actor that owns the state while anybody asks.
#[derive(Debug)]
pub(crate) struct Cell<S, A> {
    pub(crate) id: AccountId,
    slot: Mutex<Slot<S, A>>,
}

#[derive(Debug)]
enum Slot<S, A> {
    Idle(S),
    /// An actor owns the state; so many messages were put into its mailbox for this account and are not handled yet.
    Active(A, usize),
    /// Its actor has fallen; the state is being made anew from the journal.
    Rebuilding,
}

impl<S, A> Cell<S, A> {
    pub(crate) fn new(id: AccountId, state: S) -> Arc<Cell<S, A>> {
        Arc::new(Cell { id, slot: Mutex::new(Slot::Idle(state)) })
    }

    fn lock(&self) -> MutexGuard<'_, Slot<S, A>> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the actor that owns the account a message through `deliver`; where none does, one from `actor`, with the
    /// state that it owns from then on. False if the account is being rebuilt: then nothing is delivered.
    pub(crate) fn send(&self, actor: impl FnOnce() -> A, deliver: impl FnOnce(&A, Option<S>)) -> bool {
        let mut slot = self.lock();
        let (actor, state, waiting) = match std::mem::replace(&mut *slot, Slot::Rebuilding) {
            Slot::Idle(state) => (actor(), Some(state), 0),
            Slot::Active(actor, waiting) => (actor, None, waiting),
            Slot::Rebuilding => return false,
        };
        deliver(&actor, state);
        *slot = Slot::Active(actor, waiting + 1);
        true
    }

    /// The actor has handled so many messages and gives the state back, unless another one waits for it; then it keeps the state.
    pub(crate) fn give_back(&self, handled: usize, state: S) -> Result<(), S> {
        let mut slot = self.lock();
        // Nobody can raise the count while the lock is held, so nothing is left behind in the mailbox.
        match &mut *slot {
            Slot::Active(_, waiting) if *waiting == handled => *slot = Slot::Idle(state),
            Slot::Active(_, waiting) => {
                *waiting -= handled;
                return Err(state);
            }
            Slot::Idle(_) | Slot::Rebuilding => return Err(state),
        }
        Ok(())
    }

    /// The actor has fallen; whatever waited in its mailbox is gone with it.
    pub(crate) fn fallen(&self) {
        *self.lock() = Slot::Rebuilding;
    }

    /// The state is made anew.
    pub(crate) fn rebuilt(&self, state: S) {
        *self.lock() = Slot::Idle(state);
    }
}

#[cfg(all(test, frokost_loom))]
mod loom_tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// A mailbox that counts what an "actor" has to do, and has the state it is to own.
    type Mailbox = Arc<Mutex<(u32, Option<u32>)>>;

    fn send(cell: &Cell<u32, Mailbox>, to: impl FnOnce() -> Mailbox) -> bool {
        cell.send(to, |mailbox, state| {
            let mut mailbox = mailbox.lock().unwrap();
            mailbox.0 += 1;
            if state.is_some() {
                assert!(mailbox.1.is_none(), "an actor is given a second account");
                mailbox.1 = state;
            }
        })
    }

    fn waiting(mailbox: &Mailbox) -> u32 {
        mailbox.lock().unwrap().0
    }

    /// A sender against an actor that gives its account back, in every interleaving: a message is either in the mailbox of an
    /// actor that goes on, or starts a new one; it never stays behind in the mailbox of one that owns nothing.
    #[test]
    fn no_message_is_left_with_an_actor_that_rests() {
        loom::model(|| {
            let cell: Arc<Cell<u32, Mailbox>> = Cell::new(AccountId(1), 0);
            let first = Mailbox::default();
            assert!(send(&cell, || Arc::clone(&first)));

            let sender = {
                let cell = Arc::clone(&cell);
                loom::thread::spawn(move || assert!(send(&cell, Mailbox::default)))
            };
            // The first actor: handles its message, then tries to give the account back.
            first.lock().unwrap().0 -= 1;
            let rests = cell.give_back(1, 1).is_ok();
            sender.join().unwrap();
            let left_behind = waiting(&first);
            let slot = cell.lock();
            let Slot::Active(mailbox, 1) = &*slot else { panic!("the second message waits somewhere: {slot:?}") };
            if rests {
                assert_eq!(left_behind, 0, "a message waits for an actor that is gone");
                assert_eq!(
                    *mailbox.lock().unwrap(),
                    (1, Some(1)),
                    "the message went to a new actor, with what the first one had made"
                );
            } else {
                assert_eq!(left_behind, 1, "the actor stayed for the message");
            }
        });
    }

    /// An actor gives one account back and rests; whoever asks for another account may take it, while somebody asks for the first again. In every
    /// interleaving each account has an actor of its own, with its own state and its own messages.
    #[test]
    fn an_actor_that_rests_is_taken_with_nothing_left_of_before() {
        loom::model(|| {
            let (one, other): (Arc<Cell<u32, Mailbox>>, _) = (Cell::new(AccountId(1), 10), Cell::new(AccountId(2), 20));
            let pool: Arc<Mutex<Option<Mailbox>>> = Arc::default();
            let first = Mailbox::default();
            assert!(send(&one, || Arc::clone(&first)));
            let ask = |cell: &Arc<Cell<u32, Mailbox>>| {
                let (cell, pool) = (Arc::clone(cell), Arc::clone(&pool));
                loom::thread::spawn(move || assert!(send(&cell, || pool.lock().unwrap().take().unwrap_or_default())))
            };
            let asking = [ask(&one), ask(&other)];
            let state = {
                let mut first = first.lock().unwrap();
                first.0 -= 1;
                first.1.take().unwrap()
            };
            match one.give_back(1, state) {
                Ok(()) => *pool.lock().unwrap() = Some(Arc::clone(&first)),
                Err(state) => first.lock().unwrap().1 = Some(state),
            }
            for asking in asking {
                asking.join().unwrap();
            }
            for (cell, owned) in [(&one, 10), (&other, 20)] {
                let slot = cell.lock();
                let Slot::Active(mailbox, 1) = &*slot else { panic!("a message waits somewhere: {slot:?}") };
                assert_eq!(*mailbox.lock().unwrap(), (1, Some(owned)));
            }
        });
    }

    /// Two senders find an account idle, in every interleaving: one actor is taken for it, and both messages are in its mailbox.
    #[test]
    fn an_idle_account_is_given_to_one_actor() {
        loom::model(|| {
            let cell: Arc<Cell<u32, Mailbox>> = Cell::new(AccountId(1), 7);
            let taken = Arc::new(AtomicUsize::new(0));
            let ask = |cell: Arc<Cell<u32, Mailbox>>, taken: Arc<AtomicUsize>| {
                assert!(send(&cell, || {
                    taken.fetch_add(1, Ordering::SeqCst);
                    Mailbox::default()
                }));
            };
            let other = {
                let (cell, taken) = (Arc::clone(&cell), Arc::clone(&taken));
                loom::thread::spawn(move || ask(cell, taken))
            };
            ask(Arc::clone(&cell), Arc::clone(&taken));
            other.join().unwrap();
            assert_eq!(taken.load(Ordering::SeqCst), 1);
            assert!(matches!(&*cell.lock(), Slot::Active(mailbox, 2) if *mailbox.lock().unwrap() == (2, Some(7))));
        });
    }

    /// An actor falls while somebody sends: the message is dropped with it or refused, and the account is rebuilt once, idle.
    #[test]
    fn an_account_that_falls_takes_no_later_message() {
        loom::model(|| {
            let cell: Arc<Cell<u32, Mailbox>> = Cell::new(AccountId(1), 0);
            let first = Mailbox::default();
            assert!(send(&cell, || Arc::clone(&first)));
            let sender = {
                let cell = Arc::clone(&cell);
                loom::thread::spawn(move || send(&cell, Mailbox::default))
            };
            cell.fallen();
            cell.rebuilt(7);
            let taken = sender.join().unwrap();
            let in_the_old = waiting(&first) == 2;
            match &*cell.lock() {
                // Sent before the fall, and gone with it; or refused while it was being rebuilt.
                Slot::Idle(state) => assert!(*state == 7 && (in_the_old || !taken)),
                // Sent after it: a new actor.
                Slot::Active(mailbox, _) => assert!(taken && !in_the_old && waiting(mailbox) == 1),
                Slot::Rebuilding => panic!("it stays fallen"),
            }
        });
    }
}
