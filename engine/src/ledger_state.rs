//! Everything that follows from a journal: accounts, cards, keys. It is made from a snapshot and records, checks on the
//! way, and refuses rather than guesses. It knows no disk and no clock; bringing it to a journal's end takes threads. An engine starts from it, a
//! simulator runs on it, an auditor compares with it.

use std::collections::{HashMap, HashSet};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Builder;

use crate::account::Account;
use crate::accounts::{Accounts, half_of};
use crate::card::CardNumber;
use crate::dedup::{Answer, Answered, Window};
use crate::entry::{Entry, Record};
use crate::fast_map::FastMap;
use crate::id::{AccountId, CallerId, Lsn, Sequence};
use crate::journal::{JournalError, JournalReader, Records};
use crate::read_ahead::ReadSnapshot;
use crate::rules::Rules;
use crate::snapshot::{Item, Items, SnapshotError, Snapshots};

/// The state of a whole ledger after the record at `head`. `W` is who waits for an answer to a key.
#[derive(Debug)]
pub struct LedgerState<W = ()> {
    /// The last record that is in it.
    pub head: Lsn,
    /// Every account.
    pub accounts: Accounts,
    /// Every card that was ever bound, and to what.
    pub cards: FastMap<CardNumber, AccountId>,
    /// Every caller's keys.
    pub windows: HashMap<CallerId, Window<W>>,
}

/// So many things are handed to another thread at once.
const RUN: usize = 512;
/// And at most so often ahead of it: what it does not come to waits.
const RUNS_DUE: usize = if cfg!(test) { 1 } else { 8 };

/// Things on their way to another thread, many at once.
struct Runs<T> {
    ahead: SyncSender<Vec<T>>,
    run: Vec<T>,
}

impl<T> Runs<T> {
    fn new() -> (Runs<T>, Receiver<Vec<T>>) {
        let (ahead, due) = sync_channel(RUNS_DUE);
        (Runs { ahead, run: Vec::with_capacity(RUN) }, due)
    }

    /// False if nobody takes them any more.
    fn put(&mut self, one: T) -> bool {
        self.run.push(one);
        self.run.len() < RUN || self.send()
    }

    fn send(&mut self) -> bool {
        let run = std::mem::replace(&mut self.run, Vec::with_capacity(RUN));
        self.ahead.send(run).is_ok()
    }
}

impl<W> Default for LedgerState<W> {
    fn default() -> LedgerState<W> {
        LedgerState {
            head: Lsn::ZERO,
            accounts: Accounts::default(),
            cards: FastMap::default(),
            windows: HashMap::new(),
        }
    }
}

/// What a record leaves in its caller's window; nothing if it is a companion.
pub(crate) fn answered(record: &Record) -> Option<Answered> {
    let answer = record.outcome().and_then(Answer::of)?;
    Some(Answered { sequence: record.key.sequence, fingerprint: record.fingerprint, at: record.at, answer })
}

