//! Snapshots: everything that follows from the journal up to one position, so that a start need not read what came
//! before. A snapshot is made from the snapshot before it and the records in between, by the same replay as a start; it
//! never looks at a living account, and so is never in the way of one.

use std::sync::Arc;
use std::time::Duration;

use crate::account::Account;
use crate::account::state::AccountState;
use crate::amount::Amount;
use crate::card::CardNumber;
use crate::dedup::{Answered, Window};
use crate::entry::{Entry, Record};
use crate::forgetting::Old;
use crate::id::{AccountId, CallerId, Lsn, RequestKey, Sequence};
use crate::journal::JournalError;
use crate::ledger_state::answered;
use crate::rules::Rules;
use crate::time::{Clock, Timestamp};

/// One fact of a snapshot. They come in this order: accounts by number, cards, then each caller's keys by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// An account.
    Account(Box<AccountState>),
    /// A card that was ever bound, and to what.
    Card(CardNumber, AccountId),
    /// Up to this number a caller's keys are forgotten.
    Forgotten(CallerId, Sequence),
    /// A caller's key that is remembered.
    Key(CallerId, Answered),
}

/// The facts of a snapshot, or why there are no more.
pub type Items<'a> = Box<dyn Iterator<Item = Result<Item, SnapshotError>> + 'a>;

/// Keeps snapshots. The newest two are enough.
pub trait Snapshots: Send + Sync {
    /// The positions of those that are there, newest first.
    ///
    /// # Errors
    /// [`SnapshotError::Storage`].
    fn list(&self) -> Result<Vec<Lsn>, SnapshotError>;

    /// Reads one. Damage shows at the latest at its end.
    ///
    /// # Errors
    /// [`SnapshotError`].
    fn read(&self, lsn: Lsn) -> Result<Items<'_>, SnapshotError>;

    /// Writes one; it is there, durable and whole, or not at all.
    ///
    /// # Errors
    /// [`SnapshotError`], also where the items hold one; nothing has changed then.
    fn write(&self, lsn: Lsn, items: Items<'_>) -> Result<(), SnapshotError>;

    /// Puts one aside that is damaged: it is not listed any more, so that it neither stands in the way of the next nor takes the place of
    /// a sound one.
    ///
    /// # Errors
    /// [`SnapshotError::Storage`].
    fn set_aside(&self, lsn: Lsn) -> Result<(), SnapshotError>;

    /// Lets go of a piece of what is older than the newest two, and says whether there may be more. A large file that is removed at once holds
    /// up whoever syncs another one meanwhile.
    ///
    /// # Errors
    /// [`SnapshotError::Storage`].
    fn let_go(&self) -> Result<bool, SnapshotError>;
}

/// Why a snapshot cannot be had or made.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SnapshotError {
    /// It is not what was written.
    #[error("the snapshot at LSN {lsn} is damaged: {what}")]
    Damaged {
        /// Which.
        lsn: Lsn,
        /// How.
        what: String,
    },
    /// It cannot be reached.
    #[error("snapshots cannot be used: {0}")]
    Storage(String),
    /// The journal behind it cannot be read.
    #[error("{0}")]
    Journal(String),
    /// The engine is closing down.
    #[error("the engine is closing down")]
    Closing,
}

impl From<JournalError> for SnapshotError {
    fn from(error: JournalError) -> SnapshotError {
        SnapshotError::Journal(error.to_string())
    }
}

/// Lets others work: after a stretch of work it rests so many times as long.
pub(crate) struct Pace {
    clock: Arc<dyn Clock>,
    rests: u32,
    since: Duration,
    count: u32,
}

impl Pace {
    pub(crate) fn new(clock: &Arc<dyn Clock>, rests: u32) -> Pace {
        Pace { clock: Arc::clone(clock), rests, since: clock.running(), count: 0 }
    }

