//! The account actor: owns one account's state while the account is in use. It carries messages to the pure core and
//! what comes of them to the committer, in that order; it never waits for anything but the other half of a transfer.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};

use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::account::Account;
use crate::actors::transfer::{Half, Suspension};
use crate::caller::Caller;
use crate::cell::Cell;
use crate::command::{Asked, Command};
use crate::committer::{Draft, Item};
use crate::engine::Shared;
use crate::entry::Entry;
use crate::id::{AccountId, RequestKey};
use crate::outcome::Outcome;
use crate::pending::Pending;
use crate::rejection::Rejection;
use crate::time::Timestamp;

pub(crate) type AccountCell = Cell<Box<Account>, ActorRef<Delivery>>;

/// A message in an actor's mailbox, and the account it owns from then on if it owned none.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) activation: Option<(Arc<AccountCell>, Box<Account>)>,
    pub(crate) message: AccountMessage,
}

/// What an account is asked.
#[derive(Debug)]
pub(crate) enum AccountMessage {
    /// A command to decide.
    Command(CommandMessage),
    /// Its balance and state, for whom it may concern.
    View(Caller, Pending),
    /// A transfer of which this is the account with the lower number.
    Transfer(Box<TransferMessage>),
    /// A transfer of which this is the account with the higher number; the other one waits.
    Complete(Box<Half>),
    /// Word from the other account: was the transfer made? Not counted by the cell: the transfer is.
    Completed(bool),
}

#[derive(Debug)]
pub(crate) struct CommandMessage {
    pub(crate) caller: Caller,
    pub(crate) key: RequestKey,
    pub(crate) fingerprint: u64,
    pub(crate) asked: Asked,
    pub(crate) pending: Pending,
}

impl CommandMessage {
    /// A record of it to be.
    pub(crate) fn draft(&self, at: Timestamp, account: &Account, entry: Entry) -> Draft {
        Draft {
            at,
            key: self.key,
            fingerprint: self.fingerprint,
            account: account.id(),
            balance: account.balance(),
            by: self.asked.details.by,
            text: self.asked.details.text,
            entry,
        }
    }
}

#[derive(Debug)]
pub(crate) struct TransferMessage {
    pub(crate) message: CommandMessage,
    /// The account with the higher number.
    pub(crate) other: Arc<AccountCell>,
}

/// The rules or the state of an account are not what they should be; its actor has fallen.
#[derive(Debug, thiserror::Error)]
#[error("account {0} panicked")]
pub(crate) struct Panicked(pub(crate) AccountId);

pub(crate) struct AccountActor {
    pub(crate) shared: Arc<Shared>,
}

/// What the actor owns while anybody asks for the account.
pub(crate) struct Owned {
    cell: Arc<AccountCell>,
    pub(crate) account: Box<Account>,
    /// Waiting for the other half of a transfer.
    pub(crate) suspended: Option<Box<Suspension>>,
    /// Messages handled that the cell still counts.
    pub(crate) handled: usize,
}

impl Owned {
    /// Gives the state back, unless more is asked for.
    fn give_back(mut self) -> Option<Owned> {
        // What a transfer waits with is not handled: the cell counts it, and never takes the state of a suspended account.
        match self.cell.give_back(std::mem::take(&mut self.handled), self.account) {
            Ok(()) => None,
            Err(account) => Some(Owned { account, ..self }),
        }
    }
}

impl Actor for AccountActor {
    type Msg = Delivery;
    /// `None` while it rests in the pool.
    type State = Option<Owned>;
    type Arguments = ();

    async fn pre_start(&self, _myself: ActorRef<Delivery>, (): ()) -> Result<Option<Owned>, ActorProcessingErr> {
        Ok(None)
    }

    async fn handle(
        &self,
        myself: ActorRef<Delivery>,
        delivery: Delivery,
        state: &mut Option<Owned>,
    ) -> Result<(), ActorProcessingErr> {
        let Delivery { activation, message } = delivery;
        let owned = match activation {
            Some((cell, account)) => Some(Owned { cell, account, suspended: None, handled: 0 }),
            None => state.take(),
        };
        let Some(mut owned) = owned else { return Ok(()) };
        let id = owned.account.id();
        // A state that panicked half-way is never used again: the supervisor makes it anew from the journal.
        let kept = catch_unwind(AssertUnwindSafe(|| {
            self.take(&mut owned, message, &myself);
            owned.give_back()
        }));
        *state = kept.map_err(|_| Panicked(id))?;
        if state.is_none() {
            self.shared.pool.rest(myself);
        }
        Ok(())
    }
}

impl AccountActor {
    /// Handles a message, or keeps it until the transfer that is under way is done.
    pub(crate) fn take(&self, owned: &mut Owned, message: AccountMessage, myself: &ActorRef<Delivery>) {
        if let AccountMessage::Completed(made) = message {
            return self.resume(owned, made, myself);
        }
        if let Some(suspended) = &mut owned.suspended {
            return suspended.waiting.push_back(message);
        }
        match message {
            AccountMessage::Command(message) => self.decide(owned, message),
            AccountMessage::View(caller, pending) => self.show(&owned.account, &caller, pending),
            AccountMessage::Transfer(transfer) => return self.begin_transfer(owned, *transfer, myself),
            AccountMessage::Complete(half) => self.complete_transfer(&mut owned.account, *half),
            AccountMessage::Completed(_) => return,
        }
        owned.handled += 1;
    }

    pub(crate) fn probe(&self, command: &Command) {
        if let Some(probe) = &self.shared.probe {
            probe(command);
        }
    }

    fn decide(&self, owned: &mut Owned, message: CommandMessage) {
        let Owned { cell, account, .. } = owned;
        let now = self.shared.clock.now();
        let rules = &self.shared.rules;
        let command = &message.asked.command;
        self.probe(command);
        let decided = account.decide(&message.caller, &message.asked, rules, now);
        let mut entry = decided.unwrap_or_else(|rejection| Entry::Refused { rejection });
        // A card is one account's from here until that is in the committer's queue: another's refusal, which rests on it, comes behind it.
        let _binding = matches!(entry, Entry::CardBound { .. })
            .then(|| self.shared.binding.lock().unwrap_or_else(PoisonError::into_inner));
        // The one rule that is not the account's own: a card belongs to one account.
        if let Entry::CardBound { card } = entry
            && !self.shared.directory.bind(card, cell)
        {
            entry = Entry::Refused { rejection: Rejection::CardTaken };
        }
        account.apply(message.key, now, &entry, rules);
        let draft = message.draft(now, account, entry);
        let item = match account.wish(command, &entry, rules) {
            None => Item::Commit(draft, message.pending),
            Some(wish) => {
                account.apply(message.key, now, &wish, rules);
                let companion = message.draft(now, account, wish);
                Item::CommitBoth(Box::new((draft, companion)), message.pending)
            }
        };
        self.shared.commit(item);
    }

    fn show(&self, account: &Account, caller: &Caller, pending: Pending) {
        let outcome = match account.view(self.shared.clock.now()) {
            Some(view) if caller.serves(view.school) => Outcome::View(view),
            Some(_) => Outcome::Rejected(Rejection::OtherSchool),
            None => Outcome::Rejected(Rejection::UnknownAccount),
        };
        self.shared.commit(Item::Answer(outcome, pending));
    }
}
