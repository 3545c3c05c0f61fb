//! Bytes that are no frames: the stream they came on is closed with a code, and nobody else notices.

use frokost_engine::{Amount, Command, Outcome, Role, Sequence};
use frokost_net::wire::frame::{REQUEST_LIMIT, RESPONSE_LIMIT, append, split};
use frokost_net::wire::{ALPN, Request, Response, code};
use frokost_net::{Bundle, Client};
use proptest::prelude::*;
use std::sync::Arc;

use crate::world::*;

/// A client that can say anything.
async fn raw(world: &World, bundle: &Bundle) -> quinn::Connection {
    raw_with(world, bundle, quinn::TransportConfig::default()).await
}

pub async fn raw_with(world: &World, bundle: &Bundle, transport: quinn::TransportConfig) -> quinn::Connection {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(bundle.authority.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![bundle.certificate.clone()], bundle.key.clone_key())
        .unwrap();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport));
    endpoint.connect_with(config, world.server.address(), "frokost.internal").unwrap().await.unwrap()
}

async fn reset_code(connection: &quinn::Connection, bytes: &[u8]) -> u64 {
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    send.write_all(bytes).await.unwrap();
    let mut answer = [0; 64];
    loop {
        match receive.read(&mut answer).await {
            Err(quinn::ReadError::Reset(code)) => return code.into_inner(),
            Ok(Some(_)) => {}
            other => panic!("not reset: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_malformed_frame_closes_its_stream_with_a_code_and_touches_nobody_else() {
    let world = World::new().await;
    let bundle = world.bundle("till-1", Role::Till, 1);
    let connection = raw(&world, &bundle).await;
    let good = world.bundle("till-2", Role::Till, 1);
    let (neighbour, _) = Client::connect(world.server.address(), &good).await.unwrap();

    let mut sale = Vec::new();
    let command = Command::Purchase { card: card(), amount: Amount::from_kroner(1) };
    Request::Command { sequence: Sequence(1), asked: command.into() }.encode(7, &mut sale);
    let with = |at: usize, byte: u8| {
        let mut bytes = sale.clone();
        bytes[at] = byte;
        bytes
    };
    let mut short = Vec::new();
    append(&mut short, 0x10, 1, |out| out.extend_from_slice(&[0; 5]));
    for (bytes, expected) in [
        (vec![0xff; 64], code::TOO_LARGE),
        (vec![0; 64], code::MALFORMED),
        (with(4, 9), code::VERSION),
        (with(5, 0x7f), code::UNKNOWN_KIND),
        (with(6, 1), code::MALFORMED),
        (with(24, b'?'), code::MALFORMED),
        (short, code::MALFORMED),
    ] {
        assert_eq!(reset_code(&connection, &bytes).await, u64::from(expected), "{bytes:?}");
    }
    // The same connection and the neighbour go on.
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    send.write_all(&sale).await.unwrap();
    let mut answer = vec![0; 32];
    receive.read_exact(&mut answer).await.unwrap();
    let (frame, _) = split(&answer, RESPONSE_LIMIT).unwrap().unwrap();
    assert_eq!(frame.tag, 7);
    assert!(matches!(Response::decode(&frame).unwrap(), Response::Outcome(Outcome::Approved(_))));
    assert!(matches!(neighbour.command(Sequence(1), command).await.unwrap(), Outcome::Approved(_)));
}

#[tokio::test]
async fn a_frame_may_come_byte_by_byte_and_many_at_once() {
    let world = World::new().await;
    let bundle = world.bundle("till-1", Role::Till, 1);
    let connection = raw(&world, &bundle).await;
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    let command = Command::Purchase { card: card(), amount: Amount::from_ore(1) };
    let mut bytes = Vec::new();
    Request::Command { sequence: Sequence(1), asked: command.into() }.encode(1, &mut bytes);
    for byte in &bytes {
        send.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    // Far more than may be in flight on a stream: the server reads on as it answers.
    let mut many = Vec::new();
    for n in 2..=2000 {
        Request::Command { sequence: Sequence(n), asked: command.into() }.encode(n, &mut many);
    }
    let writing = tokio::spawn(async move {
        send.write_all(&many).await.unwrap();
        send.finish().unwrap();
    });
    let all = receive.read_to_end(1 << 20).await.unwrap();
    writing.await.unwrap();
    let (mut rest, mut tags) = (&all[..], Vec::new());
    while let Some((frame, length)) = split(rest, RESPONSE_LIMIT).unwrap() {
        assert!(matches!(Response::decode(&frame).unwrap(), Response::Outcome(Outcome::Approved(_))));
        tags.push(frame.tag);
        rest = &rest[length..];
    }
    tags.sort_unstable();
    assert_eq!(tags, (1..=2000).collect::<Vec<_>>(), "every request is answered once, then the stream ends");
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), kind in any::<u8>()) {
        if let Ok(Some((frame, length))) = split(&bytes, REQUEST_LIMIT) {
            prop_assert!(length <= REQUEST_LIMIT);
            let _ = Request::decode(&frame);
            let _ = Response::decode(&frame);
        }
        let mut framed = Vec::new();
        append(&mut framed, kind, 1, |out| out.extend_from_slice(&bytes));
        if let Ok(Some((frame, _))) = split(&framed, RESPONSE_LIMIT) {
            if let Ok(request) = Request::decode(&frame) {
                // Whatever can be read is what would be written.
                let mut again = Vec::new();
                request.encode(1, &mut again);
                prop_assert_eq!(&again, &framed);
            }
            let _ = Response::decode(&frame);
        }
    }
}
