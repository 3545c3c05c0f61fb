//! What the machine under the server can do to it: cut the power, run out of disk, refuse a write or a sync, be slow, hang, die in the
//! middle of recovery. What could go wrong: an acknowledged sale that is not there afterwards or is there twice, an answer that
//! rests on nothing, a server that goes on as if nothing had been. Each fault is counted: one that never fired shows nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use frokost_engine::journal::{AppendError, Claim, Journal, JournalError, JournalReader, Shard};
use frokost_engine::memory_journal::MemoryJournal;
use frokost_engine::statement::Projection;
use frokost_engine::{
    AccountId, Amount, CallerId, Command, Entry, Lsn, Outcome, PersonId, Record, RequestKey, Sequence, Text, Timestamp,
};
use frokost_net::wire::{Request, Response};
use frokost_net::{Bundle, Client};
use frokost_persistence::format::{PART_LIMIT, encode_group, salvage};
use frokost_persistence::mirrored_journal::{Mode, Primary};
use frokost_persistence::one_flush::{DirectFile, Disk};
use frokost_persistence::{FileJournal, LoggedStatements, MirroredJournal, SledJournal};

use crate::forgetful_image::Forgets;
use crate::installation::*;
use crate::loop_disk::LoopDisk;
use crate::rush::*;

/// A server on whatever a fault left: every till asks again for everything it ever asked for, answered or not, and hears what it heard
/// before; the server ends in order, and all is sound.
async fn recovers(home: &Installation, tills: Vec<Till>, known: &Ledger) {
    let server = home.serve();
    let mut again = 0;
    for till in &tills {
        let (client, welcome) = Client::connect(server.tills, &till.bundle).await.unwrap();
        let mine: Vec<_> = {
            let known = known.lock().unwrap();
            let mine = known.iter().filter(|(key, _)| key.caller == welcome.caller);
            mine.map(|(key, (command, answer))| (*key, *command, *answer)).collect()
        };
        let asked = mine.into_iter().map(|(key, command, before)| {
            let request = Request::Command { sequence: key.sequence, asked: command.into() };
            (key, before, client.send(&request).unwrap())
        });
        for (key, before, answer) in asked.collect::<Vec<_>>() {
            let Ok(Response::Outcome(outcome)) = answer.await else { panic!("{key} is not answered") };
            assert!(before.is_none_or(|before| before == outcome), "{key}: {before:?}, and now {outcome:?}");
            known.lock().unwrap().get_mut(&key).unwrap().1 = Some(outcome);
            again += 1;
        }
    }
    assert_eq!(server.stop(), 0);
    let held = hold_against_journal(&home.data(), known);
    assert_eq!(held, again, "something was not answered");
    let verified = home.must(&["verify"]);
    assert!(verified.ends_with("everything holds\n"), "{verified}");
}

/// Six cuts of each kind, each on what the one before left; `FROKOST_CUTS` for more. Without a mirror, since sled and the mirror make
/// each other whole; on plain files alone; and as it is by default.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_power_is_cut_again_and_again_and_no_acknowledged_sale_is_lost() {
    let cuts: u32 = std::env::var("FROKOST_CUTS").ok().map_or(6, |cuts| cuts.parse().unwrap());
    for (kind, mirror) in [("sled", "off"), ("file", "off"), ("sled", "sync")] {
        let Some(disk) = LoopDisk::that_forgets(192, "the power cut") else { return };
        let found = cut_the_power(cuts, disk, kind, mirror).await;
        println!("{kind}, mirror {mirror}: {cuts} power cuts, {found:?}");
        let Cuts { in_the_middle, forgotten, answered, flushed_together } = found;
        assert!(answered > cuts as usize * 20, "only {answered} sales were answered: this shows nothing");
        assert!(in_the_middle * 2 > cuts, "only {in_the_middle} cuts came in the middle of something");
        assert!(forgotten > 0, "the disk had nothing to forget: this shows less than it should");
        let one_flush = mirror == "sync";
        assert_eq!(flushed_together > 0, one_flush, "{flushed_together} groups were flushed together");
    }
}

