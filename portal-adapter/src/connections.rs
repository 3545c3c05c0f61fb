//! Browsers' connections: not more at once than we have room for, and none that stands still. axum sets no limit of its own to either, and the
//! engine lives in the same process as the portal.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

/// Far below the descriptors a process has by default: sled, tills and mails need some, too.
const MOST: usize = 500;
/// Pages that follow along are sent a word every fifteen seconds.
const STANDS_STILL: Duration = Duration::from_secs(60);

/// Where a connection comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// A listener that waits when there are enough.
pub(crate) struct Bounded {
    listener: TcpListener,
    places: Arc<Semaphore>,
    stands_still: Duration,
}

impl Bounded {
    pub(crate) fn new(listener: TcpListener) -> Bounded {
        Bounded { listener, places: Arc::new(Semaphore::new(MOST)), stands_still: STANDS_STILL }
    }
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&self.places).acquire_owned().await else { std::future::pending().await };
        let (stream, address) = Listener::accept(&mut self.listener).await;
        let stands_still = self.stands_still;
        let alarm = Box::pin(tokio::time::sleep(stands_still));
        (Connection { stream, stands_still, alarm, _place: place }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Connected<IncomingStream<'_, Bounded>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Bounded>) -> Peer {
        Peer(*stream.remote_addr())
    }
}

/// One that ends when nothing has gone either way for a while.
pub(crate) struct Connection {
    stream: TcpStream,
    stands_still: Duration,
    alarm: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    /// What came of a try to go on: a byte puts the end off, and waiting for one too long is an error.
    fn watched<T>(&mut self, context: &mut Context<'_>, tried: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if tried.is_ready() {
            let end = Instant::now() + self.stands_still;
            self.alarm.as_mut().reset(end);
            return tried;
        }
        match self.alarm.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let tried = Pin::new(&mut self.stream).poll_read(context, into);
        self.watched(context, tried)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let tried = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watched(context, tried)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let tried = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.watched(context, tried)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn who_stands_still_is_let_go_and_who_is_too_many_waits() {
        let mut listener = Bounded::new(TcpListener::bind("127.0.0.1:0").await.unwrap());
        listener.stands_still = Duration::from_secs(1);
        let address = listener.local_addr().unwrap();
        let mut open = Vec::new();
        for _ in 0..MOST {
            let browser = TcpStream::connect(address).await.unwrap();
            open.push((browser, listener.accept().await.0));
        }
        let _one_more = TcpStream::connect(address).await.unwrap();
        let soon = Duration::from_millis(200);
        assert!(tokio::time::timeout(soon, listener.accept()).await.is_err(), "more are let in than there is room for");
        open.truncate(2);
        assert!(tokio::time::timeout(soon, listener.accept()).await.is_ok());
        let (mut still, mut alive) = (open.pop().unwrap(), open.pop().unwrap());
        let mut byte = [0; 1];
        let begin = Instant::now();
        let waits = tokio::spawn(async move { still.1.read(&mut byte).await.map(drop).map_err(|error| error.kind()) });
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_millis(500)).await;
            alive.1.write_all(b"x").await.unwrap();
        }
        assert_eq!(waits.await.unwrap(), Err(io::ErrorKind::TimedOut));
        assert!(begin.elapsed() >= Duration::from_secs(2), "the other one went on all the while");
    }
}
