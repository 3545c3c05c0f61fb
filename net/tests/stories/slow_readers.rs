//! Callers that ask and do not read: they are no longer read from, lose nothing, and keep nobody waiting.

use std::collections::BTreeSet;
use std::time::Duration;

use frokost_engine::{Amount, Command, Outcome, Query, Role, Sequence};
use frokost_net::Client;
use frokost_net::wire::frame::{RESPONSE_LIMIT, split};
use frokost_net::wire::{Request, Response};
use quinn::{RecvStream, SendStream, TransportConfig, VarInt};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::frames::raw_with;
use crate::world::*;

/// Far more than the places of a stream and what fits into the window of this reader.
const SALES: u64 = 5_000;
/// Bytes of an approval (`docs/wire.md`).
const ANSWER: u32 = 32;
/// Not a whole number of answers.
const WINDOW: u32 = 1000;

/// A till that has room for so many bytes of each stream's answers.
async fn till(world: &World, window: u32) -> quinn::Connection {
    let mut transport = TransportConfig::default();
    transport.stream_receive_window(VarInt::from_u32(window)).keep_alive_interval(Some(Duration::from_secs(1)));
    raw_with(world, &world.bundle("till-1", Role::Till, 1), transport).await
}

/// A till that asks for so many sales at once and has read nothing yet. With all of them it says that it asks for no more.
async fn greedy(world: &World, sales: u64) -> (quinn::Connection, RecvStream, JoinHandle<Option<SendStream>>) {
    let connection = till(world, WINDOW).await;
    let (mut send, receive) = connection.open_bi().await.unwrap();
    let mut bytes = Vec::new();
    for n in 1..=sales {
        let command = Command::Purchase { card: card(), amount: Amount::from_ore(1) };
        Request::Command { sequence: Sequence(n), asked: command.into() }.encode(n, &mut bytes);
    }
    let writing = tokio::spawn(async move {
        // It may be gone before everything is written.
        if send.write_all(&bytes).await.is_ok() && sales < SALES {
            return Some(send);
        }
        None
    });
    (connection, receive, writing)
}

async fn neighbour(world: &World) -> Client {
    Client::connect(world.server.address(), &world.bundle("till-2", Role::Till, 1)).await.unwrap().0
}

async fn sold(neighbour: &Client) -> u64 {
    let Outcome::View(view) = neighbour.query(Query::CardBalance { card: card() }).await.unwrap() else {
        panic!("no balance")
    };
    u64::try_from(100_000 - view.balance.ore()).unwrap()
}

/// Waits for it, and tells what it is instead if that does not come.
async fn until<T: PartialEq, F: Future<Output = T>>(wanted: T, now: impl Fn() -> F) -> Result<(), T> {
    let begin = Instant::now();
    loop {
        let is = now().await;
        if is == wanted {
            return Ok(());
        } else if begin.elapsed() > Duration::from_secs(10) {
            return Err(is);
        }
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn who_does_not_read_is_no_longer_read_from_and_loses_nothing() {
    let world = World::new().await;
    let neighbour = neighbour(&world).await;
    let (_connection, mut receive, writing) = greedy(&world, SALES).await;
    // What has a place, and what the window took to its end; and no more, however long one waits.
    let most = 256 + u64::from(WINDOW / ANSWER);
    assert_eq!(until(most, || sold(&neighbour)).await, Ok(()));
    sleep(Duration::from_millis(300)).await;
    assert_eq!(sold(&neighbour).await, most);

    let all = timeout(Duration::from_secs(60), receive.read_to_end(1 << 20)).await.expect("it stands still").unwrap();
    writing.await.unwrap();
    let (mut rest, mut tags) = (&all[..], BTreeSet::new());
    while let Some((frame, length)) = split(rest, RESPONSE_LIMIT).unwrap() {
        assert!(matches!(Response::decode(&frame).unwrap(), Response::Outcome(Outcome::Approved(_))));
        assert!(tags.insert(frame.tag), "{} was answered twice", frame.tag);
        assert_eq!(length, ANSWER as usize);
        rest = &rest[length..];
    }
    assert!(tags.into_iter().eq(1..=SALES), "every request is answered once, then the stream ends");
}

/// What was never written counts no longer, and the server does not wait for it when it closes down: neither where the caller has gone nor where
/// it has said that it wants no answers and stays.
#[tokio::test]
async fn who_reads_nothing_keeps_no_server_from_closing() {
    // With more sales than places and with fewer: whether it waits for a place or for the next request.
    for (sales, stays) in [(SALES, false), (SALES, true), (100, false), (100, true)] {
        let world = World::new().await;
        let neighbour = neighbour(&world).await;
        let (connection, mut receive, _writing) = greedy(&world, sales).await;
        let most = sales.min(256 + u64::from(WINDOW / ANSWER));
        assert_eq!(until(most, || sold(&neighbour)).await, Ok(()));
        assert!(world.server.unsent() > 0);
        if stays {
            receive.stop(VarInt::from_u32(0)).unwrap();
        } else {
            connection.close(VarInt::from_u32(0), b"");
        }
        assert_eq!(until(0, async || world.server.unsent()).await, Ok(()), "{sales}, {stays}");
    }
}

/// A stream that is closed for what came over it, while its answers wait for room, leaves nothing behind: no task that waits on, nothing that
/// counts as unsent, and nothing that is taken off twice, whoever comes first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_reset_while_it_waits_for_room_leaves_nothing() {
    let world = World::new().await;
    let connection = till(&world, 0).await;
    // One packet has room for them and for what ends them.
    let mut hellos = Vec::new();
    for tag in 0..50 {
        Request::Hello.encode(tag, &mut hellos);
    }
    let garbage = [0xff; 64];
    let together = [&hellos[..], &garbage].concat();
    let alive = || Handle::current().metrics().num_alive_tasks();
    let before = alive();
    for n in 0..2_000 {
        let (mut send, mut receive) = connection.open_bi().await.unwrap();
        if n % 100 == 0 {
            send.write_all(&hellos).await.unwrap();
            // Its answers wait by now; in the others they and the end of it come together.
            sleep(Duration::from_millis(10)).await;
            send.write_all(&garbage).await.unwrap();
        } else {
            send.write_all(&together).await.unwrap();
        }
        let ended = receive.read(&mut [0; 64]).await;
        assert!(matches!(ended, Err(quinn::ReadError::Reset(_))), "{ended:?}");
    }
    assert_eq!(until(0, async || world.server.unsent()).await, Ok(()));
    assert_eq!(until(true, async || alive() <= before).await, Ok(()), "{before} tasks before, {} behind it", alive());
}

/// Whose first packet is its last has left: a server that stops does not wait for it as for one that is silent.
#[tokio::test]
async fn who_leaves_while_it_comes_is_not_waited_for() {
    let world = World::new().await;
    let bundle = world.bundle("till-1", Role::Till, 1);
    tokio::select! {
        biased;
        _ = Client::connect(world.server.address(), &bundle) => unreachable!("nobody has answered yet"),
        () = std::future::ready(()) => {}
    }
    sleep(Duration::from_millis(200)).await;
    let stops = Instant::now();
    world.server.shutdown().await;
    assert!(stops.elapsed() < Duration::from_secs(8), "it waited for {:?}", stops.elapsed());
}
