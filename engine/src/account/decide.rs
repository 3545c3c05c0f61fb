//! What a command comes to: every rule of the quick guide, as functions of the account's state that change nothing.

use super::Account;
use super::state::{PayoutStage, Sale};
use crate::amount::Amount;
use crate::caller::Caller;
use crate::card::CardNumber;
use crate::command::{Asked, Command, Reason, Source};
use crate::entry::Entry;
use crate::id::{AccountId, Attempt, OrderNumber, PayoutNumber, RequestKey, SchoolId};
use crate::rejection::Rejection;
use crate::rules::Rules;
use crate::time::Timestamp;

/// Above nothing, and at most `most`.
fn check_amount(amount: Amount, most: Amount) -> Result<(), Rejection> {
    if amount == Amount::ZERO {
        Err(Rejection::AmountZero)
    } else if amount < Amount::ZERO {
        Err(Rejection::AmountNegative)
    } else if amount > most {
        Err(Rejection::AmountTooLarge { most })
    } else {
        Ok(())
    }
}

impl Account {
    /// What a request comes to: what happens, or why nothing does. Changes nothing. Of a transfer this is the half of the
    /// account that pays; [`Account::decide_receive`] is the other.
    ///
    /// # Errors
    /// The first rule that is broken; a purchase's in the order of the quick guide, item 30.
    pub fn decide(&self, caller: &Caller, asked: &Asked, rules: &Rules, now: Timestamp) -> Result<Entry, Rejection> {
        let Asked { command, details } = asked;
        if details.currency != rules.currency {
            return Err(Rejection::WrongCurrency);
        }
        if let Command::Open { school, .. } = *command {
            return self.decide_open(caller, school);
        }
        let at_till = matches!(command, Command::Purchase { .. } | Command::Refund { .. });
        let unknown = if at_till { Rejection::UnknownCard } else { Rejection::UnknownAccount };
        let state = &self.state;
        self.serves(caller, unknown)?;
        if state.closed {
            let money_leaves_or_was_taken_already = matches!(
                command,
                Command::TopUp { source: Source::Provider | Source::Automatic, .. }
                    | Command::Transfer { .. }
                    | Command::RequestPayout { .. }
                    | Command::MarkPayoutSent { .. }
                    | Command::MarkPayoutDone { .. }
                    | Command::ReturnPayout { .. }
                    | Command::Correct { .. }
                    | Command::ReportChargeFailed { .. }
            );
            if !money_leaves_or_was_taken_already {
                return Err(if at_till { Rejection::UnknownCard } else { Rejection::AccountClosed });
            }
        }
        match *command {
            Command::Open { school, .. } => self.decide_open(caller, school),
            Command::BindCard { card, .. } => Ok(Entry::CardBound { card }),
            Command::Purchase { card, amount } => self.decide_purchase(card, amount, rules, now),
            Command::Refund { card, sale, amount } => self.decide_refund(card, sale, amount, rules, now),
            Command::TopUp { order, amount, source, .. } => self.decide_top_up(order, amount, source, rules),
            Command::Block { .. } => Ok(Entry::Blocked),
            Command::Activate { .. } => Ok(Entry::Activated),
            Command::SetDailyLimit { limit, .. } => {
                check_limit(limit.unwrap_or_default(), rules.max_balance)?;
                Ok(Entry::DailyLimitSet { limit })
            }
            Command::SetCreditLimit { limit, .. } => {
                check_limit(limit, rules.max_credit)?;
                Ok(Entry::CreditLimitSet { limit })
            }
            Command::Transfer { to, amount, .. } => {
                if to == state.id {
                    return Err(Rejection::SameAccount);
                }
                check_amount(amount, rules.max_balance)?;
                self.covers(amount, Amount::ZERO)?;
                Ok(Entry::TransferredOut { to, amount })
            }
            Command::RequestPayout { payout, amount, .. } => self.decide_payout(payout, amount, rules),
            Command::MarkPayoutSent { payout, .. } => {
                self.open_payout(payout)?;
                Ok(Entry::PayoutSent { payout })
            }
            Command::MarkPayoutDone { payout, .. } => {
                Ok(Entry::PayoutDone { payout, amount: self.open_payout(payout)? })
            }
            Command::ReturnPayout { payout, .. } => {
                let amount = self.open_payout(payout)?;
                self.gains(amount)?;
                Ok(Entry::PayoutReturned { payout, amount })
            }
            Command::Correct { amount, reason, .. } => self.decide_correction(amount, reason, rules),
            Command::AgreeAutoTopUp { agreement, amount, .. } => {
                check_amount(amount, rules.max_top_up)?;
                Ok(Entry::AutoTopUpAgreed { agreement, amount })
            }
            Command::CancelAutoTopUp { .. } => {
                state.agreement().ok_or(Rejection::NoAgreement)?;
                Ok(Entry::AutoTopUpCancelled)
            }
            Command::ReportChargeFailed { attempt, failure, .. } => {
                state.charge().filter(|charge| charge.attempt == attempt).ok_or(Rejection::UnknownAttempt)?;
                Ok(Entry::ChargeFailed { attempt, failure })
            }
            Command::Close { .. } => {
                let open = state.rare.as_ref().is_some_and(|rare| {
                    rare.charge.is_some() || rare.payouts.iter().any(|payout| !payout.stage.is_settled())
                });
                if open || state.balance != Amount::ZERO {
                    return Err(Rejection::NotEmpty { balance: state.balance });
                }
                Ok(Entry::Closed)
            }
        }
    }