impl<W: Send> LedgerState<W> {
    /// As a snapshot at `lsn` has it: this thread reads, another one puts what was read in its place.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn from_snapshot(lsn: Lsn, items: Items<'_>) -> Result<LedgerState<W>, SnapshotError> {
        std::thread::scope(|scope| {
            let (mut runs, due) = Runs::new();
            let place = move || {
                let mut state = LedgerState { head: lsn, ..LedgerState::default() };
                due.into_iter().flatten().for_each(|item| state.place(item));
                state
            };
            let Ok(placing) = Builder::new().name("frokost-place".to_owned()).spawn_scoped(scope, place) else {
                // That no thread is to be had says nothing against the snapshot.
                let mut state = LedgerState { head: lsn, ..LedgerState::default() };
                for item in items {
                    state.place(item?);
                }
                return Ok(state);
            };
            for item in items {
                // Where nobody takes it the other thread has fallen, which its end tells.
                if !runs.put(item?) {
                    break;
                }
            }
            runs.send();
            drop(runs);
            Ok(placing.join().unwrap_or_else(|fell| std::panic::resume_unwind(fell)))
        })
    }

    fn place(&mut self, item: Item) {
        match item {
            Item::Account(account) => self.accounts.insert(Account::from(*account)),
            Item::Card(card, account) => drop(self.cards.insert(card, account)),
            Item::Forgotten(caller, sequence) => self.windows.entry(caller).or_default().forget_up_to(sequence),
            Item::Key(caller, answered) => self.windows.entry(caller).or_default().restore(answered),
        }
    }

    /// What a snapshot at this position says otherwise, if it does. Keys that it has forgotten may be missing there; no key may that it
    /// does not call forgotten, and it may call none forgotten that was never answered.
    ///
    /// # Errors
    /// [`SnapshotError`] where it cannot be read.
    pub fn differs_from(&self, items: Items<'_>) -> Result<Option<String>, SnapshotError> {
        let mut accounts = 0;
        // One that was bound again is there again.
        let mut cards: HashSet<CardNumber> = HashSet::new();
        let mut forgotten: FastMap<CallerId, Sequence> = FastMap::default();
        let mut keys: FastMap<CallerId, usize> = FastMap::default();
        for item in items {
            let same = match item? {
                Item::Account(state) => {
                    accounts += 1;
                    self.accounts.get(state.id).is_some_and(|account| account.state() == &*state)
                }
                Item::Card(card, account) => {
                    cards.insert(card);
                    self.cards.get(&card) == Some(&account)
                }
                Item::Forgotten(caller, sequence) => {
                    forgotten.insert(caller, sequence);
                    self.windows.get(&caller).and_then(Window::highest).is_some_and(|highest| sequence <= highest)
                }
                Item::Key(caller, key) => {
                    if Some(key.sequence) > forgotten.get(&caller).copied() {
                        *keys.entry(caller).or_default() += 1;
                    }
                    self.windows.get(&caller).and_then(|window| window.answer(key.sequence)) == Some(key)
                }
            };
            if !same {
                return Ok(Some("it has something else than the records come to".to_owned()));
            }
        }
        if (accounts, cards.len()) != (self.accounts.len(), self.cards.len()) {
            return Ok(Some("it lacks accounts or cards".to_owned()));
        }
        for (caller, window) in &self.windows {
            let old = forgotten.get(caller).copied();
            let must = window.answered().filter(|key| Some(key.sequence) > old).count();
            if keys.get(caller).copied().unwrap_or_default() != must {
                return Ok(Some(format!("it lacks keys of caller {caller}")));
            }
        }
        Ok(None)
    }

    /// Takes in the next record.
    ///
    /// # Errors
    /// [`JournalError::Damaged`] if it is not the next, or does not come to what it states.
    pub fn replay(&mut self, record: &Record, rules: &Rules) -> Result<(), JournalError> {
        self.follow(record)?;
        let replayed = self.accounts.replay(record, rules);
        replayed.map_err(|diverged| JournalError::Damaged { lsn: record.lsn, what: diverged.to_string() })?;
        self.know(record)
    }

    /// It has to be the next.
    fn follow(&mut self, record: &Record) -> Result<(), JournalError> {
        let next = self.head.next();
        if record.lsn != next {
            return Err(JournalError::Damaged { lsn: next, what: format!("the next record is {}", record.lsn) });
        }
        self.head = next;
        Ok(())
    }

    /// What of it is nobody's account: its card and its key.
    fn know(&mut self, record: &Record) -> Result<(), JournalError> {
        if let Entry::CardBound { card } = record.entry
            && *self.cards.entry(card).or_insert(record.account) != record.account
        {
            let what = "one card is bound to two accounts".to_owned();
            return Err(JournalError::Damaged { lsn: record.lsn, what });
        }
        if let Some(answered) = answered(record) {
            self.windows.entry(record.key.caller).or_default().restore(answered);
        }
        Ok(())
    }

    /// Takes in the records up to `head`, as [`LedgerState::replay`] does one by one, and says the same of the first that cannot be: this thread
    /// reads them, and two more have half of the accounts each.
    fn replay_to(&mut self, head: Lsn, records: Records<'_>, rules: &Rules) -> Result<(), JournalError> {
        let mut accounts = std::mem::take(&mut self.accounts);
        let (read, ended) = std::thread::scope(|scope| {
            let [even, odd] = accounts.halves_mut();
            let [even, odd] = [("frokost-even", even), ("frokost-odd", odd)].map(|(name, half)| {
                let (runs, due) = Runs::new();
                // What it is handed goes with it: where it ends early nobody waits for it.
                let replay = move || half.replay_all(&due, rules);
                let thread = Builder::new().name(name.to_owned()).spawn_scoped(scope, replay);
                thread
                    .map(|thread| (runs, thread))
                    .map_err(|error| JournalError::Storage(format!("a thread of the start: {error}")))
            });
            let ((even_runs, even), (odd_runs, odd)) = (even?, odd?);
            let mut runs = [even_runs, odd_runs];
            let read = self.hand_out(head, records, &mut runs);
            // Also where it ends with an error: what was read before comes before it.
            for runs in &mut runs {
                runs.send();
            }
            drop(runs);
            Ok::<_, JournalError>((read, [even.join(), odd.join()]))
        })?;
        self.accounts = accounts;
        // They were given nothing behind what `read` is about. A place in the journal says more than that a half has fallen.
        let diverged = ended.iter().flatten().filter_map(|half| half.as_ref().err()).min_by_key(|(lsn, _)| *lsn);
        if let Some((lsn, diverged)) = diverged {
            return Err(JournalError::Damaged { lsn: *lsn, what: diverged.to_string() });
        }
        let [even, odd] = ended;
        even.and(odd).map_or_else(|fell| std::panic::resume_unwind(fell), |_| read)
    }

    fn hand_out(&mut self, head: Lsn, records: Records<'_>, runs: &mut [Runs<Record>; 2]) -> Result<(), JournalError> {
        let [even, odd] = runs;
        for record in records {
            let record = record?;
            self.follow(&record)?;
            let known = self.know(&record);
            let runs = if half_of(record.account) == 0 { &mut *even } else { &mut *odd };
            let taken = runs.put(record);
            known?;
            if self.head == head || !taken {
                break;
            }
        }
        Ok(())
    }

    /// The state at `head`, from the newest snapshot that can be used and the journal behind it. A damaged snapshot is
    /// passed over as long as the journal reaches back far enough to do without.
    ///
    /// # Errors
    /// [`JournalError`] where neither is enough.
    pub fn recover(
        reader: &dyn JournalReader,
        snapshots: &dyn Snapshots,
        head: Lsn,
        rules: &Rules,
    ) -> Result<LedgerState<W>, JournalError> {
        LedgerState::recover_from(None, reader, snapshots, head, rules)
    }

    /// The same, with what was read of the newest snapshot already.
    pub(crate) fn recover_from(
        ahead: ReadSnapshot<W>,
        reader: &dyn JournalReader,
        snapshots: &dyn Snapshots,
        head: Lsn,
        rules: &Rules,
    ) -> Result<LedgerState<W>, JournalError> {
        let mut state = LedgerState::newest(ahead, reader, snapshots, head)?;
        if state.head < head {
            state.replay_to(head, reader.read_from(state.head.next()), rules)?;
        }
        if state.head != head {
            let what = format!("the journal should reach {head}");
            return Err(JournalError::Damaged { lsn: state.head.next(), what });
        }
        Ok(state)
    }

    /// The newest snapshot that can be used; the empty state if none is needed.
    fn newest(
        mut ahead: ReadSnapshot<W>,
        reader: &dyn JournalReader,
        snapshots: &dyn Snapshots,
        head: Lsn,
    ) -> Result<LedgerState<W>, JournalError> {
        let first = reader.first()?;
        let storage = |error: SnapshotError| JournalError::Storage(error.to_string());
        for lsn in snapshots.list().map_err(storage)? {
            if lsn > head {
                // Snapshots hold nothing that was not durable.
                let what = format!("it ends there, but there is a snapshot at LSN {lsn}; records are missing");
                return Err(JournalError::Damaged { lsn: head.next(), what });
            }
            if lsn.next() < first {
                break;
            }
            let read = match ahead.take() {
                Some((of, read)) if of == lsn => read,
                Some(_) | None => snapshots.read(lsn).and_then(|items| LedgerState::from_snapshot(lsn, items)),
            };
            match read {
                Ok(state) => return Ok(state),
                Err(error) => tracing::warn!(%error, "a snapshot cannot be used; trying without it"),
            }
        }
        if first > Lsn(1) {
            let what = format!("the journal begins with LSN {first}, and there is no sound snapshot that reaches it");
            return Err(JournalError::Damaged { lsn: Lsn(first.0 - 1), what });
        }
        Ok(LedgerState::default())
    }
}