    pub(crate) fn step(&mut self) {
        const STRETCH: Duration = Duration::from_micros(500);
        /// Who was kept from working for a while has let others work already.
        const LONGEST_REST: Duration = Duration::from_millis(10);
        self.count = self.count.wrapping_add(1);
        if self.count.is_multiple_of(32) {
            let worked = self.clock.running().saturating_sub(self.since);
            if worked > STRETCH {
                std::thread::sleep((worked * self.rests).min(LONGEST_REST));
                self.since = self.clock.running();
            }
        }
    }
}

/// What a record does to a snapshot, without what only statements and windows need.
struct Step {
    lsn: Lsn,
    at: Timestamp,
    key: RequestKey,
    balance: Amount,
    entry: Entry,
}

/// The next snapshot: the one before with the records behind it in it, and without the old keys of who has asked since.
///
/// # Errors
/// Where the records cannot be read. What is wrong with the snapshot before shows while the items are taken.
pub fn next_snapshot<'a>(
    before: Items<'a>,
    records: impl IntoIterator<Item = Result<Record, SnapshotError>>,
    rules: &'a Rules,
    old: Old,
) -> Result<Items<'a>, SnapshotError> {
    let mut between = Between::default();
    for record in records {
        between.take(record?);
    }
    Ok(between.onto(before, rules, old))
}

/// The records between two snapshots, in their order, and where those of an account and of a caller stand. Only that is sorted, 16 bytes a
/// record, since sorting is done at once, without a rest.
#[derive(Default)]
struct Between {
    steps: Vec<Step>,
    by_account: Vec<(AccountId, usize)>,
    cards: Vec<(CardNumber, AccountId)>,
    settled: Vec<Answered>,
    by_caller: Vec<(CallerId, usize)>,
}

impl Between {
    fn take(&mut self, record: Record) {
        if let Some(answered) = answered(&record) {
            self.by_caller.push((record.key.caller, self.settled.len()));
            self.settled.push(answered);
        }
        if let Entry::CardBound { card } = record.entry {
            self.cards.push((card, record.account));
        }
        let changes = !matches!(record.entry, Entry::Refused { .. });
        if changes && record.account != AccountId(0) {
            let Record { account, lsn, at, key, balance, entry, .. } = record;
            self.by_account.push((account, self.steps.len()));
            self.steps.push(Step { lsn, at, key, balance, entry });
        }
    }

    fn onto<'a>(mut self, before: Items<'a>, rules: &'a Rules, old: Old) -> Items<'a> {
        self.by_account.sort_unstable();
        let touched = std::mem::take(&mut self.by_account).into_iter().peekable();
        Box::new(Merge { between: Some(self), touched, before: before.peekable(), rules, old, rest: None })
    }
}

struct Merge<'a> {
    between: Option<Between>,
    /// The accounts that are still to come, and which step is theirs.
    touched: std::iter::Peekable<std::vec::IntoIter<(AccountId, usize)>>,
    before: std::iter::Peekable<Items<'a>>,
    rules: &'a Rules,
    old: Old,
    rest: Option<Rest>,
}

/// Cards and keys, once the accounts are done. Given out as they come and caller by caller: of a country there are ten million.
struct Rest {
    cards: std::vec::IntoIter<(CardNumber, AccountId)>,
    settled: Vec<Answered>,
    /// By caller, and of each in the order in which they were answered.
    by_caller: std::iter::Peekable<std::vec::IntoIter<(CallerId, usize)>>,
    /// What is left of the caller that is being given out.
    window: Box<dyn Iterator<Item = Item>>,
}

