//! The load tester as an operator uses it: a report that adds up, thresholds that decide the exit code, an audit that reads
//! the journal.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::installation::*;

/// It ran, and nothing was wrong but, on a machine with other things to do, the time at which the tester got round to it.
pub fn ran_well(ran: &Ran) {
    let missed: Vec<String> = match serde_json::from_str::<serde_json::Value>(&ran.out) {
        Ok(report) => {
            let verdicts = report["expectations"].as_object().unwrap();
            verdicts.iter().filter(|(_, verdict)| verdict["held"] != true).map(|(what, _)| what.clone()).collect()
        }
        Err(_) => ran.out.lines().filter(|line| line.contains("NOT HELD")).map(str::to_owned).collect(),
    };
    let chance = |what: &String| ["planned in time", "achieved"].iter().any(|chance| what.contains(chance));
    assert!(missed.iter().all(chance) && [0, 3].contains(&ran.code), "{missed:?}: {ran:?}");
}

/// Reads what a run says on standard error until a line has that in it; goes on reading behind it, or it would stop at a full pipe.
pub fn wait_for(run: &mut Child, what: &str) {
    let mut lines = BufReader::new(run.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.by_ref().any(|line| line.contains(what)), "it never said '{what}'");
    std::thread::spawn(move || lines.for_each(drop));
}

