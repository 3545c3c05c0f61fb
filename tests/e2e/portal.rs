//! The portal in a real browser, by the scripts in `tests/browser`. What could go wrong: everything between the template and the parent's
//! eyes, and between the parent's word and the money.

use std::process::Command;

use crate::installation::*;
use crate::mail_server::MailServer;

/// Is there a browser with all it needs?
fn has_browser() -> bool {
    if !has("chromium", "the portal in a browser") || !has("node", "the portal in a browser") {
        return false;
    }
    let there = std::path::Path::new(SCRIPTS).join("node_modules/playwright-core").is_dir();
    assert!(there || std::env::var_os("CI").is_none(), "there is no playwright-core, and CI skips nothing");
    if !there {
        eprintln!("skipped: the portal in a browser; playwright-core is not there (scripts/test installs it)");
    }
    there
}

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/browser");

fn walk(script: &str, home: &Installation, server: &Server, variables: &[(&str, &str)]) {
    let ran: Ran = Command::new("node")
        .arg(script)
        .current_dir(SCRIPTS)
        .env("FROKOST", FROKOST)
        .env("PORTAL", &server.portal)
        .env("TILLS", server.tills.to_string())
        .env("TILL_BUNDLE", home.path("canteen-1.pem"))
        .env("MAILDIR", home.data().join("mail"))
        .env("CARD", card(1))
        .envs(variables.iter().copied())
        .output()
        .unwrap()
        .into();
    assert_eq!(ran.code, 0, "{}\n{}", ran.out, ran.err);
    assert!(ran.out.contains("every step passed"), "{}", ran.out);
}

/// A walk by a parent of two who has a login already.
fn walk_of_a_parent(script: &str) {
    if !has_browser() {
        return;
    }
    let home = Installation::new();
    home.import(3, 100);
    for mail in ["mor@example.dk", "far@example.dk"] {
        home.add_parent(mail, "1,2");
    }
    home.enrol("canteen-1");
    let server = home.serve();
    walk(script, &home, &server, &[("MAIL", "mor@example.dk"), ("PASSWORD", "smørrebrød og sild")]);
}

#[test]
fn a_parent_logs_in_pays_in_and_blocks_the_card() {
    walk_of_a_parent("portal.mjs");
}

#[test]
fn a_parent_without_a_mouse_pays_in_and_blocks_the_card() {
    walk_of_a_parent("keyboard.mjs");
}

#[test]
fn a_parent_who_is_interrupted_loses_nothing() {
    walk_of_a_parent("interrupted.mjs");
}

#[test]
fn a_parent_walks_the_quick_guide() {
    walk_of_the_guide("da", "on");
}

#[test]
fn a_parent_walks_the_quick_guide_in_english() {
    walk_of_the_guide("en", "on");
}

#[test]
fn a_parent_walks_the_quick_guide_without_javascript() {
    walk_of_the_guide("en", "off");
}

#[test]
fn a_parent_walks_the_quick_guide_without_javascript_on_a_phone_in_danish() {
    walk_of_the_guide("da", "off");
}

/// Section by section; without JavaScript with mails over SMTP, too. Then the books are verified, and no CPR number is to be found in any file.
fn walk_of_the_guide(language: &str, javascript: &str) {
    if !has_browser() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut home = Installation::new();
    // The last one's mails go the long way.
    let mails = ((language, javascript) == ("en", "off"))
        .then(|| MailServer::start(&folder.path().join("box"), 0, 0))
        .flatten();
    let mut maildir = home.data().join("mail");
    if let Some(mails) = &mails {
        home = home.with("MAIL__SMTP", &mails.url());
        maildir = folder.path().join("box");
    }
    home.import(3, 100);
    home.add_parent("far@example.dk", "3");
    home.enrol("canteen-1");
    let server = home.serve();
    let pictures = if (language, javascript) == ("da", "on") {
        std::env::var("PICTURES").unwrap_or_default()
    } else {
        String::new()
    };
    let variables = [
        ("LANGUAGE", language),
        ("JAVASCRIPT", javascript),
        ("WIDTH", if (language, javascript) == ("da", "off") { "360" } else { "1000" }),
        ("PICTURES", pictures.as_str()),
        ("MAILDIR", lossy(&maildir)),
        ("MONEY", "1"),
        ("CPR", &cpr(1)),
        ("CARD_TWO", &card(2)),
        ("CPR_TWO", &cpr(2)),
        ("CARD_THREE", &card(3)),
        ("CPR_THREE", &cpr(3)),
        ("CARD_NEW", "ABCD5678901234"),
    ];
    walk("guide.mjs", &home, &server, &variables);
    let log = std::sync::Arc::clone(&server.log);
    assert_eq!(server.stop(), 0);
    assert!(home.must(&["verify"]).ends_with("everything holds\n"));
    home.must(&["backup"]);
    let with_hyphen = |cpr: String| format!("{}-{}", &cpr[..6], &cpr[6..]);
    let mut secrets: Vec<String> =
        [1, 2, 3].map(cpr).into_iter().chain([1, 2, 3].map(|n| with_hyphen(cpr(n)))).collect();
    // The payment cards: only the provider has seen them.
    for card in [
        "4000 0025 0000 3155",
        "4111 1111 1111 1111",
        "4111 1111 1111 1112",
        "4000 0000 0000 0002",
        "4000 0000 0000 0341",
    ] {
        secrets.extend([card.to_owned(), card.replace(' ', "")]);
    }
    nowhere(&home.data(), &secrets);
    let log = log.lock().unwrap();
    assert!(log.contains("listening") || log.len() > 1_000, "there is no log to look into: {log}");
    assert!(secrets.iter().all(|secret| !log.contains(secret)), "the log knows a CPR number or a payment card");
    // What was agreed to, and when.
    let records = frokost_persistence::Records::open(&home.data().join("records")).unwrap();
    let orders = records.orders_of(frokost_engine::AccountId(1)).unwrap();
    assert!(orders.len() > 2 && orders.iter().all(|order| order.terms == "2026-11" && order.at_ms > 0), "{orders:?}");
}

/// None of these texts is in any file below `folder`.
fn nowhere(folder: &std::path::Path, texts: &[String]) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            nowhere(&path, texts);
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        for text in texts {
            let found = bytes.windows(text.len()).any(|window| window == text.as_bytes());
            assert!(!found, "{} is readable in {}", text, path.display());
        }
    }
}
