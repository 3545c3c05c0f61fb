//! Several parents, or one with two tabs, on the same account; browsers that hang up; money that comes when nobody expects it any more. What could go
//! wrong: what one has changed undone by another's old page, money that moves and nobody is told, an agreement that charges whoever has left.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use frokost_persistence::Records;

use crate::browser::{Browser, two_parents};
use crate::installation::*;
use crate::payments::{GOOD_CARD, mails};

/// Mor and far manage account 1, and each another.
fn a_family() -> Installation {
    let home = Installation::new();
    home.import(3, 500);
    home.add_parent("mor@example.dk", "1,2");
    home.add_parent("far@example.dk", "3,1");
    home
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(15), "never: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The fields of the form with the pupil's details, as the page shows them, with some typed over.
fn details(page: &str, token: &str, typed: &[(&str, &str)]) -> Vec<(String, String)> {
    let value = |name: &str| {
        let field = page.split("<input").find(|input| input.contains(&format!("name=\"{name}\""))).unwrap();
        let value = field.split("value=\"").nth(1).map(|rest| rest.split('"').next().unwrap());
        value.unwrap_or_default().to_owned()
    };
    let names = ["name", "address", "postcode", "city", "phone", "card", "limit", "shown_card", "shown_limit"];
    let fields = names.iter().map(|name| {
        let typed = typed.iter().find(|(field, _)| field == name);
        ((*name).to_owned(), typed.map_or_else(|| value(name), |(_, text)| (*text).to_owned()))
    });
    fields.chain([("token".to_owned(), token.to_owned())]).collect()
}

async fn save(browser: &Browser, fields: &[(String, String)]) -> (reqwest::StatusCode, String) {
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let answer = browser.post("/konto/1/bruger", &fields).await;
    (answer.status(), answer.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_page_does_not_undo_what_another_has_changed() {
    let home = a_family();
    let server = home.serve();
    let far = Browser::logged_in(&server, "far@example.dk", 1).await;
    let mor = Browser::logged_in(&server, "mor@example.dk", 1).await;
    let old = far.get("/konto/1/bruger").await.text().await.unwrap();
    home.must(&["card", "issue", &card(1), &card(7)]);
    let now = mor.get("/konto/1/bruger").await.text().await.unwrap();
    let (status, _) = save(&mor, &details(&now, &mor.token, &[("limit", "25")])).await;
    assert_eq!(status, reqwest::StatusCode::SEE_OTHER);

    // He mistypes first: the page that comes back is as old as the one before.
    let (status, again) = save(&far, &details(&old, &far.token, &[("phone", "12")])).await;
    assert_eq!(status, reqwest::StatusCode::UNPROCESSABLE_ENTITY);
    let (status, page) = save(&far, &details(&again, &far.token, &[("phone", "12345678")])).await;
    assert_eq!(status, reqwest::StatusCode::SEE_OTHER, "{page}");
    let shown = home.must(&["account", "show", "1"]);
    assert!(shown.contains(&card(7)) && shown.contains("25,00 kr."), "{shown}");
    assert!(far.get("/konto/1/bruger").await.text().await.unwrap().contains("12345678"), "what he typed is kept");

    // Who types over what is not there any more is told, and sees what is.
    let (status, page) = save(&far, &details(&old, &far.token, &[("card", &card(8)), ("limit", "99")])).await;
    assert_eq!(status, reqwest::StatusCode::UNPROCESSABLE_ENTITY);
    assert!(page.matches("Det er ændret, siden siden blev åbnet").count() == 2, "{page}");
    let (status, _) = save(&far, &details(&page, &far.token, &[("limit", "99")])).await;
    assert_eq!(status, reqwest::StatusCode::SEE_OTHER);
    let shown = home.must(&["account", "show", "1"]);
    assert!(shown.contains(&card(7)) && shown.contains("99,00 kr."), "{shown}");
}

/// Connections that are closed while the transfer is on its way: whoever else manages the account is told of each that was carried out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_that_hangs_up_keeps_nobody_from_being_told() {
    let home = a_family();
    let server = home.serve();
    let mor = Browser::logged_in(&server, "mor@example.dk", 1).await;
    let host = server.portal.strip_prefix("http://").unwrap().to_owned();
    for n in 0..40_u64 {
        let page = mor.get("/konto/1/overfoer").await.text().await.unwrap();
        let form = Browser::hidden(&page, "form");
        let body = format!("token={}&form={form}&to=2&amount=1&again=yes", mor.token);
        let mut browser = TcpStream::connect(&host).unwrap();
        write!(
            browser,
            "POST /konto/1/overfoer HTTP/1.1\r\nHost: {host}\r\nCookie: {}\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: {}\r\n\r\n{body}",
            mor.cookie,
            body.len()
        )
        .unwrap();
        tokio::time::sleep(Duration::from_millis(n / 4)).await;
    }
    let moved = || {
        let shown = home.must(&["account", "show", "2"]);
        let kroner = shown.lines().find_map(|line| line.strip_prefix("balance")).unwrap().trim().split(',').next();
        kroner.unwrap().parse::<usize>().unwrap() - 500
    };
    let (mut seen, mut before) = (moved(), usize::MAX);
    while seen != before {
        tokio::time::sleep(Duration::from_secs(1)).await;
        (before, seen) = (seen, moved());
    }
    assert!(seen > 5, "{seen} were carried out: this shows nothing");
    until(&format!("{seen} mails"), || mails(&home, "To: far@example.dk") == seen).await;
}

/// An agreement is offered, and paid for after the one who asked for it has left the account.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_window_paid_after_the_relation_ended_agrees_on_nothing() {
    let home = a_family();
    let server = home.serve();
    let far = Browser::logged_in(&server, "far@example.dk", 1).await;
    let window = far.open_agreement(1, "250").await;
    let answer = far.post("/konto/3/tilknytninger/slet", &[("token", far.token.as_str()), ("account", "1")]).await;
    assert_eq!(answer.status(), reqwest::StatusCode::SEE_OTHER);
    far.pay(&window, GOOD_CARD).await;
    until("the payment counts", || home.must(&["account", "show", "1"]).contains("balance       750,00 kr.")).await;
    let shown = home.must(&["account", "show", "1"]);
    assert!(!shown.to_lowercase().contains("automatic"), "{shown}");
    assert_eq!(server.stop(), 0);
    let records = Records::open(&home.data().join("records")).unwrap();
    assert_eq!(records.agreement(frokost_engine::AccountId(1)).unwrap(), None);
}

/// A disk that is full is a moment in which the engine takes nothing: either the relation and its agreement both end, or neither.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relation_does_not_end_before_its_agreement() {
    let home = a_family();
    let server = home.serve();
    let far = Browser::logged_in(&server, "far@example.dk", 1).await;
    let window = far.open_agreement(1, "250").await;
    far.pay(&window, GOOD_CARD).await;
    until("the payment counts", || home.must(&["account", "show", "1"]).contains("balance       750,00 kr.")).await;
    assert_eq!(server.stop(), 0);
    let full = home.with("JOURNAL__RESERVE_MB", "900000000");
    let server = full.serve();
    let far = Browser::logged_in(&server, "far@example.dk", 1).await;
    let token = far.token.as_str();
    let refused = far.post("/konto/3/tilknytninger/slet", &[("token", token), ("account", "1")]).await;
    assert!(refused.status().is_server_error(), "{}", refused.status());
    assert_eq!(far.get("/konto/1").await.status(), reqwest::StatusCode::OK, "the relation has ended alone");
    assert_eq!(server.stop(), 0);
    let home = full.with("JOURNAL__RESERVE_MB", "64");
    let server = home.serve();
    let far = Browser::logged_in(&server, "far@example.dk", 1).await;
    let gone = far.post("/konto/3/tilknytninger/slet", &[("token", far.token.as_str()), ("account", "1")]).await;
    assert_eq!(gone.status(), reqwest::StatusCode::SEE_OTHER);
    assert_eq!(far.get("/konto/1").await.status(), reqwest::StatusCode::NOT_FOUND);
    assert_eq!(server.stop(), 0);
    let records = Records::open(&home.data().join("records")).unwrap();
    assert_eq!(records.agreement(frokost_engine::AccountId(1)).unwrap(), None);
}

