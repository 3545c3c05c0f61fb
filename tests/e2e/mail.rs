//! Mails over SMTP to a real server. What could go wrong: a server that puts off, refuses or is not there; a mail lost or sent twice; a page
//! that waits for one; a password in a log.

use std::time::{Duration, Instant};

use crate::browser::{Browser, two_parents};
use crate::installation::*;
use crate::mail_server::{self, MailServer};

async fn forgotten(browser: &Browser, mail: &str) -> Duration {
    let begin = Instant::now();
    assert!(browser.post("/glemt", &[("mail", mail)]).await.status().is_success());
    begin.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_arrives_once_as_text_and_html_in_the_parents_language() {
    let folder = tempfile::tempdir().unwrap();
    // The first is put off, as by a server that has not seen us before.
    let Some(mails) = MailServer::start(&folder.path().join("box"), 0, 1) else { return };
    let home = two_parents().with("MAIL__SMTP", &mails.url()).with("MAIL__FROM", "Sct. Ib <kantine@example.dk>");
    let server = home.serve();
    let mut browser = Browser::new(&server);
    forgotten(&browser, "mor@example.dk").await;
    forgotten(&browser, "nobody@example.dk").await;
    browser.cookie = "sprog=en".to_owned();
    forgotten(&browser, "far@example.dk").await;
    // The one that was put off is tried again after fifteen seconds.
    let mut came = mails.mails(2, Duration::from_secs(30));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(mails.mails(2, Duration::ZERO).len(), 2, "one came twice, or to somebody unknown");
    came.sort_by_key(|mail| mail.contains("To: far@example.dk"));
    let [danish, english] = &came[..] else { panic!() };
    for (mail, to, subject, word) in [
        (danish, "mor@example.dk", "Subject: Nulstil adgangskode", "adgangskode"),
        (english, "far@example.dk", "Subject: Reset password", "password"),
    ] {
        assert!(mail.contains(&format!("To: {to}")) && mail.contains("<kantine@example.dk>"), "{mail}");
        assert!(mail.contains(subject) && mail.contains(word), "{mail}");
        for part in
            ["multipart/alternative", "text/plain; charset=utf-8", "text/html; charset=utf-8", "Message-ID", "Date: "]
        {
            assert!(mail.to_lowercase().contains(&part.to_lowercase()), "no {part}: {mail}");
        }
        // Lines of a mail are short: `=` at the end of one says that it goes on.
        let parts = mail.replace("=\n", "").replace("=\r\n", "");
        let (text, html) = parts.split_once("<html").unwrap();
        assert!(text.contains("/nulstil/") && html.contains("/nulstil/"), "the link is in both parts: {mail}");
    }
    assert_eq!(server.stop(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_page_waits_for_a_mail_server_that_is_gone_and_the_mail_comes_when_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let Some(gone) = MailServer::start(&folder.path().join("box"), 0, 0) else { return };
    let port = gone.port;
    drop(gone);
    let home = two_parents().with("MAIL__SMTP", &mail_server::url(port));
    let server = home.serve();
    let browser = Browser::new(&server);
    let took = forgotten(&browser, "mor@example.dk").await;
    assert!(took < Duration::from_secs(1), "a page waits for the mail server: {took:?}");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(server.metric("frokost_mail_failures_total").await > 0, "it was never tried: this shows nothing");
    // The letter is kept over a restart of ours, too.
    assert_eq!(server.stop(), 0);
    let server = home.serve();
    let back = MailServer::start(&folder.path().join("box"), port, 0).unwrap();
    let came = back.mails(1, Duration::from_secs(40));
    assert!(came[0].contains("/nulstil/"), "{}", came[0]);
    assert_eq!(server.stop(), 0);
}

/// Refused for good it is given up at once or later; nobody else's mail waits for it, and no log names the address or the password.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_that_is_refused_hinders_no_other_and_no_log_names_anybody() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mails) = MailServer::start(&folder.path().join("box"), 0, 0) else { return };
    let home = two_parents().with("MAIL__SMTP", &mails.url());
    let password = home.write("password", &format!("{}\n", crate::browser::PASSWORD));
    home.must(&[
        "parent",
        "add",
        "mor@nowhere.dk",
        "--name",
        "X",
        "--accounts",
        "1",
        "--password-file",
        lossy(&password),
    ]);
    let mut command = home.command(&["serve"]);
    command.env("FROKOST_LOG", "debug");
    let server = Server::start(command);
    let log = std::sync::Arc::clone(&server.log);
    let browser = Browser::new(&server);
    forgotten(&browser, "mor@nowhere.dk").await;
    forgotten(&browser, "far@example.dk").await;
    mails.mails(1, Duration::from_secs(10));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(server.stop(), 0);
    let said = log.lock().unwrap().clone();
    assert!(said.contains("a mail cannot be sent now") && said.contains("550"), "{said}");
    for secret in ["nowhere.dk", "far@example.dk", "en hemmelighed", "en%20hemmelighed", &card(1), &cpr(1)] {
        assert!(!said.contains(secret), "a log names {secret}: {said}");
    }
}