fn answered_in(report: &serde_json::Value) -> u64 {
    let refused: u64 = report["refused"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
    report["approved"].as_u64().unwrap() + refused
}

/// The names in docs/load.md are those of the report, no more and no fewer: who reads it by a program goes by them.
fn every_field_is_in_the_docs(report: &serde_json::Value) {
    let (_, section) = include_str!("../../docs/load.md").split_once("## The JSON").unwrap();
    let names = |text: &str| -> BTreeSet<String> { text.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    let keys = |value: &serde_json::Value| -> BTreeSet<String> { value.as_object().unwrap().keys().cloned().collect() };
    let rows: Vec<_> = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once(" | ")).collect();
    let mut told: BTreeSet<String> = rows.iter().flat_map(|(fields, _)| names(&format!("`{fields}"))).collect();
    told.insert("schema".to_owned());
    assert_eq!(keys(report), told);
    for (row, value) in [
        ("plan`", &report["plan"]),
        ("plan`", &report["plan"]["stages"][0]),
        ("seconds`", &report["seconds"][0]),
        ("machine`", &report["machine"]),
        ("audit`", &report["audit"]),
    ] {
        let (_, meaning) = rows.iter().find(|(fields, _)| *fields == row).unwrap();
        let untold: Vec<_> = keys(value).difference(&names(meaning)).cloned().collect();
        assert!(untold.is_empty(), "{row} has {untold:?}, which docs/load.md does not tell of");
    }
    let (intro, _) = section.split_once("\n\n| ").unwrap();
    assert!(keys(&report["latency_us"]).is_subset(&names(intro)), "{intro}");
}

#[test]
fn a_run_is_reported_audited_and_held_to_its_thresholds() {
    let home = Installation::new();
    home.import(50, 5_000);
    let _server = home.serve();
    let args = ["load", "--tills", "4", "--rate", "300", "--seconds", "2", "--warm-up", "1", "--zipf", "1", "--json"];
    let ran = home.run(&[&args[..], &["--expect", "p50<10s"]].concat());
    ran_well(&ran);
    let report: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(report["schema"], 6);
    every_field_is_in_the_docs(&report);
    // Whatever the machine does just now.
    let slow = report["machine"]["slow_share"].as_f64().unwrap();
    let undisturbed = report["undisturbed"].as_u64().unwrap();
    assert!((0.0..=1.0).contains(&slow) && undisturbed <= answered_in(&report), "{}", report["machine"]);
    assert_eq!(report["tills"], 4);
    assert_eq!(report["model"], "open");
    let own = report["own_cpu_share"].as_f64().unwrap();
    assert!(0.0 < own && own < 1.0, "{own}");
    let answered = answered_in(&report);
    assert!((540..=660).contains(&answered), "300 a second for two seconds, and {answered} were answered");
    let latency = &report["latency_us"];
    let order: Vec<f64> =
        ["min", "p50", "p90", "p95", "p99", "p99.9", "max"].iter().map(|p| latency[p].as_f64().unwrap()).collect();
    assert!(order.is_sorted() && order[0] > 0.0, "{order:?}");
    assert!(latency["mean"].as_f64() > Some(order[0]) && report["refused_latency_us"].is_null(), "{latency}");
    assert_eq!(report["audit"]["found"], report["audit"]["approved"]);
    assert_eq!(report["audit"]["ledgers_sum_ore"], 0);
    assert!(report["audit"]["approved"].as_u64() >= report["approved"].as_u64(), "the warm-up is audited, too");
    let expected = &report["expectations"]["p50<10s"];
    assert_eq!((&expected["held"], &expected["value"]), (&true.into(), &latency["p50"]));
    assert!(report["started_at"].as_str().unwrap().starts_with("20"), "{report}");
    assert_eq!((&report["plan"]["stages"][0]["to"], &report["ended_early"]), (&300.0.into(), &serde_json::Value::Null));

    let missed = home.run(&[
        "load",
        "--tills",
        "2",
        "--in-flight",
        "2",
        "--seconds",
        "1",
        "--warm-up",
        "0",
        "--expect",
        "p50<1us",
    ]);
    assert_eq!(missed.code, 3, "{missed:?}");
    assert!(missed.out.contains("p50<1us: NOT HELD"), "{}", missed.out);
    assert!(missed.err.contains("sales/s"), "no progress was shown: {}", missed.err);
}

/// A scenario from a file, with everything a network does; then its page, its JSON, and a run held against it.
#[test]
fn a_scenario_with_lost_connections_and_resends_loses_nothing_and_is_written_down() {
    let home = Installation::new();
    home.import(50, 5_000);
    let _server = home.serve();
    let scenario = "name = 'short'\nabout = 'a test'\ntills = 8\nresend = 0.3\nbreak_every_s = 1\nloss = 0.05\nblocked = 0.3\nexpect = ['p50<10s']\n\
        [readers]\ncount = 5\nevery_s = 0.2\n\
        [[stage]]\nseconds = 2\nrate = 200\nramp = true\n[[stage]]\nseconds = 2\nrate = 200\n";
    let file = home.write("short.toml", scenario);
    let args = ["load", "--scenario", lossy(&file), "--out", "first.json", "--html", "first.html", "--json"];
    let ran = home.run(&args);
    ran_well(&ran);
    let report: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((&report["name"], &report["tills"]), (&"short".into(), &8.into()));
    let planned = report["planned"].as_u64().unwrap();
    assert!((590..=610).contains(&planned), "{planned} were planned, half of the ramp and the whole of the rest");
    assert!(report["broken"].as_u64() > Some(8), "no connection was lost: this shows nothing");
    assert!(report["lost_packets"].as_u64() > Some(50), "no packet was lost: this shows nothing");
    assert!(report["repeated"].as_u64().unwrap() > planned / 5, "nothing was asked for twice: this shows nothing");
    assert_eq!(report["audit"]["found"], report["audit"]["approved"]);
    assert!(report["refused"]["card_blocked"].as_u64() > Some(20), "nobody was blocked: {}", report["refused"]);
    let shown: Vec<String> = (1..=20).map(|n| home.must(&["account", "show", &n.to_string()])).collect();
    assert!(shown.iter().all(|account| !account.contains("blocked")), "somebody stays blocked: {shown:?}");
    // Five readers, five times a second each, for four seconds.
    assert!(report["reads"].as_u64() > Some(50), "nobody looked: {}", report["reads"]);
    assert_eq!(report["reads_failed"], 0);
    assert!(report["reads_latency_us"]["p50"].as_f64() > Some(0.0));
    let seconds = report["seconds"].as_array().unwrap();
    assert!(seconds.len() >= 4);
    // A ramp to 200 in two seconds: 50 in its first, 150 in its second, as planned.
    // What is lost late is waited for when nothing is planned any more.
    let planned_in: Vec<f64> = seconds.iter().filter_map(|second| second["planned_rate"].as_f64()).collect();
    let waited = |second: &&serde_json::Value| second["after_end"] == true;
    assert_eq!(planned_in.len(), seconds.len() - seconds.iter().filter(waited).count(), "{report}");
    assert!((30.0..90.0).contains(&planned_in[0]) && (150.0..220.0).contains(&planned_in[2]), "{planned_in:?}");
    let counted: u64 = report["histogram_us"].as_array().unwrap().iter().map(|class| class[1].as_u64().unwrap()).sum();
    assert_eq!(counted, planned, "every planned sale is in the histogram");
    let page = std::fs::read_to_string(home.path("first.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("NOT everything that was expected held") == (ran.code == 3));

    let again = home.run(&["load", "--scenario", lossy(&file), "--scale", "0.5", "--baseline", "first.json"]);
    ran_well(&again);
    assert!(again.out.contains("against   short") && again.out.contains("NOT ALIKE: stages"), "{}", again.out);
    // A bound may be a multiple of what the earlier run had; what it comes to is in the report.
    let held_to = ["--expect", "p50<=1000x", "--expect", "p50<=0.0001x", "--out", "second.json"];
    let again = home.run(&[&["load", "--scenario", lossy(&file), "--baseline", "first.json"], &held_to[..]].concat());
    assert_eq!(again.code, 3, "{again:?}");
    let second: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(home.path("second.json")).unwrap()).unwrap();
    let verdict = |bound: &str| &second["expectations"][bound];
    assert_eq!((&verdict("p50<=1000x")["held"], &verdict("p50<=0.0001x")["held"]), (&true.into(), &false.into()));
    let p50 = |report: &serde_json::Value| report["latency_us"]["p50"].as_f64().unwrap();
    let times = verdict("p50<=1000x")["value"].as_f64().unwrap();
    assert!((times / (p50(&second) / p50(&report)) - 1.0).abs() < 0.01, "{times}: {second}");
    let older = std::fs::read_to_string(home.path("first.json")).unwrap().replacen("\"schema\": 6", "\"schema\": 5", 1);
    home.write("older.json", &older);
    let shown = home.must(&["load", "--scenario", "lunch-rush", "--show"]);
    assert!(shown.contains("name = \"lunch-rush\"") && shown.contains("[[stage]]"), "{shown}");
    let listed = home.must(&["load", "--list"]);
    assert_eq!(listed.lines().count(), 8, "{listed}");
    for (args, says) in [
        (vec!["load", "--scenario", "nothing"], "neither a file nor one of the scenarios lunch-rush"),
        (vec!["load", "--scenario", "steady", "--rate", "3"], "cannot be used with"),
        (vec!["load", "--baseline", "short.toml"], "the baseline short.toml: it is no report"),
        (vec!["load", "--baseline", "older.json"], "it is of schema 5, and this program writes and reads 6"),
        (vec!["load", "--expect", "p99<=1.1x"], "name its report with --baseline"),
        (vec!["load", "--expect", "refused>1%"], "is no threshold"),
        (vec!["load", "--html", "/nonexistent/x.html"], "cannot be written"),
        (vec!["load", "--html", "one", "--out", "one"], "name the same file"),
        (vec!["load", "--scenario", "short.toml", "--show"], "neither a file nor one of the scenarios"),
    ] {
        let ran = home.run(&args);
        assert!(ran.code != 0 && ran.err.contains(says), "{args:?}: {ran:?}");
    }
}

/// On the worst network that can be asked for, handshakes are lost as a whole; the tills are not told that there is no server.
#[test]
fn tills_come_in_on_the_worst_network() {
    let home = Installation::new();
    home.import(50, 9_000);
    let _server = home.serve();
    let scenario =
        "name = 'worst'\nabout = 'a test'\ntills = 24\nloss = 0.3\nexpect = []\n[[stage]]\nseconds = 1\nrate = 50\n";
    let file = home.write("worst.toml", scenario);
    // One handshake in twenty is, so now and then none of a run.
    let lost = (0..6).any(|_| {
        let ran = home.run(&["load", "--scenario", lossy(&file), "--json"]);
        let report: serde_json::Value =
            serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
        assert!([0, 3].contains(&ran.code) && report["audit"]["findings"] == serde_json::json!([]), "{ran:?}");
        assert_eq!(report["approved"], report["planned"], "{ran:?}");
        report["lost_handshakes"].as_u64() > Some(0)
    });
    assert!(lost, "no handshake was lost in six runs: this shows nothing");
}

/// Each of those that come with the program begins as it stands. `country` needs a million pupils, and `scripts/country` runs it.
#[test]
fn the_scenarios_that_come_with_the_program_sell_what_they_say() {
    let home = Installation::new();
    home.import(50, 9_000);
    let _server = home.serve();
    for name in ["lunch-rush", "steady", "spike", "soak", "flaky-network", "resend-storm", "hot-card"] {
        // Its tills lose their connections every five seconds.
        let seconds = if name == "flaky-network" { "7" } else { "2" };
        let ran = home.run(&["load", "--scenario", name, "--seconds", seconds, "--warm-up", "1", "--json"]);
        let report: serde_json::Value =
            serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{name}: {error}: {ran:?}"));
        // How quick it is on this machine, with others beside it, is nothing to hold it to.
        let verdicts = report["expectations"].as_object().unwrap();
        let quick = |what: &str| ["p50<", "p99<", "planned in time", "achieved"].iter().any(|it| what.starts_with(it));
        let missed: Vec<_> = verdicts.iter().filter(|(what, it)| it["held"] != true && !quick(what)).collect();
        assert!(missed.is_empty() && [0, 3].contains(&ran.code), "{name}: {missed:?}: {ran:?}");
        assert!(verdicts.contains_key("refused<5%"), "{name}: {verdicts:?}");
        let audit = &report["audit"];
        assert_eq!((&audit["findings"], &audit["found"]), (&serde_json::json!([]), &audit["approved"]), "{name}");
        let (approved, planned) = (report["approved"].as_u64().unwrap(), report["planned"].as_u64().unwrap());
        assert!(approved * 20 > planned * 19 && planned > 300, "{name}: {approved} of {planned}");
        let count = |field: &str| report[field].as_u64().unwrap();
        assert_eq!(count("broken") >= 32, name == "flaky-network", "{name}: {report}");
        assert_eq!(count("lost_packets") > 20, name == "flaky-network", "{name}: {report}");
        let twice = count("repeated") * 100 / planned;
        let expected = if name == "resend-storm" { 40..=60 } else { 0..=5 };
        assert!(expected.contains(&twice), "{name}: {twice} of a hundred were asked for twice");
    }
}

/// What cannot be kept up with is said, and fails the run.
#[test]
fn a_rate_that_is_not_achieved_fails_the_run() {
    let home = Installation::new();
    home.import(50, 9_000);
    let _server = home.serve();
    // With everything on the same cores this is far too much.
    let ran = home.run(&["load", "--tills", "8", "--rate", "400000", "--seconds", "1", "--warm-up", "0"]);
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.out.contains("NOT HELD"), "{}", ran.out);
    assert!(ran.out.contains("approved sales are in the journal, once each"), "{}", ran.out);
}

/// Far more answers than fit between the two, if nobody heard them while there is something to send.
#[test]
fn a_till_that_has_far_too_much_to_send_hears_meanwhile() {
    let home = Installation::new();
    home.import(50, 9_000);
    let _server = home.serve();
    let far_too_much = ["load", "--tills", "1", "--rate", "400000", "--seconds", "1", "--warm-up", "0"];
    let args = [&far_too_much[..], &["--out", "far-behind.json"]].concat();
    let mut run = home.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let began = Instant::now();
    while run.try_wait().unwrap().is_none() {
        if began.elapsed() > Duration::from_secs(100) {
            run.kill().unwrap();
            panic!("it stands still");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let report = std::fs::read_to_string(home.path("far-behind.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!((&report["missed"], &report["given_up"]), (&0.into(), &0.into()), "{report}");
    let audit = &report["audit"];
    assert_eq!((&audit["findings"], &audit["found"]), (&serde_json::json!([]), &audit["approved"]), "{report}");
}

/// The server falls in the middle of a run and comes back: tills and readers come back, too, and the audit asks the new one.
#[test]
fn a_run_outlives_its_server_and_is_audited() {
    let home = Installation::new();
    home.import(50, 9_000);
    let mut server = home.serve();
    let tills = server.tills.to_string();
    let plan = "name = 'x'\nabout = 'x'\ntills = 4\n[readers]\ncount = 5\nevery_s = 0.1\n[[stage]]\nseconds = 12\nrate = 200\n";
    let plan = home.write("outlives.toml", plan);
    let args = ["load", "--scenario", lossy(&plan), "--warm-up", "0", "--json"];
    let mut loading = home.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for(&mut loading, "   2 s");
    server.kill();
    let _server = Server::start({
        let mut again = home.command(&["serve"]);
        again.env("FROKOST_TILLS__LISTEN", tills);
        again
    });
    let ran = Ran::from(loading.wait_with_output().unwrap());
    let report: serde_json::Value = serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("no report: {ran:?}"));
    let audit = &report["audit"];
    assert_eq!((&audit["findings"], &audit["found"]), (&serde_json::json!([]), &audit["approved"]), "{ran:?}");
    assert!(audit["approved"].as_u64().unwrap() > 100, "{audit}");
    assert!(report["resent"].as_u64().unwrap() > 0, "it fell when nobody asked: {ran:?}");
    // Not told that it is another server, they would wait for ten seconds.
    assert!(report["latency_us"]["max"].as_f64() < Some(9_000_000.0), "{ran:?}");
    // Fifty looks a second: a hundred before it fell, and most of the others.
    let looks = ["reads", "reads_failed", "reads_missed"].map(|name| report[name].as_u64().unwrap());
    assert!(looks[0] > 250 && looks[1] > 0 && looks[2] == 0, "{looks:?}: {ran:?}");
}

/// The last sale is due some time before the end: that is no reason to measure less.
#[test]
fn a_plan_with_a_quiet_end_is_measured_to_it() {
    let home = Installation::new();
    home.import(50, 5_000);
    let _server = home.serve();
    let plan = "name = \"quiet\"\nabout = \"x\"\ntills = 2\n[[stage]]\nseconds = 1\nrate = 50\n[[stage]]\nseconds = 2\nrate = 0\nramp = true\n";
    let plan = home.write("quiet.toml", plan);
    let ran = home.run(&["load", "--scenario", lossy(&plan), "--json"]);
    ran_well(&ran);
    let report: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert!((2.9..3.2).contains(&report["measured_s"].as_f64().unwrap()), "{report}");
    assert!(report["expectations"]["achieved>=99%"].is_object(), "{report}");
    assert_eq!(report["name"], "quiet", "{report}");
    // Cut short it is not what its name says, and says so.
    let cut = home.run(&["load", "--scenario", lossy(&plan), "--seconds", "1"]);
    assert!(cut.out.starts_with("quiet, the first 1 of 3 s: "), "{cut:?}");
}

/// Counted from outside: the UDP sockets that the tester has open while it sells.
#[test]
fn tills_share_as_many_sockets_as_they_are_told_to() {
    let home = Installation::new();
    home.import(20, 5_000);
    let _server = home.serve();
    let sockets_of = |args: &[&str]| {
        let rest = ["--tills", "5", "--seconds", "3", "--warm-up", "0", "--out", "report.json"];
        let args = [&["load"], &rest[..], args].concat();
        let mut run = home.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut seen = Vec::new();
        while run.try_wait().unwrap().is_none() {
            seen.push(udp_sockets(run.id()));
            std::thread::sleep(Duration::from_millis(100));
        }
        // The median: for a moment, the audit's connection and the one it takes the place of are both open.
        seen.sort_unstable();
        let while_it_sold = seen[seen.len() / 2];
        let report: serde_json::Value =
            serde_json::from_slice(&std::fs::read(home.path("report.json")).unwrap()).unwrap();
        assert_eq!(report["audit"]["found"], report["audit"]["approved"]);
        // The operator, who audits, has another.
        (report["sockets"].as_u64().unwrap(), while_it_sold - 1)
    };
    assert_eq!(sockets_of(&[]), (1, 1));
    assert_eq!(sockets_of(&["--sockets", "3"]), (3, 3));
    assert_eq!(sockets_of(&["--sockets", "5"]), (5, 5));
}

fn udp_sockets(process: u32) -> usize {
    let open = ["udp", "udp6"]
        .map(|table| std::fs::read_to_string(format!("/proc/{process}/net/{table}")).unwrap_or_default());
    let Ok(files) = std::fs::read_dir(format!("/proc/{process}/fd")) else { return 0 };
    let numbers = files.filter_map(|file| {
        let target = std::fs::read_link(file.ok()?.path()).ok()?;
        Some(target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
    });
    numbers.filter(|number| open.iter().any(|table| table.split_whitespace().any(|word| word == number))).count()
}
