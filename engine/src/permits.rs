//! The right to have one request in flight. Permits are taken at the door, before anything is queued, so that
//! every queue behind it is bounded by their number although the mailboxes themselves are not.
//! Nobody waits for a permit: where none is free the answer is `Busy`, at once.

use std::sync::Arc;

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
    pub fn new(total: usize) -> Arc<Permits> {
        Arc::new(Permits { free: AtomicUsize::new(total), total, closed: AtomicBool::new(false) })
    }

    /// A permit, if one is free. It comes back by being dropped.
    #[must_use]
    pub fn try_take(self: &Arc<Permits>) -> Option<Permit> {
        let mut free = self.free.load(Ordering::Relaxed);
        loop {
            let less = free.checked_sub(1)?;
            // Acquire pairs with the Release of a returned permit: what its request did happened before this one.
            match self.free.compare_exchange_weak(free, less, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Some(Permit { from: Arc::clone(self) }),
                Err(now) => free = now,
            }
        }
    }

    /// A permit, if one is free and nobody has closed the door. Whoever closes it and then sees no permit out sees none out for good.
    ///
    /// # Errors
    /// [`Closed`].
    pub fn enter(self: &Arc<Permits>) -> Result<Option<Permit>, Closed> {
        let permit = self.try_take();
        // Between taking and looking here, and between closing and counting in `close`: one of the two sees the other.
        fence(Ordering::SeqCst);
        if self.is_closed() { Err(Closed) } else { Ok(permit) }
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

/// One permit, taken.
#[derive(Debug)]
pub struct Permit {
    from: Arc<Permits>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let before = self.from.free.fetch_add(1, Ordering::Release);
        assert!(before < self.from.total, "a permit came back that was never taken");
    }
}

#[cfg(all(test, not(frokost_loom)))]
mod tests {
    use super::*;

    #[test]
    fn no_more_are_out_than_there_are() {
        let permits = Permits::new(2);
        let first = permits.try_take();
        let second = permits.try_take();
        assert!(first.is_some() && second.is_some());
        assert!(permits.try_take().is_none());
        assert_eq!(permits.taken(), 2);
        drop(first);
        assert!(permits.try_take().is_some());
    }
}

#[cfg(all(test, frokost_loom))]
mod loom_tests {
    use super::*;

    /// Three askers, two permits, every interleaving with up to three preemptions: never three inside at once, and
    /// all of them are back at the end.
    #[test]
    fn never_more_than_the_total_in_any_interleaving() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let permits = Permits::new(2);
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
            let permits = Permits::new(1);
            let asker = {
                let permits = Arc::clone(&permits);
                // Stays inside.
                loom::thread::spawn(move || permits.enter().ok().flatten().map(std::mem::forget).is_some())
            };
            permits.close();
            let empty = permits.taken() == 0;
            let inside = asker.join().unwrap();
            assert!(!(empty && inside), "somebody is inside whom the shutdown did not see");
        });
    }

    fn enter(permits: &Arc<Permits>, inside: &AtomicUsize) {
        if let Some(permit) = permits.try_take() {
            assert!(inside.fetch_add(1, Ordering::SeqCst) < 2);
            inside.fetch_sub(1, Ordering::SeqCst);
            drop(permit);
        }
    }
}
