//! The rules one by one, each as a short story about one account.

use super::*;
use crate::amount::Amount;
use crate::caller::Caller;
use crate::caller::Role;
use crate::card::CardNumber;
use crate::command::{Asked, ChargeFailure, Command, Reason, Source};
use crate::id::{AgreementNumber, Attempt, OrderNumber, PayoutNumber, SchoolId};
use crate::id::{CallerId, Sequence};
use crate::rejection::Rejection;
use crate::text::{Currency, Details};
use crate::time::Timestamp;

const NOON: Timestamp = Timestamp(1_790_000_000_000);
const ID: AccountId = AccountId(1);

struct Story {
    account: Account,
    rules: Rules,
    now: Timestamp,
    sequence: u64,
    /// What the last request made the account wish for.
    wish: Option<Entry>,
}

impl Story {
    fn begin() -> Story {
        let mut story =
            Story { account: Account::unopened(ID), rules: Rules::default(), now: NOON, sequence: 0, wish: None };
        story.done(Command::Open { account: ID, school: SchoolId(1) });
        story.done(Command::BindCard { account: ID, card: card(1) });
        story
    }

    fn ask_as(&mut self, caller: Caller, asked: impl Into<Asked>) -> Result<RequestKey, Rejection> {
        let asked = asked.into();
        self.sequence += 1;
        let key = RequestKey { caller: caller.id, sequence: Sequence(self.sequence) };
        let before = self.account.clone();
        let decided = self.account.decide(&caller, &asked, &self.rules, self.now);
        assert_eq!(self.account, before, "deciding changes nothing");
        let entry = decided.unwrap_or_else(|rejection| Entry::Refused { rejection });
        self.account.apply(key, self.now, &entry, &self.rules);
        self.wish = self.account.wish(&asked.command, &entry, &self.rules);
        if let Some(wish) = self.wish {
            self.account.apply(key, self.now, &wish, &self.rules);
        }
        decided.map(|_| key)
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
    let most = Amount::from_kroner(10_000);
    let bounds = [
        (0, Rejection::AmountZero),
        (-1, Rejection::AmountNegative),
        (i64::MIN, Rejection::AmountNegative),
        (1_000_001, Rejection::AmountTooLarge { most }),
        (i64::MAX, Rejection::AmountTooLarge { most }),
    ];
    for (ore, why) in bounds {
        assert_eq!(story.ask(top_up(6, ore)), Err(why));
        let sale = Command::Purchase { card: card(1), amount: Amount::from_ore(ore) };
        let most = Amount::from_kroner(5_000);
        let why = if why.code() == 1 { Rejection::AmountTooLarge { most } } else { why };
        assert_eq!(story.ask(sale), Err(why));
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

#[test]
fn another_currency_is_refused_by_name() {
    let mut story = Story::begin();
    story.fill(100);
    let command = Command::Purchase { card: card(1), amount: Amount::from_kroner(10) };
    let euro = Details { currency: Currency::from_bytes(*b"EUR").unwrap(), ..Details::default() };
    let till = Caller { id: CallerId(9), role: Role::Till, school: SchoolId(1) };
    assert_eq!(story.ask_as(till, Asked { command, details: euro }), Err(Rejection::WrongCurrency));
    assert_eq!(story.account.balance(), Amount::from_kroner(100));
}

#[test]
fn credit_is_for_purchases_only() {
    let mut story = Story::begin();
    let kroner = Amount::from_kroner;
    let too_much = Command::SetCreditLimit { account: ID, limit: kroner(1_001) };
    assert_eq!(story.ask(too_much), Err(Rejection::AmountTooLarge { most: kroner(1_000) }));
    story.done(Command::SetCreditLimit { account: ID, limit: kroner(50) });
    story.fill(20);
    story.buy(60).unwrap();
    assert_eq!(story.account.balance(), kroner(-40));
    assert_eq!(story.buy(11), Err(Rejection::LowBalance { missing: kroner(1) }));
    let payout = Command::RequestPayout { account: ID, payout: PayoutNumber(1), amount: kroner(1) };
    assert_eq!(story.ask(payout), Err(Rejection::LowBalance { missing: kroner(41) }));
    let transfer = Command::Transfer { from: ID, to: AccountId(2), amount: kroner(1) };
    assert_eq!(story.ask(transfer), Err(Rejection::LowBalance { missing: kroner(41) }));
    story.fill(40);
    assert_eq!(story.account.balance(), Amount::ZERO);
}

#[test]
fn a_payout_is_paid_once_or_comes_back_once() {
    let mut story = Story::begin();
    let kroner = Amount::from_kroner;
    story.fill(300);
    let request =
        |payout, ore| Command::RequestPayout { account: ID, payout: PayoutNumber(payout), amount: kroner(ore) };
    story.done(request(1, 100));
    story.done(request(2, 150));
    assert_eq!(story.account.balance(), kroner(50), "it leaves the balance at once");
    assert_eq!(story.ask(request(1, 10)), Err(Rejection::PayoutExists));
    assert_eq!(story.ask(request(3, 51)), Err(Rejection::LowBalance { missing: kroner(1) }));
    let unknown = Command::MarkPayoutDone { account: ID, payout: PayoutNumber(9) };
    assert_eq!(story.ask(unknown), Err(Rejection::UnknownPayout));
    story.done(Command::MarkPayoutSent { account: ID, payout: PayoutNumber(1) });
    story.done(Command::MarkPayoutDone { account: ID, payout: PayoutNumber(1) });
    story.done(Command::ReturnPayout { account: ID, payout: PayoutNumber(2) });
    assert_eq!(story.account.balance(), kroner(200), "a rejected one is back");
    for command in [
        Command::MarkPayoutDone { account: ID, payout: PayoutNumber(1) },
        Command::ReturnPayout { account: ID, payout: PayoutNumber(1) },
        Command::ReturnPayout { account: ID, payout: PayoutNumber(2) },
        Command::MarkPayoutSent { account: ID, payout: PayoutNumber(2) },
    ] {
        assert_eq!(story.ask(command), Err(Rejection::PayoutSettled), "{command:?}");
    }
    assert_eq!(story.account.balance(), kroner(200));
}

#[test]
fn a_correction_adds_or_takes_within_bounds() {
    let mut story = Story::begin();
    let kroner = Amount::from_kroner;
    story.fill(100);
    let correct = |amount| Command::Correct { account: ID, amount: kroner(amount), reason: Reason::TillError };
    story.done(correct(15));
    story.done(correct(-35));
    assert_eq!(story.account.balance(), kroner(80));
    assert_eq!(story.ask(correct(0)), Err(Rejection::AmountZero));
    assert_eq!(story.ask(correct(-81)), Err(Rejection::LowBalance { missing: kroner(1) }));
    assert_eq!(story.ask(correct(49_921)), Err(Rejection::BalanceTooHigh { room: kroner(49_920) }));
    let least = Command::Correct { account: ID, amount: Amount::from_ore(i64::MIN), reason: Reason::Other };
    assert_eq!(story.ask(least), Err(Rejection::AmountNegative));
}

#[test]
fn automatic_top_up_follows_the_guide() {
    let mut story = Story::begin();
    let kroner = Amount::from_kroner;
    let agree = Command::AgreeAutoTopUp { account: ID, agreement: AgreementNumber(7), amount: kroner(200) };
    story.done(agree);
    let opening = Command::TopUp { account: ID, order: OrderNumber(99), amount: kroner(60), source: Source::Opening };
    story.done(opening);
    story.fill(99);
    story.buy(120).unwrap();
    assert_eq!(story.wish, None, "99 kr. paid in is not 100; an opening balance is not paid in");
    story.fill(1);
    story.fill(70);
    story.buy(60).unwrap();
    assert_eq!((story.account.balance(), story.wish), (kroner(50), None), "50 kr. is not under 50 kr.");
    story.buy(1).unwrap();
    let wished = |attempt| {
        Some(Entry::ChargeWished { attempt: Attempt(attempt), agreement: AgreementNumber(7), amount: kroner(200) })
    };
    assert_eq!(story.wish, wished(1));
    story.buy(1).unwrap();
    assert_eq!(story.wish, None, "one at a time");
    let report = |attempt| Command::ReportChargeFailed {
        account: ID,
        attempt: Attempt(attempt),
        failure: ChargeFailure::NoCover,
    };
    assert_eq!(story.ask(report(2)), Err(Rejection::UnknownAttempt));
    story.done(report(1));
    assert_eq!(story.ask(report(1)), Err(Rejection::UnknownAttempt));
    // 48 kr. are left: too little for this, and so a wish, although nothing was bought.
    assert_eq!(story.buy(100), Err(Rejection::LowBalance { missing: kroner(52) }));
    assert_eq!(story.wish, wished(2));
    let charged =
        Command::TopUp { account: ID, order: OrderNumber(50), amount: kroner(200), source: Source::Automatic };
    story.done(charged);
    assert_eq!(story.account.balance(), kroner(248));
    story.buy(199).unwrap();
    assert_eq!(story.wish, wished(3));
    story.done(Command::CancelAutoTopUp { account: ID });
    assert_eq!(story.ask(Command::CancelAutoTopUp { account: ID }), Err(Rejection::NoAgreement));
    story.done(report(3));
    story.buy(1).unwrap();
    assert_eq!(story.wish, None, "cancelled is cancelled");
}

#[test]
fn a_closed_account_buys_nothing_and_keeps_no_money() {
    let mut story = Story::begin();
    let kroner = Amount::from_kroner;
    story.fill(30);
    let close = Command::Close { account: ID };
    assert_eq!(story.ask(close), Err(Rejection::NotEmpty { balance: kroner(30) }));
    story.done(Command::RequestPayout { account: ID, payout: PayoutNumber(1), amount: kroner(30) });
    assert_eq!(story.ask(close), Err(Rejection::NotEmpty { balance: Amount::ZERO }), "a pay-out is under way");
    story.done(Command::MarkPayoutDone { account: ID, payout: PayoutNumber(1) });
    story.done(close);
    assert_eq!(story.buy(1), Err(Rejection::UnknownCard));
    for command in [close, Command::Block { account: ID }, Command::BindCard { account: ID, card: card(2) }] {
        assert_eq!(story.ask(command), Err(Rejection::AccountClosed), "{command:?}");
    }
    let by_hand = Command::TopUp { account: ID, order: OrderNumber(9), amount: kroner(5), source: Source::Counter };
    assert_eq!(story.ask(by_hand), Err(Rejection::AccountClosed));
    // The provider took it before it heard: it arrives, and can be paid out.
    story.fill(5);
    story.done(Command::RequestPayout { account: ID, payout: PayoutNumber(2), amount: kroner(5) });
}

#[test]
fn a_clock_set_back_over_midnight_forgets_no_spending() {
    let mut story = Story::begin();
    story.fill(1000);
    story.done(Command::SetDailyLimit { account: ID, limit: Some(Amount::from_kroner(50)) });
    story.buy(50).unwrap();
    story.now = Timestamp(NOON.0 + 24 * 3_600_000);
    story.buy(50).unwrap();
    story.now = NOON;
    assert_eq!(story.buy(1), Err(Rejection::DailyLimit { remaining: Amount::ZERO }));
}