/// The journal is put back to before a payment, and the records are not: the parent has paid, and the money comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payment_that_an_older_journal_lacks_is_credited_again() {
    let home = two_parents().with("JOURNAL__MIRROR", "off");
    let server = home.serve();
    let mor = Browser::logged_in(&server, "mor@example.dk", 1).await;
    mor.pay_in(1, "300", GOOD_CARD).await;
    until("the first payment", || home.must(&["account", "show", "1"]).contains("balance       800,00 kr.")).await;
    home.must(&["backup"]);
    mor.pay_in(1, "400", GOOD_CARD).await;
    until("the second", || home.must(&["account", "show", "1"]).contains(" 1.200,00 kr.")).await;
    until("both receipts", || mails(&home, "Kvittering for indbetaling") == 2).await;
    assert_eq!(server.stop(), 0);
    let backup = home.data().join("backups").read_dir().unwrap().next().unwrap().unwrap().path();
    let restored = home.must(&["restore", "--from", lossy(&backup), "--accept-loss"]);
    assert!(
        restored.contains("1 payments that are not in these books are credited when the server runs"),
        "{restored}"
    );
    assert!(home.must(&["account", "show", "1"]).contains("balance       800,00 kr."));
    let server = home.serve();
    until("the second again", || home.must(&["account", "show", "1"]).contains(" 1.200,00 kr.")).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(mails(&home, "Kvittering for indbetaling"), 2, "nobody has two receipts of one payment");
    assert_eq!(server.stop(), 0);
    assert!(home.must(&["verify"]).ends_with("everything holds\n"));
}

