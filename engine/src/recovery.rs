//! Recovery: turns the state that follows from the journal into what a running engine works with.

use std::collections::HashMap;

use ractor::ActorRef;

use crate::account::Account;
use crate::accounts::{Half, half_of};
use crate::actors::account::Delivery;
use crate::card::CardNumber;
use crate::dedup::Window;
use crate::directory::Directory;
use crate::fast_map::FastMap;
use crate::id::{AccountId, CallerId, Lsn};
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
    let (made, wishes) = (Directory::with_capacity(accounts.len()), Wishes::default());
    let (cards, directory, open) = (&cards, &made, &wishes);
    std::thread::scope(|scope| {
        let [even, odd] = accounts.into_halves();
        let halves =
            [(0, even), (1, odd)].map(|(which, half)| scope.spawn(move || put_up(which, half, cards, directory, open)));
        halves.map(|half| half.join().unwrap_or_else(|fell| std::panic::resume_unwind(fell)))
    })
    .into_iter()
    .collect::<Result<(), _>>()?;
    Ok(Recovered { directory: made, windows, wishes })
}

/// One half of the accounts, and the cards that lead to them.
fn put_up(
    which: usize,
    half: Half,
    cards: &FastMap<CardNumber, AccountId>,
    directory: &Directory<Box<Account>, ActorRef<Delivery>>,
    wishes: &Wishes,
) -> Result<(), JournalError> {
    for (id, account) in half.into_accounts() {
        if let Some(charge) = account.state().charge() {
            let (agreement, amount) = (charge.agreement.number, charge.agreement.amount);
            wishes.open(Wish { account: id, attempt: charge.attempt, agreement, amount, at: charge.at });
        }
        directory.get_or_insert(id, || account);
    }
    for (card, account) in cards.iter().filter(|(_, account)| half_of(**account) == which) {
        let cell = directory.by_account(*account);
        if !cell.is_some_and(|cell| directory.bind(*card, &cell)) {
            let what = format!("card {card:?} is bound to account {account}, which is not there");
            return Err(JournalError::Damaged { lsn: Lsn::ZERO, what });
        }
    }
    Ok(())
}
