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
const WINDOW: u32 = 1024;

/// A till that has room for so many bytes of each stream's answers.
async fn till(world: &World, window: u32) -> quinn::Connection {
    let mut transport = TransportConfig::default();
    transport.stream_receive_window(VarInt::from_u32(window));
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

/// How much was sold when nothing more is sold.
async fn sold(neighbour: &Client) -> u64 {
    let (mut before, mut since) = (0, Instant::now());
    loop {
        let Outcome::View(view) = neighbour.query(Query::CardBalance { card: card() }).await.unwrap() else {
            panic!("no balance")
        };
        let sold = u64::try_from(100_000 - view.balance.ore()).unwrap();
        if sold != before {
            (before, since) = (sold, Instant::now());
        } else if sold > 0 && since.elapsed() > Duration::from_millis(500) {
            return sold;
        }
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn who_does_not_read_is_no_longer_read_from_and_loses_nothing() {
    let world = World::new().await;
    let neighbour = neighbour(&world).await;
    let (_connection, mut receive, writing) = greedy(&world, SALES).await;
    let sold = sold(&neighbour).await;

    let all = timeout(Duration::from_secs(60), receive.read_to_end(1 << 20)).await.expect("it stands still").unwrap();
    writing.await.unwrap();
    let (mut rest, mut tags) = (&all[..], BTreeSet::new());
    while let Some((frame, length)) = split(rest, RESPONSE_LIMIT).unwrap() {
        assert!(matches!(Response::decode(&frame).unwrap(), Response::Outcome(Outcome::Approved(_))));
        assert!(tags.insert(frame.tag), "{} was answered twice", frame.tag);
        if tags.len() == 1 {
            // What has a place, and what the window took to its end.
            assert_eq!(sold, 256 + u64::from(WINDOW) / length as u64, "while it read nothing");
        }
        rest = &rest[length..];
    }
    assert!(tags.into_iter().eq(1..=SALES), "every request is answered once, then the stream ends");
}

/// What was never written is not waited for when the server closes down, neither where the caller has gone nor where it has said
/// that it wants no answers and stays.
#[tokio::test]
async fn who_reads_nothing_keeps_no_server_from_closing() {
    // With more sales than places and with fewer: whether it waits for a place or for the next request.
    for (sales, stays) in [(SALES, false), (SALES, true), (100, false), (100, true)] {
        let world = World::new().await;
        let neighbour = neighbour(&world).await;
        let (connection, mut receive, _writing) = greedy(&world, sales).await;
        sold(&neighbour).await;
        if stays {
            receive.stop(VarInt::from_u32(0)).unwrap();
        } else {
            connection.close(VarInt::from_u32(0), b"");
        }
        neighbour.close().await;
        sleep(Duration::from_millis(200)).await;
        let begin = Instant::now();
        world.server.shutdown().await;
        // It would wait for a second.
        assert!(begin.elapsed() < Duration::from_secs(1), "{sales}, {stays}: {:?}", begin.elapsed());
    }
}

/// A stream that is closed for what came over it, while its answers wait for room, leaves no task behind that waits on.
#[tokio::test]
async fn a_stream_that_is_reset_while_it_waits_for_room_leaves_nothing() {
    let world = World::new().await;
    let connection = till(&world, 0).await;
    let mut bytes = Vec::new();
    for tag in 0..100 {
        Request::Hello.encode(tag, &mut bytes);
    }
    let alive = || Handle::current().metrics().num_alive_tasks();
    let before = alive();
    for _ in 0..20 {
        let (mut send, mut receive) = connection.open_bi().await.unwrap();
        send.write_all(&bytes).await.unwrap();
        // Its answers wait by now.
        sleep(Duration::from_millis(20)).await;
        send.write_all(&[0xff; 64]).await.unwrap();
        let ended = receive.read(&mut [0; 64]).await;
        assert!(matches!(ended, Err(quinn::ReadError::Reset(_))), "{ended:?}");
    }
    let begin = Instant::now();
    while alive() > before {
        assert!(begin.elapsed() < Duration::from_secs(10), "{before} tasks before, {} behind it", alive());
        sleep(Duration::from_millis(20)).await;
    }
}