impl Merge<'_> {
    fn next_item(&mut self) -> Result<Option<Item>, SnapshotError> {
        if self.between.is_none() {
            return self.next_of_the_rest();
        }
        let Some(between) = &self.between else { return Ok(None) };
        let touched = self.touched.peek().map(|(account, _)| *account);
        let kept = match self.before.peek() {
            Some(Ok(Item::Account(state))) => Some(state.id),
            Some(Err(_)) => return self.before.next().transpose(),
            Some(Ok(Item::Card(..) | Item::Forgotten(..) | Item::Key(..))) | None => None,
        };
        let Some(id) = [touched, kept].into_iter().flatten().min() else { return self.turn_to_the_rest() };
        let mut account = match self.before.next_if(|_| kept == Some(id)) {
            Some(Ok(Item::Account(state))) if touched != Some(id) => return Ok(Some(Item::Account(state))),
            Some(Ok(Item::Account(state))) => Account::from(*state),
            Some(_) | None => Account::unopened(id),
        };
        while let Some((_, place)) = self.touched.next_if(|(account, _)| *account == id) {
            let Some(step) = between.steps.get(place) else { break };
            account.apply(step.key, step.at, &step.entry, self.rules);
            if account.balance() != step.balance {
                let what = format!("LSN {}: account {id} comes to {}", step.lsn, account.balance());
                return Err(SnapshotError::Journal(what));
            }
        }
        Ok(Some(Item::Account(Box::new(account.into_state()))))
    }

    fn turn_to_the_rest(&mut self) -> Result<Option<Item>, SnapshotError> {
        if let Some(Between { cards, settled, mut by_caller, .. }) = self.between.take() {
            by_caller.sort_unstable();
            let (by_caller, window) = (by_caller.into_iter().peekable(), Box::new(std::iter::empty()));
            self.rest = Some(Rest { cards: cards.into_iter(), settled, by_caller, window });
        }
        self.next_of_the_rest()
    }

    fn next_of_the_rest(&mut self) -> Result<Option<Item>, SnapshotError> {
        let Some(rest) = &mut self.rest else { return Ok(None) };
        loop {
            if let Some(item) = rest.window.next() {
                return Ok(Some(item));
            }
            let kept = match self.before.peek() {
                Some(Ok(Item::Account(state))) => {
                    let what = format!("account {} stands behind the cards", state.id);
                    return Err(SnapshotError::Storage(what));
                }
                Some(Ok(Item::Card(..)) | Err(_)) => return self.before.next().transpose(),
                Some(Ok(Item::Forgotten(caller, _) | Item::Key(caller, _))) => Some(*caller),
                None => None,
            };
            if let Some((card, account)) = rest.cards.next() {
                return Ok(Some(Item::Card(card, account)));
            }
            let settled = rest.by_caller.peek().map(|(caller, _)| *caller);
            let Some(caller) = [kept, settled].into_iter().flatten().min() else { return Ok(None) };
            if settled != Some(caller) {
                // Nothing new: as it was. One that has brought in a million pupils has millions of keys.
                return self.before.next().transpose();
            }
            let mut window: Window<()> = Window::default();
            let of_caller = |item: &Result<Item, SnapshotError>| match item {
                Ok(Item::Forgotten(of, _) | Item::Key(of, _)) => *of == caller,
                Ok(Item::Account(_) | Item::Card(..)) | Err(_) => false,
            };
            while let Some(Ok(item)) = self.before.next_if(of_caller) {
                match item {
                    Item::Forgotten(_, sequence) => window.forget_up_to(sequence),
                    Item::Key(_, answered) => window.restore(answered),
                    Item::Account(_) | Item::Card(..) => {}
                }
            }
            while let Some((_, place)) = rest.by_caller.next_if(|(of, _)| *of == caller) {
                let Some(answered) = rest.settled.get(place) else { break };
                window.restore(*answered);
            }
            window.forget(self.old, usize::MAX);
            let forgotten = window.forgotten().map(|sequence| Item::Forgotten(caller, sequence));
            let keys = window.into_answered().map(move |answered| Item::Key(caller, answered));
            rest.window = Box::new(forgotten.into_iter().chain(keys));
        }
    }
}

impl Iterator for Merge<'_> {
    type Item = Result<Item, SnapshotError>;

    fn next(&mut self) -> Option<Result<Item, SnapshotError>> {
        self.next_item().transpose()
    }
}