/// A name as the parent writes it, and as the school's list goes on having it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_finds_a_pupil_whose_parent_writes_the_name_otherwise() {
    let home = a_family();
    let server = home.serve();
    let mor = Browser::logged_in(&server, "mor@example.dk", 1).await;
    let page = mor.get("/konto/1/bruger").await.text().await.unwrap();
    let (status, _) = save(&mor, &details(&page, &mor.token, &[("name", "Anna Maria Holm")])).await;
    assert_eq!(status, reqwest::StatusCode::SEE_OTHER);
    assert_eq!(server.stop(), 0);
    let list = |name: &str| home.write("list.csv", &format!("name,cpr,card\n{name},{},{}\n", cpr(1), card(1)));
    for name in ["Pupil 1", "anna maria holm"] {
        let taken = home.must(&["import", lossy(&list(name))]);
        assert!(taken.contains("0 pupils taken in, 0 completed, 1 unchanged"), "{name}: {taken}");
    }
    let refused = home.run(&["import", lossy(&list("Anna Holm"))]);
    assert!(refused.code == 1 && refused.out.contains("known with another name"), "{refused:?}");
}

/// The provider names another amount than was ordered: what it took goes back, and whoever paid is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_amount_than_was_ordered_goes_back() {
    let sandbox = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let home = two_parents().with("PAYMENT__SANDBOX_LISTEN", &sandbox);
    let server = home.serve();
    let mor = Browser::logged_in(&server, "mor@example.dk", 1).await;
    let window = mor.open_window(1, "300").await;
    assert_eq!(server.stop(), 0);
    let book = home.data().join("sandbox.json");
    let text = std::fs::read_to_string(&book).unwrap();
    assert!(text.contains("30000"), "{text}");
    std::fs::write(&book, text.replace("30000", "29900")).unwrap();
    let server = home.serve();
    let mor = Browser::logged_in(&server, "mor@example.dk", 1).await;
    mor.pay(&window, GOOD_CARD).await;
    until("the money goes back", || std::fs::read_to_string(&book).unwrap().contains("\"refunded\"")).await;
    until("somebody is told", || mails(&home, "Din indbetaling er") == 1).await;
    assert!(home.must(&["account", "show", "1"]).contains("balance       500,00 kr."));
    assert!(mor.get(&format!("/ordre/{}", window.order)).await.text().await.unwrap().contains("ført tilbage"));
    assert_eq!(server.stop(), 0);
}

/// Every sale that is refused wishes for a top-up; a card that has just failed is not asked again for each, nor is there a mail for each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_saved_card_that_fails_is_left_in_peace_for_a_while() {
    let home = two_parents();
    let till = home.enrol("canteen-1");
    let server = home.serve();
    let mor = Browser::logged_in(&server, "mor@example.dk", 1).await;
    let window = mor.open_agreement(1, "250").await;
    // It pays once, in the window, and has no cover any more when it is charged.
    mor.pay(&window, "4000000000000077").await;
    until("the payment counts", || home.must(&["account", "show", "1"]).contains("balance       750,00 kr.")).await;
    let address = server.tills.to_string();
    let sell = |kroner: &str| {
        let sale = ["till", "--bundle", lossy(&till), "--server", &address, "--card", &card(1), "--amount", kroner];
        home.run(&sale).code
    };
    assert_eq!(sell("740"), 0);
    until("a mail", || mails(&home, "optankning mislykkedes") == 1).await;
    for _ in 0..3 {
        assert_eq!(sell("100"), 4);
        tokio::time::sleep(Duration::from_millis(1_500)).await;
    }
    assert_eq!(server.stop(), 0);
    let failed = home.must(&["inspect", "--account", "1"]).matches("charge_failed").count();
    assert!(failed >= 2, "{failed} wishes failed: this shows nothing");
    let book = std::fs::read_to_string(home.data().join("sandbox.json")).unwrap();
    assert_eq!(book.matches("\"state\": \"no_cover\"").count(), 1, "the provider was asked again: {book}");
    let told = std::fs::read_dir(home.data().join("mail/new")).unwrap().count();
    assert_eq!(told, 2, "a receipt, and one mail about the card");
}
