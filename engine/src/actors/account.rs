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
    /// Its balance and state.
    View(Pending),
    /// Nobody has asked for a while: give the state back.
    Retire,
}

#[derive(Debug)]
pub(crate) struct CommandMessage {
    pub(crate) caller: Caller,
    pub(crate) key: RequestKey,
    pub(crate) fingerprint: u64,
    pub(crate) command: Command,
    /// The card was reserved for this command and is to be released if it is refused.
    pub(crate) reserved: bool,
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
        let Some(account) = state.as_mut() else { return Ok(()) };
        match message {
            AccountMessage::Command(message) => {
                self.decide(account, message)?;
                self.cell.handled();
            }
            AccountMessage::View(pending) => {
                let outcome = match account.view(self.shared.clock.now()) {
                    Some(view) => Outcome::View(view),
                    None => Outcome::Rejected(Rejection::UnknownAccount),
                };
                self.shared.commit(Item::Answer(outcome, pending));
                self.cell.handled();
            }
            AccountMessage::Retire => {
                if let Some(account) = state.take() {
                    match self.cell.retire(account) {
                        // The count of waiting messages was zero under the lock: the mailbox is empty.
                        Ok(()) => myself.stop(None),
                        Err(account) => *state = Some(account),
                    }
                }
            }
        }
        Ok(())
    }
}

impl AccountActor {
    fn decide(&self, account: &mut Account, message: CommandMessage) -> Result<(), Panicked> {
        let CommandMessage { caller, key, fingerprint, command, reserved, pending } = message;
        let now = self.shared.clock.now();
        let rules = &self.shared.rules;
        // A state that panicked half-way is never used again: the supervisor makes it anew from the journal.
        let decided = catch_unwind(AssertUnwindSafe(|| {
            if let Some(probe) = &self.shared.probe {
                probe(&command);
            }
            let entry =
                account.decide(&caller, &command, rules, now).unwrap_or_else(|rejection| Entry::Refused { rejection });
            account.apply(key, now, &entry, rules);
            entry
        }));
        let Ok(entry) = decided else { return Err(Panicked(account.id())) };
        if let (true, Command::BindCard { card, .. }, Entry::Refused { .. }) = (reserved, command, entry) {
            self.shared.directory.release(card, account.id());
        }
        let draft = Draft { at: now, key, fingerprint, account: account.id(), balance: account.balance(), entry };
        self.shared.commit(Item::Commit(draft, pending));
        Ok(())
    }
}
