//! What somebody with bad intentions tries at the portal. What could go wrong: a found card that opens an account, a session that outlives
//! its end, a mail address that is a stranger's, a parent who fills the disk, a header that is believed.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use frokost_persistence::Records;
use frokost_persistence::records::WebSession;

use reqwest::header::{LOCATION, SET_COOKIE};
use reqwest::{Client, StatusCode};
use sha2::{Digest, Sha256};

use crate::browser::{Browser, PASSWORD, two_parents};
use crate::installation::*;

/// Mails in the maildir with all of these texts in them.
fn mails(home: &Installation, texts: &[&str]) -> Vec<String> {
    let files = std::fs::read_dir(home.data().join("mail/new")).map(|files| files.flatten().collect::<Vec<_>>());
    let mails = files.unwrap_or_default().into_iter().map(|file| std::fs::read_to_string(file.path()).unwrap());
    mails.filter(|mail| texts.iter().all(|text| mail.contains(text))).collect()
}

async fn mail(home: &Installation, texts: &[&str]) -> String {
    let begin = Instant::now();
    loop {
        if let Some(mail) = mails(home, texts).pop() {
            return mail;
        }
        assert!(begin.elapsed() < Duration::from_secs(15), "no mail with {texts:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn records(home: &Installation) -> Records {
    Records::open(&home.data().join("records")).unwrap()
}

async fn post(browser: &Browser, path: &str, fields: &[(&str, &str)]) -> (StatusCode, String) {
    let token = ("token", browser.token.as_str());
    let answer = browser.post(path, &[&[token], fields].concat()).await;
    (answer.status(), answer.text().await.unwrap())
}

/// The finder knows the card and, from somewhere, the CPR number.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_found_card_does_not_empty_the_account() {
    let home = two_parents();
    let server = home.serve();
    let mother = Browser::logged_in(&server, "mor@example.dk", 1).await;
    let finder = Browser::logged_in(&server, "far@example.dk", 2).await;
    let (number, found) = (cpr(1), card(1));
    let proof = [("cpr", number.as_str()), ("card", found.as_str())];
    // Blocked, it proves nothing.
    assert_eq!(post(&mother, "/konto/1/spaer", &[]).await.0, StatusCode::SEE_OTHER);
    let (status, page) = post(&finder, "/konto/2/tilknytninger", &proof).await;
    assert!(status == StatusCode::UNPROCESSABLE_ENTITY && page.contains("passer ikke sammen"), "{status}: {page}");
    // What was not proved cannot be approved.
    assert_eq!(post(&finder, "/konto/2/tilknytninger/godkend", &[("account", "1")]).await.0, StatusCode::SEE_OTHER);
    assert_eq!(finder.get("/konto/1").await.status(), StatusCode::NOT_FOUND);
    // Proved before it was blocked, or replaced, it is no proof afterwards.
    assert_eq!(post(&mother, "/konto/1/aktiver", &[]).await.0, StatusCode::SEE_OTHER);
    assert_eq!(post(&finder, "/konto/2/tilknytninger", &proof).await.0, StatusCode::SEE_OTHER);
    for undo in [Some("/konto/1/aktiver"), None] {
        match undo {
            Some(_) => assert_eq!(post(&mother, "/konto/1/spaer", &[]).await.0, StatusCode::SEE_OTHER),
            None => drop(home.must(&["card", "issue", "1", "ABCD5678901234"])),
        }
        let (_, page) = post(&finder, "/konto/2/tilknytninger/godkend", &[("account", "1")]).await;
        assert!(page.contains("spærret eller skiftet"), "{page}");
        assert_eq!(finder.get("/konto/1").await.status(), StatusCode::NOT_FOUND);
        if let Some(undo) = undo {
            assert_eq!(post(&mother, undo, &[]).await.0, StatusCode::SEE_OTHER);
        }
    }
    // Let in after all, the family is told, and the money stays for a day.
    let proof = [("cpr", number.as_str()), ("card", "ABCD5678901234")];
    assert_eq!(post(&finder, "/konto/2/tilknytninger", &proof).await.0, StatusCode::SEE_OTHER);
    assert_eq!(post(&finder, "/konto/2/tilknytninger/godkend", &[("account", "1")]).await.0, StatusCode::SEE_OTHER);
    assert_eq!(finder.get("/konto/1").await.status(), StatusCode::OK);
    mail(&home, &["To: mor@example.dk", "far@example.dk"]).await;
    let form = Browser::hidden(&finder.get("/konto/1/overfoer").await.text().await.unwrap(), "form");
    let (status, page) = post(&finder, "/konto/1/overfoer", &[("form", &form), ("to", "2"), ("amount", "500")]).await;
    assert!(status == StatusCode::UNPROCESSABLE_ENTITY && page.contains("lige fået adgang"), "{page}");
    let bank = [("name", "F"), ("reg", "0040"), ("account", "0440116243"), ("amount", "500"), ("password", PASSWORD)];
    let (status, page) = post(&finder, "/konto/1/udbetal", &[&[("form", form.as_str())], &bank[..]].concat()).await;
    assert!(status == StatusCode::UNPROCESSABLE_ENTITY && page.contains("lige fået adgang"), "{page}");
    // Nor does a card of the finder's own spend it.
    let own = [("name", "Pupil 1"), ("card", "FFFF5678901234"), ("limit", "")];
    let (_, page) = post(&finder, "/konto/1/bruger", &own).await;
    assert!(page.contains("lige fået adgang"), "{page}");
    let shown = home.must(&["account", "show", "1"]);
    assert!(shown.contains("500,00 kr.") && shown.contains("ABCD5678901234"), "{shown}");
    // The money of an account that one has had all along is not held back.
    let own = Browser::hidden(&finder.get("/konto/2/overfoer").await.text().await.unwrap(), "form");
    let (status, page) = post(&finder, "/konto/2/overfoer", &[("form", &own), ("to", "1"), ("amount", "5")]).await;
    assert_eq!(status, StatusCode::SEE_OTHER, "{page}");
    assert!(home.must(&["account", "show", "1"]).contains("505,00 kr."));
    assert_eq!(server.stop(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_ends_when_it_should() {
    let home = two_parents();
    let server = home.serve();
    let first = Browser::logged_in(&server, "mor@example.dk", 1).await;
    let second = Browser::logged_in(&server, "mor@example.dk", 1).await;
    let is_in = async |browser: &Browser| browser.get("/konto/1").await.status() == StatusCode::OK;
    // A wrong password changes nothing.
    let new = "syv sild i en spand";
    let fields = [("old", "forkert adgangskode"), ("password", new), ("again", new)];
    assert_eq!(post(&first, "/konto/1/bruger/adgangskode", &fields).await.0, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(is_in(&first).await && is_in(&second).await);
    let fields = [("old", PASSWORD), ("password", new), ("again", new)];
    assert_eq!(post(&first, "/konto/1/bruger/adgangskode", &fields).await.0, StatusCode::SEE_OTHER);
    assert!(is_in(&first).await, "whoever changed it stays");
    assert!(!is_in(&second).await, "a session outlived its password");
    let log_in = |cookie: String| {
        let client = Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let request = client.post(format!("{}/log-paa", server.portal)).header("cookie", cookie);
        request.form(&[("mail", "mor@example.dk"), ("password", new)]).send()
    };
    // A new log in ends what the browser had before.
    let answer = log_in(first.cookie.clone()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    assert!(!is_in(&first).await, "the session before is still good");
    let mut third = Browser::new(&server);
    third.cookie = answer.headers()[SET_COOKIE].to_str().unwrap().split(';').next().unwrap().to_owned();
    third.token = Browser::hidden(&third.get("/konto/1").await.text().await.unwrap(), "token");
    let mut fourth = Browser::new(&server);
    let answer = log_in(String::new()).await.unwrap();
    fourth.cookie = answer.headers()[SET_COOKIE].to_str().unwrap().split(';').next().unwrap().to_owned();
    assert!(is_in(&fourth).await);
    assert_eq!(post(&third, "/konto/1/bruger/andre-ud", &[]).await.0, StatusCode::SEE_OTHER);
    assert!(is_in(&third).await && !is_in(&fourth).await, "logged out everywhere else");
    assert_eq!(post(&third, "/log-ud", &[]).await.0, StatusCode::SEE_OTHER);
    assert!(!is_in(&third).await, "the cookie is good after the log out");
    // A password that the office gives ends what was open, and has to be one.
    let weak = home.write("weak", "frokost2026\n");
    assert_eq!(server.stop(), 0);
    let add = ["parent", "add", "mor@example.dk", "--name", "X", "--accounts", "1", "--password-file"];
    let refused = home.run(&[&add[..], &[lossy(&weak)]].concat());
    assert!(refused.code == 1 && refused.err.contains("easy to guess"), "{refused:?}");
}

/// Idle for half an hour, or twelve hours old: the cookie is good no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_does_not_last_for_ever() {
    const MINUTE: u64 = 60_000;
    let home = two_parents();
    let mut server = home.serve();
    let parent = Browser::logged_in(&server, "mor@example.dk", 1).await;
    let secret = parent.cookie.split_once('=').unwrap().1;
    let hash: String = Sha256::digest(secret).iter().map(|byte| format!("{byte:02x}")).collect();
    for (idle, old, good) in [(28, 28, true), (31, 31, false), (0, 12 * 60 - 2, true), (0, 12 * 60 + 1, false)] {
        assert_eq!(server.stop(), 0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
        let session = WebSession {
            login: "mor@example.dk".to_owned(),
            form_token: parent.token.clone(),
            opened_ms: now - old * MINUTE,
            used_ms: now - idle * MINUTE,
        };
        records(&home).put_session(&hash, &session).unwrap();
        server = home.serve();
        let mut browser = Browser::new(&server);
        browser.cookie = parent.cookie.clone();
        let status = browser.get("/konto/1").await.status();
        assert_eq!(status == StatusCode::OK, good, "idle for {idle} minutes, {old} minutes old: {status}");
    }
}

/// Six digits are a million tries, and there are five.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_activation_code_cannot_be_guessed() {
    let home = Installation::new();
    home.import(1, 100);
    let server = home.serve();
    let browser = Browser::new(&server);
    let answer = browser.sign_up(&cpr(1), &card(1), "mor@example.dk").await;
    let activate = answer.headers()[LOCATION].to_str().unwrap().to_owned();
    let letter = mail(&home, &["To: mor@example.dk"]).await;
    let is_code = |line: &&str| line.trim().len() == 6 && line.trim().bytes().all(|b| b.is_ascii_digit());
    let code = letter.lines().find(is_code).unwrap().trim();
    let wrong = if code == "000000" { "000001" } else { "000000" };
    let password = "grøn cykel under broen";
    for (n, typed) in [wrong, wrong, wrong, wrong, wrong, code].into_iter().enumerate() {
        let (status, page) =
            post(&browser, &activate, &[("code", typed), ("password", password), ("again", password)]).await;
        let expected = if n < 4 { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::GONE };
        assert_eq!(status, expected, "try {n}: {page}");
    }
    let fields = [("mail", "mor@example.dk"), ("password", password)];
    assert_eq!(browser.post("/log-paa", &fields).await.status(), StatusCode::UNPROCESSABLE_ENTITY, "somebody got in");
}

/// A reset does not tell by its time who is known.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_takes_as_long_for_who_is_known() {
    let home = two_parents();
    let server = home.serve();
    let browser = Browser::new(&server);
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..4 {
        for (n, mail) in ["mor@example.dk".to_owned(), format!("nobody{round}@example.dk")].iter().enumerate() {
            let begin = Instant::now();
            let answer = browser.post("/glemt", &[("mail", mail)]).await;
            times[n].push(begin.elapsed());
            assert_eq!(answer.status(), StatusCode::OK);
        }
    }
    apart(times);
    mail(&home, &["To: mor@example.dk"]).await;
}

/// Nor does a sign-up: an address that is known gets another letter.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sign_up_takes_as_long_for_who_is_known() {
    let home = Installation::new();
    home.import(3, 100);
    home.add_parent("mor@example.dk", "1");
    let server = home.serve();
    let browser = Browser::new(&server);
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..4 {
        let known = (2, "mor@example.dk".to_owned());
        for (n, (pupil, mail)) in [known, (3, format!("nobody{round}@example.dk"))].iter().enumerate() {
            let begin = Instant::now();
            let answer = browser.sign_up(&cpr(*pupil), &card(*pupil), mail).await;
            times[n].push(begin.elapsed());
            assert_eq!(answer.status(), StatusCode::SEE_OTHER);
        }
    }
    apart(times);
    mail(&home, &["To: mor@example.dk"]).await;
}

/// Writing a letter takes milliseconds; a guesser over a network does not see the rest.
fn apart(times: [Vec<Duration>; 2]) {
    let [known, unknown] = times.map(|mut times| {
        times.sort();
        times[1]
    });
    assert!(known.abs_diff(unknown) < Duration::from_millis(50), "known {known:?}, unknown {unknown:?}");
}

/// An open page hears at once of what happened between its being drawn and its asking; of nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_follows_along_misses_nothing() {
    let home = two_parents();
    let server = home.serve();
    let parent = Browser::logged_in(&server, "mor@example.dk", 1).await;
    let page = parent.get("/konto/1").await.text().await.unwrap();
    let live = page.split("data-live=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let hears = async || {
        let mut answer = parent.get(&live).await;
        let first = tokio::time::timeout(Duration::from_millis(2_500), answer.chunk()).await;
        first.is_ok_and(|chunk| String::from_utf8_lossy(&chunk.unwrap().unwrap()).contains("changed"))
    };
    assert!(!hears().await, "nothing has happened");
    home.must(&["account", "block", "1"]);
    assert!(hears().await, "what happened before the page asked is lost");
}

/// The answer to a transfer was lost, and the parent goes back and sends it again from a fresh page.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_whose_answer_was_lost_is_asked_about_before_it_is_made_again() {
    let home = Installation::new();
    home.import(2, 500);
    home.add_parent("mor@example.dk", "1,2");
    let server = home.serve();
    let parent = Browser::logged_in(&server, "mor@example.dk", 1).await;
    let fresh = async || Browser::hidden(&parent.get("/konto/1/overfoer").await.text().await.unwrap(), "form");
    let transfer = async |form: &str, amount: &str, again: &str| {
        post(&parent, "/konto/1/overfoer", &[("form", form), ("to", "2"), ("amount", amount), ("again", again)]).await
    };
    let first = fresh().await;
    assert_eq!(transfer(&first, "60", "").await.0, StatusCode::SEE_OTHER);
    assert_eq!(transfer(&first, "60", "").await.0, StatusCode::SEE_OTHER, "the same form, which counts once");
    let second = fresh().await;
    let (status, page) = transfer(&second, "60", "").await;
    assert!(status == StatusCode::OK && page.contains("Du overførte 60,00 kr. kl."), "{status}: {page}");
    assert!(home.must(&["account", "show", "1"]).contains("440,00 kr."));
    assert_eq!(transfer(&second, "60", "yes").await.0, StatusCode::SEE_OTHER);
    assert_eq!(transfer(&fresh().await, "61", "").await.0, StatusCode::SEE_OTHER, "another amount is another wish");
    assert!(home.must(&["account", "show", "1"]).contains("319,00 kr."));
    assert_eq!(server.stop(), 0);
}

/// One form may be on its way several times at once, from a finger that trembles. While the first is in the statement already, the others
/// must not take it for another transfer that was made a moment ago.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_that_is_sent_several_times_at_once_is_made_once_and_not_asked_about() {
    let home = Installation::new();
    home.import(2, 900);
    let parents = ["mor@example.dk", "far@example.dk", "farmor@example.dk"];
    for mail in parents {
        home.add_parent(mail, "1,2");
    }
    let server = home.serve();
    for mail in parents {
        let parent = Browser::logged_in(&server, mail, 1).await;
        // More than 60 forms in a minute are refused.
        for amount in ["1", "2", "3", "4"] {
            let form = Browser::hidden(&parent.get("/konto/1/overfoer").await.text().await.unwrap(), "form");
            let fields = [("form", form.as_str()), ("to", "2"), ("amount", amount)];
            let copies = (0..14).map(|_| post(&parent, "/konto/1/overfoer", &fields));
            for (status, page) in futures_util::future::join_all(copies).await {
                assert_eq!(status, StatusCode::SEE_OTHER, "{page}");
            }
        }
    }
    assert!(home.must(&["account", "show", "1"]).contains("870,00 kr."));
    assert_eq!(server.stop(), 0);
}