    /// The half of a transfer of the account that is paid.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn decide_receive(
        &self,
        caller: &Caller,
        from: AccountId,
        amount: Amount,
        rules: &Rules,
    ) -> Result<Entry, Rejection> {
        self.serves(caller, Rejection::UnknownAccount)?;
        if self.state.closed {
            return Err(Rejection::AccountClosed);
        }
        check_amount(amount, rules.max_balance)?;
        let room = self.room(rules);
        if amount > room {
            return Err(Rejection::BalanceTooHigh { room });
        }
        Ok(Entry::TransferredIn { from, amount })
    }

    /// Does the account wish to be topped up, now that something happened at a till? Asked after `entry` is applied:
    /// a purchase that left little, or one that was refused because there was too little (items 19 to 23).
    #[must_use]
    pub fn wish(&self, command: &Command, entry: &Entry, rules: &Rules) -> Option<Entry> {
        if !matches!(command, Command::Purchase { .. }) {
            return None;
        }
        let refused = matches!(entry, Entry::Refused { rejection: Rejection::LowBalance { .. } });
        let bought = matches!(entry, Entry::Purchased { .. });
        let little = refused || (bought && self.state.balance < rules.auto_top_up_below);
        let rare = self.state.rare.as_ref()?;
        let agreement = rare.agreement?;
        let due = little && rare.charge.is_none() && self.state.paid_in >= rules.auto_top_up_after;
        let attempt = Attempt(rare.attempts.0.checked_add(1)?);
        due.then_some(Entry::ChargeWished { attempt, agreement: agreement.number, amount: agreement.amount })
    }

    fn serves(&self, caller: &Caller, unknown: Rejection) -> Result<(), Rejection> {
        let school = self.state.school.ok_or(unknown)?;
        if caller.serves(school) { Ok(()) } else { Err(Rejection::OtherSchool) }
    }

    fn decide_open(&self, caller: &Caller, school: SchoolId) -> Result<Entry, Rejection> {
        if !caller.serves(school) {
            return Err(Rejection::OtherSchool);
        }
        if self.state.school.is_some() {
            return Err(Rejection::AccountExists);
        }
        Ok(Entry::Opened { school })
    }

    fn decide_purchase(
        &self,
        card: CardNumber,
        amount: Amount,
        rules: &Rules,
        now: Timestamp,
    ) -> Result<Entry, Rejection> {
        check_amount(amount, rules.max_purchase.min(Sale::MOST))?;
        if self.state.card != Some(card) {
            return Err(Rejection::UnknownCard);
        }
        if self.state.blocked {
            return Err(Rejection::CardBlocked);
        }
        if let Some(limit) = self.state.daily_limit {
            let left = limit.checked_sub(self.state.spent.on(now.day())).unwrap_or_default();
            if amount > left {
                return Err(Rejection::DailyLimit { remaining: left.max(Amount::ZERO) });
            }
        }
        self.covers(amount, self.state.credit_limit())?;
        Ok(Entry::Purchased { amount })
    }

    fn decide_refund(
        &self,
        card: CardNumber,
        key: RequestKey,
        amount: Amount,
        rules: &Rules,
        now: Timestamp,
    ) -> Result<Entry, Rejection> {
        check_amount(amount, Sale::MOST)?;
        if self.state.card != Some(card) {
            return Err(Rejection::UnknownCard);
        }
        let sales = self.state.sales.iter();
        let sale = sales
            .rev()
            .find(|sale| sale.key() == key && now.millis_since(sale.at()) <= rules.refund_window_ms)
            .ok_or(Rejection::UnknownSale)?;
        let refundable = sale.amount().checked_sub(sale.refunded()).unwrap_or_default();
        if amount > refundable {
            return Err(Rejection::RefundTooLarge { refundable });
        }
        self.gains(amount)?;
        Ok(Entry::Refunded { sale: key, amount })
    }

    fn decide_top_up(
        &self,
        order: OrderNumber,
        amount: Amount,
        source: Source,
        rules: &Rules,
    ) -> Result<Entry, Rejection> {
        check_amount(amount, rules.max_top_up)?;
        if self.state.orders.contains(&order) {
            return Err(Rejection::OrderCredited);
        }
        // What the provider has taken is the family's already; keeping it from the account would help nobody.
        let room = self.room(rules);
        if amount > room && !matches!(source, Source::Provider | Source::Automatic) {
            return Err(Rejection::BalanceTooHigh { room });
        }
        self.gains(amount)?;
        self.state.paid_in.checked_add(amount).ok_or(Rejection::AmountTooLarge { most: room })?;
        Ok(Entry::ToppedUp { order, amount, source })
    }

    fn decide_payout(&self, payout: PayoutNumber, amount: Amount, rules: &Rules) -> Result<Entry, Rejection> {
        check_amount(amount, rules.max_balance)?;
        if self.state.payout(payout).is_some() {
            return Err(Rejection::PayoutExists);
        }
        self.covers(amount, Amount::ZERO)?;
        Ok(Entry::PayoutReserved { payout, amount })
    }

    /// A correction may owe what credit allows, and no more.
    fn decide_correction(&self, amount: Amount, reason: Reason, rules: &Rules) -> Result<Entry, Rejection> {
        let size = if amount < Amount::ZERO { amount.checked_neg().ok_or(Rejection::AmountNegative)? } else { amount };
        check_amount(size, rules.max_balance)?;
        if amount < Amount::ZERO {
            self.covers(size, self.state.credit_limit())?;
        } else if size > self.room(rules) {
            return Err(Rejection::BalanceTooHigh { room: self.room(rules) });
        }
        Ok(Entry::Corrected { amount, reason })
    }

    /// The amount of a pay-out that something can still happen to.
    fn open_payout(&self, number: PayoutNumber) -> Result<Amount, Rejection> {
        let payout = self.state.payout(number).ok_or(Rejection::UnknownPayout)?;
        match payout.stage {
            PayoutStage::Reserved | PayoutStage::Sent => Ok(payout.amount),
            PayoutStage::Done | PayoutStage::Returned => Err(Rejection::PayoutSettled),
        }
    }

    /// Can `amount` be taken without going further below zero than `credit`?
    fn covers(&self, amount: Amount, credit: Amount) -> Result<(), Rejection> {
        let missing = self
            .state
            .balance
            .checked_add(credit)
            .and_then(|available| amount.checked_sub(available))
            .ok_or(Rejection::AmountTooLarge { most: self.state.balance.max(Amount::ZERO) })?;
        if missing.is_positive() { Err(Rejection::LowBalance { missing }) } else { Ok(()) }
    }

    /// Does the balance stay within 64 bits?
    fn gains(&self, amount: Amount) -> Result<(), Rejection> {
        self.state.balance.checked_add(amount).map(drop).ok_or(Rejection::BalanceTooHigh { room: Amount::ZERO })
    }

    /// What can still be paid in by hand.
    fn room(&self, rules: &Rules) -> Amount {
        rules.max_balance.checked_sub(self.state.balance).unwrap_or_default().max(Amount::ZERO)
    }
}

/// A limit may be nothing, and at most `most`.
fn check_limit(limit: Amount, most: Amount) -> Result<(), Rejection> {
    if limit == Amount::ZERO { Ok(()) } else { check_amount(limit, most) }
}
