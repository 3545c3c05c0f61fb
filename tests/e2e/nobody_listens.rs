//! Nobody takes what the program says: a log whose reader has ended, a pipe to `head`, a disk that is full. Whoever serves goes on, whoever has
//! heard enough is no failure, and what somebody wanted to keep and does not have is said.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use crate::installation::*;

/// A server whose output is closed when it is ready, and the end of its log that nobody reads.
fn unheard(mut command: Command) -> (Server, ChildStderr) {
    let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut ready = String::new();
    BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut ready).unwrap();
    drop(process.stdout.take());
    let log = process.stderr.take().unwrap();
    (Server::ready(process, ready), log)
}

#[test]
fn a_server_whose_log_nobody_takes_serves_and_stops_in_order() {
    let home = Installation::new();
    home.import(2, 100);
    // So that there is something to say of every till.
    let (server, log) = unheard({
        let mut command = home.command(&["serve"]);
        command.env("FROKOST_LOG", "debug");
        command
    });
    drop(log);
    let bundle = home.enrol("till-1");
    let address = server.tills.to_string();
    let sale = ["till", "--bundle", lossy(&bundle), "--server", &address, "--card", &card(1), "--amount", "10"];
    assert_eq!(home.must(&sale), "Godkendt. Ny saldo 90,00 kr.\n");
    assert_eq!(home.must(&sale), "Godkendt. Ny saldo 80,00 kr.\n");
    assert_eq!(server.stop(), 0);
}

/// Told of it by the system, by the shell, and behind a service manager's own signal.
#[test]
fn a_server_whose_terminal_is_closed_stops_in_order() {
    let home = Installation::new();
    home.import(2, 100);
    for signals in [["-HUP", "-HUP"], ["-TERM", "-HUP"]] {
        let mut server = home.serve();
        let pid = server.process.id().to_string();
        for signal in signals {
            assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        }
        let mut said = String::new();
        server.process.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(said.starts_with("stopped: everyone was answered"), "{signals:?}: {said}");
        assert_eq!(server.wait(Duration::from_secs(20)), Some(0), "{signals:?}");
    }
}

/// The one thing it must not do is to live on without a journal.
#[test]
fn a_server_that_nobody_hears_ends_all_the_same_when_its_disk_fails() {
    if !has("strace", "the disk that fails unheard") {
        return;
    }
    let home = Installation::new();
    home.import(2, 100);
    let (mut server, log) = unheard(home.traced(&["trace=fdatasync", "inject=fdatasync:error=EIO:when=20+"]));
    drop(log);
    let load = ["load", "--tills", "1", "--rate", "50", "--seconds", "60", "--warm-up", "0"];
    let mut load: Child = home.command(&load).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let ended = server.wait(Duration::from_secs(20));
    load.kill().unwrap();
    load.wait().unwrap();
    assert_eq!(ended, Some(70));
    assert!(home.injected() > 0, "nothing was refused: this shows nothing");
}

/// Somebody is there and does not read: a log that is full holds up neither a sale nor the end.
#[test]
fn a_server_whose_log_is_full_serves_and_stops_in_order() {
    let home = Installation::new();
    home.import(2, 5_000);
    let mut command = home.command(&["serve"]);
    command.env("FROKOST_LOG", "trace,quinn=trace");
    let (server, mut log) = unheard(command);
    let args = ["load", "--tills", "4", "--seconds", "2", "--warm-up", "0", "--json"];
    let report: serde_json::Value = serde_json::from_str(&home.run(&args).out).unwrap();
    assert!(report["audit"]["found"].as_u64() > Some(100), "{report}");
    let bundle = home.enrol("till-1");
    let address = server.tills.to_string();
    let sale = ["till", "--bundle", lossy(&bundle), "--server", &address, "--card", &card(1), "--amount", "10"];
    assert!(home.must(&sale).starts_with("Godkendt."));
    assert_eq!(server.stop(), 0);
    // What is left of a log of thousands of sales is what a pipe holds: a page at least, mostly 64 KB.
    let mut left = Vec::new();
    log.read_to_end(&mut left).unwrap();
    assert!((4_096..1 << 20).contains(&left.len()), "it was not full: this shows nothing ({} bytes)", left.len());
}

#[test]
fn whoever_has_heard_enough_is_no_failure_and_a_full_disk_is() {
    let home = Installation::new();
    home.import(2, 100);
    for args in [&["verify"][..], &["inspect"], &["load", "--list"], &["account", "show", "1"]] {
        let mut command = home.command(args);
        let mut ran = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(ran.stdout.take());
        let mut said = String::new();
        ran.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!((ran.wait().unwrap().code(), said.as_str()), (Some(0), ""), "{args:?}");

        let full = File::options().write(true).open("/dev/full").unwrap();
        let ran = Ran::from(home.command(args).stdout(full).stderr(Stdio::piped()).output().unwrap());
        assert_eq!((ran.code, ran.err.lines().count()), (1, 1), "{args:?}: {ran:?}");
        assert!(ran.err.contains("No space left on device"), "{args:?}: {ran:?}");
    }
}