/// Who sends a form that is not kept when the session has ended is told so, and comes back to the page.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_form_that_did_not_arrive_is_said_not_to_have() {
    let home = two_parents();
    let server = home.serve();
    let client = Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let send = |from: String| {
        let request = client.post(format!("{}/konto/1/bruger/adgangskode", server.portal)).header("referer", from);
        request.form(&[("old", "x")]).send()
    };
    for (from, to) in [
        (format!("{}/konto/1/bruger", server.portal), "/log-paa?afbrudt=1&til=/konto/1/bruger"),
        // Addresses that know only forms.
        (format!("{}/konto/1/bruger/adgangskode", server.portal), "/log-paa?afbrudt=1&til=/konto/1/bruger"),
        (format!("{}/konto/1/billede", server.portal), "/log-paa?afbrudt=1&til=/konto/1/bruger"),
        ("https://evil.example/konto/1".to_owned(), "/log-paa?afbrudt=1"),
        (format!("{}//evil.example", server.portal), "/log-paa?afbrudt=1"),
    ] {
        let answer = send(from).await.unwrap();
        assert_eq!(answer.headers()[LOCATION], to);
        let page = Browser::new(&server).get(to).await.text().await.unwrap();
        assert!(page.contains("er ikke nået frem"), "{page}");
    }
}