/// What power cuts came to.
#[derive(Debug, Default)]
struct Cuts {
    in_the_middle: u32,
    forgotten: usize,
    answered: usize,
    /// Groups of the mirror's that were flushed with the journal's.
    flushed_together: u64,
}

async fn cut_the_power(cuts: u32, mut disk: LoopDisk, kind: &str, mirror: &str) -> Cuts {
    let on = |disk: &LoopDisk| {
        // Small, so that cuts come while snapshots are made and the journal is cut behind them, too.
        let home = Installation::on(&disk.path().join("data")).with("JOURNAL__SNAPSHOT_EVERY", "40");
        home.with("JOURNAL__KIND", kind).with("JOURNAL__MIRROR", mirror)
    };
    let mut home = on(&disk);
    home.import(PUPILS, 10_000);
    let mut tills = tills(&home);
    let known = Ledger::default();
    let mut found = Cuts::default();
    for cut in 0..cuts {
        let mut server = home.serve();
        let rush = Rush::begin(tills, server.tills, &known);
        tokio::time::sleep(Duration::from_millis(u64::from(100 + cut * 71 % 300))).await;
        let together = "frokost_mirror_write_seconds_count{flush=\"shared\"}";
        found.flushed_together += server.metric(together).await;
        let forgets = if cut == 0 { Forgets::Everything } else { Forgets::Some };
        let (after, forgotten, heard) = disk.cut(forgets, || {
            // Whatever is heard now rests on what the disk has already.
            std::thread::sleep(Duration::from_millis(30));
            known.lock().unwrap().clone()
        });
        // What the old server does from here on, it does on the old disk, and is not heard.
        server.kill();
        tills = rush.end().await;
        forget_what_came_later(&known, &heard);
        found.in_the_middle += u32::from(count(&known).0 > 0);
        found.forgotten += forgotten;
        disk = after;
        home = on(&disk);
        if mirror == "sync" {
            hold_against_mirror(&home.data(), &known);
        }
        // Every other recovery has its power cut as well.
        if cut % 2 == 1 {
            let mut server = home.serve();
            let (again, ..) = disk.cut(Forgets::Some, || ());
            server.kill();
            disk = again;
            home = on(&disk);
        }
        let server = home.serve();
        // Long enough for statements to be made durable, behind which alone the journal is cut.
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        assert_eq!(server.stop(), 0);
        hold_against_journal(&home.data(), &known);
        if cut == 0 {
            // From now on for certain.
            tills = sell_until_cut(&home, tills, &known).await;
        }
    }
    let snapshots = std::fs::read_dir(home.data().join("snapshots")).unwrap().count();
    // Plain files are cut by whole segments, and none is full here.
    let cut = kind == "file" || journal_of(&home.data()).0 > Lsn(1);
    assert!(snapshots == 2 && cut, "{snapshots} snapshots, cut: {cut}: this shows less than it should");
    recovers(&home, tills, &known).await;
    found.answered = count(&known).1;
    found
}

/// What shares the journal's flush: it is given to the disk as late as may be, and is there after a power cut right behind the flush.
#[test]
fn what_the_disk_was_given_beside_a_group_is_flushed_with_it() {
    const GROUPS: u64 = 8;
    let Some(disk) = LoopDisk::that_forgets(64, "the flush that two share") else { return };
    let path = disk.path().join("beside");
    std::fs::write(&path, vec![0; 64 << 10]).unwrap();
    let file = std::fs::File::options().read(true).write(true).open(&path).unwrap();
    file.sync_all().unwrap();
    let mut journal = SledJournal::open(&disk.path().join("journal")).unwrap();
    assert_eq!(journal.disk(), Disk::of(&file));
    let claim = journal.claim(Shard(0), "test").unwrap();
    let mut direct = DirectFile::open(&path).expect("ext4 writes past the page cache");
    for n in 0..GROUPS {
        let mut write = || direct.write(&file, n * 5_000, &[7; 5_000]).unwrap();
        journal.append_beside(&claim, Lsn(n * 100), &group(Lsn(n * 100), 100), &mut write).unwrap();
        let (after, ..) = disk.cut(Forgets::Everything, || ());
        let found = std::fs::read(after.path().join("beside")).unwrap();
        let whole = usize::try_from((n + 1) * 5_000).unwrap();
        assert!(found[..whole].iter().all(|byte| *byte == 7), "group {n}: it was not flushed with it");
        let journal = SledJournal::open(&after.path().join("journal")).unwrap();
        assert_eq!(journal.head(), Lsn((n + 1) * 100));
    }
}

