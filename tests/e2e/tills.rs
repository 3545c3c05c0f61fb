//! Who sells: tills that come, go, are renewed or replaced, and the installation's own callers. What could go wrong: a number that two tills have,
//! a sale that is made twice or sent under another till's name, an installation that locks itself out or cannot read what was written in it.

use std::os::unix::fs::chown;
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use frokost_engine::{AccountId, Amount, Command, Outcome, Sequence};
use frokost_net::{Bundle, Client};
use futures_util::future::join_all;

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

/// An outbox that was lost and is begun anew while the server's clock is behind gives out numbers that were used.
#[test]
fn a_till_whose_numbers_were_used_before_sells_under_others() {
    let home = Installation::new();
    home.import(1, 100);
    let till = home.enrol("canteen-1");
    let server = home.serve();
    let address = server.tills.to_string();
    let sell = |amount| {
        ["till", "--bundle", lossy(&till), "--server", &address, "--card", &card(1), "--amount", amount]
            .map(str::to_owned)
    };
    let sold = |amount| home.must(&sell(amount).each_ref().map(String::as_str));
    assert_eq!(sold("1"), "Godkendt. Ny saldo 99,00 kr.\n");
    let outbox = home.path("canteen-1.outbox");
    let text = std::fs::read_to_string(&outbox).unwrap();
    let first: u64 = text.lines().find_map(|line| line.strip_prefix("next ")).unwrap().parse().unwrap();
    home.write("canteen-1.outbox", &format!("caller 2\nnext {first}\n"));
    assert_eq!(sold("2"), "Godkendt. Ny saldo 97,00 kr.\n");
    assert_eq!(sold("3"), "Godkendt. Ny saldo 94,00 kr.\n");
    let text = std::fs::read_to_string(&outbox).unwrap();
    let numbers: Vec<u64> =
        text.lines().filter_map(|line| line.strip_prefix("sale ")?.split(' ').next()?.parse().ok()).collect();
    assert!(
        matches!(numbers[..], [used, new, next] if used == first && new > used + (1 << 40) && next == new + 1),
        "{text}"
    );
}

/// The same for the operator, whose numbers begin where the server's clock is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_whose_numbers_were_used_before_goes_on_under_others() {
    let home = Installation::new();
    home.import(1, 100);
    let server = home.serve();
    home.must(&["account", "limit", "1", "50"]);
    let bundle = Bundle::read(&home.data().join("pki/operator.pem")).unwrap();
    let (client, welcome) = Client::connect(server.tills, &bundle).await.unwrap();
    let begins = welcome.now.0 + 1_500;
    // Every millisecond of some seconds that are to come.
    for some in (begins..begins + 4_000).collect::<Vec<_>>().chunks(200) {
        let answers = some.iter().map(|at| {
            let limit = Some(Amount::from_ore(i64::try_from(*at % 1_000).unwrap() + 1));
            client.command(Sequence(at << 16), Command::SetDailyLimit { account: AccountId(1), limit })
        });
        for answer in join_all(answers).await {
            assert!(matches!(answer.unwrap(), Outcome::Approved(_)));
        }
    }
    let now = || u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
    while now() <= begins {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    home.must(&["account", "limit", "1", "77"]);
    assert!(now() < begins + 4_000, "it came too late: this shows nothing");
    assert!(home.must(&["account", "show", "1"]).contains("77,00 kr."));
}

/// The server dies with a command of the operator's in flight: typed once it is done once.
#[test]
fn an_operators_command_outlives_its_server() {
    let home = Installation::new();
    home.import(1, 100);
    let mut server = home.serve();
    let address = server.tills.to_string();
    let mut kroner = 100;
    for attempt in 0.. {
        assert!(attempt < 30, "it was never in flight when the server fell: this shows nothing");
        let comings = |server: &Server| server.log.lock().unwrap().matches(r#""role":"operator""#).count();
        let before = comings(&server);
        let mut correct = home.command(&["account", "correct", "1", "1", "--reason", "goodwill"]);
        let mut correcting = correct.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        while comings(&server) == before {
            std::thread::sleep(Duration::from_micros(200));
        }
        // From before it has asked until it has been answered.
        std::thread::sleep(Duration::from_micros(attempt % 10 * 300));
        server.kill();
        std::thread::sleep(Duration::from_millis(50));
        let lost = correcting.try_wait().unwrap().is_none();
        server = Server::start({
            let mut serve = home.command(&["serve"]);
            serve.env("FROKOST_TILLS__LISTEN", &address);
            serve
        });
        let corrected = correcting.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&corrected.stderr);
        assert!(!said.contains("is not known"), "{said}");
        if corrected.status.success() {
            kroner += 1;
        }
        let shown = home.must(&["account", "show", "1"]);
        assert!(shown.contains(&format!("{kroner},00 kr.")), "{attempt}: {shown}, {said}");
        if lost && corrected.status.success() {
            return;
        }
    }
}
