//! The committer's queue: many give, one takes, and the one can sleep until so many are there. It is woken once then, and not for
//! every single one.

use std::sync::mpsc::{self, Receiver, RecvError, Sender};
use std::sync::{Arc, OnceLock};
use std::thread::{self, Thread};
use std::time::Duration;

#[cfg(frokost_loom)]
use loom::sync::atomic::{AtomicUsize, Ordering, fence};
#[cfg(not(frokost_loom))]
use std::sync::atomic::{AtomicUsize, Ordering, fence};

/// A queue with both its ends.
pub(crate) fn queue<T>() -> (Giver<T>, Taker<T>) {
    let (giver, taker) = mpsc::channel();
    let shared = Arc::new(Shared { bell: Bell::new(), taker: OnceLock::new() });
    (Giver { queue: giver, shared: Arc::clone(&shared) }, Taker { queue: taker, shared, taken: 0 })
}

/// The end that many have.
pub(crate) struct Giver<T> {
    queue: Sender<T>,
    shared: Arc<Shared>,
}

/// The end that one thread has.
pub(crate) struct Taker<T> {
    queue: Receiver<T>,
    shared: Arc<Shared>,
    taken: usize,
}

struct Shared {
    bell: Bell,
    /// Who sleeps.
    taker: OnceLock<Thread>,
}

impl<T> Giver<T> {
    /// Puts an item into the queue. Where nobody takes any more it is dropped.
    pub(crate) fn give(&self, item: T) {
        drop(self.queue.send(item));
        if self.shared.bell.given()
            && let Some(taker) = self.shared.taker.get()
        {
            taker.unpark();
        }
    }
}

impl<T> Taker<T> {
    /// The next item, as soon as there is one.
    pub(crate) fn take(&mut self) -> Result<T, RecvError> {
        let item = self.queue.recv()?;
        self.taken += 1;
        Ok(item)
    }

    /// The next item, if there is one.
    pub(crate) fn try_take(&mut self) -> Option<T> {
        let item = self.queue.try_recv().ok()?;
        self.taken += 1;
        Some(item)
    }

    /// How many wait to be taken.
    pub(crate) fn waiting(&self) -> usize {
        self.shared.bell.given.load(Ordering::Relaxed).saturating_sub(self.taken)
    }

    /// Sleeps until so many more are there than were taken, or until so much time has passed; now and then it comes back sooner.
    pub(crate) fn wait_for(&self, more: usize, at_most: Duration) {
        self.shared.taker.get_or_init(thread::current);
        if self.shared.bell.set(self.taken + more) {
            thread::park_timeout(at_most);
        }
        self.shared.bell.silence();
    }
}

/// Counts, and says when a number is reached.
struct Bell {
    given: AtomicUsize,
    rings_at: AtomicUsize,
}

impl Bell {
    const NEVER: usize = usize::MAX;

    fn new() -> Bell {
        Bell { given: AtomicUsize::new(0), rings_at: AtomicUsize::new(Bell::NEVER) }
    }

    /// One more. Is it the one that is waited for?
    fn given(&self) -> bool {
        let count = self.given.fetch_add(1, Ordering::Relaxed) + 1;
        // Between counting and looking here, and between setting and looking in `set`: one of the two sees the other.
        fence(Ordering::SeqCst);
        count == self.rings_at.load(Ordering::Relaxed)
    }

    /// From now on somebody waits for the `count`th. Is it still to come?
    fn set(&self, count: usize) -> bool {
        self.rings_at.store(count, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        self.given.load(Ordering::Relaxed) < count
    }

    fn silence(&self) {
        self.rings_at.store(Bell::NEVER, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(frokost_loom)))]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// Does it, and stops where it takes long.
    fn soon(work: impl FnOnce() + Send + 'static) {
        let (done, is_done) = mpsc::channel();
        thread::spawn(move || {
            work();
            done.send(())
        });
        assert_eq!(is_done.recv_timeout(LONG / 4), Ok(()), "nobody woke it, or it failed");
    }

    #[test]
    fn the_last_of_those_waited_for_wakes() {
        let (giver, mut taker) = queue();
        thread::spawn(move || {
            giver.give(1);
            while giver.shared.bell.rings_at.load(Ordering::Relaxed) == Bell::NEVER {
                thread::yield_now();
            }
            (2..=100).for_each(|item| giver.give(item));
        });
        soon(move || {
            let mut sum = taker.take().unwrap();
            while sum < 5050 {
                taker.wait_for(100 - taker.taken, LONG);
                while let Some(item) = taker.try_take() {
                    sum += item;
                }
            }
        });
    }

    #[test]
    fn what_is_there_already_is_not_waited_for() {
        let (giver, mut taker) = queue();
        (1..=3).for_each(|item| giver.give(item));
        soon(move || {
            assert_eq!(taker.take(), Ok(1));
            taker.wait_for(2, LONG);
            assert_eq!((taker.try_take(), taker.try_take(), taker.try_take()), (Some(2), Some(3), None));
        });
    }

    #[test]
    fn too_few_are_waited_for_no_longer_than_said() {
        let (giver, mut taker) = queue();
        giver.give(());
        soon(move || {
            taker.take().unwrap();
            taker.wait_for(1, Duration::from_millis(20));
            giver.give(());
            assert_eq!(taker.try_take(), Some(()));
        });
    }

    #[test]
    fn whoever_takes_learns_that_nobody_gives_any_more() {
        let (giver, mut taker) = queue::<()>();
        drop(giver);
        assert_eq!(taker.take(), Err(RecvError));
    }
}

#[cfg(all(test, frokost_loom))]
mod loom_tests {
    use super::*;

    /// Whoever sleeps until two are there is woken, whatever happens in between; loom finds a sleeper whom nobody wakes.
    #[test]
    fn whoever_waits_for_the_last_is_woken() {
        loom::model(|| {
            let sleeper = Arc::new((Bell::new(), loom::sync::Notify::new()));
            let givers: Vec<_> = (0..2)
                .map(|_| {
                    let sleeper = Arc::clone(&sleeper);
                    loom::thread::spawn(move || {
                        let (bell, woken) = &*sleeper;
                        if bell.given() {
                            woken.notify();
                        }
                    })
                })
                .collect();
            let (bell, woken) = &*sleeper;
            if bell.set(2) {
                woken.wait();
            }
            bell.silence();
            for giver in givers {
                giver.join().unwrap();
            }
        });
    }
}
