//! Recovery: turns the state that follows from the journal into what a running engine works with.

use std::collections::HashMap;
use std::thread::Builder;

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
        let threads = [("frokost-even", 0, even), ("frokost-odd", 1, odd)].map(|(name, which, half)| {
            let put_up = move || put_up(which, half, cards, directory, open);
            Builder::new().name(name.to_owned()).spawn_scoped(scope, put_up)
        });
        let nobody = |error| Err(JournalError::Storage(format!("a thread of the start: {error}")));
        let fell = |why| std::panic::resume_unwind(why);
        threads.map(|thread| thread.map_or_else(nobody, |thread| thread.join().unwrap_or_else(fell)))
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
