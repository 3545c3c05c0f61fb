//! One suite for every journal: whoever implements the port passes it. A world can be opened again and again, as after a restart.

use frokost_engine::Lsn;
use frokost_engine::journal::{AppendError, Journal, Shard};
use frokost_engine::memory_journal::MemoryJournal;
use frokost_persistence::mirrored_journal::Mode;
use frokost_persistence::{FileJournal, MirroredJournal, SledJournal};
use proptest::prelude::*;

use crate::records;

const SHARD: Shard = Shard(0);

trait World {
    type Journal: Journal;
    fn open(&self) -> Self::Journal;
}

struct InMemory(MemoryJournal);

impl World for InMemory {
    type Journal = MemoryJournal;
    fn open(&self) -> MemoryJournal {
        self.0.clone()
    }
}

struct OnSled(tempfile::TempDir);

impl World for OnSled {
    type Journal = SledJournal;
    fn open(&self) -> SledJournal {
        SledJournal::open(&self.0.path().join("journal")).unwrap()
    }
}

struct OnFiles(tempfile::TempDir);

impl World for OnFiles {
    type Journal = FileJournal;
    fn open(&self) -> FileJournal {
        FileJournal::open(&self.0.path().join("journal")).unwrap()
    }
}

/// sled with a mirror beside it.
struct Mirrored(tempfile::TempDir, Mode);

impl World for Mirrored {
    type Journal = MirroredJournal<SledJournal>;
    fn open(&self) -> Self::Journal {
        let sled = SledJournal::open(&self.0.path().join("journal")).unwrap();
        let mirror = FileJournal::open_mirror(&self.0.path().join("mirror")).unwrap();
        MirroredJournal::new(sled, mirror, self.1, None)
    }
}

fn on_files() -> OnFiles {
    OnFiles(tempfile::tempdir().unwrap())
}

fn mirrored(mode: Mode) -> Mirrored {
    Mirrored(tempfile::tempdir().unwrap(), mode)
}

fn in_memory() -> InMemory {
    InMemory(MemoryJournal::default())
}

fn on_sled() -> OnSled {
    OnSled(tempfile::tempdir().unwrap())
}

fn read(journal: &impl Journal, from: u64) -> Vec<u64> {
    journal.reader().read_from(Lsn(from)).map(|record| record.unwrap().lsn.0).collect()
}

fn an_empty_journal_begins_at_one(world: &impl World) {
    let mut journal = world.open();
    let claim = journal.claim(SHARD, "a").unwrap();
    assert_eq!(claim.head, Lsn::ZERO);
    assert_eq!(read(&journal, 1), Vec::<u64>::new());
    assert_eq!(journal.append(&claim, Lsn::ZERO, &records(0, 1)).unwrap(), Lsn(1));
}

fn what_was_appended_is_read_back_also_after_a_restart(world: &impl World) {
    let mut journal = world.open();
    let claim = journal.claim(SHARD, "a").unwrap();
    let mut head = 0;
    for count in [1, 3, 512, 40, 2] {
        head = journal.append(&claim, Lsn(head), &records(head, count)).unwrap().0;
    }
    reads_as_written(&journal, head);
    drop(journal);
    reads_as_written(&world.open(), head);
    let mut journal = world.open();
    assert_eq!(journal.claim(SHARD, "b").unwrap().head, Lsn(head));
}

fn reads_as_written(journal: &impl Journal, head: u64) {
    for from in [1, 2, 4, 5, 300, 516, 517, 558, 559] {
        let tail: Vec<_> = journal.reader().read_from(Lsn(from)).map(Result::unwrap).collect();
        assert_eq!(tail, records(from - 1, head + 1 - from), "from {from}");
    }
}

fn a_newer_claim_shuts_the_older_out(world: &impl World) {
    let mut journal = world.open();
    let old = journal.claim(SHARD, "a").unwrap();
    journal.append(&old, Lsn::ZERO, &records(0, 2)).unwrap();
    let new = journal.claim(SHARD, "b").unwrap();
    assert!(new.epoch > old.epoch);
    assert_eq!(new.head, Lsn(2));
    assert!(matches!(journal.append(&old, Lsn(2), &records(2, 1)), Err(AppendError::Fenced { .. })));
    journal.append(&new, Lsn(2), &records(2, 1)).unwrap();
    assert_eq!(read(&journal, 1), [1, 2, 3]);
}

fn the_epoch_rises_across_restarts(world: &impl World) {
    let mut last = 0;
    for _ in 0..3 {
        let mut journal = world.open();
        let claim = journal.claim(SHARD, "a").unwrap();
        assert!(claim.epoch > last);
        last = claim.epoch;
    }
}

fn the_same_group_again_is_there_once(world: &impl World) {
    let mut journal = world.open();
    let claim = journal.claim(SHARD, "a").unwrap();
    journal.append(&claim, Lsn::ZERO, &records(0, 3)).unwrap();
    assert_eq!(journal.append(&claim, Lsn::ZERO, &records(0, 3)).unwrap(), Lsn(3));
    assert_eq!(read(&journal, 1), [1, 2, 3]);
}

