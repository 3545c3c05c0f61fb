//! Recovery: reads the journal and makes the state of every account, every card and every key as it was. Applies with the
//! same functions as live traffic, checks on the way, and refuses rather than guesses.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use ractor::ActorRef;

use crate::account::Account;
use crate::actors::account::AccountMessage;
use crate::dedup::Window;
use crate::directory::Directory;
use crate::entry::Entry;
use crate::id::{AccountId, CallerId, Lsn};
use crate::journal::{JournalError, JournalReader};
use crate::pending::{SharedWindow, Waiter};
use crate::rules::Rules;

/// Everything that follows from a journal.
pub(crate) struct Recovered {
    pub(crate) directory: Directory<Box<Account>, ActorRef<AccountMessage>>,
    pub(crate) windows: HashMap<CallerId, SharedWindow>,
    pub(crate) records: u64,
}

/// Replays everything up to `head`.
pub(crate) fn recover(reader: &dyn JournalReader, head: Lsn, rules: &Rules) -> Result<Recovered, JournalError> {
    let mut accounts: HashMap<AccountId, Box<Account>> = HashMap::new();
    let mut cards = Vec::new();
    let mut windows: HashMap<CallerId, Window<Waiter>> = HashMap::new();
    let mut last = Lsn::ZERO;
    for record in reader.read_from(Lsn(1)) {
        let record = record?;
        let damaged = |what: String| JournalError::Damaged { lsn: record.lsn, what };
        if record.lsn != last.next() {
            return Err(JournalError::Damaged { lsn: last.next(), what: format!("the next record is {}", record.lsn) });
        }
        last = record.lsn;
        if record.account != AccountId(0) {
            let account = accounts.entry(record.account).or_insert_with(|| Box::new(Account::unopened(record.account)));
            account.replay(&record, rules).map_err(|diverged| damaged(diverged.to_string()))?;
        }
        if let Entry::CardBound { card } = record.entry {
            cards.push((card, record.account, record.lsn));
        }
        windows.entry(record.key.caller).or_default().settle(
            record.key.sequence,
            record.fingerprint,
            record.at,
            record.outcome(),
            rules.key_memory_ms,
        );
        if last == head {
            break;
        }
    }
    if last != head {
        return Err(JournalError::Damaged { lsn: last.next(), what: format!("the journal should reach {head}") });
    }
    let directory = Directory::new();
    for (id, account) in accounts {
        directory.get_or_insert(id, || account);
    }
    for (card, account, lsn) in cards {
        let cell = directory.by_account(account);
        if !cell.is_some_and(|cell| directory.bind(card, &cell)) {
            return Err(JournalError::Damaged { lsn, what: "one card is bound to two accounts".to_owned() });
        }
    }
    let windows = windows.into_iter().map(|(caller, window)| (caller, Arc::new(Mutex::new(window)))).collect();
    Ok(Recovered { directory, windows, records: last.0 })
}
