//! Callers that ask and do not read: they are no longer read from, lose nothing, and keep nobody waiting.

use std::collections::BTreeSet;
use std::time::Duration;

use frokost_engine::{Amount, Command, Outcome, Query, Role, Sequence};
use frokost_net::Client;
use frokost_net::wire::frame::{RESPONSE_LIMIT, split};
use frokost_net::wire::{Request, Response};
use quinn::{RecvStream, TransportConfig, VarInt};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::frames::raw_with;
use crate::world::*;

/// Far more than the places of a stream and what fits into the window of this reader.
const SALES: u64 = 5_000;
const WINDOW: u32 = 1024;

/// A till that asks for all its sales at once and has read nothing yet.
async fn greedy(world: &World) -> (quinn::Connection, RecvStream, JoinHandle<()>) {
    let mut transport = TransportConfig::default();
    transport.stream_receive_window(VarInt::from_u32(WINDOW));
    let connection = raw_with(world, &world.bundle("till-1", Role::Till, 1), transport).await;
    let (mut send, receive) = connection.open_bi().await.unwrap();
    let mut bytes = Vec::new();
    for n in 1..=SALES {
        let command = Command::Purchase { card: card(), amount: Amount::from_ore(1) };
        Request::Command { sequence: Sequence(n), asked: command.into() }.encode(n, &mut bytes);
    }
    let writing = tokio::spawn(async move {
        // It may be gone before everything is written.
        if send.write_all(&bytes).await.is_ok() {
            send.finish().unwrap();
        }
    });
    (connection, receive, writing)
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
    let (neighbour, _) = Client::connect(world.server.address(), &world.bundle("till-2", Role::Till, 1)).await.unwrap();
    let (_connection, mut receive, writing) = greedy(&world).await;
    let sold = sold(&neighbour).await;
    // What has a place, and what the window let out and gave its place back.
    assert!((256..256 + u64::from(WINDOW) / 16).contains(&sold), "{sold} of {SALES}");

    let all = timeout(Duration::from_secs(60), receive.read_to_end(1 << 20)).await.expect("it stands still").unwrap();
    writing.await.unwrap();
    let (mut rest, mut tags) = (&all[..], BTreeSet::new());
    while let Some((frame, length)) = split(rest, RESPONSE_LIMIT).unwrap() {
        assert!(matches!(Response::decode(&frame).unwrap(), Response::Outcome(Outcome::Approved(_))));
        assert!(tags.insert(frame.tag), "{} was answered twice", frame.tag);
        rest = &rest[length..];
    }
    assert!(tags.into_iter().eq(1..=SALES), "every request is answered once, then the stream ends");
}

/// What was never written to somebody who has gone is not waited for when the server closes down.
#[tokio::test]
async fn who_goes_without_reading_keeps_no_server_from_closing() {
    let world = World::new().await;
    let (neighbour, _) = Client::connect(world.server.address(), &world.bundle("till-2", Role::Till, 1)).await.unwrap();
    let (connection, _receive, writing) = greedy(&world).await;
    sold(&neighbour).await;
    connection.close(VarInt::from_u32(0), b"");
    writing.await.unwrap();
    neighbour.close().await;
    sleep(Duration::from_millis(200)).await;
    let begin = Instant::now();
    world.server.shutdown().await;
    // It would wait for a second.
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
}
