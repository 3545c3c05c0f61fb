//! Where the journal's threads run, as an operator sets it. What could go wrong: a setting that does nothing, one for a processor that is not
//! there, threads that stay where a rush of large groups would need them elsewhere (`persistence/src/affinity.rs` has that).

use std::fs;
use std::time::{Duration, Instant};

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
    // Without a word: with two processors on one of them.
    let auto: Vec<String> =
        if processors.len() == 2 { processors.iter().map(usize::to_string).collect() } else { vec![wherever.clone()] };
    for (setting, places) in [(last.as_str(), vec![last.clone()]), ("any", vec![wherever.clone()]), ("auto", auto)] {
        let home = Installation::new().with("JOURNAL__PROCESSOR", setting).with("LOG", "info");
        home.import(1, 100);
        let bundle = home.enrol("till-1");
        let server = home.serve();
        let tills = server.tills.to_string();
        home.must(&["till", "--bundle", lossy(&bundle), "--server", &tills, "--card", &card(1), "--amount", "1"]);
        let begin = Instant::now();
        let pid = server.process.id();
        let journal = || [allowed(pid, "frokost-committ"), allowed(pid, "frokost-mirror")].concat();
        while !(journal().len() == 2 && journal().iter().all(|place| places.contains(place))) {
            assert!(begin.elapsed() < Duration::from_secs(10), "{setting}: {:?}, not {places:?}", journal());
        }
        assert!(allowed(pid, "tokio-rt-worker").iter().all(|place| *place == wherever), "{setting}");
        assert!(!home.data().join("affinity.tmp").exists());
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
