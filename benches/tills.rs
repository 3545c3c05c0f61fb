//! How much of what QUIC can do is left when every answer is durable: `frokost serve` beside an echo over quinn with the same settings, the same
//! sizes (48 bytes in, 33 out, one stream a till, one in flight) and the client on the same cores, in turn. The echo once on quinn's own socket
//! and once on ours, which sends many packets at once; the tills once with one socket together and once with a socket each.
//! `cargo bench --bench tills -- 64 256` takes other numbers of tills, `-- echo 64 256` the echo alone; `PICTURES=docs/benchmarks` draws how it
//! grows.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a bench stops where it is wrong")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a bench prints what it measured")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

#[path = "plot/growth.rs"]
mod plot;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Endpoint, ServerConfig, TokioRuntime, TransportConfig, VarInt};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

const SECONDS: u64 = 5;
const ROUNDS: usize = 3;
const ASKED: usize = 48;
const ANSWERED: usize = 33;

fn suite() -> Arc<rustls::crypto::CryptoProvider> {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.cipher_suites = vec![rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256];
    Arc::new(provider)
}

/// A socket of ours, or quinn's own.
fn endpoint(ours: bool, config: Option<ServerConfig>) -> Endpoint {
    let anywhere: SocketAddr = "127.0.0.1:0".parse().unwrap();
    if ours {
        return frokost_net::socket::endpoint(anywhere, frokost_net::socket::names(), config).unwrap();
    }
    let socket = frokost_net::socket::bind(anywhere, false).unwrap();
    Endpoint::new(frokost_net::socket::names(), config, socket, Arc::new(TokioRuntime)).unwrap()
}

/// Answers whatever is asked; says where it listens and with which certificate.
#[tokio::main]
async fn echo(ours: bool) {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["echo".to_owned()]).unwrap().self_signed(&key).unwrap();
    let mut tls = rustls::ServerConfig::builder_with_provider(suite())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    tls.send_tls13_tickets = 0;
    let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
    let mut transport = TransportConfig::default();
    transport.max_concurrent_bidi_streams(VarInt::from_u32(8)).stream_receive_window(VarInt::from_u32(64 * 1024));
    config.transport_config(Arc::new(transport));
    let endpoint = endpoint(ours, Some(config));
    let hex: String = certificate.der().iter().map(|byte| format!("{byte:02x}")).collect();
    println!("{} {hex}", endpoint.local_addr().unwrap());
    while let Some(incoming) = endpoint.accept().await {
        tokio::spawn(async move {
            let connection = incoming.await.unwrap();
            let (mut send, mut receive) = connection.accept_bi().await.unwrap();
            let mut asked = [0; ASKED];
            while receive.read_exact(&mut asked).await.is_ok() && send.write_all(&[1; ANSWERED]).await.is_ok() {}
        });
    }
}

/// Answers a second of an echo with so many tills.
fn measure_echo(tills: usize, ours: bool) -> f64 {
    let mut server = Command::new(std::env::current_exe().unwrap())
        .arg(if ours { "--echo-ours" } else { "--echo" })
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let (address, hex) = line.trim().split_once(' ').unwrap();
    let address: SocketAddr = address.parse().unwrap();
    let der: Vec<u8> = (0..hex.len()).step_by(2).map(|n| u8::from_str_radix(&hex[n..n + 2], 16).unwrap()).collect();
    let rate = ask(address, &der.into(), tills, ours);
    server.kill().unwrap();
    server.wait().unwrap();
    rate
}

#[tokio::main]
async fn ask(address: SocketAddr, certificate: &CertificateDer<'static>, tills: usize, ours: bool) -> f64 {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let tls = rustls::ClientConfig::builder_with_provider(suite())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let endpoint = endpoint(ours, None);
    let mut streams = Vec::new();
    for _ in 0..tills {
        let connection = endpoint.connect_with(config.clone(), address, "echo").unwrap().await.unwrap();
        let (mut send, receive) = connection.open_bi().await.unwrap();
        send.write_all(&[0; ASKED]).await.unwrap();
        streams.push((connection, send, receive));
    }
    let begin = Instant::now() + Duration::from_secs(1);
    let end = begin + Duration::from_secs(SECONDS);
    let mut asking = tokio::task::JoinSet::new();
    for (connection, mut send, mut receive) in streams {
        asking.spawn(async move {
            let mut count = 0u64;
            let mut answer = [0; ANSWERED];
            loop {
                receive.read_exact(&mut answer).await.unwrap();
                let now = Instant::now();
                if now >= end {
                    drop(connection);
                    return count;
                }
                count += u64::from(now >= begin);
                send.write_all(&[0; ASKED]).await.unwrap();
            }
        });
    }
    asking.join_all().await.iter().sum::<u64>() as f64 / SECONDS as f64
}

fn frokost(folder: &std::path::Path, args: &[&str]) -> Command {
    let program = std::env::var("FROKOST_PROGRAM").unwrap_or_else(|_| env!("CARGO_BIN_EXE_frokost").to_owned());
    let mut command = Command::new(program);
    command.args(args).current_dir(folder).env_remove("FROKOST_PROGRAM").env("FROKOST_DATA", folder.join("data"));
    for name in ["TILLS__LISTEN", "PORTAL__LISTEN", "PAYMENT__SANDBOX_LISTEN", "METRICS__LISTEN"] {
        command.env(format!("FROKOST_{name}"), "127.0.0.1:0");
    }
    command.stdin(Stdio::null());
    command
}