/// The journal is cut in quiet hours, one step after the other and nothing appended in between, or a large group behind it; sled moves what stays, and
/// uses the place again. Zeros are ahead of it, and a second life goes on with what the power cut has left.
#[test]
fn a_cut_of_the_journal_in_quiet_hours_survives_a_power_cut() {
    const GROUPS: u64 = 1_500;
    let (mut forgotten, mut cut_off, mut with_zeros) = (0, 0, 0);
    for steps in [2, 4, 6, 8, 10, 12] {
        let Some(mut disk) = LoopDisk::that_forgets(128, "a cut of the journal") else { return };
        let mut head = 0;
        for life in 0..2 {
            let mut journal = SledJournal::open(&disk.path().join("journal")).unwrap();
            let claim = journal.claim(Shard(0), "test").unwrap();
            assert_eq!(claim.head, Lsn(head), "after {steps} steps, life {life}");
            let first = journal.reader().first().unwrap();
            let read: Vec<_> = journal.reader().read_from(first).map(|record| record.unwrap().lsn).collect();
            assert!(first == Lsn(1) || life == 1 && first.0 + 5_000 <= head, "{first} is too much of {head}");
            assert!(read.iter().copied().eq((first.0..=head).map(Lsn)), "after {steps} steps: {} records", read.len());
            cut_off += first.0 - 1;
            for _ in 0..GROUPS / (life + 1) {
                journal.append(&claim, Lsn(head), &group(Lsn(head), 100)).unwrap();
                head += 100;
            }
            for _ in 0..steps {
                journal.truncate_before(&claim, Lsn(head - 5_000)).unwrap();
            }
            if steps % 4 == 0 {
                journal.append(&claim, Lsn(head), &group(Lsn(head), 1_024)).unwrap();
                head += 1_024;
            }
            let (after, forgot, ()) = disk.cut(Forgets::Some, || ());
            forgotten += forgot;
            disk = after;
            let left = std::fs::read(disk.path().join("journal/db")).unwrap();
            with_zeros += u32::from(left.iter().rev().take(512 << 10).all(|byte| *byte == 0));
        }
    }
    assert!(
        forgotten > 0 && cut_off > 0 && with_zeros > 0,
        "{forgotten} forgotten, {cut_off} cut off, {with_zeros} with zeros"
    );
}

