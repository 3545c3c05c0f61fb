//! How a load run ends other than by its plan: stopped by somebody, refused by everybody, without a server; and that it leaves everything as
//! it was, whatever happens.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::installation::*;
use crate::load::{ran_well, wait_for};

/// A run that says on standard error what it does.
fn begin(home: &Installation, args: &[&str]) -> Child {
    let args = [&["load"], args].concat();
    home.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn interrupt(run: &Child) {
    tell(run, "-INT");
}

fn tell(run: &Child, signal: &str) {
    assert!(Command::new("kill").args([signal, &run.id().to_string()]).status().unwrap().success());
}

fn report(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn who_stops_a_run_gets_its_report_all_the_same() {
    let home = Installation::new();
    home.import(20, 5_000);
    let _server = home.serve();
    let args = ["--tills", "2", "--rate", "100", "--seconds", "600", "--warm-up", "0"];
    // Somebody at a terminal, and what ends a service.
    for signal in ["-INT", "-TERM"] {
        let mut run = begin(&home, &[&args[..], &["--out", "cut.json", "--html", "cut.html"]].concat());
        wait_for(&mut run, "sales/s");
        tell(&run, signal);
        let ran = Ran::from(run.wait_with_output().unwrap());
        ran_well(&ran);
        assert!(ran.out.contains("stopped   before its end") && !ran.out.contains("achieved>="), "{}", ran.out);
        let cut = report(&std::fs::read_to_string(home.path("cut.json")).unwrap());
        assert_eq!((&cut["ended_early"], &cut["missed"]), (&"stopped".into(), &0.into()), "{ran:?}");
        assert_eq!(cut["audit"]["found"], cut["audit"]["approved"]);
        assert!(cut["audit"]["approved"].as_u64() > Some(20), "{cut}");
        assert!(std::fs::read_to_string(home.path("cut.html")).unwrap().contains("<svg"));
        for file in ["cut.json", "cut.html"] {
            std::fs::remove_file(home.path(file)).unwrap();
        }
    }
}

/// A till that is let in no more ends at once, and does not try for half a minute; nor does a closed account buy.
#[test]
fn a_till_that_is_revoked_sells_no_more_and_who_left_the_school_never() {
    let home = Installation::new();
    home.import(3, 500);
    let server = home.serve();
    home.must(&["account", "correct", "2", "-500", "--reason", "other", "--text", "left"]);
    home.must(&["account", "close", "2"]);
    let mut run = begin(&home, &["--tills", "2", "--rate", "50", "--seconds", "600", "--warm-up", "0", "--json"]);
    wait_for(&mut run, "sales/s");
    for till in ["load-1", "load-2"] {
        home.must(&["till", "revoke", till]);
    }
    let begun = Instant::now();
    let ran = Ran::from(run.wait_with_output().unwrap());
    assert!(begun.elapsed() < Duration::from_secs(15), "{ran:?}");
    let report = report(&ran.out);
    assert_eq!((ran.code, &report["ended_early"], &report["cards"]), (3, &"no_till_left".into(), &2.into()), "{ran:?}");
    let revoked = |(what, _): &(&String, &serde_json::Value)| {
        what.starts_with("a till sells no more: this bundle has been revoked")
    };
    // Whether or not a sale was under way just then.
    assert_eq!(report["expectations"]["the plan is played to its end"]["held"], false, "{ran:?}");
    let errors = report["errors"].as_object().unwrap();
    let counted: Vec<u64> = errors.iter().filter(revoked).map(|(_, count)| count.as_u64().unwrap()).collect();
    assert_eq!(counted, [2], "both under one message: {errors:?}");
    assert_eq!((&report["refused"], &report["audit"]["findings"]), (&serde_json::json!({}), &serde_json::json!([])));
    drop(server);
}

#[test]
fn a_run_stopped_before_anything_is_measured_claims_nothing() {
    let home = Installation::new();
    home.import(20, 5_000);
    let _server = home.serve();
    let args = ["--tills", "2", "--rate", "100", "--seconds", "5", "--warm-up", "600", "--json"];
    let mut run = begin(&home, &args);
    wait_for(&mut run, "sales/s");
    interrupt(&run);
    let ran = Ran::from(run.wait_with_output().unwrap());
    let report = report(&ran.out);
    assert_eq!((ran.code, &report["expectations"]["something is sold"]["held"]), (3, &false.into()), "{ran:?}");
    let seconds = report["seconds"].as_array().unwrap();
    assert!(seconds.iter().all(|second| second["warming_up"] == true), "{seconds:?}");
}

/// A terminal that is closed ends a run as Ctrl-C does, however often it is said; who was started not to care goes on.
#[test]
fn a_run_whose_terminal_is_closed_leaves_its_report_and_nobody_blocked() {
    let home = Installation::new();
    home.import(20, 5_000);
    let _server = home.serve();
    let plan = "name = 'x'\nabout = 'x'\ntills = 2\nblocked = 0.5\n[[stage]]\nseconds = 600\nrate = 100\n";
    let plan = home.write("half-blocked.toml", plan);
    let mut run = begin(&home, &["--scenario", lossy(&plan), "--out", "cut.json"]);
    wait_for(&mut run, "sales/s");
    tell(&run, "-HUP");
    tell(&run, "-HUP");
    let ran = Ran::from(run.wait_with_output().unwrap());
    ran_well(&ran);
    let cut = report(&std::fs::read_to_string(home.path("cut.json")).unwrap());
    assert_eq!((&cut["ended_early"], &cut["audit"]["left_blocked"]), (&"stopped".into(), &0.into()), "{ran:?}");
    assert!(cut["refused"]["card_blocked"].as_u64() > Some(0), "nobody was blocked: this shows nothing");

    // On a terminal, of which nothing is left then.
    if has("script", "the terminal that is closed") {
        std::fs::remove_file(home.path("cut.json")).unwrap();
        let mut terminal = home.other("script");
        let load = format!("stty rows 30 cols 100; exec {FROKOST} load --scenario {} --out cut.json", lossy(&plan));
        let mut terminal = terminal.args(["-qfc", &load, "/dev/null"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut screen = BufReader::new(terminal.stdout.take().unwrap());
        let mut drawn = Vec::new();
        while !String::from_utf8_lossy(&drawn).contains("card_blocked") {
            assert!(screen.read_until(b'm', &mut drawn).unwrap() > 0, "it ended: {}", String::from_utf8_lossy(&drawn));
        }
        terminal.kill().unwrap();
        terminal.wait().unwrap();
        let begin = Instant::now();
        while !home.path("cut.json").exists() && begin.elapsed() < Duration::from_secs(30) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let cut = report(&std::fs::read_to_string(home.path("cut.json")).expect("there is no report"));
        assert_eq!((&cut["ended_early"], &cut["audit"]["left_blocked"]), (&"stopped".into(), &0.into()));
    }

    let mut shell = home.other("sh");
    shell.args(["-c", "trap '' HUP; exec \"$0\" load --tills 2 --rate 100 --seconds 2 --warm-up 0 --json", FROKOST]);
    let mut run = shell.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for(&mut run, "sales/s");
    tell(&run, "-HUP");
    let ran = Ran::from(run.wait_with_output().unwrap());
    assert_eq!(report(&ran.out)["ended_early"], serde_json::Value::Null, "{ran:?}");
}

/// Stopped for a while by itself, as on a machine with other things to do: it was late with what was due meanwhile, and does not claim the rate.
#[test]
fn a_tester_that_is_late_by_itself_says_so() {
    let home = Installation::new();
    home.import(20, 5_000);
    let _server = home.serve();
    // Many tills: one that is just sending when it is stopped takes it for the server that does not take more.
    let mut run = begin(&home, &["--tills", "8", "--rate", "200", "--seconds", "3", "--warm-up", "0", "--json"]);
    wait_for(&mut run, "sales/s");
    tell(&run, "-STOP");
    std::thread::sleep(Duration::from_millis(600));
    tell(&run, "-CONT");
    let ran = Ran::from(run.wait_with_output().unwrap());
    let report = report(&ran.out);
    let late = report["planned_late"].as_u64().unwrap();
    assert!((80..=400).contains(&late), "200 a second were due for half a second and more, and {late} were late");
    // A fifth of the sales waited for the tester, which is charged for; from when they were sent they took as long as any.
    let [planned, raw] = ["latency_us", "raw_latency_us"].map(|name| report[name]["p90"].as_f64().unwrap());
    assert!(
        planned > 100_000.0 && raw < planned / 2.0,
        "{planned} us since they were planned, {raw} since they were sent"
    );
    assert_eq!((ran.code, &report["expectations"]["planned in time"]["held"]), (3, &false.into()), "{ran:?}");
    assert_eq!((&report["missed"], &report["audit"]["found"]), (&0.into(), &report["audit"]["approved"]));
}

/// Turned away twenty times a sale is given up: counted once, also where it was asked for twice on purpose, and no latency is claimed.
#[test]
fn sales_that_are_turned_away_for_good_are_given_up() {
    let home = Installation::new();
    home.import(20, 5_000);
    // No disk has so much room.
    let _server = Server::start({
        let mut command = home.command(&["serve"]);
        command.env("FROKOST_JOURNAL__RESERVE_MB", "1000000000");
        command
    });
    let plan = "name = 'x'\nabout = 'x'\ntills = 2\nresend = 0.5\n[[stage]]\nseconds = 1\nrate = 40\n";
    let plan = home.write("turned-away.toml", plan);
    let args = ["load", "--scenario", lossy(&plan), "--warm-up", "0", "--expect", "p99<60s", "--json"];
    let ran = home.run(&args);
    let report = report(&ran.out);
    let figures = ["planned", "given_up", "approved", "missed"].map(|name| report[name].as_u64().unwrap());
    assert_eq!(figures, [40, 40, 0, 0], "{ran:?}");
    // Twenty times each, and those that were asked for twice both times.
    assert!((40 * 20 + 1..=40 * 40).contains(&report["resent"].as_u64().unwrap()), "{ran:?}");
    assert!(report["unanswered_latency_us"]["p50"].as_f64() > Some(7_000_000.0), "{ran:?}");
    assert_eq!((ran.code, &report["expectations"]["p99<60s"]["held"]), (3, &false.into()), "{ran:?}");
    assert_eq!((&report["audit"]["approved"], &report["audit"]["findings"]), (&0.into(), &serde_json::json!([])));
}

/// Each would find the other's sales in the journal.
#[test]
fn two_testers_do_not_share_their_tills() {
    let home = Installation::new();
    home.import(20, 5_000);
    let _server = home.serve();
    let mut first = begin(&home, &["--tills", "2", "--rate", "50", "--seconds", "600", "--warm-up", "0"]);
    wait_for(&mut first, "sales/s");
    let second = home.run(&["load", "--tills", "2", "--seconds", "1"]);
    assert_eq!((second.code, second.out.as_str()), (1, ""));
    assert!(second.err.contains("another load test sells at the tills of"), "{second:?}");
    interrupt(&first);
    assert_eq!(first.wait().unwrap().code(), Some(0));
    ran_well(&home.run(&["load", "--tills", "2", "--seconds", "1"]));
}

/// A server that does not answer any more: whoever does not want to wait for what is open asks a second time.
#[test]
fn who_asks_twice_does_not_wait() {
    let home = Installation::new();
    home.import(20, 5_000);
    let server = home.serve();
    home.write("yesterday.json", "yesterday's");
    let mut run = begin(&home, &["--tills", "2", "--rate", "100", "--seconds", "600", "--out", "yesterday.json"]);
    let mut said = BufReader::new(run.stderr.take().unwrap()).lines();
    let mut says = |what: &str| assert!(said.by_ref().map(Result::unwrap).any(|line| line.contains(what)), "{what}");
    says("sales/s");
    server.freeze(true);
    // Some sales are on their way by then.
    std::thread::sleep(Duration::from_millis(300));
    interrupt(&run);
    says("waiting for the last answers");
    assert!(run.try_wait().unwrap().is_none(), "it did not wait for what is open");
    interrupt(&run);
    let ended = run.wait().unwrap();
    server.freeze(false);
    assert_eq!(ended.code(), Some(1));
    assert_eq!(std::fs::read_to_string(home.path("yesterday.json")).unwrap(), "yesterday's");
    let left = std::fs::read_dir(home.path("")).unwrap().flatten();
    assert!(left.into_iter().all(|file| !file.file_name().to_string_lossy().ends_with(".part")));
}

#[test]
fn a_run_without_a_server_leaves_the_reports_of_others() {
    let home = Installation::new();
    home.import(5, 5_000);
    home.write("a.json", "yesterday's");
    home.write("a.html", "yesterday's");
    let ran = home.run(&["load", "--tills", "1", "--seconds", "1", "--out", "a.json", "--html", "a.html"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    for file in ["a.json", "a.html"] {
        assert_eq!(std::fs::read_to_string(home.path(file)).unwrap(), "yesterday's");
    }
}

/// From a machine that has nothing of the installation but its keys.
#[test]
fn who_has_the_keys_can_sell_from_elsewhere() {
    let home = Installation::new();
    home.import(5, 5_000);
    let server = home.serve();
    let elsewhere = home.path("elsewhere");
    let tills = server.tills.to_string();
    let args =
        ["load", "--data", lossy(&elsewhere), "--server", &tills, "--tills", "2", "--seconds", "1", "--warm-up", "0"];
    let ran = home.run(&args);
    assert!(ran.code == 1 && ran.err.contains("a folder with a copy of its pki"), "{ran:?}");
    let copy = || {
        drop(std::fs::remove_dir_all(&elsewhere));
        std::fs::create_dir(&elsewhere).unwrap();
        assert!(Command::new("cp").arg("-r").arg(home.data().join("pki")).arg(&elsewhere).status().unwrap().success());
    };
    copy();
    // A till that is made there would have a number that somebody else is given here.
    let ran = home.run(&args);
    assert!(ran.code == 1 && ran.err.contains("load-1 is not enrolled in"), "{ran:?}");
    home.must(&["load", "--tills", "2", "--seconds", "1", "--warm-up", "0"]);
    copy();
    let ran = home.run(&args);
    assert!(ran.code == 0 && ran.out.contains("are in the journal, once each"), "{ran:?}");
}

/// Whoever blocks half of the pupils for a run activates those again, and nobody else.
#[test]
fn accounts_that_were_blocked_before_stay_blocked() {
    let home = Installation::new();
    home.import(6, 5_000);
    let _server = home.serve();
    for account in 1..=3 {
        home.must(&["account", "block", &account.to_string()]);
    }
    let plan = "name = 'x'\nabout = 'x'\ntills = 2\nblocked = 1.0\n[[stage]]\nseconds = 60\nrate = 100\n";
    let plan = home.write("all-blocked.toml", plan);
    let args = ["load", "--scenario", lossy(&plan), "--seconds", "1", "--expect", "refused<50%", "--json"];
    let ran = home.run(&args);
    let report = report(&ran.out);
    // Everybody was blocked, so nobody bought.
    assert_eq!((ran.code, &report["approved"]), (3, &0.into()), "{ran:?}");
    let verdict = serde_json::json!({ "held": false, "value": 100.0, "measured": "100.00 %" });
    assert_eq!(report["expectations"]["refused<50%"], verdict);
    assert!((0.9..1.5).contains(&report["measured_s"].as_f64().unwrap()), "it was not ended after a second: {ran:?}");
    let blocked: Vec<bool> =
        (1..=6).map(|n| home.must(&["account", "show", &n.to_string()]).contains("blocked")).collect();
    assert_eq!(blocked, [[true; 3], [false; 3]].concat());
}

/// Stopped while it blocks accounts, or a moment later: whoever was blocked is let buy again.
#[test]
fn a_run_stopped_while_it_prepares_leaves_nobody_blocked() {
    let home = Installation::new();
    home.import(1_000, 100);
    let server = home.serve();
    let plan = "name = 'x'\nabout = 'x'\ntills = 1\nblocked = 1.0\n[[stage]]\nseconds = 600\nrate = 10\n";
    let plan = home.write("all-blocked.toml", plan);
    // In the middle of it, and, where the machine is slow, when it has surely begun.
    for pause in [20, 500] {
        let mut run = begin(&home, &["--scenario", lossy(&plan)]);
        wait_for(&mut run, "blocking 1000 accounts");
        std::thread::sleep(Duration::from_millis(pause));
        interrupt(&run);
        let ended = run.wait().unwrap();
        assert!(ended.code().is_some(), "{ended:?}");
    }
    assert_eq!(server.stop(), 0);
    let journal = home.must(&["inspect"]);
    let count = |what: &str| journal.lines().filter(|line| line.contains(what)).count();
    assert!(count(" blocked ") > 0, "it was stopped too soon: this shows nothing");
    assert_eq!(count(" blocked "), count(" activated "));
}

/// The same seed deals the same cards and prices to the same tills, in whatever order they connect.
#[test]
fn the_same_seed_sells_the_same() {
    let home = Installation::new();
    home.import(50, 5_000);
    let server = home.serve();
    let sell = |seed| {
        // Every till has a sale, and the first half of them another.
        let args = ["load", "--tills", "200", "--rate", "300", "--seconds", "1", "--warm-up", "0", "--seed", seed];
        home.run(&args).out
    };
    let runs = [sell("7"), sell("7"), sell("8")];
    assert!(runs.iter().all(|run| run.contains("approved")), "{runs:?}");
    assert_eq!(server.stop(), 0);
    // Which till sold what to whom, in its order. Every run numbers a till's sales from the time of day on.
    let mut sold: Vec<(u64, u64, String)> = Vec::new();
    for line in home.must(&["inspect"]).lines().filter(|line| line.contains(" purchase ")) {
        let word = |name: &str| line.split(name).nth(1).unwrap().split(' ').next().unwrap();
        let (till, number) = word("key=").split_once('-').unwrap();
        let what = format!("{} {}", word("account="), word("amount="));
        sold.push((till.parse().unwrap(), number.parse().unwrap(), what));
    }
    sold.sort();
    let mut of_run: [Vec<(u64, String)>; 3] = Default::default();
    let mut run = 0;
    for (before, (till, number, what)) in std::iter::once(None).chain(sold.iter().map(Some)).zip(&sold) {
        let same = before.is_some_and(|(old, last, _)| old == till && last + 1 == *number);
        run = if before.is_some_and(|(old, ..)| old == till) { run + usize::from(!same) } else { 0 };
        of_run[run].push((*till, what.clone()));
    }
    let [first, again, other] = of_run;
    assert_eq!(first.len(), 300, "the last of a run are due a moment before its end");
    assert_eq!(first, again);
    assert_ne!(first, other);
}
