//! The README's path: a school's list, a server, a till, a sale, its line on the statement. What could go wrong: a step that
//! needs something the README does not say, an import that does things twice, a command that only works while the server stands still.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::time::Duration;

use crate::installation::*;

#[test]
fn from_a_list_of_500_pupils_to_a_line_on_the_statement() {
    let home = Installation::new();
    home.import(500, 100);
    let again = home.must(&["import", "pupils.csv"]);
    assert_eq!(again, "0 pupils taken in, 0 completed, 500 unchanged, 0 bad lines\n");

    let till = home.enrol("canteen-1");
    let server = home.serve();
    assert!(server.ready.contains("500 accounts"), "{}", server.ready);
    let address = server.tills.to_string();
    let sell = |card: &str, amount: &str| {
        home.run(&["till", "--bundle", lossy(&till), "--server", &address, "--card", card, "--amount", amount])
    };
    let sale = sell(&card(17), "25,50");
    assert_eq!((sale.code, sale.out.as_str()), (0, "Godkendt. Ny saldo 74,50 kr.\n"));
    let refused = sell(&card(17), "74,51");
    assert_eq!(refused.code, 4);
    assert!(refused.out.starts_with("Saldoen er for lav – mangler 0,01 kr."), "{}", refused.out);

    // While the server runs.
    let statement = home.must(&["account", "statement", &card(17)]);
    let lines: Vec<&str> = statement.lines().collect();
    assert_eq!(lines.len(), 3, "{statement}");
    assert!(lines[1].contains("top_up") && lines[1].ends_with("100,00 kr."), "{statement}");
    assert!(
        lines[2].contains("purchase") && lines[2].contains("-25,50 kr.") && lines[2].ends_with("74,50 kr."),
        "{statement}"
    );
    home.must(&["account", "block", "17"]);
    assert!(sell(&card(17), "1").out.starts_with("Kortet er spærret"));
    home.must(&["account", "activate", "17"]);
    home.must(&["account", "limit", "17", "30"]);
    assert!(sell(&card(17), "5").out.starts_with("Maks forbrug i dag er nået – rest 4,50 kr."));
    home.must(&["account", "limit", "17", "none"]);
    home.must(&["account", "top-up", "17", "200", "--reference", "9001"]);
    let twice = home.run(&["account", "top-up", "17", "200", "--reference", "9001"]);
    assert_eq!(twice.code, 1);
    assert!(twice.err.contains("on the account already"), "{}", twice.err);
    home.must(&["card", "issue", "17", "ABCD5678901234"]);
    assert!(sell(&card(17), "1").out.starts_with("Ukendt eller udgået kort"));
    assert_eq!(sell("abcd 5678 9012 34", "1").out, "Godkendt. Ny saldo 273,50 kr.\n");
    // What was bought is on the statement, if the till says.
    let lines = ["--card", &card(18), "--amount", "3", "--text", "2 sandwich, 1 mælk"];
    home.must(&[&["till", "--bundle", lossy(&till), "--server", &address][..], &lines].concat());
    let statement = home.must(&["account", "statement", "18"]);
    assert!(statement.contains("2 sandwich, 1 mælk"), "{statement}");
    let refused = home.run(&[&["till", "--bundle", lossy(&till)][..], &lines[..5], &[&"x".repeat(49)]].concat());
    assert!(refused.code == 2 && refused.err.contains("48"), "{refused:?}");
    // A till that lost its outbox starts with new numbers: its sales count.
    std::fs::remove_file(till.with_extension("outbox")).unwrap();
    assert_eq!(sell("ABCD5678901234", "1").out, "Godkendt. Ny saldo 272,50 kr.\n");
    assert_eq!(server.stop(), 0);

    // While it does not.
    let shown = home.must(&["card", "show", "ABCD5678901234"]);
    assert!(shown.contains("account       17") && shown.contains("272,50 kr."), "{shown}");
    assert!(home.must(&["account", "find", "pupil 17"]).contains(" Pupil 17 "));
    let verified = home.must(&["verify"]);
    assert!(verified.ends_with("everything holds\n"), "{verified}");
    let records = home.must(&["inspect", "--account", "17"]);
    assert_eq!(records.lines().filter(|line| line.contains(" purchase ")).count(), 3, "{records}");
    assert_eq!(home.must(&["import", "pupils.csv"]), "0 pupils taken in, 0 completed, 500 unchanged, 0 bad lines\n");
    assert!(
        home.must(&["card", "show", "ABCD5678901234"]).contains("272,50 kr."),
        "an import brought an old card back"
    );
}