/// Without what `journal.head` says a journal that has lost its end would be served.
#[test]
fn how_far_was_acknowledged_survives_a_power_cut_but_for_two_seconds() {
    let Some(disk) = LoopDisk::that_forgets(64, "what journal.head says") else { return };
    let mut journal = SledJournal::open(&disk.path().join("journal")).unwrap();
    let claim = journal.claim(Shard(0), "test").unwrap();
    let begin = Instant::now();
    let (mut head, mut before) = (Lsn::ZERO, Lsn::ZERO);
    while begin.elapsed() < Duration::from_millis(3_500) {
        head = journal.append(&claim, head, &group(head, 10)).unwrap();
        if begin.elapsed() < Duration::from_millis(1_500) {
            before = head;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let (after, ..) = disk.cut(Forgets::Everything, || ());
    let said = frokost_persistence::acknowledged(&after.path().join("journal.head"));
    assert!((before.0..=head.0).contains(&said), "{said}, and it was {before} two seconds before {head}");
}

/// So that sled writes little between two syncs, a large group is synced in pieces; where the power is cut before the last one, none of it is there.
#[test]
fn a_large_group_is_synced_in_pieces_and_is_there_as_a_whole_or_not() {
    let Some(disk) = LoopDisk::that_forgets(64, "the large group") else { return };
    let mut journal = SledJournal::open(&disk.path().join("journal")).unwrap();
    let claim = journal.claim(Shard(0), "test").unwrap();
    journal.append(&claim, Lsn(0), &group(Lsn(0), 100)).unwrap();
    let mut found = None;
    let mut cut = || {
        let (after, ..) = disk.cut(Forgets::Everything, || ());
        let bytes = std::fs::read(after.path().join("journal/db")).unwrap();
        let on_disk = (0..bytes.len()).flat_map(|at| salvage(&bytes[at..bytes.len().min(at + PART_LIMIT)]));
        let last = on_disk.map(|record| record.lsn).max();
        let mut journal = SledJournal::open(&after.path().join("journal")).unwrap();
        found = Some((last, journal.claim(Shard(0), "test").unwrap().head));
    };
    let large = group(Lsn(100), 4_096);
    let parts = encode_group(&large, &Default::default()).parts;
    assert!(parts.len() > 12, "{} parts go to the disk in one piece", parts.len());
    journal.append_beside(&claim, Lsn(100), &large, &mut cut).unwrap();
    let (last, head) = found.unwrap();
    assert_eq!(head, Lsn(100));
    assert!(last >= Some(parts[11].0), "the disk has no more of it than up to {last:?}");
}

/// A journal that says it flushes a disk, and has nothing to flush, as if each group had been durable already.
struct NeverFlushes(MemoryJournal, Disk);

impl Journal for NeverFlushes {
    fn claim(&mut self, shard: Shard, owner: &str) -> Result<Claim, JournalError> {
        self.0.claim(shard, owner)
    }

    fn append(&mut self, claim: &Claim, expected: Lsn, records: &[Record]) -> Result<Lsn, AppendError> {
        self.0.append(claim, expected, records)
    }

    fn truncate_before(&mut self, claim: &Claim, before: Lsn) -> Result<bool, AppendError> {
        self.0.truncate_before(claim, before)
    }

    fn reader(&self) -> Arc<dyn JournalReader> {
        self.0.reader()
    }
}

impl Primary for NeverFlushes {
    fn wait_for_word(&mut self) {}

    fn note(&mut self, _: Lsn) {}

    fn disk(&self) -> Option<Disk> {
        Some(self.1)
    }
}

#[test]
fn a_mirror_flushes_by_itself_what_the_journal_did_not() {
    let Some(disk) = LoopDisk::that_forgets(64, "the mirror's own flush") else { return };
    let folder = disk.path().join("mirror");
    let primary = MemoryJournal::default();
    for life in 0..2 {
        let mirror = FileJournal::open_mirror(&folder).unwrap();
        let on = Disk::of(&std::fs::File::open(&folder).unwrap()).unwrap();
        let mut journal = MirroredJournal::new(NeverFlushes(primary.clone(), on), mirror, Mode::Sync, None);
        let claim = journal.claim(Shard(0), "test").unwrap();
        // The first life's segment was not prepared, so that its groups are synced one by one; the second's are not.
        for n in life * 3..life * 3 + 3 {
            journal.append(&claim, Lsn(n * 100), &group(Lsn(n * 100), 100)).unwrap();
            let (after, ..) = disk.cut(Forgets::Everything, || ());
            let (head, _) = FileJournal::peek(&after.path().join("mirror")).unwrap();
            assert_eq!(head, Lsn((n + 1) * 100));
        }
    }
}

/// A write or a sync of the journal fails: no further answer, its own exit code, and nothing of it counts that was not answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_refuses_a_write_or_a_sync_stops_the_server_and_nothing_unacknowledged_is_claimed() {
    if !has("strace", "the disk that refuses") {
        return;
    }
    // The first calls of a thread are the start's own; some later one fails, and all after it, too.
    let faults = [
        "inject=fdatasync:error=EIO:when=60+",
        "inject=pwrite64:error=ENOSPC:when=90+",
        "inject=pwrite64:error=EIO:when=150+",
        "inject=sync_file_range:error=EIO:when=40+",
    ];
    for fault in faults {
        let home = Installation::new();
        home.import(PUPILS, 10_000);
        let known = Ledger::default();
        let mut server = Server::start(home.traced(&["trace=fdatasync,pwrite64,sync_file_range", fault]));
        let rush = Rush::begin(tills(&home), server.tills, &known);
        assert_eq!(server.wait(Duration::from_secs(60)), Some(70), "{fault}: the server must stop with its own code");
        let tills = rush.end().await;
        assert!(home.injected() > 0, "{fault}: nothing was refused: this shows nothing");
        let answered = hold_against_journal(&home.data(), &known);
        assert!(answered > 0, "{fault}: nothing was sold before the disk failed: this shows nothing");
        recovers(&home, tills, &known).await;
    }
}

/// A nearly full disk refuses what is new, in words, and can be read; when there is room again sales go on by themselves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_sales_and_shows_balances_until_there_is_room() {
    let Some(disk) = LoopDisk::new(96, "the full disk") else { return };
    let home = Installation::on(&disk.path().join("data")).with("JOURNAL__RESERVE_MB", "16");
    home.import(2, 100);
    let bundle = home.enrol("till-1");
    let server = home.serve();
    let address = server.tills.to_string();
    let sell = |amount: &str| {
        home.run(&["till", "--bundle", lossy(&bundle), "--server", &address, "--card", &card(1), "--amount", amount])
    };
    assert_eq!(sell("10").code, 0);
    disk.leave(8);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let client = Client::connect(server.tills, &Bundle::read(&bundle).unwrap()).await.unwrap().0;
    let sale = Command::Purchase { card: card(1).parse().unwrap(), amount: Amount::from_kroner(5) };
    let asked = Instant::now();
    assert_eq!(client.command(Sequence(u64::MAX >> 1), sale).await.unwrap(), Outcome::OutOfSpace);
    assert!(asked.elapsed() < Duration::from_secs(1), "a till waits for a full disk");
    let shown = home.must(&["account", "show", "1"]);
    assert!(shown.contains("balance       90,00 kr."), "{shown}");
    assert!(home.must(&["account", "statement", "1"]).contains("-10,00 kr."));
    assert_eq!(server.metric("frokost_out_of_space").await, 1);
    disk.empty();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(sell("10").out, "Godkendt. Ny saldo 80,00 kr.\n");
    assert_eq!(server.stop(), 0);
    assert!(home.must(&["verify"]).ends_with("everything holds\n"));
    // One that finds it full when it starts says so, too.
    disk.leave(8);
    let server = home.serve();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(server.metric("frokost_out_of_space").await, 1);
    let log = server.log.lock().unwrap().clone();
    assert!(log.contains("the disk is nearly full"), "{log}");
    assert_eq!(server.stop(), 0);
}