struct Sold {
    rate: f64,
    p50: f64,
    p99: f64,
    /// Processor time of the server for a sale, in microseconds; warm-up and audit included.
    cost: f64,
}

/// Sales a second of the real thing, on an installation of its own.
fn measure_sales(tills: usize, sockets: usize) -> Sold {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let mut list = "name,cpr,card,balance\n".to_owned();
    for n in 1..=1_000 {
        let cpr = format!("{:02}{:02}{:02}{:04}", n % 28 + 1, n / 28 % 12 + 1, n / 336 % 30 + 5, 5000 + n);
        list.push_str(&format!("Pupil {n},{cpr},{n:014},9000\n"));
    }
    std::fs::write(path.join("pupils.csv"), list).unwrap();
    assert!(frokost(path, &["import", "pupils.csv", "--school-name", "X"]).output().unwrap().status.success());
    let mut server = frokost(path, &["serve"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut ready = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    let before = processor_us(&server);
    let (tills, sockets, seconds) = (tills.to_string(), sockets.to_string(), SECONDS.to_string());
    let args = ["load", "--tills", &tills, "--sockets", &sockets, "--seconds", &seconds, "--warm-up", "1", "--json"];
    let ran = frokost(path, &args).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let used = processor_us(&server) - before;
    assert!(Command::new("kill").args(["-INT", &server.id().to_string()]).status().unwrap().success());
    server.wait().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
    let number = |value: &serde_json::Value| value.as_f64().unwrap();
    Sold {
        rate: number(&report["achieved_rate"]),
        p50: number(&report["latency_us"]["p50"]) / 1e3,
        p99: number(&report["latency_us"]["p99"]) / 1e3,
        cost: used / number(&report["audit"]["approved"]),
    }
}

fn processor_us(process: &Child) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.id())).unwrap();
    let ticks: Vec<f64> =
        stat.rsplit(')').next().unwrap().split_whitespace().skip(11).take(2).map(|n| n.parse().unwrap()).collect();
    ticks.iter().sum::<f64>() * 10_000.0
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if let Some(which @ ("--echo" | "--echo-ours")) = args.first().map(String::as_str) {
        return echo(which == "--echo-ours");
    }
    let numbers: Vec<usize> = args.iter().filter_map(|arg| arg.parse().ok()).collect();
    let numbers = if numbers.is_empty() { vec![1, 16, 64, 256, 1_000, 5_000] } else { numbers };
    if args.iter().any(|arg| arg == "echo") {
        println!("| clients, one in flight each | echo/s | echo/s, our socket |\n|---|---|---|");
        for clients in numbers {
            let [quinns, ours] =
                [false, true].map(|ours| median((0..ROUNDS).map(|_| measure_echo(clients, ours)).collect()));
            println!("| {clients} | {quinns:.0} | {ours:.0} |");
        }
        return;
    }
    let mut lines: [plot::Line<'_>; 4] = [
        ("echo, quinn's socket", Vec::new()),
        ("echo, our socket", Vec::new()),
        ("frokost", Vec::new()),
        ("frokost, a socket each", Vec::new()),
    ];
    let mut costs: [plot::Line<'_>; 2] = [("one socket", Vec::new()), ("a socket each", Vec::new())];
    println!(
        "| tills, one in flight each | echo/s | echo/s, our socket | sales/s | of the echo / on our socket | p50 / p99 | server's processor time a sale \
         | sales/s, a socket each | p50 / p99 | processor time |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for tills in numbers {
        let mut echoes = [Vec::new(), Vec::new()];
        let mut sold = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            for (which, echoes) in echoes.iter_mut().enumerate() {
                echoes.push(measure_echo(tills, which == 1));
            }
            for (sockets, sold) in [1, tills].into_iter().zip(&mut sold) {
                sold.push(measure_sales(tills, sockets));
            }
        }
        let [echo, on_ours] = echoes.map(median);
        let [shared, own] = sold.map(|sold| {
            let of = |pick: fn(&Sold) -> f64| median(sold.iter().map(pick).collect());
            Sold {
                rate: of(|sold| sold.rate),
                p50: of(|sold| sold.p50),
                p99: of(|sold| sold.p99),
                cost: of(|sold| sold.cost),
            }
        });
        println!(
            "| {tills} | {echo:.0} | {on_ours:.0} | {:.0} | {:.2} / {:.2} | {:.2} / {:.2} ms | {:.1} us | {:.0} | {:.2} / {:.2} ms | {:.1} us |",
            shared.rate,
            shared.rate / echo,
            shared.rate / on_ours,
            shared.p50,
            shared.p99,
            shared.cost,
            own.rate,
            own.p50,
            own.p99,
            own.cost
        );
        for (line, value) in lines.iter_mut().zip([echo, on_ours, shared.rate, own.rate]) {
            line.1.push((tills as f64, value));
        }
        for (line, value) in costs.iter_mut().zip([shared.cost, own.cost]) {
            line.1.push((tills as f64, value));
        }
    }
    plot::draw("tills", "tills, one in flight each", "answers a second", &lines);
    plot::draw("tills-cost", "tills, one in flight each", "us of server a sale", &costs);
}
