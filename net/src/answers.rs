//! The answering half of a stream. An answer is encoded and written to QUIC by whoever lets it go, with all others of the same group; only where
//! QUIC has no room, since the caller does not read or the way there is slow, a task is started that waits for it.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use frokost_engine::{AnswerSink, Outcome};
use quinn::{SendStream, VarInt};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::wire::response::encode_outcome;
use crate::wire::{Response, frame};

/// The streams that are served.
#[derive(Debug, Default)]
pub(crate) struct Streams(Mutex<Vec<Weak<Answers>>>);

impl Streams {
    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Answers>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answering half of one more.
    pub(crate) fn begin(&self, send: SendStream, limit: u32) -> Arc<Answers> {
        let answers = Answers::new(send, limit);
        let mut streams = self.lock();
        if streams.len() == streams.capacity() {
            streams.retain(|stream| stream.strong_count() > 0);
        }
        streams.push(Arc::downgrade(&answers));
        answers
    }

    /// Requests of all streams whose answers have not been written yet. Looks at each: not for the hot path.
    pub(crate) fn unsent(&self) -> usize {
        self.lock().iter().filter_map(Weak::upgrade).map(|answers| answers.unsent()).sum()
    }
}

/// Answers to what one stream asked for, and the places of the requests that are not answered yet.
#[derive(Debug)]
pub(crate) struct Answers {
    writing: Mutex<Writing>,
    /// How many may be in flight.
    limit: usize,
    /// Where a task is started; the committer's thread has none of its own.
    runtime: Handle,
}

#[derive(Debug)]
struct Writing {
    send: SendStream,
    /// Answers; no memory is held while there are none, so that each is made in memory that is in the caches.
    out: Vec<u8>,
    /// QUIC has the bytes before this.
    written: usize,
    /// The first answer that QUIC does not have to its end begins here.
    next: usize,
    /// So many answers begin there or behind.
    count: usize,
    /// So many requests have a place; among them those that are not answered yet.
    admitted: usize,
    /// Who waits for a place, or for all of them to be free.
    reader: Option<Waker>,
    /// The task that waits for room and writes what there will be.
    waiting: Option<AbortHandle>,
    /// Nobody wants an answer any more.
    ended: bool,
}

impl Writing {
    /// So many more answers have been written to their end.
    fn passed(&mut self) -> usize {
        let before = self.count;
        if self.written == self.out.len() {
            (self.out, self.written, self.next, self.count) = (Vec::new(), 0, 0, 0);
            return before;
        }
        while let Some(end) = self.out.get(self.next..).and_then(frame::length).map(|length| self.next + length)
            && end <= self.written
        {
            self.next = end;
            self.count -= 1;
        }
        // Seldom, so that whoever takes a byte at a time does not have megabytes moved for each.
        if self.next > self.out.len() / 2 {
            self.out.drain(..self.next);
            self.written -= self.next;
            self.next = 0;
        }
        before - self.count
    }

    /// Nothing is answered any more. A reader that waits for a place is let go when this is unlocked, and places that are taken are given up.
    fn end(&mut self) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        (self.out, self.written, self.next, self.count, self.admitted) = (Vec::new(), 0, 0, 0, 0);
        if let Some(waiting) = self.waiting.take() {
            waiting.abort();
        }
    }
}

impl Answers {
    fn new(send: SendStream, limit: u32) -> Arc<Answers> {
        let writing = Writing {
            send,
            out: Vec::new(),
            written: 0,
            next: 0,
            count: 0,
            admitted: 0,
            reader: None,
            waiting: None,
            ended: false,
        };
        Arc::new(Answers { writing: Mutex::new(writing), limit: limit as usize, runtime: Handle::current() })
    }

    fn lock(&self) -> MutexGuard<'_, Writing> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a place for one more request. False if nothing can be answered any more. There is one reader.
    pub(crate) async fn admit(&self) -> bool {
        // Who sends a lot that is answered at once lets others work in between.
        tokio::task::coop::consume_budget().await;
        let admitted = poll_fn(|context| {
            let mut writing = self.lock();
            if writing.ended {
                return Poll::Ready(false);
            }
            if writing.admitted < self.limit {
                writing.admitted += 1;
                return Poll::Ready(true);
            }
            writing.reader = Some(context.waker().clone());
            Poll::Pending
        });
        admitted.await
    }

    /// Requests whose answers have not been written yet.
    fn unsent(&self) -> usize {
        self.lock().admitted
    }

    /// Unlocks, and wakes the reader if there may be something for it to do. Not before: it may be the last that held this.
    fn unlock(&self, mut writing: MutexGuard<'_, Writing>) {
        let goes_on = writing.ended || writing.admitted < self.limit;
        let reader = if goes_on { writing.reader.take() } else { None };
        drop(writing);
        if let Some(reader) = reader {
            reader.wake();
        }
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
        writing.count == 1 && writing.waiting.is_none()
    }

    /// Writes what there is.
    fn poll_write(writing: &mut Writing, context: &mut Context<'_>) -> Poll<()> {
        // A task that waited may come to it in the moment in which its stream was reset.
        if writing.ended {
            return Poll::Ready(());
        }
        let mut all = Poll::Ready(());
        while let Some(rest) = writing.out.get(writing.written..).filter(|rest| !rest.is_empty()) {
            match Pin::new(&mut writing.send).poll_write(context, rest) {
                Poll::Ready(Ok(written)) => writing.written += written,
                // The stream is gone.
                Poll::Ready(Err(_)) => {
                    writing.end();
                    return Poll::Ready(());
                }
                Poll::Pending => {
                    all = Poll::Pending;
                    break;
                }
            }
        }
        // Only now: a caller that does not read has its places taken, and is no longer read from.
        writing.admitted -= writing.passed();
        all
    }

    /// Waits for room.
    async fn drain(self: Arc<Answers>) {
        let written = poll_fn(|context| {
            let mut writing = self.lock();
            let written = Answers::poll_write(&mut writing, context);
            if written.is_ready() {
                writing.waiting = None;
            }
            self.unlock(writing);
            written
        });
        written.await;
    }

    /// Ends the stream when everything that was asked is answered, or nothing can be any more.
    pub(crate) async fn finish(&self) {
        let answered = poll_fn(|context| {
            let mut writing = self.lock();
            if !writing.ended && writing.admitted > 0 {
                writing.reader = Some(context.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(!writing.ended)
        });
        let answered = answered.await;
        let mut writing = self.lock();
        if answered {
            // Finished already, if it is gone.
            drop(writing.send.finish());
        }
        writing.end();
        self.unlock(writing);
    }

    /// Nobody serves the stream any more. Does nothing where it has been finished or reset.
    pub(crate) fn abandon(&self) {
        let mut writing = self.lock();
        writing.end();
        self.unlock(writing);
    }

    /// Ends the stream at once.
    pub(crate) fn reset(&self, code: u32) {
        let mut writing = self.lock();
        drop(writing.send.reset(VarInt::from_u32(code)));
        writing.end();
        self.unlock(writing);
    }
}

impl AnswerSink for Answers {
    fn feed(&self, tag: u64, outcome: Outcome) -> bool {
        self.put(|out| encode_outcome(&outcome, tag, out))
    }

    fn flush(self: Arc<Answers>) {
        let mut writing = self.lock();
        if writing.ended || writing.waiting.is_some() {
            return;
        }
        if Answers::poll_write(&mut writing, &mut Context::from_waker(Waker::noop())).is_pending() {
            let waiting = self.runtime.spawn(Arc::clone(&self).drain());
            writing.waiting = Some(waiting.abort_handle());
        }
        self.unlock(writing);
    }
}
