//! A hundred parents on the portal while tills are busy: how long pages take, and what pages and passwords cost the sales. The program itself
//! serves, on loopback, with everything it has; parents are HTTP clients here, tills are `frokost load`. `cargo bench --bench portal`; with FROKOST_PROGRAM another build of the program serves.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a bench stops where it is wrong")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a bench prints what it measured")]
#![allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "figures for people")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use reqwest::header::{COOKIE, SET_COOKIE};
use reqwest::{Client, StatusCode};

const PARENTS: u64 = 100;
/// Sales a second of all tills together.
const RATE: u64 = 2_000;
const TILLS: u64 = 64;
const SECONDS: u64 = 15;
const WARM_UP: u64 = 2;
/// How long a parent looks at a page.
const LOOKS: Duration = Duration::from_secs(1);
/// Browsers that do nothing but log in.
const STORM: usize = 8;
const ROUNDS: usize = 3;
const PASSWORD: &str = "smørrebrød og sild";
/// What a parent looks at, in turn.
const PAGES: [&str; 6] = ["", "/kontoudtog", "/indbetal", "/bruger", "/betalinger", "/udbetal"];

struct Served {
    process: Child,
    portal: String,
    folder: tempfile::TempDir,
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(Command::new("kill").args(["-INT", &self.process.id().to_string()]).status());
        drop(self.process.wait());
    }
}

fn frokost(folder: &std::path::Path, args: &[&str]) -> Command {
    // Another build of the program, to hold one against the other.
    let program = std::env::var("FROKOST_PROGRAM").unwrap_or_else(|_| env!("CARGO_BIN_EXE_frokost").to_owned());
    let mut command = Command::new(program);
    command
        .args(args)
        .current_dir(folder)
        .env_remove("FROKOST_PROGRAM")
        .env("FROKOST_DATA", folder.join("data"))
        .stdin(Stdio::null());
    for name in ["TILLS__LISTEN", "PORTAL__LISTEN", "PAYMENT__SANDBOX_LISTEN", "METRICS__LISTEN"] {
        command.env(format!("FROKOST_{name}"), "127.0.0.1:0");
    }
    // Every parent comes from the same address here; told apart as behind a proxy they are limited one by one.
    command.env("FROKOST_PORTAL__BEHIND_PROXY", "true");
    command
}