/// The mail address was mistyped, and a stranger opens the mail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mistyped_mail_address_does_not_give_the_login_away() {
    let home = two_parents();
    let server = home.serve();
    let mother = Browser::logged_in(&server, "mor@example.dk", 1).await;
    let wrong = [("new_mail", "stranger@example.dk"), ("mail_password", "forkert")];
    assert_eq!(post(&mother, "/konto/1/bruger/mail", &wrong).await.0, StatusCode::UNPROCESSABLE_ENTITY);
    let fields = [("new_mail", "stranger@example.dk"), ("mail_password", PASSWORD)];
    assert_eq!(post(&mother, "/konto/1/bruger/mail", &fields).await.0, StatusCode::SEE_OTHER);
    let letter = mail(&home, &["To: stranger@example.dk"]).await.replace("=\r\n", "").replace("=3D", "=");
    let path =
        format!("/ny-mail/{}", letter.split("/ny-mail/").nth(1).unwrap().split(['"', '\r', '<']).next().unwrap());
    let stranger = Browser::new(&server);
    let answer = stranger.post(&path, &[]).await;
    let turned_away = (StatusCode::SEE_OTHER, "/log-paa?afbrudt=1");
    assert_eq!((answer.status(), answer.headers()[LOCATION].to_str().unwrap()), turned_away);
    let other = Browser::logged_in(&server, "far@example.dk", 2).await;
    assert_eq!(post(&other, &path, &[]).await.0, StatusCode::GONE, "another parent takes the login over");
    // The parent, who typed it right after all, uses the same link.
    assert_eq!(post(&mother, &path, &[]).await.0, StatusCode::OK);
    Browser::logged_in(&server, "stranger@example.dk", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_in_bulk_or_from_elsewhere_is_turned_away() {
    let home = two_parents().with("PORTAL__BEHIND_PROXY", "true");
    let server = home.serve();
    let mother = Browser::logged_in(&server, "mor@example.dk", 1).await;
    // A parent cannot fill the journal with refusals.
    let mut slowed = 0;
    for n in 0..100 {
        let form = format!("form-{n}");
        let (status, _) = post(&mother, "/konto/1/overfoer", &[("form", &form), ("to", "1"), ("amount", "1")]).await;
        slowed += u32::from(status == StatusCode::TOO_MANY_REQUESTS);
    }
    assert!((20..=45).contains(&slowed), "{slowed} of 100 forms were slowed");
    assert_eq!(mother.get("/konto/1").await.status(), StatusCode::OK, "reading is not slowed");
    // Pictures that never end take four places and no more.
    let client = Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let address = server.portal.trim_start_matches("http://").to_owned();
    let far = Browser::logged_in(&server, "far@example.dk", 2).await;
    let head = format!(
        "POST /konto/2/billede HTTP/1.1\r\nHost: x\r\nCookie: {}\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 900000\r\n\r\n--b\r\n",
        far.cookie
    );
    let mut open = Vec::new();
    for _ in 0..6 {
        use tokio::io::AsyncWriteExt;
        let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        open.push(stream);
    }
    let mut answered = 0;
    for stream in &mut open {
        use tokio::io::AsyncReadExt;
        let mut answer = [0; 64];
        if let Ok(Ok(length)) = tokio::time::timeout(Duration::from_secs(2), stream.read(&mut answer)).await {
            assert!(String::from_utf8_lossy(&answer[..length]).contains("429"));
            answered += 1;
        }
    }
    assert_eq!(answered, 2, "six pictures that never end, four places");
    drop(open);
    // From another site, also where a browser says so only by the old header.
    let log_in = |name: &'static str, value: String| {
        let form = [("mail", "far@example.dk"), ("password", PASSWORD)];
        client.post(format!("{}/log-paa", server.portal)).header(name, value).form(&form).send()
    };
    assert_eq!(log_in("origin", "https://evil.example".to_owned()).await.unwrap().status(), StatusCode::FORBIDDEN);
    assert_eq!(log_in("origin", server.portal.clone()).await.unwrap().status(), StatusCode::SEE_OTHER);
    // Behind a proxy the last address in the header counts, whatever a browser has put before it.
    let mut slowed = 0;
    for n in 0..20 {
        let answer = client.post(format!("{}/log-paa", server.portal));
        let answer = answer.header("x-forwarded-for", format!("10.0.0.{n}, 192.0.2.7"));
        let answer = answer.form(&[("mail", "mor@example.dk"), ("password", "gæt")]).send().await.unwrap();
        slowed += u32::from(answer.status() == StatusCode::TOO_MANY_REQUESTS);
    }
    assert!(slowed >= 8, "a made-up address was believed; {slowed} of 20 were slowed");
    // The same field twice, and a method that nobody needs.
    let twice = [("token", mother.token.as_str()), ("token", "x")];
    let answer = far.post("/konto/2/spaer", &twice).await;
    assert!(answer.status().is_client_error(), "{}", answer.status());
    let trace = client.request(reqwest::Method::TRACE, format!("{}/", server.portal)).send().await.unwrap();
    assert_eq!(trace.status(), StatusCode::METHOD_NOT_ALLOWED);
}

