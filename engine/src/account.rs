//! One account: its state, and the pure functions that are the whole of its behaviour. [`Account::decide`] says what a
//! command comes to, [`Account::apply`] makes it so; replaying a journal is `apply` and nothing else. Neither looks at a
//! clock, sends anything or can fail half-way.

mod decide;
pub mod state;

use crate::amount::Amount;
use crate::card::CardNumber;
use crate::command::Source;
use crate::entry::{Entry, Record};
use crate::id::{AccountId, RequestKey, SchoolId};
use crate::outcome::AccountView;
use crate::rules::Rules;
use crate::time::Timestamp;

use state::{AccountState, Agreement, Charge, Payout, PayoutStage, Sale};

/// An account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    state: AccountState,
}

impl From<AccountState> for Account {
    /// The account as it was when its state was kept.
    fn from(state: AccountState) -> Account {
        Account { state }
    }
}

impl Account {
    /// An account that does not exist yet: it can only be opened.
    #[must_use]
    pub fn unopened(id: AccountId) -> Account {
        AccountState::unopened(id).into()
    }

    /// Everything that is known of it.
    #[must_use]
    pub fn state(&self) -> &AccountState {
        &self.state
    }

    /// Everything that is known of it, and no more the account.
    #[must_use]
    pub fn into_state(self) -> AccountState {
        self.state
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> AccountId {
        self.state.id
    }

    /// Its school, once it is opened.
    #[must_use]
    pub fn school(&self) -> Option<SchoolId> {
        self.state.school
    }

    /// What it holds.
    #[must_use]
    pub fn balance(&self) -> Amount {
        self.state.balance
    }

    /// Its card, if it has one.
    #[must_use]
    pub fn card(&self) -> Option<CardNumber> {
        self.state.card
    }

    /// Makes what was decided so. `rules` bounds only what is remembered, never what counts.
    ///
    /// # Panics
    /// If the balance leaves 64 bits, which `decide` rules out: a journal that does it is not ours.
    pub fn apply(&mut self, key: RequestKey, at: Timestamp, entry: &Entry, rules: &Rules) {
        match *entry {
            Entry::Opened { school } => self.state.school = Some(school),
            Entry::CardBound { card } => self.state.card = Some(card),
            Entry::Purchased { amount } => {
                self.take(amount);
                self.remember_sale(key, at, amount, rules);
            }
            Entry::Refunded { sale, amount } => {
                self.give(amount);
                self.give_back(sale, amount);
            }
            Entry::ToppedUp { order, amount, source } => {
                self.give(amount);
                self.state.orders.push(order);
                if source != Source::Opening {
                    self.state.paid_in =
                        self.state.paid_in.checked_add(amount).expect("decide checked what is paid in");
                }
                if source == Source::Automatic {
                    self.state.rare().charge = None;
                }
            }
            Entry::Blocked => self.state.blocked = true,
            Entry::Activated => self.state.blocked = false,
            Entry::DailyLimitSet { limit } => self.state.daily_limit = limit,
            Entry::CreditLimitSet { limit } => self.state.rare().credit_limit = limit,
            Entry::TransferredOut { amount, .. } => self.take(amount),
            Entry::TransferredIn { amount, .. } => self.give(amount),
            Entry::PayoutReserved { payout, amount } => {
                self.take(amount);
                self.state.rare().payouts.push(Payout { number: payout, amount, stage: PayoutStage::Reserved });
            }
            Entry::PayoutSent { payout } => self.advance(payout, PayoutStage::Sent),
            Entry::PayoutDone { payout, .. } => self.advance(payout, PayoutStage::Done),
            Entry::PayoutReturned { payout, amount } => {
                self.give(amount);
                self.advance(payout, PayoutStage::Returned);
            }
            Entry::Corrected { amount, .. } => self.give(amount),
            Entry::AutoTopUpAgreed { agreement, amount } => {
                self.state.rare().agreement = Some(Agreement { number: agreement, amount });
            }
            Entry::AutoTopUpCancelled => self.state.rare().agreement = None,
            Entry::ChargeWished { attempt, agreement, amount } => {
                let rare = self.state.rare();
                rare.attempts = attempt;
                rare.charge = Some(Charge { attempt, agreement: Agreement { number: agreement, amount }, at });
            }
            Entry::ChargeFailed { .. } => self.state.rare().charge = None,
            Entry::Closed => {
                self.state.closed = true;
                self.state.rare().agreement = None;
            }
            Entry::Refused { .. } => {}
        }
    }

    /// Applies a journalled record and checks that it comes to the balance the record states.
    ///
    /// # Errors
    /// [`Diverged`] if the rules of this program make something else of the record than the one that wrote it.
    pub fn replay(&mut self, record: &Record, rules: &Rules) -> Result<(), Diverged> {
        self.apply(record.key, record.at, &record.entry, rules);
        if self.state.balance == record.balance {
            Ok(())
        } else {
            Err(Diverged { account: self.state.id, stated: record.balance, computed: self.state.balance })
        }
    }

    /// What a query is shown.
    #[must_use]
    pub fn view(&self, now: Timestamp) -> Option<AccountView> {
        let state = &self.state;
        Some(AccountView {
            account: state.id,
            school: state.school?,
            balance: state.balance,
            card: state.card,
            blocked: state.blocked,
            daily_limit: state.daily_limit,
            spent_today: state.spent.on(now.day()),
            credit_limit: state.credit_limit(),
            auto_top_up: state.agreement().map(|agreement| agreement.amount),
            charging: state.charge().is_some(),
            closed: state.closed,
        })
    }

    fn take(&mut self, amount: Amount) {
        self.state.balance = self.state.balance.checked_sub(amount).expect("decide checked the balance");
    }

    fn give(&mut self, amount: Amount) {
        self.state.balance = self.state.balance.checked_add(amount).expect("decide checked the balance");
    }

    fn remember_sale(&mut self, key: RequestKey, at: Timestamp, amount: Amount, rules: &Rules) {
        let state = &mut self.state;
        let day = at.day();
        let spent = state.spent.on(day).checked_add(amount).expect("a day's purchases fit in 64 bits");
        state.spent.set(day, spent);
        // A day longer than needed, for a clock that is set back.
        let forget_after = rules.refund_window_ms.saturating_add(24 * 60 * 60 * 1000);
        while state.sales.front().is_some_and(|old| at.millis_since(old.at()) > forget_after) {
            state.sales.pop_front();
        }
        if state.sales.len() == state.sales.capacity() {
            // A child buys once or twice a day: doubling would leave half of a million accounts' memory unused.
            state.sales.reserve_exact(4);
        }
        state.sales.push_back(Sale::new(key, at, amount));
    }

    fn give_back(&mut self, sale: RequestKey, amount: Amount) {
        let state = &mut self.state;
        if let Some(sale) = state.sales.iter_mut().rev().find(|old| old.key() == sale) {
            sale.refund(amount);
            let day = sale.at().day();
            // A day that is forgotten stays forgotten.
            if state.spent.days().any(|(known, _)| known == day) {
                let spent = state.spent.on(day).checked_sub(amount).unwrap_or_default();
                state.spent.set(day, spent.max(Amount::ZERO));
            }
        }
    }

    fn advance(&mut self, number: crate::id::PayoutNumber, stage: PayoutStage) {
        let payouts = &mut self.state.rare().payouts;
        if let Some(payout) = payouts.iter_mut().find(|payout| payout.number == number) {
            payout.stage = stage;
        }
    }
}

/// A record states another balance than it leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("account {account}: the record states a balance of {stated}, replay comes to {computed}")]
pub struct Diverged {
    /// The account.
    pub account: AccountId,
    /// What the record says.
    pub stated: Amount,
    /// What replay says.
    pub computed: Amount,
}

#[cfg(test)]
mod tests;