/// One account as it is at the end of what can be read, which its caller has made durable.
pub(crate) fn rebuild_account(
    account: AccountId,
    reader: &dyn JournalReader,
    snapshots: &dyn Snapshots,
    rules: &Rules,
) -> Result<Box<Account>, JournalError> {
    loop {
        let first = reader.first()?;
        let kept = newest_of(account, snapshots, first);
        let from = kept.as_ref().map_or(first, |(_, from)| *from);
        let rebuilt = kept.and_then(|(state, from)| replay_onto(state, reader.read_from(from), rules));
        // What was cut off while it was read is missing in it. A newer snapshot has it.
        if reader.first()? <= from {
            return rebuilt;
        }
    }
}

/// An account as the newest sound snapshot has it, and the first record that is not in it.
fn newest_of(account: AccountId, snapshots: &dyn Snapshots, first: Lsn) -> Result<(Account, Lsn), JournalError> {
    let storage = |error: SnapshotError| JournalError::Storage(error.to_string());
    for lsn in snapshots.list().map_err(storage)?.into_iter().filter(|lsn| lsn.next() >= first) {
        match account_in(account, snapshots, lsn) {
            Ok(kept) => return Ok((kept.unwrap_or_else(|| Account::unopened(account)), lsn.next())),
            Err(error) => tracing::warn!(%error, "a snapshot cannot be used; trying without it"),
        }
    }
    if first > Lsn(1) {
        let what = format!("the journal begins with LSN {first}, and there is no sound snapshot that reaches it");
        return Err(JournalError::Damaged { lsn: Lsn(1), what });
    }
    Ok((Account::unopened(account), Lsn(1)))
}

