//! One account: its state, and the two pure functions that are the whole of its behaviour. [`Account::decide`]
//! says what a command comes to, [`Account::apply`] makes it so; replaying a journal is `apply` and nothing else.
//! Neither looks at a clock, sends anything or can fail half-way.

use std::collections::VecDeque;

use crate::amount::Amount;
use crate::caller::Caller;
use crate::card::CardNumber;
use crate::command::{Command, Source};
use crate::entry::{Entry, Record};
use crate::id::{AccountId, OrderNumber, RequestKey, SchoolId};
use crate::outcome::AccountView;
use crate::rejection::Rejection;
use crate::rules::Rules;
use crate::time::{Day, Timestamp};

/// The state of an account. Everything in it follows from the account's entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    id: AccountId,
    /// `None` until it is opened.
    school: Option<SchoolId>,
    balance: Amount,
    card: Option<CardNumber>,
    blocked: bool,
    daily_limit: Option<Amount>,
    /// Purchases less refunds of the same day's purchases, on the last day that had one.
    spent: (Day, Amount),
    /// Sales that can still be given back, oldest first.
    sales: VecDeque<Sale>,
    /// Every order ever credited: a payment counts once, however late its callback comes again.
    orders: Vec<OrderNumber>,
}

/// A sale that can still be given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sale {
    key: RequestKey,
    at: Timestamp,
    amount: Amount,
    refunded: Amount,
}

