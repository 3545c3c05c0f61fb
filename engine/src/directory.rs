//! Where every account is found: by number, by card. Map guards are dropped before anything else happens; what is
//! found is a shared reference to the account's [`Cell`].

use std::sync::Arc;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry as Place;

use crate::card::CardNumber;
use crate::cell::Cell;
use crate::fast_map::Hasher;
use crate::id::AccountId;

/// Every account, by number and by card. A card that was replaced still leads to its account, which refuses it.
#[derive(Debug)]
pub(crate) struct Directory<S, A> {
    accounts: DashMap<AccountId, Arc<Cell<S, A>>, Hasher>,
    cards: DashMap<CardNumber, Arc<Cell<S, A>>, Hasher>,
}

impl<S, A> Directory<S, A> {
    /// With room for so many accounts, each with its card.
    pub(crate) fn with_capacity(accounts: usize) -> Directory<S, A> {
        Directory {
            accounts: DashMap::with_capacity_and_hasher(accounts, Hasher::default()),
            cards: DashMap::with_capacity_and_hasher(accounts, Hasher::default()),
        }
    }

    pub(crate) fn by_account(&self, account: AccountId) -> Option<Arc<Cell<S, A>>> {
        self.accounts.get(&account).map(|cell| Arc::clone(&cell))
    }

    pub(crate) fn by_card(&self, card: &CardNumber) -> Option<Arc<Cell<S, A>>> {
        self.cards.get(card).map(|cell| Arc::clone(&cell))
    }

    /// The account's cell, with a new state in it if there was none.
    pub(crate) fn get_or_insert(&self, account: AccountId, state: impl FnOnce() -> S) -> Arc<Cell<S, A>> {
        Arc::clone(&self.accounts.entry(account).or_insert_with(|| Cell::new(account, state())))
    }

    /// Makes `card` lead to `cell`, unless it is another account's; then false. Of two accounts asking at once, one gets it.
    pub(crate) fn bind(&self, card: CardNumber, cell: &Arc<Cell<S, A>>) -> bool {
        match self.cards.entry(card) {
            Place::Vacant(place) => {
                place.insert(Arc::clone(cell));
                true
            }
            Place::Occupied(place) => place.get().id == cell.id,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.accounts.len()
    }
}