/// With nothing held back the disk really runs full under the journal: the server stops, and starts again when there is room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_full_to_the_last_block_stops_the_server_and_nothing_is_half_written() {
    let Some(disk) = LoopDisk::new(96, "the disk that is full to the last block") else { return };
    let home = Installation::on(&disk.path().join("data")).with("JOURNAL__RESERVE_MB", "0");
    home.import(PUPILS, 10_000);
    let known = Ledger::default();
    let mut server = home.serve();
    disk.leave(1);
    let rush = Rush::begin(tills(&home), server.tills, &known);
    assert_eq!(server.wait(Duration::from_secs(60)), Some(70), "a full disk must stop the server with its own code");
    let tills = rush.end().await;
    let (_, answered) = count(&known);
    assert!(answered > 0, "nothing was sold before the disk was full: this shows nothing");
    disk.empty();
    hold_against_journal(&home.data(), &known);
    recovers(&home, tills, &known).await;
}

/// A sync that takes eight seconds while seventy tills ask for all they can: what is in flight is bounded and the rest is told to come back,
/// at once; then everything is answered, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_disk_says_busy_and_holds_no_more_than_it_has_permits_for() {
    const MANY: u64 = 70;
    const EACH: u64 = 256;
    if !has("strace", "the slow disk") {
        return;
    }
    let home = Installation::new();
    home.import(PUPILS, 10_000);
    let bundles: Vec<Bundle> = (1..=MANY).map(|n| Bundle::read(&home.enrol(&format!("till-{n}"))).unwrap()).collect();
    let server = Server::start(home.traced(&["trace=fdatasync", "inject=fdatasync:delay_exit=8000000:when=30"]));
    let mut clients = Vec::new();
    for bundle in &bundles {
        clients.push(Client::connect(server.tills, bundle).await.unwrap().0);
    }
    // Up to the slow syncs.
    let sale = |n: u64| Command::Purchase { card: card(n % PUPILS + 1).parse().unwrap(), amount: Amount::from_ore(1) };
    let mut warm = 0;
    loop {
        warm += 1;
        assert!(warm < 400, "no sync was slow: this shows nothing");
        // The one that is slow may be another thread's; what counts is that sales stand still.
        let asking = clients[0].command(Sequence(warm), sale(warm));
        if tokio::time::timeout(Duration::from_millis(1_500), asking).await.is_err() {
            break;
        }
    }
    let mut asked = Vec::new();
    for client in &clients {
        for n in 0..EACH {
            let request = Request::Command { sequence: Sequence(1_000 + n), asked: sale(n).into() };
            asked.push((Instant::now(), client.send(&request).unwrap()));
        }
    }
    // While the disk is slow: what is let in, and how long a no takes that nobody else's answer is in front of.
    let mut most_in_flight = 0;
    for _ in 0..20 {
        most_in_flight = most_in_flight.max(server.metric("frokost_requests_in_flight").await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let alone = Client::connect(server.tills, &bundles[0]).await.unwrap().0;
    let begin = Instant::now();
    let no = alone.command(Sequence(900_000), sale(2)).await.unwrap();
    let no_at_once = begin.elapsed();
    assert_eq!(no, Outcome::Busy);
    let (mut approved, mut busy, mut longest_no) = (0, 0, Duration::ZERO);
    for (begin, answer) in asked {
        match answer.await {
            Ok(Response::Outcome(Outcome::Approved(_))) => approved += 1,
            Ok(Response::Outcome(Outcome::Busy)) => {
                busy += 1;
                longest_no = longest_no.max(begin.elapsed());
            }
            other => panic!("{other:?}"),
        }
    }
    let resident = server.resident_mb();
    assert!(home.injected() > 0, "no sync was slow: this shows nothing");
    println!("{} slow syncs; {approved} approved, {busy} busy, {resident} MB", home.injected());
    assert!(busy > 0, "nobody was told to come back: this shows nothing");
    assert!(
        most_in_flight > 0 && most_in_flight <= 16_384,
        "{most_in_flight} were in flight; there are 16,384 permits"
    );
    assert!(no_at_once < Duration::from_secs(2), "Busy took {no_at_once:?}");
    assert!(longest_no < Duration::from_secs(10), "Busy took {longest_no:?}; a till gives up after ten seconds");
    assert!(resident < 512, "{resident} MB");
    // Whoever was told to come back is served now.
    let outcome = clients[1].command(Sequence(5_000), sale(1)).await.unwrap();
    assert!(matches!(outcome, Outcome::Approved(_)), "{outcome:?}");
}

/// A sync that does not come back: nobody is answered, and the process ends instead of standing there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_hangs_ends_the_server() {
    if !has("strace", "the disk that hangs") {
        return;
    }
    let home = Installation::new().with("JOURNAL__HUNG_AFTER_S", "2");
    home.import(PUPILS, 10_000);
    let known = Ledger::default();
    // Not for ever: strace holds what it delays beyond the end of the process, and would never tell how that ended.
    let mut server = Server::start(home.traced(&["trace=fdatasync", "inject=fdatasync:delay_enter=15000000:when=60+"]));
    let began = Instant::now();
    let rush = Rush::begin(tills(&home), server.tills, &known);
    assert_eq!(server.wait(Duration::from_secs(60)), Some(70), "the watchdog must stop the server with its own code");
    assert!(began.elapsed() > Duration::from_secs(15), "no sync hung: this shows nothing");
    let tills = rush.end().await;
    assert!(count(&known).1 > 0, "nothing was sold before the disk hung: this shows nothing");
    hold_against_journal(&home.data(), &known);
    recovers(&home, tills, &known).await;
}

