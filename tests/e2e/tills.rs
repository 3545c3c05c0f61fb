//! Who sells: tills that come, go, are renewed or replaced, and the installation's own callers. What could go wrong: a number that two tills have,
//! a sale that is made twice or sent under another till's name, an installation that locks itself out or cannot read what was written in it.

use std::os::unix::fs::chown;

use crate::installation::*;

/// A new till is set up in the place of an old one, whose outbox still has a sale without an answer.
#[test]
fn what_the_till_before_had_no_answer_to_is_told_and_not_sold_again() {
    let home = Installation::new();
    home.import(1, 100);
    let till = home.enrol("canteen-1");
    let open = format!("caller 77\nnext 5\nsale 5 {} 2500 1 sandwich\n", card(1));
    let outbox = home.write("canteen-1.outbox", &open);
    let server = home.serve();
    let address = server.tills.to_string();
    let sell = ["till", "--bundle", lossy(&till), "--server", &address, "--card", &card(1), "--amount", "1"];
    let sold = home.run(&sell);
    assert_eq!((sold.code, sold.out.as_str()), (0, "Godkendt. Ny saldo 99,00 kr.\n"), "{sold:?}");
    assert!(sold.err.contains("kasse 77") && sold.err.contains("25,00 kr. ..0001 1 sandwich"), "{sold:?}");
    let aside = home.path("canteen-1.outbox.of-77");
    assert!(sold.err.contains(lossy(&aside)), "{sold:?}");
    assert_eq!(std::fs::read_to_string(aside).unwrap(), open);
    assert!(std::fs::read_to_string(outbox).unwrap().starts_with("caller 2\n"));
    let again = home.run(&sell);
    assert_eq!((again.out.as_str(), again.err.as_str()), ("Godkendt. Ny saldo 98,00 kr.\n", ""), "{again:?}");
}

#[test]
fn a_till_is_renewed_as_the_same_and_nobody_is_enrolled_in_vain() {
    let home = Installation::new();
    home.import(1, 100);
    home.enrol("canteen-1");
    let renewed = home.must(&["till", "renew", "canteen-1", "--out", "renewed.pem"]);
    assert!(renewed.starts_with("till 2 'canteen-1' has a new bundle, good for three years: renewed.pem"), "{renewed}");
    let server = home.serve();
    let address = server.tills.to_string();
    let sell = ["till", "--bundle", "renewed.pem", "--server", &address, "--card", &card(1), "--amount", "1"];
    assert_eq!(home.run(&sell).out, "Godkendt. Ny saldo 99,00 kr.\n");
    home.must(&["till", "revoke", "canteen-1"]);
    for (args, says) in [
        (&["renew", "canteen-1", "--out", "x.pem"][..], "'canteen-1' has been revoked"),
        (&["renew", "canteen-9"], "no caller named 'canteen-9'"),
        (&["renew", "portal"], "whose bundle is made anew by itself"),
        (&["add", "canteen-2", "--out", "renewed.pem"], "renewed.pem is there already"),
        (&["add", "canteen-2", "--out", "nowhere/x.pem"], "the folder for nowhere/x.pem is not there"),
        (&["add", "canteen-2", "--out", "/proc/x.pem"], "/proc/x.pem cannot be written"),
        (&["add", "load-portal"], "is kept for the installation itself"),
        (&["add", "load-1"], "is kept for the installation itself"),
        (&["add", "Canteen"], "'Canteen' is no name for a caller"),
    ] {
        let ran = home.run(&[&["till"], args].concat());
        assert!(ran.code == 1 && ran.err.contains(says), "{args:?}: {ran:?}");
        assert_eq!(ran.err.matches("(os error").count(), usize::from(says.contains("written")), "{ran:?}");
    }
    assert!(!home.path("x.pem").exists() && !home.path("Canteen.pem").exists(), "a bundle that is none is left");
    // None of those took the name.
    let added = home.must(&["till", "add", "canteen-2"]);
    assert!(added.starts_with("till 4 'canteen-2'") && added.contains(&format!("--server {address}")), "{added}");
    assert_eq!(server.stop(), 0);
    let books = home.must(&["books", "--csv"]);
    assert!(books.contains(";2;"), "{books}");
}

/// Own bundles that are damaged, or of callers who are on no list any more, are made anew: the operator is not locked out of its own house.
#[test]
fn the_installations_own_callers_come_back_by_themselves() {
    let home = Installation::new();
    home.import(1, 100);
    home.serve().stop();
    let pki = home.data().join("pki");
    for damage in ["empty bundles", "another's bundles", "no list"] {
        match damage {
            "empty bundles" => {
                std::fs::write(pki.join("operator.pem"), "").unwrap();
                std::fs::write(pki.join("portal.pem"), "").unwrap();
            }
            "another's bundles" => {
                std::fs::rename(pki.join("operator.pem"), pki.join("x")).unwrap();
                std::fs::rename(pki.join("portal.pem"), pki.join("operator.pem")).unwrap();
                std::fs::rename(pki.join("x"), pki.join("portal.pem")).unwrap();
            }
            _ => std::fs::remove_file(pki.join("callers")).unwrap(),
        }
        let server = home.serve();
        assert!(home.must(&["account", "show", "1"]).contains("100,00 kr."), "{damage}");
        assert_eq!(server.stop(), 0, "{damage}");
        let list = home.must(&["till", "list"]);
        let names: Vec<&str> = list.lines().map(|line| line.rsplit(' ').next().unwrap()).collect();
        assert!(names.contains(&"operator") && names.contains(&"portal") && names.len() == 2, "{damage}: {list}");
    }
}

/// What root writes in somebody else's installation its server could not read.
#[test]
fn root_does_nothing_in_an_installation_that_is_somebody_elses() {
    let home = Installation::new();
    home.import(1, 100);
    home.enrol("canteen-1");
    let key = home.data().join("pki/ca.key");
    if chown(&key, Some(65_534), None).is_err() {
        println!("skipped: only root can show what root must not do");
        return;
    }
    for args in [&["till", "revoke", "canteen-1"][..], &["serve"], &["backup"]] {
        let refused = home.run(args);
        assert!(
            refused.code == 1 && refused.err.contains("do it as that user: sudo -u '#65534' frokost"),
            "{refused:?}"
        );
    }
    assert!(!home.data().join("pki/revoked").exists());
    chown(&key, Some(0), None).unwrap();
    home.must(&["till", "revoke", "canteen-1"]);
}
