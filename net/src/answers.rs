//! The answering half of a stream. An answer is encoded and written to QUIC by whoever lets it go, with all others of the same group; only where
//! the caller does not read fast enough a task is started that waits for room.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use frokost_engine::{AnswerSink, Outcome};
use quinn::{SendStream, VarInt};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::wire::Response;
use crate::wire::response::encode_outcome;

/// Answers to what one stream asked for, and the places of the requests that are not answered yet.
#[derive(Debug)]
pub(crate) struct Answers {
    writing: Mutex<Writing>,
    /// How many may be in flight.
    limit: u32,
    places: Semaphore,
    /// Requests of all sessions whose answers have not been written yet.
    unsent: Arc<AtomicUsize>,
    /// Where a task is started; the committer's thread has none of its own.
    runtime: Handle,
}

#[derive(Debug)]
struct Writing {
    send: SendStream,
    /// Answers that are not written yet; no memory is held while there are none, so that each is made in memory that is in the caches.
    out: Vec<u8>,
    /// So many of them.
    count: usize,
    /// A task waits for room and writes what there will be.
    blocked: bool,
    /// Nobody wants an answer any more.
    ended: bool,
}

impl Answers {
    pub(crate) fn new(send: SendStream, limit: u32, unsent: Arc<AtomicUsize>) -> Arc<Answers> {
        let writing = Writing { send, out: Vec::new(), count: 0, blocked: false, ended: false };
        let places = Semaphore::new(limit as usize);
        Arc::new(Answers { writing: Mutex::new(writing), limit, places, unsent, runtime: Handle::current() })
    }

    fn lock(&self) -> MutexGuard<'_, Writing> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a place for one more request. False if nothing can be answered any more.
    pub(crate) async fn admit(&self) -> bool {
        let Ok(place) = self.places.acquire().await else { return false };
        place.forget();
        self.unsent.fetch_add(1, Ordering::SeqCst);
        true
    }

    /// Answers something that no account decides.
    pub(crate) fn respond(self: &Arc<Answers>, tag: u64, response: &Response) {
        if self.put(|out| response.encode(tag, out)) {
            Arc::clone(self).flush();
        }
    }

    /// True if it is for the caller to flush.
    fn put(&self, encode: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut writing = self.lock();
        if writing.ended {
            return false;
        }
        writing.out.reserve(64);
        encode(&mut writing.out);
        writing.count += 1;
        writing.count == 1 && !writing.blocked
    }

    /// Writes what there is.
    fn poll_write(&self, writing: &mut Writing, context: &mut Context<'_>) -> Poll<()> {
        if writing.ended {
            return Poll::Ready(());
        }
        while !writing.out.is_empty() {
            match Pin::new(&mut writing.send).poll_write(context, &writing.out) {
                Poll::Ready(Ok(written)) if written == writing.out.len() => break,
                Poll::Ready(Ok(written)) => drop(writing.out.drain(..written)),
                Poll::Ready(Err(_)) => {
                    // The stream is gone. A reader that waits for a place is let go; what has one is counted when it ends.
                    self.places.close();
                    return Poll::Ready(());
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        writing.out = Vec::new();
        let written = std::mem::take(&mut writing.count);
        // Only now: a caller that does not read has its places taken, and is no longer read from.
        self.places.add_permits(written);
        self.unsent.fetch_sub(written, Ordering::SeqCst);
        Poll::Ready(())
    }

    /// Waits for room.
    async fn drain(self: Arc<Answers>) {
        let written = poll_fn(|context| {
            let mut writing = self.lock();
            let written = self.poll_write(&mut writing, context);
            writing.blocked = written.is_pending();
            written
        });
        written.await;
    }

    /// Ends the stream when everything that was asked is answered, or nothing can be any more.
    pub(crate) async fn finish(&self) {
        let answered = self.places.acquire_many(self.limit).await.is_ok();
        let mut writing = self.lock();
        if answered {
            // Finished already, if it is gone.
            drop(writing.send.finish());
        }
        self.end(&mut writing);
    }

    /// Ends the stream at once.
    pub(crate) fn reset(&self, code: u32) {
        let mut writing = self.lock();
        drop(writing.send.reset(VarInt::from_u32(code)));
        self.end(&mut writing);
    }

    fn end(&self, writing: &mut Writing) {
        writing.ended = true;
        self.places.close();
        let never_sent = self.limit as usize - self.places.available_permits();
        self.unsent.fetch_sub(never_sent, Ordering::SeqCst);
    }
}

impl AnswerSink for Answers {
    fn feed(&self, tag: u64, outcome: Outcome) -> bool {
        self.put(|out| encode_outcome(&outcome, tag, out))
    }

    fn flush(self: Arc<Answers>) {
        let mut writing = self.lock();
        if writing.blocked {
            return;
        }
        if self.poll_write(&mut writing, &mut Context::from_waker(Waker::noop())).is_pending() {
            writing.blocked = true;
            drop(writing);
            let runtime = self.runtime.clone();
            drop(runtime.spawn(self.drain()));
        }
    }
}