/// Killed at one system call after another while it recovers, and again in the recovery from that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_the_middle_of_recovery_and_again_it_recovers() {
    if !has("strace", "the kill in the middle of recovery") {
        return;
    }
    let home = Installation::new().with("JOURNAL__SNAPSHOT_EVERY", "500");
    home.import(PUPILS, 10_000);
    let mut tills = tills(&home);
    let known = Ledger::default();
    let calls = ["pwrite64", "fdatasync", "fsync", "rename", "openat", "sync_file_range", "write", "ftruncate"];
    let (mut killed, mut started) = (0, 0);
    for round in 1..=6 {
        // Something to recover: a rush that dies.
        let mut server = home.serve();
        let rush = Rush::begin(tills, server.tills, &known);
        tokio::time::sleep(Duration::from_millis(150)).await;
        server.kill();
        tills = rush.end().await;
        for (n, call) in calls.iter().enumerate() {
            let when = if *call == "openat" { 30 + round * 7 + n } else { round + n % 2 };
            let inject = format!("inject={call}:signal=SIGKILL:when={when}");
            match Server::try_start(&mut home.traced(&[&format!("trace={call}"), &inject])) {
                Ok(mut server) => {
                    started += 1;
                    server.kill();
                }
                Err(ran) => {
                    assert_ne!(ran.code, 1, "{inject}: {ran:?}");
                    killed += 1;
                }
            }
        }
    }
    println!("{killed} recoveries were killed, {started} came through");
    assert!(killed >= 15, "only {killed} recoveries were killed: this shows little");
    recovers(&home, tills, &known).await;
}

