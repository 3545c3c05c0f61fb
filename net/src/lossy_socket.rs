//! A UDP socket that loses packets, those that leave and those that come, by chance: what a bad network does, for load tests.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

/// How bad the network is.
#[derive(Debug, Clone)]
pub struct Loss {
    /// So many packets of a million are lost.
    pub of_a_million: u32,
    /// Makes the choices.
    pub seed: u64,
    /// Counts those that are lost.
    pub lost: Arc<AtomicU64>,
}

/// A socket around another one.
#[derive(Debug)]
pub(crate) struct LossySocket {
    inner: Arc<dyn AsyncUdpSocket>,
    loss: Loss,
    chance: Mutex<fastrand::Rng>,
}

impl LossySocket {
    pub(crate) fn around(inner: Arc<dyn AsyncUdpSocket>, loss: Loss) -> Arc<LossySocket> {
        let chance = Mutex::new(fastrand::Rng::with_seed(loss.seed));
        Arc::new(LossySocket { inner, loss, chance })
    }

    fn loses(&self) -> bool {
        let loses =
            self.chance.lock().unwrap_or_else(PoisonError::into_inner).u32(..1_000_000) < self.loss.of_a_million;
        if loses {
            self.loss.lost.fetch_add(1, Ordering::Relaxed);
        }
        loses
    }
}

impl AsyncUdpSocket for LossySocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, sent: &Transmit<'_>) -> io::Result<()> {
        if self.loses() { Ok(()) } else { self.inner.try_send(sent) }
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        received: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(self.inner.poll_recv(context, buffers, received))?;
        for (buffer, meta) in buffers.iter_mut().zip(received.iter_mut()).take(count) {
            // The kernel hands over several packets of one sender as one.
            let (mut at, mut kept) = (0, 0);
            while at < meta.len {
                let end = at.saturating_add(meta.stride.max(1)).min(meta.len);
                if !self.loses() {
                    buffer.copy_within(at..end, kept);
                    kept += end - at;
                }
                at = end;
            }
            meta.len = kept;
        }
        Poll::Ready(Ok(count))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    /// Each is lost by itself.
    fn max_transmit_segments(&self) -> usize {
        1
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Keeps what it is to send, and always has five packets of two bytes, but for the last, which has one.
    #[derive(Debug, Default)]
    struct Scripted(Mutex<Vec<Vec<u8>>>);

    impl AsyncUdpSocket for Scripted {
        fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
            unreachable!("nobody waits for room")
        }

        fn try_send(&self, sent: &Transmit<'_>) -> io::Result<()> {
            self.0.lock().unwrap().push(sent.contents.to_vec());
            Ok(())
        }

        fn poll_recv(
            &self,
            _: &mut Context<'_>,
            buffers: &mut [IoSliceMut<'_>],
            received: &mut [RecvMeta],
        ) -> Poll<io::Result<usize>> {
            let packets = b"aabbccdde";
            buffers[0][..packets.len()].copy_from_slice(packets);
            (received[0].len, received[0].stride) = (packets.len(), 2);
            Poll::Ready(Ok(1))
        }

        fn local_addr(&self) -> io::Result<SocketAddr> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    /// What gets through of a hundred packets sent and five times a hundred that come, and how many the socket says were lost.
    fn through(of_a_million: u32) -> (usize, Vec<Vec<u8>>, u64) {
        let inner = Arc::new(Scripted::default());
        let loss = Loss { of_a_million, seed: 7, lost: Arc::default() };
        let socket = LossySocket::around(inner.clone(), loss.clone());
        let mut heard = Vec::new();
        for n in 0..100 {
            let destination = SocketAddr::from(([127, 0, 0, 1], 1));
            let sent = Transmit { destination, ecn: None, contents: &[n], segment_size: None, src_ip: None };
            socket.try_send(&sent).unwrap();
            let (mut bytes, mut meta) = ([0; 16], [RecvMeta::default()]);
            let mut context = Context::from_waker(Waker::noop());
            let polled = socket.poll_recv(&mut context, &mut [IoSliceMut::new(&mut bytes)], &mut meta);
            assert!(matches!(polled, Poll::Ready(Ok(1))));
            heard.push(bytes[..meta[0].len].to_vec());
        }
        let sent = inner.0.lock().unwrap().len();
        (sent, heard, loss.lost.load(Ordering::Relaxed))
    }

    #[test]
    fn as_many_are_lost_as_it_is_told_and_the_others_are_whole() {
        assert_eq!(through(0), (100, vec![b"aabbccdde".to_vec(); 100], 0));
        assert_eq!(through(1_000_000), (0, vec![Vec::new(); 100], 600));
        let (sent, heard, lost) = through(500_000);
        let packets: usize = heard.iter().map(|bytes| bytes.len().div_ceil(2)).sum();
        assert_eq!((sent + packets) as u64 + lost, 600);
        assert!((30..=70).contains(&sent) && (200..=300).contains(&packets), "{sent} and {packets}");
        for bytes in heard {
            let whole = bytes.chunks(2).all(|packet| packet == b"e" || packet.first() == packet.last());
            assert!(whole && bytes.is_sorted(), "{bytes:?}");
        }
    }
}