fn replay_onto(mut state: Account, records: Records<'_>, rules: &Rules) -> Result<Box<Account>, JournalError> {
    for record in records {
        let record = record?;
        if record.account == state.id() {
            let replayed = state.replay(&record, rules);
            replayed.map_err(|diverged| JournalError::Damaged { lsn: record.lsn, what: diverged.to_string() })?;
        }
    }
    Ok(Box::new(state))
}

/// An account as a snapshot has it.
fn account_in(account: AccountId, snapshots: &dyn Snapshots, lsn: Lsn) -> Result<Option<Account>, SnapshotError> {
    for item in snapshots.read(lsn)? {
        match item? {
            Item::Account(kept) if kept.id < account => {}
            Item::Account(kept) if kept.id == account => return Ok(Some(Account::from(*kept))),
            Item::Account(_) | Item::Card(..) | Item::Forgotten(..) | Item::Key(..) => break,
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amount::Amount;
    use crate::command::Source;
    use crate::id::{OrderNumber, PersonId, RequestKey, SchoolId};
    use crate::journal::{Journal, Shard};
    use crate::memory_journal::MemoryJournal;
    use crate::memory_snapshots::MemorySnapshots;
    use crate::text::Text;
    use crate::time::Timestamp;

    const ACCOUNTS: u64 = 700;

    /// Every account opened, given a card and money, and then four sales each.
    fn records() -> Vec<Record> {
        let mut records = Vec::new();
        let mut add = |account, balance, entry| {
            let lsn = Lsn(records.len() as u64 + 1);
            let key = RequestKey { caller: CallerId(7), sequence: Sequence(lsn.0) };
            let (account, balance) = (AccountId(account), Amount::from_ore(balance));
            let (at, by, text) = (Timestamp(lsn.0), PersonId(0), Text::EMPTY);
            records.push(Record { lsn, at, key, fingerprint: lsn.0, account, balance, by, text, entry });
        };
        for account in 1..=ACCOUNTS {
            let card = format!("{account:014}").parse().unwrap();
            let amount = Amount::from_ore(10_000);
            add(account, 0, Entry::Opened { school: SchoolId(1) });
            add(account, 0, Entry::CardBound { card });
            add(account, 10_000, Entry::ToppedUp { order: OrderNumber(account), amount, source: Source::Opening });
        }
        for sale in 1..=4 {
            for account in 1..=ACCOUNTS {
                add(account, 10_000 - sale * 100, Entry::Purchased { amount: Amount::from_ore(100) });
            }
        }
        records
    }

    fn one_by_one(records: &[Record], head: Lsn) -> Result<LedgerState, JournalError> {
        let mut state = LedgerState::default();
        records
            .iter()
            .take_while(|record| record.lsn <= head)
            .try_for_each(|record| state.replay(record, &Rules::default()))?;
        Ok(state)
    }

    fn in_halves(records: &[Record], head: Lsn) -> Result<LedgerState, JournalError> {
        let mut state = LedgerState::default();
        state.replay_to(head, Box::new(records.iter().copied().map(Ok)), &Rules::default())?;
        Ok(state)
    }

    #[test]
    fn halves_come_to_what_one_by_one_comes_to() {
        let records = records();
        for head in [Lsn(1), Lsn(2_101), Lsn(records.len() as u64)] {
            let (slow, fast) = (one_by_one(&records, head).unwrap(), in_halves(&records, head).unwrap());
            assert_eq!((fast.head, fast.accounts.len()), (head, slow.accounts.len()));
            assert_eq!((&fast.accounts, &fast.cards), (&slow.accounts, &slow.cards));
            let keys = |state: &LedgerState| state.windows[&CallerId(7)].answered().collect::<Vec<_>>();
            assert_eq!(keys(&fast), keys(&slow));
        }
    }

    /// Whichever thread comes upon it first, it is the first in the journal that is told.
    #[test]
    fn the_first_that_cannot_be_is_told() {
        let sound = records();
        let head = Lsn(sound.len() as u64);
        let wrong = |records: &mut [Record], at: usize| records[at].balance = Amount::from_ore(-1);
        let taken = |records: &mut [Record], at: usize| {
            records[at].entry = Entry::CardBound { card: format!("{:014}", 1).parse().unwrap() };
        };
        let gone = |records: &mut [Record], at: usize| records[at].lsn = Lsn(1);
        let breaks: [fn(&mut [Record], usize); 3] = [wrong, taken, gone];
        for first in breaks {
            for second in breaks {
                // Bindings of cards, and sales: of one half and of both, near each other and far apart.
                for [a, b] in [[1, 4], [1, 7], [4, 2_500], [7, 1_999], [2_200, 2_201], [2_200, 4_800], [2_201, 2_203]] {
                    let mut records = sound.clone();
                    first(&mut records, a);
                    second(&mut records, b);
                    let told =
                        |replayed: Result<LedgerState, JournalError>| replayed.map(drop).unwrap_err().to_string();
                    assert_eq!(told(in_halves(&records, head)), told(one_by_one(&records, head)), "{a} and {b}");
                }
            }
        }
    }

    /// More than is ever on its way to the thread that places it.
    fn items() -> impl Iterator<Item = Result<Item, SnapshotError>> {
        let card = |n: u64| format!("{n:014}").parse().unwrap();
        (1..=6_000).map(move |n| Ok(Item::Card(card(n), AccountId(n))))
    }

    #[test]
    fn half_a_snapshot_is_none() {
        let damaged = || Err(SnapshotError::Damaged { lsn: Lsn(9), what: "in the middle".to_owned() });
        let whole = LedgerState::<()>::from_snapshot(Lsn(9), Box::new(items())).unwrap();
        assert_eq!((whole.head, whole.cards.len()), (Lsn(9), 6_000));
        for at in [0, 1, 700, 5_999, 6_000] {
            let half = items().take(at).chain([damaged()]).chain(items().skip(at));
            let told = LedgerState::<()>::from_snapshot(Lsn(9), Box::new(half)).unwrap_err();
            assert!(told.to_string().contains("in the middle"), "{told}");
        }
    }

    /// What was read ahead counts where it is of the newest snapshot, and is sound.
    #[test]
    fn what_was_read_ahead_is_used_for_that_snapshot_only() {
        let records = records();
        let head = Lsn(records.len() as u64);
        let mut journal = MemoryJournal::default();
        let claim = journal.claim(Shard(0), "test").unwrap();
        journal.append(&claim, claim.head, &records).unwrap();
        let snapshots = MemorySnapshots::default();
        let at = Lsn(2_100);
        let cards = || one_by_one(&records, at).unwrap().cards.into_iter();
        // Of the accounts there is nothing in them, so that what is used shows.
        let cards = || Box::new(cards().map(|(card, account)| Ok(Item::Card(card, account))));
        snapshots.write(at, cards()).unwrap();
        let start = |ahead: ReadSnapshot<()>| {
            let rules = Rules::default();
            LedgerState::recover_from(ahead, journal.reader().as_ref(), &snapshots, head, &rules).map(drop)
        };
        let without = start(None).unwrap_err().to_string();
        assert!(without.contains("replay comes to"), "{without}");
        let sound = || one_by_one(&records, at).unwrap();
        assert!(start(Some((at, Ok(sound())))).is_ok());
        assert_eq!(start(Some((Lsn(2_099), Ok(sound())))).unwrap_err().to_string(), without);
        // Damaged: all of the journal is there, and is enough.
        let damaged = || SnapshotError::Damaged { lsn: at, what: "in the middle".to_owned() };
        assert!(start(Some((at, Err(damaged())))).is_ok());
        snapshots.damage(at);
        assert!(start(None).is_ok());
    }

    #[test]
    fn a_half_that_falls_hides_no_damage_and_is_told() {
        let mut records = records();
        let head = Lsn(records.len() as u64);
        // An even account's sale for more than any sale can be.
        records[2_501].entry = Entry::Purchased { amount: Amount::from_ore(1 << 50) };
        assert_eq!(records[2_501].account.0 % 2, 0);
        assert!(std::panic::catch_unwind(|| in_halves(&records, head)).is_err());
        records[2_200].balance = Amount::from_ore(-1);
        let told = in_halves(&records, head).unwrap_err();
        assert!(matches!(told, JournalError::Damaged { lsn: Lsn(2_201), .. }), "{told}");
    }

    #[test]
    fn what_cannot_be_read_is_told_behind_what_was_read() {
        let mut records = records();
        let head = Lsn(records.len() as u64);
        let replay = |records: &[Record]| {
            let unreadable = JournalError::Storage("unreadable".to_owned());
            let read = records.iter().copied().map(Ok).take(3_000).chain([Err(unreadable)]);
            LedgerState::<()>::default().replay_to(head, Box::new(read), &Rules::default()).unwrap_err().to_string()
        };
        assert!(replay(&records).contains("unreadable"));
        records[2_999].balance = Amount::from_ore(-1);
        assert!(replay(&records).contains("replay comes to"), "{}", replay(&records));
    }
}
