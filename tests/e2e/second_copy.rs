//! The second copies: a damaged journal made anew from its mirror, a backup taken under load and brought to another machine. What
//! could go wrong: a copy that is not whole and is believed, a restore that destroys what it should mend, money that is not the same.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::installation::*;
use crate::rush::*;

fn balances(home: &Installation, pupils: u64) -> Vec<String> {
    let shown = (1..=pupils).map(|n| home.must(&["account", "show", &n.to_string()]));
    shown.map(|text| text.lines().find(|line| line.starts_with("balance")).unwrap().to_owned()).collect()
}

/// A damaged installation: the last card's number, as it stands in a record, has a flipped bit. In all copies: those that sled has
/// written anew since then are of no use to anybody, and can be the last in its file.
fn flip_a_bit(data: &Path, pupils: u64) {
    let db = data.join("journal/db");
    let mut bytes = std::fs::read(&db).unwrap();
    let needle = card(pupils).into_bytes();
    let places: Vec<usize> = (0..bytes.len() - needle.len()).filter(|at| bytes[*at..].starts_with(&needle)).collect();
    assert!(!places.is_empty());
    for place in places {
        bytes[place] ^= 4;
    }
    std::fs::write(&db, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_journal_is_made_anew_from_the_mirror_and_every_answer_holds() {
    let home = Installation::new();
    home.import(PUPILS, 10_000);
    let known = Ledger::default();
    let mut server = home.serve();
    let rush = Rush::begin(tills(&home), server.tills, &known);
    tokio::time::sleep(Duration::from_millis(400)).await;
    let running = home.run(&["restore"]);
    assert_eq!(running.code, 1);
    assert!(running.err.contains("a server is running on") && running.err.contains("stop it first"), "{running:?}");
    server.kill();
    rush.end().await;

    flip_a_bit(&home.data(), PUPILS);
    let refused = Server::try_start(&mut home.command(&["serve"])).err().expect("a damaged journal is served");
    assert!(refused.err.contains("journal is damaged at LSN"), "{refused:?}");
    assert!(refused.err.contains("frokost restore"), "it should say what to do: {}", refused.err);
    let restored = home.must(&["restore"]);
    assert!(restored.starts_with("restored up to LSN "), "{restored}");
    assert!(restored.contains("what was there before is in "), "{restored}");
    assert!(home.data().join("set-aside").read_dir().unwrap().count() == 1, "the damaged journal is kept");
    assert_eq!(home.serve().stop(), 0);
    assert!(hold_against_journal(&home.data(), &known) > 100);
    assert!(home.must(&["verify"]).ends_with("everything holds\n"));

    // Without a journal at all.
    let before = balances(&home, PUPILS);
    std::fs::remove_dir_all(home.data().join("journal")).unwrap();
    std::fs::remove_file(home.data().join("journal.head")).unwrap();
    home.must(&["restore"]);
    assert_eq!(balances(&home, PUPILS), before);
    hold_against_journal(&home.data(), &known);
    assert!(home.must(&["verify"]).ends_with("everything holds\n"));
}

/// A copy that is older than what was answered: it is not restored without a word about what is lost.
#[test]
fn a_restore_that_would_lose_what_was_acknowledged_says_so_first() {
    let home = Installation::new();
    home.import(3, 100);
    let old = home.path("old-mirror");
    assert!(
        std::process::Command::new("cp")
            .arg("-r")
            .arg(home.data().join("mirror"))
            .arg(&old)
            .status()
            .unwrap()
            .success()
    );
    home.must(&["account", "top-up", "1", "50", "--reference", "7"]);
    home.must(&["account", "top-up", "2", "50", "--reference", "8"]);
    let journal = sizes(&home.data().join("statements"));
    let refused = home.run(&["restore", "--from", lossy(&old)]);
    assert!(refused.code == 1 && refused.err.contains("2 records behind it were acknowledged"), "{refused:?}");
    assert_eq!(sizes(&home.data().join("statements")), journal, "touched all the same");
    assert_eq!(balances(&home, 1), ["balance       150,00 kr."]);
    let restored = home.must(&["restore", "--from", lossy(&old), "--accept-loss"]);
    assert!(restored.contains("2 records that were acknowledged are not in it"), "{restored}");
    // The mirror, which is whole, brings them back.
    home.must(&["restore"]);
    assert_eq!(balances(&home, 2), vec!["balance       150,00 kr."; 2]);
    assert!(home.must(&["verify"]).ends_with("everything holds\n"));
}

/// A journal that is gone is not begun anew beside books that are there.
#[test]
fn a_journal_that_is_gone_is_not_taken_for_a_new_one() {
    for mirror in ["sync", "off"] {
        let home = Installation::new().with("JOURNAL__MIRROR", mirror);
        home.import(3, 100);
        assert_eq!(home.serve().stop(), 0);
        std::fs::remove_dir_all(home.data().join("journal")).unwrap();
        std::fs::remove_file(home.data().join("journal.head")).unwrap();
        let kept: Vec<u64> = sizes(&home.data().join("statements"));
        match Server::try_start(&mut home.command(&["serve"])) {
            // With a mirror it may be whole again by itself.
            Ok(server) => {
                assert_eq!(server.stop(), 0, "mirror {mirror}");
                assert_eq!(balances(&home, 3), vec!["balance       100,00 kr."; 3], "mirror {mirror}");
                assert!(home.must(&["verify"]).ends_with("everything holds\n"));
            }
            Err(refused) => {
                assert_eq!(refused.code, 1, "{refused:?}");
                assert!(refused.err.contains("journal"), "{refused:?}");
                assert_eq!(sizes(&home.data().join("statements")), kept, "the statements are the only copy left");
            }
        }
    }
}

fn sizes(folder: &Path) -> Vec<u64> {
    let mut found: Vec<PathBuf> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    let logs = found.iter().filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("log."));
    logs.map(|path| path.metadata().unwrap().len()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_taken_under_load_opens_on_another_machine() {
    let home = Installation::new();
    home.import(PUPILS, 10_000);
    std::fs::create_dir_all(home.data().join("pictures")).unwrap();
    std::fs::write(home.data().join("pictures/7.jpg"), b"a picture").unwrap();
    let known = Ledger::default();
    let server = home.serve();
    let rush = Rush::begin(tills(&home), server.tills, &known);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let before: Ledger = {
        let known = known.lock().unwrap();
        let answered = known.iter().filter(|(_, (_, answer))| answer.is_some());
        Arc::new(Mutex::new(answered.map(|(key, sale)| (*key, *sale)).collect()))
    };
    let (_, answered_before) = count(&before);
    let made = home.must(&["backup"]);
    let backup = made.split_whitespace().find(|word| word.contains("backups/")).unwrap().trim_end_matches(':');
    let backup = home.path("").join(backup);
    let tills = rush.end().await;
    assert!(answered_before > 0);
    let late = home.enrol("late");
    assert_eq!(server.stop(), 0);

    let elsewhere = Installation::new();
    let moved = elsewhere.path("from-the-usb-stick");
    assert!(std::process::Command::new("cp").arg("-r").arg(&backup).arg(&moved).status().unwrap().success());
    let restored = elsewhere.must(&["restore", "--from", lossy(&moved)]);
    assert!(restored.contains("put the key file back to "), "{restored}");
    assert_eq!(std::fs::read(elsewhere.data().join("pictures/7.jpg")).unwrap(), b"a picture");
    // The key is kept apart from backups, and without it nothing starts.
    let keyless = Server::try_start(&mut elsewhere.command(&["serve"])).err().expect("it starts without the key");
    assert!(keyless.err.contains("records.key"), "{keyless:?}");
    std::fs::create_dir_all(elsewhere.data().join("keys")).unwrap();
    std::fs::copy(home.data().join("keys/records.key"), elsewhere.data().join("keys/records.key")).unwrap();
    let server = elsewhere.serve();
    // The same tills are known there, and what they sold before the backup has the answer it had.
    let (client, welcome) = frokost_net::Client::connect(server.tills, &tills[0].bundle).await.unwrap();
    let mine: Vec<_> = {
        let before = before.lock().unwrap();
        let mine = before.iter().filter(|(key, _)| key.caller == welcome.caller);
        mine.map(|(key, (command, answer))| (key.sequence, *command, answer.unwrap())).collect()
    };
    assert!(!mine.is_empty(), "this till had no answer: this shows nothing");
    for (sequence, command, answer) in mine {
        assert_eq!(client.command(sequence, command).await.unwrap(), answer, "{sequence}");
    }
    client.close().await;
    // A till that was enrolled after the backup is told so, and its number is nobody else's.
    let address = server.tills.to_string();
    let sell =
        ["till", "--bundle", lossy(&late), "--server", &address, "--card", &card(1), "--amount", "1", "--lang", "en"];
    let stranger = elsewhere.run(&sell);
    assert!(
        stranger.code == 1 && stranger.err.starts_with("frokost: this till is not enrolled in this installation"),
        "{stranger:?}"
    );
    let number = |list: String| -> u32 {
        list.lines().find(|line| line.ends_with("late")).unwrap().split_whitespace().next().unwrap().parse().unwrap()
    };
    let old = number(home.must(&["till", "list"]));
    elsewhere.enrol("late");
    let new = number(elsewhere.must(&["till", "list"]));
    assert!(new > old + 10_000, "{old} {new}");
    assert_eq!(elsewhere.run(&sell).code, 1);
    assert!(server.log.lock().unwrap().contains(r#""event":"unknown_caller""#));
    assert_eq!(server.stop(), 0);
    assert_eq!(hold_against_journal(&elsewhere.data(), &before), answered_before);
    assert!(elsewhere.must(&["verify"]).ends_with("everything holds\n"));
    assert!(elsewhere.must(&["account", "find", "Pupil 7"]).contains(" Pupil 7 "));

    // A backup with a bit flipped anywhere is refused by name, and touches nothing.
    for part in ["records.jsonl", "journal", "pki"] {
        let mut victim = moved.join(part);
        if victim.is_dir() {
            let files = victim.read_dir().unwrap().map(|entry| entry.unwrap().path());
            victim = files.max_by_key(|path| path.metadata().unwrap().len()).unwrap();
        }
        let sound = std::fs::read(&victim).unwrap();
        let mut bytes = sound.clone();
        bytes[100] ^= 1;
        std::fs::write(&victim, bytes).unwrap();
        let untouched = Installation::new();
        let refused = untouched.run(&["restore", "--from", lossy(&moved)]);
        assert_eq!(refused.code, 1, "{refused:?}");
        let name = victim.file_name().unwrap().to_string_lossy().into_owned();
        assert!(refused.err.contains(&name) && refused.err.contains("is damaged"), "{refused:?}");
        assert!(!untouched.data().join("journal").exists(), "a damaged backup was restored");
        std::fs::write(&victim, sound).unwrap();
    }
    for (from, says) in [("/nowhere", "is not a folder"), ("/etc", "holds no records")] {
        let refused = Installation::new().run(&["restore", "--from", from]);
        assert_eq!(refused.code, 1);
        assert!(refused.err.contains(says), "{refused:?}");
    }
}

/// A restore that is killed somewhere: nothing is begun with what it has left, and when it is done again everybody and everything is there.
#[test]
fn a_restore_that_is_cut_off_is_no_installation_and_is_done_again() {
    if !has("strace", "the restore that is cut off") {
        return;
    }
    let home = Installation::new();
    home.import(PUPILS, 100);
    home.add_parent("mor@example.dk", "1,2");
    home.must(&["backup"]);
    let backups = home.data().join("backups");
    let backup = backups.read_dir().unwrap().next().unwrap().unwrap().path();
    let everybody = format!("{PUPILS} pupils, each with an account");
    assert!(home.must(&["verify"]).contains(&everybody));
    let list = home.path("pupils.csv");
    let (mut refused, mut done) = (0, 0);
    let restore = ["restore", "--from", lossy(&backup)];
    for part in 1..=15 {
        let elsewhere = Installation::new();
        // The kernel ends it at one of the moments in which something is put in its place.
        let at = format!("inject=rename:signal=KILL:when={part}");
        let mut cut_off = elsewhere.other("strace");
        cut_off.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=rename", "-e", &at, FROKOST]).args(restore);
        let ended = cut_off.stdout(Stdio::null()).status().unwrap();
        let begun = elsewhere.data().join("restoring").exists();
        if begun {
            for other in
                [&["serve"][..], &["verify"], &["till", "list"], &["import", lossy(&list), "--school-name", "x"]]
            {
                let ran = elsewhere.run(other);
                let again = format!("frokost restore --data {} --from {}", lossy(&elsewhere.data()), lossy(&backup));
                // Until there is a journal, most commands see no installation at all.
                let says = ran.err.contains(&again) || ran.err.contains("there is no installation in");
                assert!(ran.code == 1 && says, "rename {part}, {other:?}: {ran:?}");
            }
            refused += 1;
        }
        done += u32::from(ended.success());
        let again = elsewhere.run(&restore);
        assert_eq!(again.code, 0, "rename {part}: {again:?}");
        std::fs::create_dir_all(elsewhere.data().join("keys")).unwrap();
        std::fs::copy(home.data().join("keys/records.key"), elsewhere.data().join("keys/records.key")).unwrap();
        let verified = elsewhere.must(&["verify"]);
        assert!(verified.contains(&everybody) && verified.ends_with("everything holds\n"), "rename {part}: {verified}");
        assert!(elsewhere.data().join("pki/numbers").exists(), "rename {part}: numbers are given out again");
    }
    assert!(refused > 3 && done > 0, "{refused} were cut off and {done} done: this shows little");
}

/// A mirror that is damaged is no reason to lock out a journal that is sound.
#[test]
fn a_restore_that_fails_touches_nothing() {
    let home = Installation::new();
    home.import(3, 100);
    let mirror = home.data().join("mirror");
    let segment = mirror.read_dir().unwrap().map(|entry| entry.unwrap().path());
    let segment = segment.filter(|path| path.extension().is_some_and(|ending| ending == "segment")).min().unwrap();
    let sound = std::fs::read(&segment).unwrap();
    let mut bytes = sound.clone();
    bytes[200] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    assert_eq!(home.run(&["restore"]).code, 1);
    std::fs::write(&segment, sound).unwrap();
    assert_eq!(home.serve().stop(), 0);
    assert_eq!(balances(&home, 3), vec!["balance       100,00 kr."; 3]);
}

/// Somebody asked for a backup and went away; who asks next wants one of now.
#[test]
fn a_backup_that_nobody_waited_for_is_not_called_todays() {
    let home = Installation::new();
    home.import(3, 100);
    let server = home.serve();
    let lsn_of =
        |made: String| -> u64 { made.split("LSN ").nth(1).unwrap().split(',').next().unwrap().parse().unwrap() };
    let before = lsn_of(home.must(&["backup"]));
    let mut asker = home.command(&["backup"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let made =
        || home.data().join("backups").read_dir().unwrap().flatten().filter(|name| name.file_name() != "unfinished");
    while made().count() < 2 {
        std::thread::sleep(Duration::from_millis(2));
    }
    asker.kill().unwrap();
    assert!(!asker.wait().unwrap().success(), "it was told: this shows nothing");
    std::thread::sleep(Duration::from_secs(6));
    home.must(&["account", "top-up", "1", "50", "--reference", "7"]);
    assert_eq!(lsn_of(home.must(&["backup"])), before + 1);
    assert_eq!(made().count(), 3);
    assert_eq!(server.stop(), 0);
}

/// A disk that sales need the rest of: a backup is refused, and leaves nothing behind.
#[test]
fn a_backup_that_would_take_the_reserve_leaves_nothing() {
    let home = Installation::new();
    home.import(3, 100);
    let full = home.with("JOURNAL__RESERVE_MB", "900000000");
    let refused = full.run(&["backup"]);
    assert!(refused.code == 1 && refused.err.contains("there is no room for a backup"), "{refused:?}");
    assert_eq!(full.data().join("backups").read_dir().unwrap().count(), 0);
    std::fs::create_dir(full.data().join("backups/unfinished")).unwrap();
    let home = full.with("JOURNAL__RESERVE_MB", "64");
    assert_eq!(home.serve().stop(), 0);
    assert_eq!(home.data().join("backups").read_dir().unwrap().count(), 0, "what a crash left stays for ever");
}
