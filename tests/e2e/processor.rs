//! Where the journal's threads run, as an operator sets it. What could go wrong: a setting that does nothing, one for a processor that is not
//! there, threads that stay where a rush of large groups would need them elsewhere (`persistence/src/affinity.rs` has that).

use std::fs;

use frokost_persistence::affinity::Affinity;

use crate::installation::*;

/// Where the threads of a process whose name begins like that may run.
fn allowed(pid: u32, name: &str) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let of_that_name =
        tasks.filter(|task| fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.starts_with(name)));
    let list = |task: fs::DirEntry| {
        let status = fs::read_to_string(task.path().join("status")).ok()?;
        Some(status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?.trim().to_owned())
    };
    of_that_name.filter_map(list).collect()
}

#[test]
fn the_journals_threads_run_where_the_settings_say() {
    let processors = Affinity::processors().unwrap();
    let last = processors.last().unwrap().to_string();
    let wherever = fs::read_to_string("/proc/self/status").unwrap();
    let wherever = wherever.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().trim().to_owned();
    for setting in [last.as_str(), "any", "auto"] {
        let home = Installation::new().with("JOURNAL__PROCESSOR", setting).with("LOG", "info");
        home.import(20, 1_000);
        let server = home.serve();
        // Some of sled's threads hear of it each quarter of a second.
        home.must(&["load", "--tills", "4", "--seconds", "3", "--warm-up", "0"]);
        // Without a word: where a sync comes back sooner, if there are two and the disk is quick.
        let log = server.log.lock().unwrap().clone();
        let measured = log.lines().find(|line| line.contains("where a sync comes back sooner"));
        let measured =
            measured.map(|line| line.split("\"processor\":").nth(1).unwrap().split([',', '}']).next().unwrap());
        assert!(measured.is_none() || (setting == "auto" && processors.len() == 2), "{log}");
        let place = match setting {
            "any" => &wherever,
            "auto" => measured.unwrap_or(&wherever),
            number => number,
        };
        let pid = server.process.id();
        for (name, at_least) in [("frokost-committ", 1), ("frokost-mirror", 1), ("sled-io", 3)] {
            let places = allowed(pid, name);
            assert!(
                places.len() >= at_least && places.iter().all(|found| found == place),
                "{setting}: {name} {places:?}, not {place}"
            );
        }
        let workers = allowed(pid, "tokio-rt-worker");
        assert!(!workers.is_empty() && workers.iter().all(|place| *place == wherever), "{setting}: {workers:?}");
        assert_eq!(server.stop(), 0);
    }
}

#[test]
fn a_processor_that_is_not_there_is_named() {
    let home = Installation::new();
    home.import(1, 100);
    for (setting, told) in [
        ("4096", "journal.processor is 4096; this program may run on ["),
        ("first", "journal.processor is 'first'; write \"auto\", \"any\" or the number of a processor"),
        ("-1", "journal.processor is '-1'; write"),
        ("", "journal.processor is ''; write"),
    ] {
        let home_with = Installation::on(&home.data()).with("JOURNAL__PROCESSOR", setting);
        let ran = home_with.run(&["serve"]);
        assert!(ran.code == 1 && ran.err.contains(told), "{ran:?}");
    }
}
