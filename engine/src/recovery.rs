//! Recovery: turns the state that follows from the journal into what a running engine works with.

use std::collections::HashMap;

use ractor::ActorRef;

use crate::account::Account;
use crate::actors::account::Delivery;
use crate::dedup::Window;
use crate::directory::Directory;
use crate::id::{CallerId, Lsn};
use crate::journal::JournalError;
use crate::ledger_state::LedgerState;
use crate::pending::Waiter;
use crate::wishes::{Wish, Wishes};

/// Everything that follows from a journal, ready for use.
pub(crate) struct Recovered {
    pub(crate) directory: Directory<Box<Account>, ActorRef<Delivery>>,
    pub(crate) windows: HashMap<CallerId, Window<Waiter>>,
    pub(crate) wishes: Wishes,
}

pub(crate) fn ready(state: LedgerState<Waiter>) -> Result<Recovered, JournalError> {
    let LedgerState { accounts, cards, windows, .. } = state;
    let directory = Directory::with_capacity(accounts.len());
    let wishes = Wishes::default();
    for (id, account) in accounts {
        if let Some(charge) = account.state().charge() {
            let (agreement, amount) = (charge.agreement.number, charge.agreement.amount);
            wishes.open(Wish { account: id, attempt: charge.attempt, agreement, amount, at: charge.at });
        }
        directory.get_or_insert(id, || account);
    }
    for (card, account) in cards {
        let cell = directory.by_account(account);
        if !cell.is_some_and(|cell| directory.bind(card, &cell)) {
            let what = format!("card {card:?} is bound to account {account}, which is not there");
            return Err(JournalError::Damaged { lsn: Lsn::ZERO, what });
        }
    }
    Ok(Recovered { directory, windows, wishes })
}
