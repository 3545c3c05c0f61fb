//! Snapshots on disk: what is written comes back, what is damaged is noticed, what was never finished is not there.

use std::fs;

use frokost_engine::account::Account;
use frokost_engine::command::{ChargeFailure, Reason, Source};
use frokost_engine::dedup::{Answer, Answered};
use frokost_engine::rules::Rules;
use frokost_engine::snapshot::{Item, SnapshotError, Snapshots};
use frokost_engine::{
    AccountId, AgreementNumber, Amount, Attempt, CallerId, Entry, Lsn, OrderNumber, PayoutNumber, Receipt, Rejection,
    RequestKey, SchoolId, Sequence, Timestamp,
};
use frokost_persistence::FileSnapshots;

/// An account that has some of everything.
fn account(id: u64) -> Account {
    let mut account = Account::unopened(AccountId(id));
    let amount = Amount::from_kroner(200);
    let attempt = Attempt(1);
    let agreement = AgreementNumber(id);
    let mut entries = vec![
        Entry::Opened { school: SchoolId(7) },
        Entry::CardBound { card: "12345678901234".parse().unwrap() },
        Entry::ToppedUp { order: OrderNumber(id), amount, source: Source::Provider },
    ];
    if !id.is_multiple_of(3) {
        entries.extend([
            Entry::Purchased { amount: Amount::from_ore(2_550) },
            Entry::DailyLimitSet { limit: Some(amount) },
            Entry::CreditLimitSet { limit: amount },
            Entry::AutoTopUpAgreed { agreement, amount },
            Entry::ChargeWished { attempt, agreement, amount },
            Entry::PayoutReserved { payout: PayoutNumber(4), amount: Amount::from_ore(5) },
            Entry::PayoutSent { payout: PayoutNumber(4) },
            Entry::Corrected { amount: Amount::from_ore(-1), reason: Reason::Other },
        ]);
    }
    if id.is_multiple_of(5) {
        entries.extend([
            Entry::ChargeFailed { attempt, failure: ChargeFailure::Expired },
            Entry::Blocked,
            Entry::Closed,
        ]);
    }
    for (n, entry) in entries.iter().enumerate() {
        let key = RequestKey { caller: CallerId(9), sequence: Sequence(id * 100 + n as u64) };
        account.apply(key, Timestamp(1_790_000_000_000 + n as u64 * 50_000_000), entry, &Rules::default());
    }
    account
}

fn items(accounts: u64) -> Vec<Item> {
    let mut items: Vec<Item> = (1..=accounts).map(|id| Item::Account(Box::new(account(id).into_state()))).collect();
    items.push(Item::Card("12345678901234".parse().unwrap(), AccountId(1)));
    items.push(Item::Forgotten(CallerId(3), Sequence(17)));
    let receipt = Receipt { lsn: Lsn(5), balance: Amount::from_ore(-7) };
    let missing = Amount::from_ore(9);
    for (n, answer) in
        [Answer::Approved(receipt), Answer::Rejected(Rejection::LowBalance { missing })].into_iter().enumerate()
    {
        let sequence = Sequence(18 + n as u64);
        let answered = Answered { sequence, fingerprint: 3, at: Timestamp(1_790_000_000_000), answer };
        items.push(Item::Key(CallerId(3), answered));
    }
    items
}

fn write(snapshots: &FileSnapshots, lsn: u64, accounts: u64) {
    snapshots.write(Lsn(lsn), Box::new(items(accounts).into_iter().map(Ok))).unwrap();
}

fn read(snapshots: &FileSnapshots, lsn: u64) -> Result<Vec<Item>, SnapshotError> {
    snapshots.read(Lsn(lsn))?.collect()
}

#[test]
fn what_is_written_comes_back_and_the_newest_two_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let snapshots = FileSnapshots::open(folder.path()).unwrap();
    assert_eq!(snapshots.list().unwrap(), []);
    for (lsn, accounts) in [(10, 3), (20, 2_000), (30, 0)] {
        write(&snapshots, lsn, accounts);
        assert_eq!(read(&snapshots, lsn).unwrap(), items(accounts));
    }
    while snapshots.let_go().unwrap() {}
    assert_eq!(snapshots.list().unwrap(), [Lsn(30), Lsn(20)]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn what_is_old_is_let_go_of_in_pieces_and_what_is_left_of_it_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let snapshots = FileSnapshots::open(folder.path()).unwrap();
    for lsn in [10, 20, 30, 40] {
        write(&snapshots, lsn, 3);
    }
    let file = fs::File::options().write(true).open(folder.path().join(format!("{:020}.snapshot", 10))).unwrap();
    file.set_len(20 << 20).unwrap();
    let mut seen = Vec::new();
    for _ in 0..4 {
        assert!(snapshots.let_go().unwrap());
        seen.push((
            snapshots.list().unwrap().len(),
            fs::read_dir(folder.path()).unwrap().count(),
            file.metadata().unwrap().len() >> 20,
        ));
    }
    assert_eq!(
        seen,
        [(3, 4, 20), (3, 4, 12), (3, 4, 4), (3, 3, 4)],
        "it is listed no more, cut from its end on, and gone"
    );
    assert_eq!(snapshots.list().unwrap(), [Lsn(40), Lsn(30), Lsn(20)]);
    // The next oldest is half gone.
    assert!(snapshots.let_go().unwrap());
    assert_eq!(snapshots.list().unwrap(), [Lsn(40), Lsn(30)]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    let snapshots = FileSnapshots::open(folder.path()).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    assert!(!snapshots.let_go().unwrap());
    assert_eq!(read(&snapshots, 30).unwrap(), items(3));
}

#[test]
fn every_flipped_bit_and_every_cut_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let snapshots = FileSnapshots::open(folder.path()).unwrap();
    write(&snapshots, 10, 2);
    let path = folder.path().join(format!("{:020}.snapshot", 10));
    let sound = fs::read(&path).unwrap();
    for bit in 0..sound.len() * 8 {
        let mut bytes = sound.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, bytes).unwrap();
        assert!(matches!(read(&snapshots, 10), Err(SnapshotError::Damaged { lsn: Lsn(10), .. })), "bit {bit}");
    }
    for length in 0..sound.len() {
        fs::write(&path, &sound[..length]).unwrap();
        assert!(read(&snapshots, 10).is_err(), "cut to {length}");
    }
}

#[test]
fn one_that_fails_leaves_nothing_and_one_that_was_cut_off_is_cleared_away() {
    let folder = tempfile::tempdir().unwrap();
    let snapshots = FileSnapshots::open(folder.path()).unwrap();
    write(&snapshots, 10, 1);
    let broken = items(1_000).into_iter().map(Ok).chain([Err(SnapshotError::Closing)]);
    assert!(matches!(snapshots.write(Lsn(20), Box::new(broken)), Err(SnapshotError::Closing)));
    assert_eq!(snapshots.list().unwrap(), [Lsn(10)]);
    fs::write(folder.path().join("unfinished"), b"half").unwrap();
    let snapshots = FileSnapshots::open(folder.path()).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    assert_eq!(read(&snapshots, 10).unwrap(), items(1));
}
