//! The portal from outside, as strangers and other parents meet it. What could go wrong: an account, an order or a picture shown to or changed by
//! somebody who does not manage it; a guesser who is not slowed; an answer that tells who is known; a pay-out that is in two files.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use reqwest::header::LOCATION;

use crate::browser::{Browser, PASSWORD, two_parents};
use crate::installation::*;

/// Every address there is, as the table of routes has it.
fn routes() -> BTreeSet<String> {
    let table = include_str!("../../portal-adapter/src/routes.rs");
    let quoted = table.split("/// A form of another site").next().unwrap().split('"').skip(1).step_by(2);
    quoted.filter(|text| text.starts_with('/')).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_sees_or_changes_what_is_anothers_on_any_route() {
    let home = two_parents();
    let server = home.serve();
    let mine = Browser::logged_in(&server, "mor@example.dk", 1).await;
    let theirs = Browser::logged_in(&server, "far@example.dk", 2).await;
    let stranger = Browser::new(&server);
    // An order of account 1.
    let page = mine.get("/konto/1/indbetal").await.text().await.unwrap();
    let form = Browser::hidden(&page, "form");
    let order = [
        ("token", mine.token.as_str()),
        ("form", &form),
        ("amount", "300"),
        ("consent", "yes"),
        ("receipt", "mor@example.dk"),
    ];
    assert_eq!(mine.post("/konto/1/indbetal", &order).await.status(), StatusCode::SEE_OTHER);
    let list = mine.get("/konto/1/betalinger").await.text().await.unwrap();
    let number = list.split("/ordre/").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let pictures = home.data().join("pictures");
    std::fs::create_dir_all(&pictures).unwrap();
    std::fs::write(pictures.join("1.jpg"), b"\xff\xd8\xff Pupil 1").unwrap();
    assert_eq!(mine.get("/konto/1/billede").await.status(), StatusCode::OK);
    // An account of somebody else that is named within a form of one's own.
    let to_all = ["overfoer", "tilknytninger/slet", "indbetal", "auto-optank"];
    for path in to_all.map(|page| format!("/konto/2/{page}")) {
        let fields = [
            ("token", theirs.token.as_str()),
            ("form", "y"),
            ("amount", "300"),
            ("to", "1"),
            ("account", "1"),
            ("consent", "yes"),
            ("receipt", "far@example.dk"),
        ];
        let status = theirs.post(&path, &fields).await.status();
        // Letting go of what one does not have is no error.
        let expected = if path.ends_with("/slet") { StatusCode::SEE_OTHER } else { StatusCode::NOT_FOUND };
        assert_eq!(status, expected, "{path}");
    }
    assert_eq!(mine.get("/konto/1").await.status(), StatusCode::OK, "somebody else took the account away");
    let picture = [("token", theirs.token.as_str()), ("file", "\u{89}PNG")];
    assert_eq!(theirs.post_multipart("/konto/1/billede", &picture).await.status(), StatusCode::NOT_FOUND);

    let (mut owned, mut open) = (0, BTreeSet::new());
    for route in routes() {
        if !route.contains("{account}") && !route.contains("{order}") {
            open.insert(route);
            continue;
        }
        owned += 1;
        let path = route.replace("{account}", "1").replace("{order}", &number).replace("/live", "/live?set=0");
        for (who, browser) in [("another parent", &theirs), ("a stranger", &stranger)] {
            let fields =
                [("token", browser.token.as_str()), ("form", "x"), ("amount", "1"), ("to", "2"), ("account", "1")];
            for answer in [browser.get(&path).await, browser.post(&path, &fields).await] {
                let status = answer.status();
                let turned_away = if who == "a stranger" {
                    status == StatusCode::SEE_OTHER
                        && answer.headers()[LOCATION].to_str().unwrap().starts_with("/log-paa")
                } else {
                    status == StatusCode::NOT_FOUND
                };
                // No such method there, or a form of another kind: nothing was looked at.
                let nothing =
                    [StatusCode::METHOD_NOT_ALLOWED, StatusCode::BAD_REQUEST, StatusCode::FORBIDDEN].contains(&status);
                assert!(turned_away || nothing, "{who} at {path}: {status}");
                let text = answer.text().await.unwrap();
                assert!(!text.contains("Pupil 1") && !text.contains(&card(1)), "{who} reads {path}");
            }
        }
    }
    assert!(owned > 20, "only {owned} routes were tried");
    let expected = [
        "/",
        "/aktiver/{secret}",
        "/aktiver/{secret}/igen",
        "/betaling/tilbagekald",
        "/betingelser",
        "/glemt",
        "/log-paa",
        "/log-ud",
        "/nulstil/{ticket}",
        "/ny-mail/{ticket}",
        "/opret",
        "/sprog/{language}",
        "/static/live.js",
        "/static/style.css",
        "/support",
        "/tilbagekald/{ticket}",
    ];
    assert_eq!(open, expected.iter().map(|route| (*route).to_owned()).collect(), "a route nobody has thought about");
    // And the owner was not hindered.
    let shown = home.must(&["account", "show", "1"]);
    assert!(shown.contains("balance       500,00 kr.") && shown.contains(&card(1)), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guessers_are_slowed_and_learn_nothing_and_the_parent_still_gets_in() {
    let home = two_parents();
    let server = home.serve();
    let browser = Browser::new(&server);
    // Known and unknown: the same page after about the same time. Medians of a few, since the machine has other things to do.
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..5 {
        for (n, mail) in ["mor@example.dk".to_owned(), format!("nobody{round}@example.dk")].iter().enumerate() {
            let begin = Instant::now();
            let answer = browser.post("/log-paa", &[("mail", mail), ("password", "forkert adgangskode")]).await;
            times[n].push(begin.elapsed());
            assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
            let page = answer.text().await.unwrap();
            assert!(page.contains("E-mail eller adgangskode er forkert"), "{page}");
        }
    }
    let [known, unknown] = times.map(|mut times| {
        times.sort();
        times[2]
    });
    let ratio = known.as_secs_f64() / unknown.as_secs_f64();
    assert!((0.4..2.5).contains(&ratio), "known {known:?}, unknown {unknown:?}");
    let mut refused = 0;
    for _ in 0..12 {
        let answer = browser.post("/log-paa", &[("mail", "mor@example.dk"), ("password", "gæt")]).await;
        refused += u32::from(answer.status() == StatusCode::TOO_MANY_REQUESTS);
    }
    assert!(refused >= 6, "only {refused} guesses were refused");
    assert_eq!(server.metric("frokost_portal_too_many_total").await, u64::from(refused));
    // Somebody else from the same address is not hindered.
    Browser::logged_in(&server, "far@example.dk", 2).await;
    // And whoever looks into it later reads it in the log, by number and address, with nobody's name.
    let log = server.log.lock().unwrap().clone();
    let security: Vec<&str> = log.lines().filter(|line| line.contains(r#""target":"security""#)).collect();
    let count = |event: &str| security.iter().filter(|line| line.contains(&format!(r#""event":"{event}""#))).count();
    assert!(count("log_in_refused") >= 10 && count("log_in_too_often") >= 6 && count("log_in") == 1, "{security:#?}");
    assert!(security.iter().all(|line| line.contains("127.0.0.1") && !line.contains("example.dk")), "{security:#?}");
    let known = |line: &&&str| line.contains("log_in_refused") && !line.contains(r#""login":0"#);
    assert!(security.iter().filter(known).count() >= 5, "a guess at a known login does not name it: {security:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_every_answer_says_to_the_browser() {
    let home = two_parents();
    let server = home.serve();
    let browser = Browser::new(&server);
    for path in ["/", "/opret", "/nowhere", "/konto/1", "/konto/x"] {
        let answer = browser.get(path).await;
        let says =
            |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
        let policy = says("content-security-policy");
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{path}: {policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{path}: {policy}");
        assert!(policy.contains("base-uri 'none'") && policy.contains("object-src 'none'"), "{path}: {policy}");
        assert_eq!(says("referrer-policy"), "same-origin", "{path}");
        assert_eq!(says("access-control-allow-origin"), "", "{path}");
        assert_eq!(says("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(says("cache-control"), "no-store", "{path}");
    }
    // What the framework refuses is said on a page, too.
    let answer = browser.post("/", &[("name", "x")]).await;
    assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert!(answer.text().await.unwrap().contains("Der er ikke sket noget."));
    // Another language keeps the month that was chosen, and leads nowhere else.
    for (back, to) in [
        ("/konto/1/kontoudtog?maaned=202611", "/konto/1/kontoudtog?maaned=202611"),
        ("//evil.example", "/"),
        ("https://evil.example", "/"),
        ("/a\\b", "/"),
    ] {
        let answer = browser.get(&format!("/sprog/en?til={back}")).await;
        assert_eq!(answer.headers()[LOCATION], to, "{back}");
    }
    // More than a form needs is not read. The connection ends with it.
    let huge = "x".repeat(100_000);
    assert_eq!(browser.post("/opret", &[("name", huge.as_str())]).await.status(), StatusCode::PAYLOAD_TOO_LARGE);
}

/// From a parent's request to the bank's file and back: one file, one settlement, however often.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pay_out_is_in_one_file_and_settled_once() {
    let home = two_parents().with("BANK__IBAN", "DK5000400440116243");
    let server = home.serve();
    for (mail, account, amount) in [("mor@example.dk", 1, "120"), ("far@example.dk", 2, "80,50")] {
        let browser = Browser::logged_in(&server, mail, account).await;
        let page = browser.get(&format!("/konto/{account}/udbetal")).await.text().await.unwrap();
        let key = Browser::hidden(&page, "form");
        let form = [
            ("token", browser.token.as_str()),
            ("form", &key),
            ("name", "Mor Jensen"),
            ("reg", "0040"),
            ("account", "0440116243"),
            ("message", "Frokost"),
            ("amount", amount),
            ("password", PASSWORD),
        ];
        // Twice, as by a double click.
        for _ in 0..2 {
            let answer = browser.post(&format!("/konto/{account}/udbetal"), &form).await;
            assert_eq!(answer.status(), StatusCode::SEE_OTHER, "{}", answer.text().await.unwrap());
        }
    }
    assert!(home.must(&["account", "show", "1"]).contains("380,00 kr."));
    assert_eq!(server.stop(), 0);

    let unset = Installation::on(&home.data()).run(&["payouts", "export", "--out", "/tmp/never.xml"]);
    assert_eq!(unset.code, 1);
    assert!(unset.err.contains("bank.iban"), "{unset:?}");
    let printed = home.must(&["payouts", "export", "--out", "bank.xml"]);
    assert!(printed.contains("2 pay-outs, 200,50 kr. in all"), "{printed}");
    let file = std::fs::read_to_string(home.path("bank.xml")).unwrap();
    assert_eq!(file.matches("<CdtTrfTxInf>").count(), 2);
    assert!(file.contains("<CtrlSum>200.50</CtrlSum>") && file.contains("<IBAN>DK5000400440116243</IBAN>"), "{file}");
    let overwrite = home.run(&["payouts", "export", "--out", "bank.xml"]);
    assert!(overwrite.code == 1 && overwrite.err.contains("is there already"), "{overwrite:?}");
    assert_eq!(home.must(&["payouts", "export", "--out", "second.xml"]), "there is nothing to pay out\n");
    let batch = printed.trim().rsplit(' ').next().unwrap();
    home.must(&["payouts", "export", "--out", "again.xml", "--again", batch]);
    let again = std::fs::read_to_string(home.path("again.xml")).unwrap();
    assert_eq!(again.matches("<CdtTrfTxInf>").count(), 2, "the same file, for one that was lost");

    let transfer = |id: &str, status: &str| {
        format!(
            "<TxInfAndSts><OrgnlEndToEndId>{id}</OrgnlEndToEndId><TxSts>{status}</TxSts><StsRsnInf><Rsn><Cd>AC04</Cd></Rsn></StsRsnInf></TxInfAndSts>"
        )
    };
    let answer = |transfers: &str| {
        format!(
            "<Document><CstmrPmtStsRpt><OrgnlGrpInfAndSts><OrgnlMsgId>{batch}</OrgnlMsgId></OrgnlGrpInfAndSts><OrgnlPmtInfAndSts>{transfers}</OrgnlPmtInfAndSts></CstmrPmtStsRpt></Document>"
        )
    };
    let foreign =
        home.write("foreign.xml", &answer(&[transfer("frokost-1", "ACSC"), transfer("somebody-9", "ACSC")].concat()));
    let refused = home.run(&["payouts", "import", lossy(&foreign)]);
    assert!(refused.code == 1 && refused.err.contains("'somebody-9' is none of ours"), "{refused:?}");
    assert!(!home.must(&["payouts", "list"]).contains("done"), "half of a foreign answer was taken in");
    let bank =
        home.write("answer.xml", &answer(&[transfer("frokost-1", "ACSC"), transfer("frokost-2", "RJCT")].concat()));
    let taken_in = "1 paid, 1 refused and back on the balance, 0 not decided yet, 0 settled before\n";
    let made = home.must(&["backup"]);
    let backup = made.split_whitespace().find(|word| word.contains("backups/")).unwrap().trim_end_matches(':');
    assert_eq!(home.must(&["payouts", "import", lossy(&bank)]), taken_in);
    // Books of before the answer, beside records that have it: the money is neither paid nor back in them, and whoever verifies is told.
    std::fs::remove_dir_all(home.data().join("mirror")).unwrap();
    let restored = home.must(&["restore", "--from", backup, "--accept-loss"]);
    assert_eq!(restored.matches("take it in again with frokost payouts import").count(), 2, "{restored}");
    let shown = home.must(&["account", "show", "2"]);
    assert!(shown.contains("419,50 kr."), "{shown}{restored}");
    assert!(home.must(&["verify"]).ends_with("everything holds\n"));
    assert_eq!(home.must(&["payouts", "import", lossy(&bank)]), taken_in);
    let printed = home.must(&["payouts", "import", lossy(&bank)]);
    assert_eq!(printed, "0 paid, 0 refused and back on the balance, 0 not decided yet, 2 settled before\n");
    assert!(home.must(&["account", "show", "1"]).contains("380,00 kr."));
    assert!(home.must(&["account", "show", "2"]).contains("500,00 kr."), "refused, the money is back");
    let listed = home.must(&["payouts", "list"]);
    assert!(listed.contains("done") && listed.contains("returned"), "{listed}");
    assert!(home.must(&["verify"]).ends_with("everything holds\n"));
    // Who asked stands in the journal for good: each login has its number there.
    let journal = home.must(&["inspect"]);
    let asked: Vec<&str> = journal.lines().filter(|line| line.contains("payout=") && line.contains(" by=")).collect();
    assert!(asked.len() == 2 && asked[0].contains(" by=1") && asked[1].contains(" by=2"), "{journal}");
    // The parent is told when the portal runs again.
    let server = home.serve();
    let told = Instant::now();
    let mails = || std::fs::read_dir(home.data().join("mail/new")).map(|mails| mails.count()).unwrap_or(0);
    while mails() < 4 && told.elapsed() < Duration::from_secs(20) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(mails(), 4, "two requests, and a return that came about twice");
    assert_eq!(server.stop(), 0);
}