impl Account {
    /// An account that does not exist yet: it can only be opened.
    #[must_use]
    pub fn unopened(id: AccountId) -> Account {
        Account {
            id,
            school: None,
            balance: Amount::ZERO,
            card: None,
            blocked: false,
            daily_limit: None,
            spent: (Day::default(), Amount::ZERO),
            sales: VecDeque::new(),
            orders: Vec::new(),
        }
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> AccountId {
        self.id
    }

    /// Its school, once it is opened.
    #[must_use]
    pub fn school(&self) -> Option<SchoolId> {
        self.school
    }

    /// What it holds.
    #[must_use]
    pub fn balance(&self) -> Amount {
        self.balance
    }

    /// Its card, if it has one.
    #[must_use]
    pub fn card(&self) -> Option<CardNumber> {
        self.card
    }

    /// What `command` comes to: what happens, or why nothing does. Changes nothing.
    ///
    /// # Errors
    /// The first rule that is broken; a purchase's in the order of the quick guide, item 30.
    pub fn decide(
        &self,
        caller: &Caller,
        command: &Command,
        rules: &Rules,
        now: Timestamp,
    ) -> Result<Entry, Rejection> {
        if let Command::Open { school, .. } = *command {
            return self.decide_open(caller, school);
        }
        let by_card = matches!(command, Command::Purchase { .. } | Command::Refund { .. });
        let unknown = if by_card { Rejection::UnknownCard } else { Rejection::UnknownAccount };
        let school = self.school.ok_or(unknown)?;
        if !caller.serves(school) {
            return Err(Rejection::OtherSchool);
        }
        match *command {
            Command::Open { school, .. } => self.decide_open(caller, school),
            Command::BindCard { card, .. } => Ok(Entry::CardBound { card }),
            Command::Purchase { card, amount } => self.decide_purchase(card, amount, rules, now),
            Command::Refund { card, sale, amount } => self.decide_refund(card, sale, amount, rules, now),
            Command::TopUp { order, amount, source, .. } => {
                self.decide_top_up(order, amount, source, rules)?;
                Ok(Entry::ToppedUp { order, amount, source })
            }
            Command::Block { .. } => Ok(Entry::Blocked),
            Command::Activate { .. } => Ok(Entry::Activated),
            Command::SetDailyLimit { limit, .. } => {
                if limit.is_some_and(|limit| limit < Amount::ZERO || limit > rules.max_balance) {
                    return Err(Rejection::AmountOutOfRange);
                }
                Ok(Entry::DailyLimitSet { limit })
            }
        }
    }

    fn decide_open(&self, caller: &Caller, school: SchoolId) -> Result<Entry, Rejection> {
        if !caller.serves(school) {
            return Err(Rejection::OtherSchool);
        }
        if self.school.is_some() {
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
        if !amount.is_positive() || amount > rules.max_purchase {
            return Err(Rejection::AmountOutOfRange);
        }
        if self.card != Some(card) {
            return Err(Rejection::UnknownCard);
        }
        if self.blocked {
            return Err(Rejection::CardBlocked);
        }
        if let Some(limit) = self.daily_limit {
            let left = limit.checked_sub(self.spent_on(now.day())).unwrap_or_default();
            if amount > left {
                return Err(Rejection::DailyLimit { remaining: left.max(Amount::ZERO) });
            }
        }
        match self.balance.checked_sub(amount) {
            Some(after) if after >= Amount::ZERO => Ok(Entry::Purchased { amount }),
            Some(after) => Err(Rejection::LowBalance { missing: after.checked_neg().unwrap_or_default() }),
            None => Err(Rejection::AmountOutOfRange),
        }
    }

    fn decide_refund(
        &self,
        card: CardNumber,
        key: RequestKey,
        amount: Amount,
        rules: &Rules,
        now: Timestamp,
    ) -> Result<Entry, Rejection> {
        if !amount.is_positive() {
            return Err(Rejection::AmountOutOfRange);
        }
        if self.card != Some(card) {
            return Err(Rejection::UnknownCard);
        }
        let sale = self
            .sales
            .iter()
            .find(|sale| sale.key == key && now.millis_since(sale.at) <= rules.refund_window_ms)
            .ok_or(Rejection::UnknownSale)?;
        let refundable = sale.amount.checked_sub(sale.refunded).unwrap_or_default();
        if amount > refundable {
            return Err(Rejection::RefundTooLarge { refundable });
        }
        self.balance.checked_add(amount).ok_or(Rejection::AmountOutOfRange)?;
        Ok(Entry::Refunded { sale: key, amount })
    }

    fn decide_top_up(
        &self,
        order: OrderNumber,
        amount: Amount,
        source: Source,
        rules: &Rules,
    ) -> Result<(), Rejection> {
        if !amount.is_positive() || amount > rules.max_top_up {
            return Err(Rejection::AmountOutOfRange);
        }
        if self.orders.contains(&order) {
            return Err(Rejection::OrderCredited);
        }
        let room = rules.max_balance.checked_sub(self.balance).unwrap_or_default().max(Amount::ZERO);
        // What the provider has taken is the family's already; keeping it from the account would help nobody.
        if amount > room && source != Source::Provider {
            return Err(Rejection::BalanceTooHigh { room });
        }
        self.balance.checked_add(amount).map(drop).ok_or(Rejection::AmountOutOfRange)
    }

    /// Makes what was decided so. `rules` bounds only what is remembered, never what counts.
    ///
    /// # Panics
    /// If the balance leaves 64 bits, which `decide` rules out: a journal that does it is not ours.
    pub fn apply(&mut self, key: RequestKey, at: Timestamp, entry: &Entry, rules: &Rules) {
        match *entry {
            Entry::Opened { school } => self.school = Some(school),
            Entry::CardBound { card } => self.card = Some(card),
            Entry::Purchased { amount } => {
                self.balance = self.balance.checked_sub(amount).expect("decide checked the balance");
                let day = at.day();
                let spent = self.spent_on(day).checked_add(amount).expect("a day's purchases fit in 64 bits");
                self.spent = (day, spent);
                self.sales.push_back(Sale { key, at, amount, refunded: Amount::ZERO });
                while self.sales.front().is_some_and(|old| at.millis_since(old.at) > rules.refund_window_ms) {
                    self.sales.pop_front();
                }
            }
            Entry::Refunded { sale, amount } => {
                self.balance = self.balance.checked_add(amount).expect("decide checked the balance");
                if let Some(sale) = self.sales.iter_mut().find(|old| old.key == sale) {
                    sale.refunded = sale.refunded.checked_add(amount).expect("a refund is at most the sale");
                    if sale.at.day() == self.spent.0 {
                        self.spent.1 = self.spent.1.checked_sub(amount).unwrap_or_default().max(Amount::ZERO);
                    }
                }
            }
            Entry::ToppedUp { order, amount, .. } => {
                self.balance = self.balance.checked_add(amount).expect("decide checked the balance");
                self.orders.push(order);
            }
            Entry::Blocked => self.blocked = true,
            Entry::Activated => self.blocked = false,
            Entry::DailyLimitSet { limit } => self.daily_limit = limit,
            Entry::Refused { .. } => {}
        }
    }

    /// Applies a journalled record and checks that it comes to the balance the record states.
    ///
    /// # Errors
    /// [`Diverged`] if the rules of this program make something else of the record than the one that wrote it.
    pub fn replay(&mut self, record: &Record, rules: &Rules) -> Result<(), Diverged> {
        self.apply(record.key, record.at, &record.entry, rules);
        if self.balance == record.balance {
            Ok(())
        } else {
            Err(Diverged { account: self.id, stated: record.balance, computed: self.balance })
        }
    }

    /// What a query is shown.
    #[must_use]
    pub fn view(&self, now: Timestamp) -> Option<AccountView> {
        Some(AccountView {
            account: self.id,
            school: self.school?,
            balance: self.balance,
            card: self.card,
            blocked: self.blocked,
            daily_limit: self.daily_limit,
            spent_today: self.spent_on(now.day()),
        })
    }

    fn spent_on(&self, day: Day) -> Amount {
        if self.spent.0 == day { self.spent.1 } else { Amount::ZERO }
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
mod tests {
    use super::*;
    use crate::caller::Role;
    use crate::id::{CallerId, Sequence};

    const NOON: Timestamp = Timestamp(1_790_000_000_000);
    const ID: AccountId = AccountId(1);

    struct Story {
        account: Account,
        rules: Rules,
        now: Timestamp,
        sequence: u64,
    }

    impl Story {
        fn begin() -> Story {
            let mut story = Story { account: Account::unopened(ID), rules: Rules::default(), now: NOON, sequence: 0 };
            story.done(Command::Open { account: ID, school: SchoolId(1) });
            story.done(Command::BindCard { account: ID, card: card(1) });
            story
        }

        fn ask_as(&mut self, caller: Caller, command: Command) -> Result<RequestKey, Rejection> {
            self.sequence += 1;
            let key = RequestKey { caller: caller.id, sequence: Sequence(self.sequence) };
            let before = self.account.clone();
            let decided = self.account.decide(&caller, &command, &self.rules, self.now);
            assert_eq!(self.account, before, "deciding changes nothing");
            self.account.apply(key, self.now, &decided?, &self.rules);
            Ok(key)
        }

        fn ask(&mut self, command: Command) -> Result<RequestKey, Rejection> {
            self.ask_as(Caller { id: CallerId(9), role: Role::Till, school: SchoolId(1) }, command)
        }

        fn done(&mut self, command: Command) -> RequestKey {
            self.ask(command).unwrap()
        }

        fn buy(&mut self, kroner: i64) -> Result<RequestKey, Rejection> {
            self.ask(Command::Purchase { card: card(1), amount: Amount::from_kroner(kroner) })
        }

        fn fill(&mut self, kroner: i64) {
            let order = OrderNumber(self.sequence);
            let amount = Amount::from_kroner(kroner);
            self.done(Command::TopUp { account: ID, order, amount, source: Source::Provider });
        }
    }

    fn card(n: u8) -> CardNumber {
        format!("1234567890123{n}").parse().unwrap()
    }

    #[test]
    fn refusals_come_in_the_guides_order() {
        let mut story = Story::begin();
        story.fill(100);
        story.done(Command::SetDailyLimit { account: ID, limit: Some(Amount::from_kroner(50)) });
        story.done(Command::Block { account: ID });
        // Everything is wrong at once, and is mended one by one.
        let amount = Amount::from_kroner(200);
        assert_eq!(story.ask(Command::Purchase { card: card(2), amount }), Err(Rejection::UnknownCard));
        assert_eq!(story.buy(200), Err(Rejection::CardBlocked));
        story.done(Command::Activate { account: ID });
        assert_eq!(story.buy(200), Err(Rejection::DailyLimit { remaining: Amount::from_kroner(50) }));
        story.done(Command::SetDailyLimit { account: ID, limit: None });
        assert_eq!(story.buy(200), Err(Rejection::LowBalance { missing: Amount::from_kroner(100) }));
        assert!(story.buy(100).is_ok());
        assert_eq!(story.account.balance(), Amount::ZERO);
    }

    #[test]
    fn a_daily_limit_counts_to_its_last_ore_and_starts_anew_at_midnight() {
        let mut story = Story::begin();
        story.fill(1000);
        story.buy(30).unwrap();
        // Set in the middle of the day: what was bought before counts.
        story.done(Command::SetDailyLimit { account: ID, limit: Some(Amount::from_kroner(50)) });
        assert_eq!(story.buy(21), Err(Rejection::DailyLimit { remaining: Amount::from_kroner(20) }));
        let lunch = story.buy(20).unwrap();
        assert_eq!(story.buy(1), Err(Rejection::DailyLimit { remaining: Amount::ZERO }));
        // Given back today, it can be spent today.
        story.done(Command::Refund { card: card(1), sale: lunch, amount: Amount::from_kroner(5) });
        story.buy(5).unwrap();
        story.now = Timestamp(NOON.0 + 24 * 3_600_000);
        story.buy(50).unwrap();
        // Yesterday's lunch given back does not make today's limit larger.
        story.done(Command::Refund { card: card(1), sale: lunch, amount: Amount::from_kroner(5) });
        assert_eq!(story.buy(1), Err(Rejection::DailyLimit { remaining: Amount::ZERO }));
    }

    #[test]
    fn a_refund_is_never_more_than_the_sale() {
        let mut story = Story::begin();
        story.fill(100);
        let sale = story.buy(40).unwrap();
        let refund = |kroner| Command::Refund { card: card(1), sale, amount: Amount::from_kroner(kroner) };
        story.done(refund(15));
        assert_eq!(story.ask(refund(26)), Err(Rejection::RefundTooLarge { refundable: Amount::from_kroner(25) }));
        story.done(refund(25));
        assert_eq!(story.ask(refund(1)), Err(Rejection::RefundTooLarge { refundable: Amount::ZERO }));
        assert_eq!(story.account.balance(), Amount::from_kroner(100));
        let never = RequestKey { caller: CallerId(9), sequence: Sequence(999) };
        let amount = Amount::from_kroner(1);
        assert_eq!(story.ask(Command::Refund { card: card(1), sale: never, amount }), Err(Rejection::UnknownSale));
        let late = story.buy(10).unwrap();
        story.now = Timestamp(NOON.0 + story.rules.refund_window_ms + 1);
        assert_eq!(story.ask(Command::Refund { card: card(1), sale: late, amount }), Err(Rejection::UnknownSale));
    }

    #[test]
    fn an_order_counts_once_and_amounts_have_bounds() {
        let mut story = Story::begin();
        let top_up = |order, ore| Command::TopUp {
            account: ID,
            order: OrderNumber(order),
            amount: Amount::from_ore(ore),
            source: Source::Provider,
        };
        story.done(top_up(5, 20_000));
        assert_eq!(story.ask(top_up(5, 20_000)), Err(Rejection::OrderCredited));
        for ore in [0, -1, i64::MIN, 1_000_001, i64::MAX] {
            assert_eq!(story.ask(top_up(6, ore)), Err(Rejection::AmountOutOfRange));
            let sale = Command::Purchase { card: card(1), amount: Amount::from_ore(ore) };
            assert_eq!(story.ask(sale), Err(Rejection::AmountOutOfRange));
        }
        for order in 10..14 {
            story.done(top_up(order, 1_000_000));
        }
        let room = Amount::from_ore(980_000);
        let (order, amount) = (OrderNumber(20), Amount::from_ore(1_000_000));
        let by_hand = Command::TopUp { account: ID, order, amount, source: Source::Counter };
        assert_eq!(story.ask(by_hand), Err(Rejection::BalanceTooHigh { room }));
        story.done(top_up(20, 1_000_000));
    }

    #[test]
    fn a_new_card_kills_the_old_one() {
        let mut story = Story::begin();
        story.fill(100);
        story.done(Command::BindCard { account: ID, card: card(2) });
        assert_eq!(story.buy(10), Err(Rejection::UnknownCard));
        story.done(Command::Purchase { card: card(2), amount: Amount::from_kroner(10) });
        assert_eq!(story.account.balance(), Amount::from_kroner(90));
    }

    #[test]
    fn another_schools_till_sells_nothing() {
        let mut story = Story::begin();
        story.fill(100);
        let stranger = Caller { id: CallerId(8), role: Role::Till, school: SchoolId(2) };
        let sale = Command::Purchase { card: card(1), amount: Amount::from_kroner(10) };
        assert_eq!(story.ask_as(stranger, sale), Err(Rejection::OtherSchool));
        let again = Command::Open { account: ID, school: SchoolId(1) };
        assert_eq!(story.ask(again), Err(Rejection::AccountExists));
    }
}