/// A parent calls: no mail has come (quick guide, item 34). While the server runs, and while it does not.
#[test]
fn a_secretary_finds_whom_a_parent_means() {
    let home = Installation::new();
    home.import(300, 100);
    home.add_parent("mor@example.dk", "3,5");
    let server = home.serve();
    let find = |wanted: &str| -> Vec<String> {
        let found = home.must(&["account", "find", wanted]);
        found.lines().map(|line| line.trim().split("  ").take(2).collect::<Vec<_>>().join(" ")).collect()
    };
    let look = || {
        assert_eq!(
            find("upil 17"),
            [
                "17 Pupil 17",
                "170 Pupil 170",
                "171 Pupil 171",
                "172 Pupil 172",
                "173 Pupil 173",
                "174 Pupil 174",
                "175 Pupil 175",
                "176 Pupil 176",
                "177 Pupil 177",
                "178 Pupil 178",
                "179 Pupil 179"
            ]
        );
        assert_eq!(find(&card(5)), ["5 Pupil 5"]);
        assert_eq!(find(" Mor@example.dk"), ["3 Pupil 3", "5 Pupil 5"]);
        let born = cpr(5);
        let (day, month, year) = (&born[..2], &born[2..4], &born[4..6]);
        let twins: Vec<String> =
            (1..=300).filter(|n| cpr(*n)[..6] == born[..6]).map(|n| format!("{n} Pupil {n}")).collect();
        assert_eq!(find(&born[..6]), twins);
        assert_eq!(find(&format!("{day}.{month}.20{year}")), twins);
        let line = home.must(&["account", "find", &card(5)]);
        assert!(line.contains("school 1  mor@example.dk") && line.contains(&card(5)), "{line}");
        assert_eq!(find("upil").len(), 101, "a hundred, and a line that says that there are more");
        let nobody = home.run(&["account", "find", "Holger"]);
        assert!(nobody.code == 1 && nobody.err.contains("nobody is found by 'Holger'"), "{nobody:?}");
        let long = home.run(&["account", "find", &"x".repeat(49)]);
        assert!(long.code == 1 && long.err.contains("48 bytes"), "{long:?}");
    };
    look();
    // Who mistyped the address in the sign-up is found, and the address seen.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let browser = crate::browser::Browser::new(&server);
    let answer = runtime.block_on(browser.sign_up(&cpr(9), &card(9), "moor@example.dk"));
    assert!(answer.status().is_redirection());
    for wanted in [card(9), "moor@example.dk".to_owned()] {
        let line = home.must(&["account", "find", &wanted]);
        assert!(line.contains(" Pupil 9 ") && line.contains("moor@example.dk (not activated)"), "{line}");
    }
    assert_eq!(server.stop(), 0);
    look();
}

