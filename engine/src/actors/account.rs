//! The account actor: owns one account's state while the account is in use. It carries messages to the pure core and
//! what comes of them to the committer, in that order; it never waits for anything.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::account::Account;
use crate::caller::Caller;
use crate::cell::Cell;
use crate::command::Command;
use crate::committer::{Draft, Item};
use crate::engine::Shared;
use crate::entry::Entry;
use crate::id::{AccountId, RequestKey};
use crate::outcome::Outcome;
use crate::pending::Pending;
use crate::rejection::Rejection;

pub(crate) type AccountCell = Cell<Box<Account>, ActorRef<AccountMessage>>;

/// What an account is asked.
#[derive(Debug)]
pub(crate) enum AccountMessage {
    /// A command to decide.
    Command(CommandMessage),
    /// Its balance and state, for whom it may concern.
    View(Caller, Pending),
    /// Nobody has asked for a while: give the state back.
    Retire,
}

#[derive(Debug)]
pub(crate) struct CommandMessage {
    pub(crate) caller: Caller,
    pub(crate) key: RequestKey,
    pub(crate) fingerprint: u64,
    pub(crate) command: Command,
    pub(crate) pending: Pending,
}

/// The rules or the state of an account are not what they should be; its actor has fallen.
#[derive(Debug, thiserror::Error)]
#[error("account {0} panicked")]
pub(crate) struct Panicked(pub(crate) AccountId);

pub(crate) struct AccountActor {
    pub(crate) shared: Arc<Shared>,
    pub(crate) cell: Arc<AccountCell>,
}

impl Actor for AccountActor {
    type Msg = AccountMessage;
    /// `None` only between giving the state back and stopping.
    type State = Option<Box<Account>>;
    type Arguments = Box<Account>;

    async fn pre_start(
        &self,
        _myself: ActorRef<AccountMessage>,
        account: Box<Account>,
    ) -> Result<Option<Box<Account>>, ActorProcessingErr> {
        Ok(Some(account))
    }

    async fn handle(
        &self,
        myself: ActorRef<AccountMessage>,
        message: AccountMessage,
        state: &mut Option<Box<Account>>,
    ) -> Result<(), ActorProcessingErr> {
        let Some(mut account) = state.take() else { return Ok(()) };
        let id = account.id();
        // A state that panicked half-way is never used again: the supervisor makes it anew from the journal.
        let handled = catch_unwind(AssertUnwindSafe(|| match message {
            AccountMessage::Command(message) => {
                self.decide(&mut account, message);
                self.cell.handled();
                Some(account)
            }
            AccountMessage::View(caller, pending) => {
                self.show(&account, &caller, pending);
                self.cell.handled();
                Some(account)
            }
            AccountMessage::Retire => match self.cell.retire(account) {
                // The count of waiting messages was zero under the lock: the mailbox is empty.
                Ok(()) => {
                    myself.stop(None);
                    None
                }
                Err(account) => Some(account),
            },
        }));
        *state = handled.map_err(|_| Panicked(id))?;
        Ok(())
    }
}

impl AccountActor {
    fn decide(&self, account: &mut Account, message: CommandMessage) {
        let CommandMessage { caller, key, fingerprint, command, pending } = message;
        let now = self.shared.clock.now();
        let rules = &self.shared.rules;
        if let Some(probe) = &self.shared.probe {
            probe(&command);
        }
        let decided = account.decide(&caller, &command, rules, now);
        let mut entry = decided.unwrap_or_else(|rejection| Entry::Refused { rejection });
        // The one rule that is not the account's own: a card belongs to one account.
        if let Entry::CardBound { card } = entry
            && !self.shared.directory.bind(card, &self.cell)
        {
            entry = Entry::Refused { rejection: Rejection::CardTaken };
        }
        account.apply(key, now, &entry, rules);
        let draft = Draft { at: now, key, fingerprint, account: account.id(), balance: account.balance(), entry };
        self.shared.commit(Item::Commit(draft, pending));
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
