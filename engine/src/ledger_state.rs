//! Everything that follows from a journal: accounts, cards, keys. It is made from a snapshot and records, checks on the
//! way, and refuses rather than guesses. Pure: an engine starts from it, a simulator runs on it, an auditor compares with it.

use std::collections::{HashMap, HashSet};

use crate::account::Account;
use crate::card::CardNumber;
use crate::dedup::{Answer, Answered, Window};
use crate::entry::{Entry, Record};
use crate::fast_map::FastMap;
use crate::id::{AccountId, CallerId, Lsn, Sequence};
use crate::journal::{JournalError, JournalReader, Records};
use crate::rules::Rules;
use crate::snapshot::{Item, Items, SnapshotError, Snapshots};

/// The state of a whole ledger after the record at `head`. `W` is who waits for an answer to a key.
#[derive(Debug)]
pub struct LedgerState<W = ()> {
    /// The last record that is in it.
    pub head: Lsn,
    /// Every account.
    pub accounts: FastMap<AccountId, Box<Account>>,
    /// Every card that was ever bound, and to what.
    pub cards: FastMap<CardNumber, AccountId>,
    /// Every caller's keys.
    pub windows: HashMap<CallerId, Window<W>>,
}

/// A snapshot that was read before it was known whether it can be used.
pub(crate) type ReadAhead<W> = Option<(Lsn, Result<LedgerState<W>, SnapshotError>)>;

impl<W> Default for LedgerState<W> {
    fn default() -> LedgerState<W> {
        LedgerState {
            head: Lsn::ZERO,
            accounts: FastMap::default(),
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

impl<W> LedgerState<W> {
    /// As a snapshot at `lsn` has it.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn from_snapshot(lsn: Lsn, items: Items<'_>) -> Result<LedgerState<W>, SnapshotError> {
        let mut state = LedgerState { head: lsn, ..LedgerState::default() };
        for item in items {
            match item? {
                Item::Account(account) => {
                    state.accounts.insert(account.id, Box::new(Account::from(*account)));
                }
                Item::Card(card, account) => {
                    state.cards.insert(card, account);
                }
                Item::Forgotten(caller, sequence) => state.windows.entry(caller).or_default().forget_up_to(sequence),
                Item::Key(caller, answered) => state.windows.entry(caller).or_default().restore(answered),
            }
        }
        Ok(state)
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
                    self.accounts.get(&state.id).is_some_and(|account| account.state() == &*state)
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
        let damaged = |lsn, what| Err(JournalError::Damaged { lsn, what });
        if record.lsn != self.head.next() {
            return damaged(self.head.next(), format!("the next record is {}", record.lsn));
        }
        self.head = record.lsn;
        // A refusal opens nothing.
        let refused = matches!(record.entry, Entry::Refused { .. });
        if record.account != AccountId(0) && (!refused || self.accounts.contains_key(&record.account)) {
            let account =
                self.accounts.entry(record.account).or_insert_with(|| Box::new(Account::unopened(record.account)));
            if let Err(diverged) = account.replay(record, rules) {
                return damaged(record.lsn, diverged.to_string());
            }
        }
        if let Entry::CardBound { card } = record.entry
            && *self.cards.entry(card).or_insert(record.account) != record.account
        {
            return damaged(record.lsn, "one card is bound to two accounts".to_owned());
        }
        if let Some(answered) = answered(record) {
            self.windows.entry(record.key.caller).or_default().restore(answered);
        }
        Ok(())
    }

    /// The newest snapshot, should it be of use. Nothing but reading: it can be done while the journal makes sure that it is whole.
    pub(crate) fn read_ahead(snapshots: &dyn Snapshots) -> ReadAhead<W> {
        let newest = snapshots.list().ok()?.first().copied()?;
        Some((newest, snapshots.read(newest).and_then(|items| LedgerState::from_snapshot(newest, items))))
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
        ahead: ReadAhead<W>,
        reader: &dyn JournalReader,
        snapshots: &dyn Snapshots,
        head: Lsn,
        rules: &Rules,
    ) -> Result<LedgerState<W>, JournalError> {
        let mut state = LedgerState::newest(ahead, reader, snapshots, head)?;
        if state.head < head {
            for record in reader.read_from(state.head.next()) {
                let record = record?;
                state.replay(&record, rules)?;
                if state.head == head {
                    break;
                }
            }
        }
        if state.head != head {
            let what = format!("the journal should reach {head}");
            return Err(JournalError::Damaged { lsn: state.head.next(), what });
        }
        Ok(state)
    }

    /// The newest snapshot that can be used; the empty state if none is needed.
    fn newest(
        mut ahead: ReadAhead<W>,
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