#[test]
fn a_till_at_the_terminal_says_what_to_do() {
    let home = Installation::new();
    home.import(2, 50);
    let till = home.enrol("canteen-1");
    let server = home.serve();
    let mut process = home
        .command(&["till", "--bundle", lossy(&till), "--server", &server.tills.to_string(), "--lang", "en"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let typed = format!("{}\n20\n!!\n{}\nabc\n{}\n100\n\n", card(1), card(1), card(2));
    process.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
    let ran: Ran = process.wait_with_output().unwrap().into();
    let said: Vec<&str> = ran.out.lines().collect();
    assert_eq!(ran.code, 0);
    assert!(said[1].ends_with("Approved. New balance 30,00 kr."), "{said:?}");
    assert!(said[2].contains("The card cannot be read"), "{said:?}");
    assert!(said[3].contains("'abc' is not an amount"), "{said:?}");
    assert!(said[4].contains("50,00 kr. missing"), "{said:?}");
}

#[test]
fn a_till_that_is_lost_is_locked_out_and_one_that_is_found_sells_again() {
    let home = Installation::new();
    home.import(1, 100);
    let till = home.enrol("canteen-1");
    let server = home.serve();
    let address = server.tills.to_string();
    let mut process = home
        .command(&["till", "--bundle", lossy(&till), "--server", &address, "--lang", "en"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut keys = process.stdin.take().unwrap();
    let mut display = BufReader::new(process.stdout.take().unwrap()).lines();
    let mut shows = |what: &str| display.by_ref().map(Result::unwrap).any(|line| line.contains(what));
    writeln!(keys, "{}\n20", card(1)).unwrap();
    assert!(shows("Approved. New balance 80,00 kr."));

    let said = home.must(&["till", "revoke", "canteen-1"]);
    assert!(said.starts_with("till 2 'canteen-1' is revoked"), "{said}");
    let again = home.must(&["till", "revoke", "canteen-1"]);
    assert!(again.starts_with("till 2 'canteen-1' has been revoked since 20"), "{again}");
    let list = home.must(&["till", "list"]);
    let marked: Vec<&str> = list.lines().filter(|line| line.contains("revoked on 20")).collect();
    assert!(matches!(marked[..], [line] if line.contains("canteen-1")), "{list}");
    std::thread::sleep(Duration::from_secs(3));
    writeln!(keys, "{}\n1", card(1)).unwrap();
    let ended: Ran = process.wait_with_output().unwrap().into();
    assert_eq!((ended.code, ended.err.lines().count()), (1, 1), "{ended:?}");
    assert!(ended.err.starts_with("frokost: this till has been revoked and cannot sell"), "{ended:?}");
    let sell = ["till", "--bundle", lossy(&till), "--server", &address, "--card", &card(1), "--amount", "2"];
    let refused = home.run(&sell);
    assert!(refused.code == 1 && refused.err.starts_with("frokost: kassen er spærret"), "{refused:?}");

    let log = server.log.lock().unwrap().clone();
    let turned_out = log.lines().filter(|line| line.contains(r#""event":"revoked_till""#)).count();
    assert!(turned_out >= 2 && log.contains(r#""caller":"2""#), "{log}");

    for (name, says) in [("canteen-7", "no caller named 'canteen-7'"), ("portal", "'portal' is no till")] {
        let ran = home.run(&["till", "revoke", name]);
        assert!(ran.code == 1 && ran.err.contains(says), "{ran:?}");
    }
    let back = home.must(&["till", "readmit", "canteen-1"]);
    assert!(back.starts_with("till 2 'canteen-1' may sell again"), "{back}");
    assert_eq!(home.must(&["till", "readmit", "canteen-1"]), "till 2 'canteen-1' is not revoked\n");
    std::thread::sleep(Duration::from_secs(2));
    // What it could not ask when it was locked out is asked first.
    let sold = home.must(&sell);
    assert_eq!(sold, "Fra sidst: 1,00 kr. ..0001\nGodkendt. Ny saldo 79,00 kr.\nGodkendt. Ny saldo 77,00 kr.\n");
}

#[test]
fn a_sale_from_before_a_power_cut_at_the_till_is_settled_once() {
    let home = Installation::new();
    home.import(1, 100);
    let till = home.enrol("canteen-1");
    // The till had written the sale down and sent it, perhaps; then its power failed.
    home.write("canteen-1.outbox", &format!("sale 1 {} 2500\n", card(1)));
    let server = home.serve();
    let address = server.tills.to_string();
    let sell =
        || home.must(&["till", "--bundle", lossy(&till), "--server", &address, "--card", &card(1), "--amount", "1"]);
    assert_eq!(sell(), "Fra sidst: 25,00 kr. ..0001\nGodkendt. Ny saldo 75,00 kr.\nGodkendt. Ny saldo 74,00 kr.\n");
    // It had been answered all along, and only the tick was lost.
    let outbox = std::fs::read_to_string(home.path("canteen-1.outbox")).unwrap();
    home.write("canteen-1.outbox", &outbox.replace("done 1\n", ""));
    assert_eq!(sell(), "Fra sidst: 25,00 kr. ..0001\nGodkendt. Ny saldo 75,00 kr.\nGodkendt. Ny saldo 73,00 kr.\n");
}

#[test]
fn the_demo_plays_a_lunch_and_finds_its_school_again() {
    let home = Installation::new();
    let port = free_port_pair();
    let demo = |seconds: &str| {
        home.run(&[
            "demo",
            "--once",
            "--pupils",
            "40",
            "--rate",
            "100",
            "--seconds",
            seconds,
            "--data",
            "school",
            "--portal-port",
            &port,
            "--till-port",
            &port,
        ])
    };
    let first = demo("2");
    assert_eq!(first.code, 0, "{first:?}");
    for part in
        ["made 40 pupils' accounts", "approved", "refused", "all ledgers sum to 0 øre", "log in as      mor@example.dk"]
    {
        assert!(first.out.contains(part), "'{part}' is missing: {}", first.out);
    }
    let left = home.command(&["verify", "--data", "school"]).output().unwrap();
    let left = String::from_utf8(left.stdout).unwrap();
    let held = left.lines().find(|line| line.trim_start().starts_with("accounts")).unwrap().trim_start_matches(' ')
        [8..]
        .trim();
    let second = demo("0");
    assert!(
        second.out.contains(&format!("found 40 accounts as they were left: {held} in total")),
        "{held}: {}",
        second.out
    );
}

/// Two TCP ports that follow each other and are free now.
fn free_port_pair() -> String {
    loop {
        let first = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        if port < 65_534 && std::net::TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            return port.to_string();
        }
    }
}

/// What a till took is what the books say, as a table and as CSV, for its school and its day and for no other; nonsense is named.
#[test]
fn the_books_say_what_a_till_took() {
    let home = Installation::new();
    home.import(2, 100);
    let bundle = home.enrol("till-1");
    let server = home.serve();
    let address = server.tills.to_string();
    for (n, amount) in [(1, "25,50"), (2, "14")] {
        let sale = ["till", "--bundle", lossy(&bundle), "--server", &address, "--card", &card(n), "--amount", amount];
        home.must(&sale);
    }
    assert_eq!(server.stop(), 0);
    let table = home.must(&["books"]);
    assert!(table.contains("sales at till") && table.contains("39,50"), "{table}");
    let sum = table.lines().last().unwrap();
    assert!(sum.contains("sum") && sum.ends_with(" 0,00 kr."), "{table}");
    let csv = home.must(&["books", "--csv", "--school", "1"]);
    assert!(csv.starts_with("school;ledger;till;amount\n"), "{csv}");
    let ore = |line: &str| line.rsplit(';').next().unwrap().replace(',', "").parse::<i64>().unwrap();
    let lines: Vec<&str> = csv.lines().skip(1).collect();
    let sales: i64 = lines.iter().filter(|line| line.contains(";sales;")).map(|line| ore(line)).sum();
    assert_eq!(sales.abs(), 39_50, "{csv}");
    for other in [["--day", "2020-01-01"], ["--school", "2"], ["--month", "202001"]] {
        let nothing = home.must(&[&["books", "--csv"][..], &other].concat());
        assert_eq!(nothing.lines().count(), 1, "{other:?}: {nothing}");
    }
    for (args, says) in [(["--day", "yesterday"], "is no day; write 2026-11-24"), (["--month", "13"], "is no month")] {
        let ran = home.run(&[&["books"][..], &args].concat());
        assert!(ran.code == 1 && ran.err.contains(says), "{ran:?}");
    }
}
