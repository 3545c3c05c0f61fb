//! The two halves of a transfer. The account with the lower number decides its half and keeps everything else waiting until the
//! other has decided, applied and committed both; so both are in one group, and nobody sees one without the other.

use std::collections::VecDeque;

use ractor::ActorRef;

use crate::account::Account;
use crate::actors::account::{AccountActor, AccountMessage, CommandMessage, Delivery, Owned, TransferMessage};
use crate::amount::Amount;
use crate::command::Command;
use crate::committer::{Draft, Item};
use crate::entry::Entry;
use crate::id::{AccountId, RequestKey};
use crate::rejection::Rejection;
use crate::time::Timestamp;

/// A transfer as an account waits for its other half.
#[derive(Debug)]
pub(crate) struct Suspension {
    key: RequestKey,
    at: Timestamp,
    /// This account's half; applied when the other one is made.
    entry: Entry,
    /// What came meanwhile, in order.
    pub(crate) waiting: VecDeque<AccountMessage>,
}

/// What the first account hands to the second.
#[derive(Debug)]
pub(crate) struct Half {
    message: CommandMessage,
    at: Timestamp,
    /// The first account's half, to be committed with the second's.
    first: Draft,
    /// What the first account holds before it.
    balance_before: Amount,
    word: Word,
}

/// The word that the first account waits for. Lost, it says no.
#[derive(Debug)]
struct Word(Option<ActorRef<Delivery>>);

impl Word {
    fn say(&mut self, made: bool) {
        if let Some(first) = self.0.take() {
            // If it has fallen meanwhile, it is made anew from the journal, which knows.
            drop(first.cast(Delivery { activation: None, message: AccountMessage::Completed(made) }));
        }
    }
}

impl Drop for Word {
    fn drop(&mut self) {
        self.say(false);
    }
}

/// Where a transfer goes, and how much.
fn parts(command: &Command) -> Option<(AccountId, AccountId, Amount)> {
    if let Command::Transfer { from, to, amount } = *command { Some((from, to, amount)) } else { None }
}

impl AccountActor {
    /// One account's half.
    fn decide_half(&self, account: &Account, message: &CommandMessage, now: Timestamp) -> Result<Entry, Rejection> {
        self.probe(&message.asked.command);
        let rules = &self.shared.rules;
        match parts(&message.asked.command) {
            Some((from, to, amount)) if account.id() == to => {
                account.decide_receive(&message.caller, from, amount, rules)
            }
            Some(_) | None => account.decide(&message.caller, &message.asked, rules, now),
        }
    }

    /// The first half: decides, and asks the other account.
    pub(crate) fn begin_transfer(&self, owned: &mut Owned, transfer: TransferMessage, myself: &ActorRef<Delivery>) {
        let TransferMessage { message, other } = transfer;
        let at = self.shared.clock.now();
        let account = &owned.account;
        match self.decide_half(account, &message, at) {
            Err(rejection) => {
                let draft = message.draft(at, account, Entry::Refused { rejection });
                self.shared.commit(Item::Commit(draft, message.pending));
                owned.handled += 1;
            }
            Ok(entry) => {
                let key = message.key;
                let mut first = message.draft(at, account, entry);
                // What it will be is for the rules to say: applied to a copy, since it may still come to nothing.
                let mut after = Account::clone(account);
                after.apply(key, at, &entry, &self.shared.rules);
                first.balance = after.balance();
                let balance_before = account.balance();
                owned.suspended = Some(Box::new(Suspension { key, at, entry, waiting: VecDeque::new() }));
                let half = Half { message, at, first, balance_before, word: Word(Some(myself.clone())) };
                self.shared.tell(other, AccountMessage::Complete(Box::new(half)));
            }
        }
    }

    /// The second half: decides, and commits both or a refusal.
    pub(crate) fn complete_transfer(&self, account: &mut Account, half: Half) {
        let Half { message, at, first, balance_before, mut word } = half;
        match self.decide_half(account, &message, at) {
            Ok(entry) => {
                account.apply(message.key, at, &entry, &self.shared.rules);
                let second = message.draft(at, account, entry);
                let both = if entry.is_companion() { (first, second) } else { (second, first) };
                self.shared.commit(Item::CommitBoth(Box::new(both), message.pending));
                word.say(true);
            }
            Err(rejection) => {
                // Journalled with the account that would have paid.
                let mut draft = message.draft(at, account, Entry::Refused { rejection });
                if let Some((from, _, _)) = parts(&message.asked.command)
                    && from != account.id()
                {
                    (draft.account, draft.balance) = (from, balance_before);
                }
                self.shared.commit(Item::Commit(draft, message.pending));
                word.say(false);
            }
        }
    }

    /// Word has come: goes on, with what waited first.
    pub(crate) fn resume(&self, owned: &mut Owned, made: bool, myself: &ActorRef<Delivery>) {
        let Some(suspended) = owned.suspended.take() else { return };
        let Suspension { key, at, entry, mut waiting } = *suspended;
        if made {
            owned.account.apply(key, at, &entry, &self.shared.rules);
        }
        owned.handled += 1;
        while let Some(message) = waiting.pop_front() {
            self.take(owned, message, myself);
            if let Some(again) = &mut owned.suspended {
                again.waiting = waiting;
                return;
            }
        }
    }
}