/// Names with markup in them are text on every page.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn markup_in_a_name_stays_text() {
    let home = two_parents();
    let server = home.serve();
    let mother = Browser::logged_in(&server, "mor@example.dk", 1).await;
    let evil = "<b onload=x>\"'&";
    let page = mother.get("/konto/1/bruger").await.text().await.unwrap();
    let fields = [("name", evil), ("card", &card(1)), ("limit", "")];
    let (status, said) = post(&mother, "/konto/1/bruger", &fields).await;
    assert_eq!(status, StatusCode::SEE_OTHER, "{said}");
    assert!(!page.contains(evil));
    for path in [
        "",
        "/kontoudtog",
        "/indbetal",
        "/bruger",
        "/betalinger",
        "/udbetal",
        "/overfoer",
        "/tilknytninger",
        "/auto-optank",
    ] {
        let page = mother.get(&format!("/konto/1{path}")).await.text().await.unwrap();
        assert!(!page.contains("<b onload"), "{path}: {page}");
        assert!(page.contains("onload=x"), "{path} does not show the name: this shows nothing");
    }
}

/// Behind HTTPS: cookies that no other host can set and no plain page can read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_https_cookies_are_bound_to_it() {
    let home = two_parents()
        .with("PORTAL__PUBLIC_URL", "https://frokost.example.dk")
        .with("PORTAL__BEHIND_PROXY", "true")
        .with("PAYMENT__SANDBOX", "true");
    let listen = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let home = home.with("PORTAL__LISTEN", &listen.to_string());
    let server = home.serve();
    let client = Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let url = |path: &str| format!("http://{listen}{path}");
    let form = [("mail", "mor@example.dk"), ("password", PASSWORD)];
    let answer = client.post(url("/log-paa")).form(&form).send().await.unwrap();
    let cookie = answer.headers()[SET_COOKIE].to_str().unwrap();
    assert!(
        cookie.starts_with("__Host-frokost=") && cookie.contains("; Secure") && cookie.contains("HttpOnly"),
        "{cookie}"
    );
    assert!(answer.headers()["strict-transport-security"].to_str().unwrap().contains("max-age=31536000"));
    let answer = client.get(url("/sprog/en")).send().await.unwrap();
    let language = answer.headers()[SET_COOKIE].to_str().unwrap();
    assert!(language.starts_with("__Host-sprog=en") && language.contains("; Secure"), "{language}");
    let page = client.get(url("/")).header("cookie", language.split(';').next().unwrap()).send().await.unwrap();
    assert!(page.text().await.unwrap().contains("Log in with e-mail"));
    assert_eq!(server.stop(), 0);
}
