//! The wire format: a purchase written and read, an answer written and read. One till's share of a sale is one of each.

#![allow(missing_docs, clippy::unwrap_used, reason = "criterion's macros; a bench stops where it is wrong")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use frokost_engine::{Amount, Command, Lsn, Outcome, Receipt, Sequence};
use frokost_net::wire::frame::{REQUEST_LIMIT, RESPONSE_LIMIT, split};
use frokost_net::wire::response::encode_outcome;
use frokost_net::wire::{Request, Response};

fn wire(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wire");
    group.throughput(Throughput::Elements(1));
    let command = Command::Purchase { card: "12345678901234".parse().unwrap(), amount: Amount::from_kroner(25) };
    let request = Request::Command { sequence: Sequence(1), asked: command.into() };
    let mut bytes = Vec::with_capacity(256);
    group.bench_function("purchase, encode", |bench| {
        bench.iter(|| {
            bytes.clear();
            black_box(&request).encode(7, &mut bytes);
        });
    });
    bytes.clear();
    request.encode(7, &mut bytes);
    group.bench_function("purchase, decode", |bench| {
        bench.iter(|| {
            let (frame, _) = split(black_box(&bytes), REQUEST_LIMIT).unwrap().unwrap();
            Request::decode(&frame).unwrap()
        });
    });
    let mut copy = Vec::with_capacity(256);
    group.bench_function("floor: a purchase's bytes copied", |bench| {
        bench.iter(|| {
            copy.clear();
            copy.extend_from_slice(black_box(&bytes));
        });
    });
    let outcome = Outcome::Approved(Receipt { lsn: Lsn(258), balance: Amount::from_kroner(75) });
    group.bench_function("approved, encode", |bench| {
        bench.iter(|| {
            bytes.clear();
            encode_outcome(black_box(&outcome), 7, &mut bytes);
        });
    });
    bytes.clear();
    encode_outcome(&outcome, 7, &mut bytes);
    group.bench_function("approved, decode", |bench| {
        bench.iter(|| {
            let (frame, _) = split(black_box(&bytes), RESPONSE_LIMIT).unwrap().unwrap();
            Response::decode(&frame).unwrap()
        });
    });
    group.finish();
}

criterion_group!(benches, wire);
criterion_main!(benches);
