//! Payments from the window to the account. What could go wrong: a provider that calls twice, late or never; money that no account can take;
//! a school that has no CPR numbers; numbers that are given out twice after a restore.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use frokost_engine::snapshot::Snapshots;
use frokost_engine::{AccountId, Lsn, OrderNumber};
use frokost_persistence::records::{Order, OrderState, Purpose};
use frokost_persistence::{FileSnapshots, Records};

use crate::browser::{Browser, PASSWORD, two_parents};
use crate::installation::*;

pub const GOOD_CARD: &str = "4111111111111111";

/// Waits until an account is shown with this text.
async fn shows(home: &Installation, account: &str, text: &str) {
    let begin = Instant::now();
    loop {
        let shown = home.must(&["account", "show", account]);
        if shown.contains(text) {
            return;
        }
        assert!(begin.elapsed() < Duration::from_secs(15), "it never shows {text}: {shown}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// How many mails with this subject have come.
pub fn mails(home: &Installation, subject: &str) -> usize {
    let folder = home.data().join("mail/new");
    let files = std::fs::read_dir(folder).map(|files| files.flatten().collect::<Vec<_>>()).unwrap_or_default();
    files.iter().filter(|file| std::fs::read_to_string(file.path()).unwrap().contains(subject)).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_the_providers_callback_does_the_money_comes_once() {
    for (callbacks, afterwards) in [("once", 0), ("twice", 1), ("late", 10), ("never", 0)] {
        let home = two_parents().with("PAYMENT__SANDBOX_CALLBACKS", callbacks);
        let server = home.serve();
        let browser = Browser::logged_in(&server, "mor@example.dk", 1).await;
        let order = browser.pay_in(1, "300", GOOD_CARD).await;
        shows(&home, "1", "balance       800,00 kr.").await;
        // What comes after that must change nothing.
        tokio::time::sleep(Duration::from_secs(afterwards)).await;
        let page = browser.get(&format!("/ordre/{order}")).await.text().await.unwrap();
        assert!(page.contains("Pengene er på kortet nu"), "{callbacks}: {page}");
        assert_eq!(home.must(&["account", "statement", "1"]).matches("300,00").count(), 1, "{callbacks}");
        assert!(home.must(&["account", "show", "1"]).contains("balance       800,00 kr."), "{callbacks}");
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(mails(&home, "Kvittering for indbetaling"), 1, "{callbacks}");
        assert_eq!(server.stop(), 0);
        assert!(home.must(&["verify"]).ends_with("everything holds\n"), "{callbacks}");
    }
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-r").args([from, to]).status().unwrap().success());
}

/// The books are put back to before the account was opened, as after a disaster that took the mirror, too: the provider has money for an account
/// that nobody knows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn money_that_no_account_can_take_goes_back_to_the_card() {
    // Served at the same address after a restart.
    let sandbox = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let home =
        Installation::new().with("PAYMENT__SANDBOX_CALLBACKS", "never").with("PAYMENT__SANDBOX_LISTEN", &sandbox);
    home.import(1, 500);
    let books = ["journal", "journal.head", "mirror", "snapshots", "statements"];
    let before = home.path("before");
    std::fs::create_dir(&before).unwrap();
    for name in books.iter().filter(|name| home.data().join(name).exists()) {
        copy(&home.data().join(name), &before.join(name));
    }
    home.import(2, 500);
    home.add_parent("mor@example.dk", "1,2");
    let server = home.serve();
    let browser = Browser::logged_in(&server, "mor@example.dk", 2).await;
    let window = browser.open_window(2, "300").await;
    assert_eq!(server.stop(), 0);
    for name in books {
        drop(std::fs::remove_dir_all(home.data().join(name)));
        drop(std::fs::remove_file(home.data().join(name)));
        if before.join(name).exists() {
            copy(&before.join(name), &home.data().join(name));
        }
    }
    let server = home.serve();
    browser.pay(&window, GOOD_CARD).await;
    let begin = Instant::now();
    let returned = || std::fs::read_to_string(home.data().join("sandbox.json")).unwrap().contains("\"refunded\"");
    while !returned() {
        assert!(begin.elapsed() < Duration::from_secs(15), "the money never goes back");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    while mails(&home, "Din indbetaling er") == 0 {
        assert!(begin.elapsed() < Duration::from_secs(20), "nobody is told");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(server.stop(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_school_without_cpr_numbers_uses_birth_dates() {
    let home = Installation::new().with("PORTAL__IDENTIFY_BY", "birth_date");
    let list = home.write(
        "list.csv",
        &format!("navn;fødselsdato;kortnummer;saldo\nAnna;01-02-2014;{};100\nBo;01-02-2014;{};100\n", card(1), card(2)),
    );
    home.must(&["import", lossy(&list), "--school-name", "Sct. Ib"]);
    // Again it is the same two.
    assert!(home.must(&["import", lossy(&list)]).contains("0 pupils taken in, 0 completed, 2 unchanged"));
    let server = home.serve();
    let browser = Browser::new(&server);
    let page = browser.get("/opret").await.text().await.unwrap();
    assert!(page.contains("Fødselsdato") && !page.contains("CPR"), "{page}");
    let sign_up = async |date: &str, card: &str| browser.sign_up(date, card, "mor@example.dk").await;
    for (date, card, says) in [
        ("31-02-2014", card(1), "Skriv fødselsdatoen som 31-01-2014"),
        ("02-02-2014", card(1), "Kortnummer og fødselsdato passer ikke sammen"),
        ("01-02-2014", card(3), "Kortnummer og fødselsdato passer ikke sammen"),
    ] {
        let answer = sign_up(date, &card).await;
        assert_eq!(answer.status(), reqwest::StatusCode::UNPROCESSABLE_ENTITY);
        let page = answer.text().await.unwrap();
        assert!(page.contains(says), "{page}");
    }
    // The card decides which of the two who share the day it is.
    assert_eq!(sign_up("1.2.2014", &card(2)).await.status(), reqwest::StatusCode::SEE_OTHER);
    assert_eq!(server.stop(), 0);
    assert!(home.must(&["verify"]).ends_with("everything holds\n"));
}

/// A school that has to give up its CPR numbers, and one that may have them again: the old list finds the same pupils.
#[test]
fn a_list_finds_its_pupils_when_they_are_identified_in_another_way() {
    let mut home = Installation::new();
    let cpr_list = format!("navn;cpr;kortnummer\nAnna;010214-5123;{}\nBo;020214-5124;{}\n", card(1), card(2));
    let cpr_list = home.write("cpr.csv", &cpr_list);
    home.must(&["import", lossy(&cpr_list), "--school-name", "Sct. Ib"]);
    home = home.with("PORTAL__IDENTIFY_BY", "birth_date");
    let dates = format!("navn;fødselsdato;kortnummer\nAnna;01-02-2014;{}\nbo;02-02-2014;{}\n", card(1), card(2));
    let more = format!("Cy;03-02-2014;{}\n", card(3));
    let dates = home.write("dates.csv", &format!("{dates}{more}"));
    assert!(home.must(&["import", lossy(&dates)]).contains("1 pupils taken in, 0 completed, 2 unchanged"));
    assert!(home.must(&["import", lossy(&dates)]).contains("0 pupils taken in, 0 completed, 3 unchanged"));
    home = home.with("PORTAL__IDENTIFY_BY", "cpr");
    let all = format!("navn;cpr;kortnummer\nAnna;010214-5123;{}\nCy;030214-5125;{}\n", card(1), card(3));
    let all = home.write("all.csv", &all);
    for _ in 0..2 {
        assert!(home.must(&["import", lossy(&all)]).contains("0 pupils taken in, 0 completed, 2 unchanged"));
    }
    // Two whom name and birth date do not tell apart are not guessed at.
    let twins = home
        .write("twins.csv", &format!("navn;cpr;kortnummer\nDi;040214-5126;{}\nDi;040214-5128;{}\n", card(4), card(5)));
    home.must(&["import", lossy(&twins)]);
    home = home.with("PORTAL__IDENTIFY_BY", "birth_date");
    let twin = home.write("twin.csv", &format!("navn;fødselsdato;kortnummer\nDi;04-02-2014;{}\n", card(4)));
    let refused = home.run(&["import", lossy(&twin)]);
    assert!(refused.code == 1 && refused.out.contains("line 2: several pupils"), "{refused:?}");
}

/// Served at the same address after a restart, so that a window that was open can be used.
fn two_parents_with_one_window(callbacks: &str) -> Installation {
    let sandbox = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    two_parents().with("PAYMENT__SANDBOX_LISTEN", &sandbox).with("PAYMENT__SANDBOX_CALLBACKS", callbacks)
}

fn records(home: &Installation) -> Records {
    Records::open(&home.data().join("records")).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_window_that_was_left_for_a_week_is_closed_and_takes_no_money() {
    let home = two_parents_with_one_window("never");
    let server = home.serve();
    let browser = Browser::logged_in(&server, "mor@example.dk", 1).await;
    let left = browser.open_window(1, "300").await;
    let young = browser.open_window(1, "400").await;
    assert_eq!(server.stop(), 0);
    let aged = |order: &mut Order| {
        order.at_ms -= 8 * 24 * 3_600_000;
        true
    };
    records(&home).change_order(OrderNumber(left.order.parse().unwrap()), aged).unwrap();
    let server = home.serve();
    let browser = Browser::logged_in(&server, "mor@example.dk", 1).await;
    let begin = Instant::now();
    while !browser.get(&format!("/ordre/{}", left.order)).await.text().await.unwrap().contains("Du afbrød betalingen")
    {
        assert!(begin.elapsed() < Duration::from_secs(20), "the window stays open");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let fields = [("number", GOOD_CARD), ("expiry", "12/39"), ("check", "123"), ("do", "pay")];
    let answer = reqwest::Client::new().post(&left.url).form(&fields).send().await.unwrap().text().await.unwrap();
    assert!(answer.contains("Betalingen blev afbrudt"), "{answer}");
    browser.pay(&young, GOOD_CARD).await;
    shows(&home, "1", "balance       900,00 kr.").await;
    assert_eq!(server.stop(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_has_fifty_windows_open_and_no_more() {
    let home = two_parents();
    let server = home.serve();
    let browser = Browser::logged_in(&server, "mor@example.dk", 1).await;
    let mut windows = Vec::new();
    for _ in 0..50 {
        windows.push(browser.open_window(1, "300").await);
    }
    let page = browser.get("/konto/1/indbetal").await.text().await.unwrap();
    let form = Browser::hidden(&page, "form");
    let one_more = [
        ("token", browser.token.as_str()),
        ("form", &form),
        ("amount", "300"),
        ("consent", "yes"),
        ("receipt", "mor@example.dk"),
    ];
    let answer = browser.post("/konto/1/indbetal", &one_more).await;
    assert_eq!(answer.status(), reqwest::StatusCode::TOO_MANY_REQUESTS);
    // Another account is not hindered, and one window that is paid makes room.
    let other = Browser::logged_in(&server, "far@example.dk", 2).await;
    other.open_window(2, "300").await;
    browser.pay(&windows[7], GOOD_CARD).await;
    shows(&home, "1", "balance       800,00 kr.").await;
    let answer = browser.post("/konto/1/indbetal", &[&one_more[..], &[("again", "yes")]].concat()).await;
    assert_eq!(answer.status(), reqwest::StatusCode::SEE_OTHER);
}

/// The provider says at last that it has charged for an attempt that was ended long ago: the money counts, and the attempt that is open now is not
/// ended by it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_automatic_payment_does_not_end_another_attempt() {
    let home = two_parents_with_one_window("never");
    home.enrol("canteen-1");
    let server = home.serve();
    let browser = Browser::logged_in(&server, "mor@example.dk", 1).await;
    // Two windows at the provider: one to agree in, one that stands for the late charge.
    let window = browser.open_agreement(1, "250").await;
    browser.pay(&window, GOOD_CARD).await;
    shows(&home, "1", "balance       750,00 kr.").await;
    let late =
        [browser.open_window(1, "300").await, browser.open_window(1, "301").await, browser.open_window(1, "302").await];
    assert_eq!(server.stop(), 0);
    // They become attempts that are over, before the provider knows how they went.
    let numbers = late.each_ref().map(|window| OrderNumber(window.order.parse().unwrap()));
    for number in numbers {
        let as_attempt = |order: &mut Order| {
            order.purpose = Purpose::Automatic { attempt: 77 };
            true
        };
        records(&home).change_order(number, as_attempt).unwrap();
    }
    let server = home.serve();
    let browser = Browser::logged_in(&server, "mor@example.dk", 1).await;
    let tills = server.tills.to_string();
    let bundle = home.path("canteen-1.pem");
    // The account runs low, and while the attempt that follows is open the late money comes. Three times, since the attempt may be quicker.
    let mut balance = 750;
    for (window, amount) in late.iter().zip([300, 301, 302]) {
        let sale = (balance - 10).to_string();
        home.must(&["till", "--bundle", lossy(&bundle), "--server", &tills, "--card", &card(1), "--amount", &sale]);
        browser.pay(window, GOOD_CARD).await;
        browser.get(&format!("/ordre/{}", window.order)).await;
        balance = 10 + amount + 250;
        shows(&home, "1", &format!("balance       {balance},00 kr.")).await;
    }
    assert_eq!(server.stop(), 0);
    let journal = home.must(&["inspect", "--account", "1"]);
    let source = |line: &str| line.split("source=").nth(1).unwrap_or_default().split(' ').next().unwrap().to_owned();
    let top_ups: Vec<(String, bool)> = journal
        .lines()
        .filter(|line| line.contains(" order=") && line.contains("source="))
        .map(|line| (source(line), numbers.iter().any(|number| line.contains(&format!("order={number} ")))))
        .collect();
    assert!(top_ups.iter().all(|(source, late)| *late == (source == "Provider") || !*late), "{journal}");
    let while_open = top_ups.windows(2).filter(|two| two[0].1 && two[1].0 == "Automatic").count();
    assert!(while_open > 0, "no late money came while an attempt was open: {journal}");
    assert_eq!(top_ups.iter().filter(|(source, _)| source == "Automatic").count(), 3, "{journal}");
    let settled = records(&home).orders_of(AccountId(1)).unwrap();
    assert!(settled.iter().all(|order| order.state == OrderState::Credited), "{settled:?}");
    assert!(home.must(&["verify"]).ends_with("everything holds\n"));
}

/// The provider and the bank know the numbers that were given out after the backup was made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_installation_from_a_backup_gives_no_number_out_twice() {
    let home = two_parents();
    let server = home.serve();
    let browser = Browser::logged_in(&server, "mor@example.dk", 1).await;
    let before: u64 = browser.open_window(1, "300").await.order.parse().unwrap();
    pay_out(&browser).await;
    assert_eq!(server.stop(), 0);
    let paid_out = newest_pay_out(&home);
    home.must(&["backup"]);
    let backups = home.data().join("backups");
    let backup = backups.read_dir().unwrap().next().unwrap().unwrap().path();
    let elsewhere = Installation::new();
    elsewhere.must(&["restore", "--from", lossy(&backup)]);
    copy(&home.data().join("keys"), &elsewhere.data().join("keys"));
    let server = elsewhere.serve();
    let browser = Browser::logged_in(&server, "mor@example.dk", 1).await;
    let after: u64 = browser.open_window(1, "300").await.order.parse().unwrap();
    assert!(after > before + 900_000, "{before}, and {after} from the backup");
    pay_out(&browser).await;
    assert_eq!(server.stop(), 0);
    let after = newest_pay_out(&elsewhere);
    assert!(after > paid_out + 900_000, "{paid_out}, and {after} from the backup");
}

fn newest_pay_out(home: &Installation) -> u64 {
    records(home).payouts().unwrap().iter().map(|payout| payout.number).max().unwrap()
}

/// Asks for 10 kr. to be paid out from account 1.
async fn pay_out(browser: &Browser) {
    let page = browser.get("/konto/1/udbetal").await.text().await.unwrap();
    let form = Browser::hidden(&page, "form");
    let fields = [
        ("token", browser.token.as_str()),
        ("form", &form),
        ("name", "Mor Jensen"),
        ("reg", "0040"),
        ("account", "0440116243"),
        ("amount", "10"),
        ("password", PASSWORD),
    ];
    let answer = browser.post("/konto/1/udbetal", &fields).await;
    assert_eq!(answer.status(), reqwest::StatusCode::SEE_OTHER);
}

/// What the parts can see is said by the whole: an order that is called credited and was not, and a snapshot that lacks everybody.
#[test]
fn verify_says_what_the_portal_and_a_snapshot_have_otherwise_than_the_journal() {
    let home = two_parents();
    assert!(home.must(&["verify"]).ends_with("everything holds\n"));
    let order = |number: OrderNumber| Order {
        number: number.0,
        account: 1,
        login: "mor@example.dk".to_owned(),
        amount_ore: 20_000,
        at_ms: 0,
        terms: "1".to_owned(),
        session: None,
        state: OrderState::Credited,
        refusal: None,
        purpose: Purpose::PayIn,
        receipt_to: String::new(),
        saved_card: String::new(),
    };
    records(&home).order_once("form", order).unwrap();
    let snapshots = FileSnapshots::open(&home.data().join("snapshots")).unwrap();
    for (lsn, what) in [(2, "it lacks accounts or cards"), (1_000, "the records could be read up to")] {
        snapshots.write(Lsn(lsn), Box::new(std::iter::empty())).unwrap();
        let said = home.run(&["verify"]);
        assert!(said.out.contains(what), "{said:?}");
        assert!(said.out.contains("over 200,00 kr.: it is called credited and is not in the journal"), "{said:?}");
        assert_eq!(said.code, 5, "{said:?}");
    }
}