fn must(mut command: Command) -> String {
    let ran = command.output().unwrap();
    assert!(ran.status.success(), "{command:?}: {}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap()
}

fn serve() -> Served {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let mut list = "name,cpr,card,balance\n".to_owned();
    for n in 1..=1_000 {
        let cpr = format!("{:02}{:02}{:02}{:04}", n % 28 + 1, n / 28 % 12 + 1, n / 336 % 30 + 5, 5000 + n);
        list.push_str(&format!("Pupil {n},{cpr},{n:014},5000\n"));
    }
    std::fs::write(path.join("pupils.csv"), list).unwrap();
    std::fs::write(path.join("password"), format!("{PASSWORD}\n")).unwrap();
    must(frokost(path, &["import", "pupils.csv", "--school-name", "Sct. Ib"]));
    for n in 1..=PARENTS {
        let (mail, account) = (mail(n), n.to_string());
        let add = ["parent", "add", &mail, "--name", "X", "--accounts", &account, "--password-file", "password"];
        must(frokost(path, &add));
    }
    let mut process = frokost(path, &["serve"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut ready = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    let portal = ready.split("portal on ").nth(1).unwrap().split([' ', ',']).next().unwrap().to_owned();
    Served { process, portal, folder }
}

fn mail(n: u64) -> String {
    format!("parent-{n}@example.dk")
}

/// Logs in; the address is the parent's own.
async fn log_in(client: &Client, portal: &str, n: u64) -> Option<String> {
    let form = [("mail", mail(n)), ("password", PASSWORD.to_owned())];
    let address = format!("10.{}.{}.{}", n >> 16 & 255, n >> 8 & 255, n & 255);
    let answer =
        client.post(format!("{portal}/log-paa")).header("x-forwarded-for", address).form(&form).send().await.unwrap();
    if answer.status() != StatusCode::SEE_OTHER {
        return None;
    }
    Some(answer.headers()[SET_COOKIE].to_str().unwrap().split(';').next().unwrap().to_owned())
}

fn client() -> Client {
    Client::builder().redirect(reqwest::redirect::Policy::none()).pool_max_idle_per_host(1).build().unwrap()
}

/// Every parent looks at page after page until it is enough; returns how long the pages took, in microseconds.
async fn read_pages(portal: &str, cookies: &[(u64, String)], enough: &Arc<AtomicBool>) -> Histogram<u64> {
    let took = Arc::new(Mutex::new(Histogram::new(3).unwrap()));
    let mut reading = tokio::task::JoinSet::new();
    for (n, cookie) in cookies.iter().cloned() {
        let (client, portal, took, enough) = (client(), portal.to_owned(), Arc::clone(&took), Arc::clone(enough));
        reading.spawn(async move {
            tokio::time::sleep(LOOKS * (n as u32) / (PARENTS as u32)).await;
            for page in PAGES.iter().cycle() {
                if enough.load(Ordering::Relaxed) {
                    return;
                }
                let begin = Instant::now();
                let answer =
                    client.get(format!("{portal}/konto/{n}{page}")).header(COOKIE, &cookie).send().await.unwrap();
                assert_eq!(answer.status(), StatusCode::OK, "{page}");
                assert!(answer.text().await.unwrap().trim_end().ends_with("</html>"));
                took.lock().unwrap().record(begin.elapsed().as_micros() as u64).unwrap();
                tokio::time::sleep(LOOKS).await;
            }
        });
    }
    reading.join_all().await;
    Arc::into_inner(took).unwrap().into_inner().unwrap()
}

/// Logs in again and again; returns how often a second it was let in.
async fn storm(portal: &str, enough: &Arc<AtomicBool>) -> f64 {
    let begin = Instant::now();
    let (asked, count) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut storming = tokio::task::JoinSet::new();
    for _ in 0..STORM {
        let (client, portal, enough) = (client(), portal.to_owned(), Arc::clone(enough));
        let (asked, count) = (Arc::clone(&asked), Arc::clone(&count));
        storming.spawn(async move {
            while !enough.load(Ordering::Relaxed) {
                let n = asked.fetch_add(1, Ordering::Relaxed) % PARENTS + 1;
                count.fetch_add(u64::from(log_in(&client, &portal, n).await.is_some()), Ordering::Relaxed);
            }
        });
    }
    storming.join_all().await;
    count.load(Ordering::Relaxed) as f64 / begin.elapsed().as_secs_f64()
}

/// Somebody else who computes at the lowest priority and asks for nothing: what a storm is held against, since hashing does the same.
struct Computing(Child);

impl Computing {
    fn begin() -> Computing {
        let endless = ["-n", "19", "sh", "-c", "while :; do :; done"];
        Computing(Command::new("nice").args(endless).spawn().unwrap())
    }
}

impl Drop for Computing {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// What was measured while something went on.
#[derive(Clone, Copy)]
struct Row {
    /// p50, p99, and p99 of those that the machine itself did not disturb, in ms.
    sales: [f64; 3],
    /// Sales a second.
    achieved: f64,
    /// p50, p99 and the longest in ms, where pages were looked at.
    pages: Option<[f64; 3]>,
    /// Log ins a second, where there were any.
    logins: Option<f64>,
}

impl Row {
    fn with_pages(self, pages: &Histogram<u64>) -> Row {
        let ms = |at| pages.value_at_percentile(at) as f64 / 1e3;
        Row { pages: Some([ms(50.0), ms(99.0), ms(100.0)]), ..self }
    }

    fn with_logins(self, logins: f64) -> Row {
        Row { logins: Some(logins), ..self }
    }

    fn print(&self, what: &str) {
        let [p50, p99, undisturbed] = self.sales;
        let pages = self
            .pages
            .map_or_else(|| "-".to_owned(), |[p50, p99, longest]| format!("{p50:.1} / {p99:.1} / {longest:.1} ms"));
        let logins = self.logins.map_or_else(|| "-".to_owned(), |logins| format!("{logins:.1}"));
        println!("| {what} | {p50:.2} / {p99:.2} / {undisturbed:.2} ms | {:.0} | {pages} | {logins} |", self.achieved);
    }

    /// The medians of several rounds' figures.
    fn middle(rounds: &[Row]) -> Row {
        let of = |pick: &dyn Fn(&Row) -> f64| {
            let mut values: Vec<f64> = rounds.iter().map(pick).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        let three = |pick: &dyn Fn(&Row) -> [f64; 3]| [0, 1, 2].map(|n| of(&|row| pick(row)[n]));
        Row {
            sales: three(&|row| row.sales),
            achieved: of(&|row| row.achieved),
            pages: rounds[0].pages.map(|_| three(&|row| row.pages.unwrap())),
            logins: rounds[0].logins.map(|_| of(&|row| row.logins.unwrap())),
        }
    }
}

/// Tills sell, and `meanwhile` is done.
async fn while_selling<T>(served: &Served, meanwhile: impl AsyncFnOnce(Arc<AtomicBool>) -> T) -> (Row, T) {
    let [rate, tills, seconds, warm_up] = [RATE, TILLS, SECONDS, WARM_UP].map(|number| number.to_string());
    let args = ["load", "--rate", &rate, "--tills", &tills, "--seconds", &seconds, "--warm-up", &warm_up, "--json"];
    let mut command = frokost(served.folder.path(), &args);
    let selling = tokio::task::spawn_blocking(move || must_load(&mut command));
    // While they warm up and are measured; not while the audit reads what they sold.
    let enough = Arc::new(AtomicBool::new(false));
    let ended = Arc::clone(&enough);
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(WARM_UP + SECONDS)).await;
        ended.store(true, Ordering::Relaxed);
    });
    let done = meanwhile(enough).await;
    let report: serde_json::Value = serde_json::from_str(&selling.await.unwrap()).unwrap();
    let latency = |of: &str, name: &str| report[of][name].as_f64().unwrap() / 1e3;
    let [all, undisturbed] = ["latency_us", "undisturbed_latency_us"];
    let sales = [latency(all, "p50"), latency(all, "p99"), latency(undisturbed, "p99")];
    (Row { sales, achieved: report["achieved_rate"].as_f64().unwrap(), pages: None, logins: None }, done)
}

fn must_load(command: &mut Command) -> String {
    let ran = command.output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap()
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let served = serve();
    let portal = served.portal.clone();
    let mut cookies = Vec::new();
    let first = client();
    for n in 1..=PARENTS {
        cookies.push((n, log_in(&first, &portal, n).await.expect("a parent cannot log in")));
    }
    println!(
        "| | sales p50 / p99 / p99 undisturbed by the machine | sales/s | pages p50 / p99 / longest | log ins/s |"
    );
    println!("|---|---|---|---|---|");
    let what = [
        "tills alone".to_owned(),
        format!("and {PARENTS} parents"),
        "tills and somebody who computes".to_owned(),
        "tills and a storm of log ins".to_owned(),
        "all of them".to_owned(),
    ];
    let mut rounds = Vec::new();
    for round in 1..=ROUNDS {
        let (alone, ()) = while_selling(&served, async |_| ()).await;
        let (row, pages) = while_selling(&served, async |enough| read_pages(&portal, &cookies, &enough).await).await;
        let parents = row.with_pages(&pages);
        let computing = Computing::begin();
        let (computed, ()) = while_selling(&served, async |_| ()).await;
        drop(computing);
        let (row, logins) = while_selling(&served, async |enough| storm(&portal, &enough).await).await;
        let stormed = row.with_logins(logins);
        let (row, (pages, logins)) = while_selling(&served, async |enough| {
            tokio::join!(read_pages(&portal, &cookies, &enough), storm(&portal, &enough))
        })
        .await;
        let rows = [alone, parents, computed, stormed, row.with_pages(&pages).with_logins(logins)];
        rows.iter().zip(&what).for_each(|(row, what)| row.print(&format!("{round}: {what}")));
        rounds.push(rows);
    }
    for (n, what) in what.iter().enumerate() {
        let rows: Vec<Row> = rounds.iter().map(|rows| rows[n]).collect();
        Row::middle(&rows).print(&format!("medians: {what}"));
    }
}