fn a_group_that_does_not_follow_is_refused(world: &impl World) {
    let mut journal = world.open();
    let claim = journal.claim(SHARD, "a").unwrap();
    journal.append(&claim, Lsn::ZERO, &records(0, 3)).unwrap();
    assert!(matches!(journal.append(&claim, Lsn(4), &records(4, 1)), Err(AppendError::Failed(_))));
    assert!(matches!(journal.append(&claim, Lsn(2), &records(2, 3)), Err(AppendError::Failed(_))));
    let mut holed = records(3, 3);
    holed.remove(1);
    assert!(matches!(journal.append(&claim, Lsn(3), &holed), Err(AppendError::Failed(_))), "a gap inside a group");
    assert!(matches!(journal.append(&claim, Lsn(3), &[]), Err(AppendError::Failed(_))), "an empty group");
    assert_eq!(read(&journal, 1), [1, 2, 3]);
}

fn what_is_cut_off_is_gone_and_the_rest_is_whole(world: &impl World) {
    let mut journal = world.open();
    let claim = journal.claim(SHARD, "a").unwrap();
    let mut head = 0;
    for _ in 0..300 {
        head = journal.append(&claim, Lsn(head), &records(head, 20)).unwrap().0;
    }
    assert_eq!(journal.reader().first().unwrap(), Lsn(1));
    let mut steps = 0;
    while !journal.truncate_before(&claim, Lsn(5_010)).unwrap() {
        steps += 1;
        assert!(steps < 1_000, "it never ends");
    }
    // Whole groups, and never what was to stay; a store may keep more.
    let first = journal.reader().first().unwrap();
    assert!(first <= Lsn(5_010), "{first} is too much");
    assert_eq!(read(&journal, first.0), (first.0..=head).collect::<Vec<_>>());
    assert_eq!(read(&journal, 5_990), (5_990..=head).collect::<Vec<_>>());
    // It goes on, also after a restart, and the last group always stays.
    head = journal.append(&claim, Lsn(head), &records(head, 5)).unwrap().0;
    while !journal.truncate_before(&claim, Lsn(u64::MAX - 1)).unwrap() {}
    drop(journal);
    let mut journal = world.open();
    let claim = journal.claim(SHARD, "b").unwrap();
    assert_eq!(claim.head, Lsn(head));
    let first = journal.reader().first().unwrap();
    assert!(first <= Lsn(head));
    journal.append(&claim, Lsn(head), &records(head, 1)).unwrap();
    assert_eq!(read(&journal, first.0), (first.0..=head + 1).collect::<Vec<_>>());
}

macro_rules! conformance {
    ($($story:ident),* $(,)?) => {
        mod memory {
            $(#[test] fn $story() { super::$story(&super::in_memory()); })*
        }
        mod sled {
            $(#[test] fn $story() { super::$story(&super::on_sled()); })*
        }
        mod file {
            $(#[test] fn $story() { super::$story(&super::on_files()); })*
        }
        mod mirrored {
            $(#[test] fn $story() { super::$story(&super::mirrored(super::Mode::Sync)); })*
        }
        mod mirrored_async {
            $(#[test] fn $story() { super::$story(&super::mirrored(super::Mode::Async)); })*
        }
    };
}

conformance!(
    an_empty_journal_begins_at_one,
    what_was_appended_is_read_back_also_after_a_restart,
    a_newer_claim_shuts_the_older_out,
    the_epoch_rises_across_restarts,
    the_same_group_again_is_there_once,
    a_group_that_does_not_follow_is_refused,
    what_is_cut_off_is_gone_and_the_rest_is_whole,
);

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    /// Any sequence of groups and restarts reads the same from both.
    #[test]
    fn sled_and_memory_agree(groups in prop::collection::vec((1..200u64, any::<bool>()), 1..12)) {
        let (memory, sled) = (in_memory(), on_sled());
        let (mut a, mut b) = (memory.open(), sled.open());
        let (mut claim_a, mut claim_b) = (a.claim(SHARD, "p").unwrap(), b.claim(SHARD, "p").unwrap());
        let mut head = Lsn::ZERO;
        for (count, restart) in groups {
            let group = records(head.0, count);
            prop_assert_eq!(a.append(&claim_a, head, &group).unwrap(), b.append(&claim_b, head, &group).unwrap());
            head = Lsn(head.0 + count);
            if restart {
                drop(b);
                (a, b) = (memory.open(), sled.open());
                (claim_a, claim_b) = (a.claim(SHARD, "p").unwrap(), b.claim(SHARD, "p").unwrap());
                prop_assert_eq!(claim_b.head, head);
            }
        }
        prop_assert_eq!(read(&a, 1), read(&b, 1));
    }
}
