//! The right to have one request in flight. Permits are taken at the door, before anything is queued, so that
//! every queue behind it is bounded by their number although the mailboxes themselves are not.
//! Nobody waits for a permit: where none is free the answer is `Busy`, at once.

#[cfg(frokost_loom)]
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
#[cfg(not(frokost_loom))]
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};

/// A fixed number of permits.
#[derive(Debug)]
pub struct Permits {
    free: AtomicUsize,
    total: usize,
    closed: AtomicBool,
}

/// Nobody is let in any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed;

impl Permits {
    /// `total` permits, all free.
    #[must_use]
    pub fn new(total: usize) -> Permits {
        Permits { free: AtomicUsize::new(total), total, closed: AtomicBool::new(false) }
    }

    /// Takes a permit, if one is free. Whoever has one gives it back.
    #[must_use]
    pub fn take(&self) -> bool {
        // Acquire pairs with the Release of a returned permit: what its request did happened before this one.
        self.free.fetch_update(Ordering::Acquire, Ordering::Relaxed, |free| free.checked_sub(1)).is_ok()
    }

    /// Gives a permit back.
    ///
    /// # Panics
    /// If it was never taken.
    pub fn give(&self) {
        let before = self.free.fetch_add(1, Ordering::Release);
        assert!(before < self.total, "a permit came back that was never taken");
    }

    /// Takes a permit, if one is free and nobody has closed the door. Whoever closes it and then sees no permit out sees none out for good.
    ///
    /// # Errors
    /// [`Closed`].
    pub fn enter(&self) -> Result<bool, Closed> {
        let taken = self.take();
        // Between taking and looking here, and between closing and counting in `close`: one of the two sees the other.
        fence(Ordering::SeqCst);
        if !self.is_closed() {
            return Ok(taken);
        }
        if taken {
            self.give();
        }
        Err(Closed)
    }

    /// Lets nobody in any more through [`Permits::enter`].
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Has somebody closed it?
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// How many are taken.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.total.saturating_sub(self.free.load(Ordering::Acquire))
    }
}

#[cfg(all(test, not(frokost_loom)))]
mod tests {
    use super::*;

    #[test]
    fn no_more_are_out_than_there_are() {
        let permits = Permits::new(2);
        assert!(permits.take() && permits.take());
        assert!(!permits.take());
        assert_eq!(permits.taken(), 2);
        permits.give();
        assert!(permits.take());
    }

    #[test]
    fn nobody_is_let_in_after_closing_time_and_no_permit_stays_out_for_it() {
        let permits = Permits::new(2);
        assert_eq!(permits.enter(), Ok(true));
        permits.close();
        assert_eq!(permits.enter(), Err(Closed));
        assert_eq!(permits.taken(), 1);
    }
}

#[cfg(all(test, frokost_loom))]
mod loom_tests {
    use std::sync::Arc;

    use super::*;

    /// Three askers, two permits, every interleaving with up to three preemptions: never three inside at once, and
    /// all of them are back at the end.
    #[test]
    fn never_more_than_the_total_in_any_interleaving() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let permits = Arc::new(Permits::new(2));
            let inside = Arc::new(AtomicUsize::new(0));
            let askers: Vec<_> = (0..2)
                .map(|_| {
                    let (permits, inside) = (Arc::clone(&permits), Arc::clone(&inside));
                    loom::thread::spawn(move || enter(&permits, &inside))
                })
                .collect();
            enter(&permits, &inside);
            for asker in askers {
                asker.join().unwrap();
            }
            assert_eq!(permits.taken(), 0);
        });
    }

    /// A shutdown that sees no permit out is right: whoever asks at the same time is not let in.
    #[test]
    fn nobody_slips_in_after_closing_time() {
        loom::model(|| {
            let permits = Arc::new(Permits::new(1));
            let asker = {
                let permits = Arc::clone(&permits);
                // Stays inside.
                loom::thread::spawn(move || permits.enter() == Ok(true))
            };
            permits.close();
            let empty = permits.taken() == 0;
            let inside = asker.join().unwrap();
            assert!(!(empty && inside), "somebody is inside whom the shutdown did not see");
        });
    }

    fn enter(permits: &Permits, inside: &AtomicUsize) {
        if permits.take() {
            assert!(inside.fetch_add(1, Ordering::SeqCst) < 2);
            inside.fetch_sub(1, Ordering::SeqCst);
            permits.give();
        }
    }
}
