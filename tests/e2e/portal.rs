//! The portal in a real browser, by the script `tests/browser/portal.mjs`: log in, pay in, see the balance rise, block the card,
//! see the next sale at a till refused. What could go wrong: everything between the template and the parent's eyes.

use std::process::Command;

use crate::installation::*;

#[test]
fn a_parent_logs_in_pays_in_and_blocks_the_card() {
    let home = Installation::new();
    if !has("chromium", "the portal in a browser") || !has("node", "the portal in a browser") {
        return;
    }
    let scripts = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/browser");
    if !std::path::Path::new(scripts).join("node_modules/playwright-core").is_dir() {
        eprintln!("skipped: the portal in a browser; playwright-core is not there (scripts/test installs it)");
        return;
    }
    home.import(3, 100);
    let password = home.write("password", "smørrebrød og sild\n");
    home.must(&[
        "parent",
        "add",
        "mor@example.dk",
        "--name",
        "Mor",
        "--accounts",
        "1,2",
        "--password-file",
        lossy(&password),
    ]);
    let till = home.enrol("canteen-1");
    let server = home.serve();
    let ran: Ran = Command::new("node")
        .arg("portal.mjs")
        .current_dir(scripts)
        .env("FROKOST", FROKOST)
        .env("PORTAL", &server.portal)
        .env("TILLS", server.tills.to_string())
        .env("TILL_BUNDLE", &till)
        .env("CARD", card(1))
        .env("MAIL", "mor@example.dk")
        .env("PASSWORD", "smørrebrød og sild")
        .output()
        .unwrap()
        .into();
    assert_eq!(ran.code, 0, "{}\n{}", ran.out, ran.err);
    assert!(ran.out.contains("every step passed"), "{}", ran.out);
}
