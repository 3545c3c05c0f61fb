//! A UDP socket that sends many packets at once. A packet waits until every task that is ready has run; those of one length to one address then
//! leave in one call to the kernel, which carries them as one and hands them over as one where the receiver asks for that, as quinn does.
//! It knows nothing of what is in a packet.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};

use quinn::udp::{EcnCodepoint, RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::sync::Notify;

/// The most packets that wait; whoever brings one more sends them first.
const MOST: usize = 64;
/// The most bytes of one call: what a UDP packet can hold, headers taken off.
const BYTES: usize = 65_000;
/// A packet is held against so many of the last batches. Mostly all go to one address or each to another.
const NEAR: usize = 4;

/// A socket around another one.
#[derive(Debug)]
pub(crate) struct BatchSocket {
    inner: Arc<dyn AsyncUdpSocket>,
    queue: Mutex<Queue>,
    /// The kernel had no room for what is there.
    blocked: AtomicBool,
    /// Wakes the task that sends.
    filled: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Queue {
    batches: Vec<Batch>,
    packets: usize,
    /// Buffers to be filled again.
    spare: Vec<Vec<u8>>,
}

/// Packets that leave in one call.
#[derive(Debug)]
struct Batch {
    destination: SocketAddr,
    source: Option<IpAddr>,
    ecn: Option<EcnCodepoint>,
    /// The length of each packet but the last, which may be shorter.
    length: usize,
    contents: Vec<u8>,
}

impl Queue {
    /// Adds what quinn sends in one call: mostly one packet.
    fn add(&mut self, sent: &Transmit<'_>, most: usize) {
        let length = sent.segment_size.unwrap_or(sent.contents.len()).max(1);
        self.packets += sent.contents.len().div_ceil(length);
        let fitting = self.batches.iter_mut().rev().take(NEAR).find(|batch| batch.fits(sent, length, most));
        if let Some(batch) = fitting {
            return batch.contents.extend_from_slice(sent.contents);
        }
        let mut contents = self.spare.pop().unwrap_or_default();
        contents.extend_from_slice(sent.contents);
        let (destination, source, ecn) = (sent.destination, sent.src_ip, sent.ecn);
        self.batches.push(Batch { destination, source, ecn, length, contents });
    }

    /// Keeps some of the buffers.
    fn recycle(&mut self, batch: Batch) {
        if self.spare.len() < NEAR {
            let mut contents = batch.contents;
            contents.clear();
            self.spare.push(contents);
        }
    }
}

impl Batch {
    fn fits(&self, sent: &Transmit<'_>, length: usize, most: usize) -> bool {
        let together = self.contents.len() + sent.contents.len();
        self.length == length
            && self.contents.len().is_multiple_of(length)
            && together <= BYTES.min(length * most)
            && self.destination == sent.destination
            && self.source == sent.src_ip
            && self.ecn == sent.ecn
    }

    fn packets(&self) -> usize {
        self.contents.len().div_ceil(self.length)
    }

    fn transmit(&self) -> Transmit<'_> {
        Transmit {
            destination: self.destination,
            ecn: self.ecn,
            contents: &self.contents,
            segment_size: (self.contents.len() > self.length).then_some(self.length),
            src_ip: self.source,
        }
    }
}

impl BatchSocket {
    /// Around `inner`; to be called within a runtime.
    pub(crate) fn new(inner: Arc<dyn AsyncUdpSocket>) -> Arc<BatchSocket> {
        let filled = Arc::new(Notify::new());
        let socket = Arc::new(BatchSocket {
            inner,
            queue: Mutex::default(),
            blocked: AtomicBool::new(false),
            filled: Arc::clone(&filled),
        });
        tokio::spawn(send_when_filled(Arc::downgrade(&socket), filled));
        socket
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what waits. False if the kernel has no room for all of it; then the task tries again when it has.
    fn flush(&self) -> bool {
        let mut batches = {
            let mut queue = self.lock();
            queue.packets = 0;
            std::mem::take(&mut queue.batches)
        };
        let no_room = |batch: &Batch| {
            // Any other error is a packet lost, and QUIC sends what was in it again. Among them is that of a kernel or a device that
            // does not take many at once: the socket below remembers it and `max_transmit_segments` is one from then on.
            matches!(self.inner.try_send(&batch.transmit()), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
        };
        let sent = batches.iter().position(no_room).unwrap_or(batches.len());
        let mut queue = self.lock();
        batches.drain(..sent).for_each(|batch| queue.recycle(batch));
        let blocked = !batches.is_empty();
        // Under the lock, so that the last to say so is the last to have sent.
        self.blocked.store(blocked, Ordering::SeqCst);
        queue.packets += batches.iter().map(Batch::packets).sum::<usize>();
        if queue.batches.is_empty() {
            queue.batches = batches;
        } else {
            queue.batches.splice(..0, batches);
        }
        if blocked {
            self.filled.notify_one();
        }
        !blocked
    }
}

/// Sends what waits, after every task that was ready has run.
async fn send_when_filled(socket: Weak<BatchSocket>, filled: Arc<Notify>) {
    loop {
        filled.notified().await;
        tokio::task::yield_now().await;
        let Some(socket) = socket.upgrade() else { return };
        if !socket.flush() {
            let mut room = Arc::clone(&socket.inner).create_io_poller();
            // An error comes again when the next packet is sent.
            let _ = std::future::poll_fn(|context| room.as_mut().poll_writable(context)).await;
        }
    }
}

impl Drop for BatchSocket {
    /// The last packets say that connections are closed.
    fn drop(&mut self) {
        self.flush();
        self.filled.notify_one();
    }
}

impl AsyncUdpSocket for BatchSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        let room = Arc::clone(&self.inner).create_io_poller();
        Box::pin(Room { socket: self, room })
    }

    fn try_send(&self, sent: &Transmit<'_>) -> io::Result<()> {
        let most = self.inner.max_transmit_segments();
        let mut queue = self.lock();
        if queue.packets >= MOST {
            drop(queue);
            if !self.flush() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            queue = self.lock();
        }
        let first = queue.packets == 0;
        queue.add(sent, most);
        drop(queue);
        if first {
            self.filled.notify_one();
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        received: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.inner.poll_recv(context, buffers, received)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

/// Is there room for a packet?
#[derive(Debug)]
struct Room {
    socket: Arc<BatchSocket>,
    room: Pin<Box<dyn UdpPoller>>,
}

impl UdpPoller for Room {
    fn poll_writable(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.socket.blocked.load(Ordering::SeqCst) {
            this.room.as_mut().poll_writable(context)
        } else {
            Poll::Ready(Ok(()))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    type Sent = (SocketAddr, Option<usize>, Vec<u8>);

    /// Keeps what it is given, while it has room.
    #[derive(Debug)]
    struct Kept {
        sent: Mutex<Vec<Sent>>,
        full: AtomicBool,
        room: Notify,
        segments: AtomicUsize,
    }

    impl Kept {
        fn new() -> Arc<Kept> {
            let (sent, full, room, segments) =
                (Mutex::default(), AtomicBool::new(false), Notify::new(), AtomicUsize::new(64));
            Arc::new(Kept { sent, full, room, segments })
        }

        fn take(&self) -> Vec<Sent> {
            std::mem::take(&mut self.sent.lock().unwrap())
        }

        fn fill(&self, full: bool) {
            self.full.store(full, Ordering::SeqCst);
            if !full {
                self.room.notify_waiters();
            }
        }
    }

    #[derive(Debug)]
    struct KeptRoom(Arc<Kept>);

    impl UdpPoller for KeptRoom {
        fn poll_writable(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            if !self.0.full.load(Ordering::SeqCst) {
                return Poll::Ready(Ok(()));
            }
            let (kept, waker) = (Arc::clone(&self.0), context.waker().clone());
            tokio::spawn(async move {
                kept.room.notified().await;
                waker.wake();
            });
            Poll::Pending
        }
    }

    impl AsyncUdpSocket for Kept {
        fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
            Box::pin(KeptRoom(self))
        }

        fn try_send(&self, sent: &Transmit<'_>) -> io::Result<()> {
            if self.full.load(Ordering::SeqCst) {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.sent.lock().unwrap().push((sent.destination, sent.segment_size, sent.contents.to_vec()));
            Ok(())
        }

        fn poll_recv(
            &self,
            _: &mut Context<'_>,
            _: &mut [IoSliceMut<'_>],
            _: &mut [RecvMeta],
        ) -> Poll<io::Result<usize>> {
            Poll::Pending
        }

        fn local_addr(&self) -> io::Result<SocketAddr> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn max_transmit_segments(&self) -> usize {
            self.segments.load(Ordering::SeqCst)
        }
    }

    fn to(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn packet(port: u16, contents: &[u8]) -> Transmit<'_> {
        Transmit { destination: to(port), ecn: None, contents, segment_size: None, src_ip: None }
    }

    async fn others_run() {
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_is_alike_leaves_together_and_in_order() {
        let kept = Kept::new();
        let socket = BatchSocket::new(kept.clone());
        for (port, contents) in [(1, "aa"), (2, "bb"), (1, "cc"), (1, "d"), (1, "ee"), (2, "fff"), (1, "gg")] {
            socket.try_send(&packet(port, contents.as_bytes())).unwrap();
        }
        assert!(kept.take().is_empty(), "sent before the others had run");
        others_run().await;
        let alone = |port, what: &str| (to(port), None, what.as_bytes().to_vec());
        let many = (to(1), Some(2), b"aacceegg".to_vec());
        assert_eq!(kept.take(), [many, alone(2, "bb"), alone(1, "d"), alone(2, "fff")]);
    }

    #[tokio::test]
    async fn a_shorter_one_at_the_end_of_what_quinn_sends_at_once_ends_the_batch() {
        let kept = Kept::new();
        let socket = BatchSocket::new(kept.clone());
        let three = Transmit { segment_size: Some(2), ..packet(1, b"aabbc") };
        socket.try_send(&three).unwrap();
        socket.try_send(&packet(1, b"dd")).unwrap();
        others_run().await;
        assert_eq!(kept.take(), [(to(1), Some(2), b"aabbc".to_vec()), (to(1), None, b"dd".to_vec())]);
    }

    #[tokio::test]
    async fn other_marks_and_other_senders_are_kept_apart() {
        let kept = Kept::new();
        let socket = BatchSocket::new(kept.clone());
        socket.try_send(&packet(1, b"aa")).unwrap();
        socket.try_send(&Transmit { ecn: Some(EcnCodepoint::Ce), ..packet(1, b"bb") }).unwrap();
        socket.try_send(&Transmit { src_ip: Some(to(1).ip()), ..packet(1, b"cc") }).unwrap();
        others_run().await;
        assert_eq!(kept.take().len(), 3);
    }

    #[tokio::test]
    async fn no_call_is_more_than_the_kernel_takes() {
        let kept = Kept::new();
        let socket = BatchSocket::new(kept.clone());
        let large = vec![7; 1_400];
        for _ in 0..60 {
            socket.try_send(&packet(1, &large)).unwrap();
        }
        others_run().await;
        let lengths: Vec<usize> = kept.take().iter().map(|(_, _, contents)| contents.len()).collect();
        assert_eq!(lengths, [46 * 1_400, 14 * 1_400]);
        for n in 0..200u8 {
            socket.try_send(&packet(1, &[n])).unwrap();
            assert!(socket.lock().packets <= MOST);
        }
        others_run().await;
        let sent = kept.take();
        assert!(sent.iter().all(|(_, _, contents)| contents.len() <= 64));
        let all: Vec<u8> = sent.into_iter().flat_map(|(_, _, contents)| contents).collect();
        assert_eq!(all, (0..200).collect::<Vec<u8>>());
        // A device that takes one at a time.
        kept.segments.store(1, Ordering::SeqCst);
        socket.try_send(&packet(1, b"aa")).unwrap();
        socket.try_send(&packet(1, b"bb")).unwrap();
        others_run().await;
        assert_eq!(kept.take(), [(to(1), None, b"aa".to_vec()), (to(1), None, b"bb".to_vec())]);
    }

    #[tokio::test]
    async fn what_the_kernel_has_no_room_for_waits_and_whoever_brings_too_much_with_it() {
        let kept = Kept::new();
        let socket = BatchSocket::new(kept.clone());
        let mut room = Arc::clone(&socket).create_io_poller();
        let mut context = Context::from_waker(std::task::Waker::noop());
        assert!(room.as_mut().poll_writable(&mut context).is_ready());
        kept.fill(true);
        socket.try_send(&packet(1, b"\0")).unwrap();
        others_run().await;
        for n in 1..64u8 {
            socket.try_send(&packet(1, &[n])).unwrap();
        }
        let refused = socket.try_send(&packet(1, b"x")).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        assert!(room.as_mut().poll_writable(&mut context).is_pending());
        kept.fill(false);
        others_run().await;
        let all: Vec<u8> = kept.take().into_iter().flat_map(|(_, _, contents)| contents).collect();
        assert_eq!(all, (0..64).collect::<Vec<u8>>());
        assert!(room.as_mut().poll_writable(&mut context).is_ready());
        socket.try_send(&packet(1, b"x")).unwrap();
        others_run().await;
        assert_eq!(kept.take(), [(to(1), None, b"x".to_vec())]);
    }

    #[tokio::test]
    async fn the_last_packets_are_sent_when_nobody_has_the_socket_any_more() {
        let kept = Kept::new();
        let socket = BatchSocket::new(kept.clone());
        socket.try_send(&packet(1, b"closed")).unwrap();
        drop(socket);
        assert_eq!(kept.take(), [(to(1), None, b"closed".to_vec())]);
        others_run().await;
        assert_eq!(Arc::strong_count(&kept), 1, "its task goes on");
    }
}