/// So many sales behind `after`.
fn group(after: Lsn, many: u64) -> Vec<Record> {
    let record = |lsn| Record {
        lsn: Lsn(lsn),
        at: Timestamp(1_790_000_000_000 + lsn),
        key: RequestKey { caller: CallerId(1), sequence: Sequence(lsn) },
        fingerprint: lsn,
        account: AccountId(1),
        balance: Amount::ZERO,
        by: PersonId(0),
        text: Text::EMPTY,
        entry: Entry::Purchased { amount: Amount::from_ore(1) },
    };
    (after.0 + 1..=after.0 + many).map(record).collect()
}

/// After a sync that failed Linux shows what it could not write to whoever reads, and calls it written. A start in the same life of the machine
/// says what a start in the next one would say.
#[test]
fn a_start_after_a_sync_that_failed_believes_the_disk() {
    let write_until_it_fails = |disk: &LoopDisk, fails_at: u64, write: &mut dyn FnMut(Lsn) -> bool| {
        for n in 0..10_000 {
            if n == fails_at {
                disk.starve();
            }
            if !write(Lsn(n * 100)) {
                assert!(n >= fails_at, "it failed before it was made to");
                return disk.feed();
            }
        }
        panic!("the disk never failed: this shows nothing")
    };
    // Behind eighty groups there are zeros ahead of sled, which the disk may refuse first.
    for (kind, fails_at) in [("sled", 20), ("sled", 80), ("file", 20), ("statements", 20)] {
        let Some(disk) = LoopDisk::that_can_starve("the sync that failed") else { return };
        let folder = disk.path().join(kind);
        let journal = || -> Result<Box<dyn Journal>, JournalError> {
            Ok(match kind {
                "sled" => Box::new(SledJournal::open(&folder)?),
                _ => Box::new(FileJournal::open_copy(&folder)?),
            })
        };
        let statements = || LoggedStatements::open(&folder, Lsn(1), Lsn(u64::MAX), |_| Ok(()));
        if kind == "statements" {
            let mut statements = statements().unwrap();
            write_until_it_fails(&disk, fails_at, &mut |head| {
                statements.project(&group(head, 100)).is_ok() && statements.flush().is_ok()
            });
        } else {
            let mut journal = journal().unwrap();
            let claim = journal.claim(Shard(0), "test").unwrap();
            write_until_it_fails(&disk, fails_at, &mut |head| journal.append(&claim, head, &group(head, 100)).is_ok());
        }
        // A disk on a loop device may also lose a write that it has acknowledged, where it could write a part of it; that is noticed and named.
        let start = || match kind {
            "statements" => statements().map(|statements| Some(statements.watermark())),
            _ => journal().map(|journal| journal.reader().read_from(Lsn(1)).map(|record| record.unwrap().lsn).last()),
        };
        let start = || start().map_err(|error| error.to_string());
        let before = start();
        disk.restart();
        assert_eq!(before, start(), "{kind}, {fails_at}");
    }
}
