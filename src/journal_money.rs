//! What a journal knows of payments and pay-outs, to hold what the portal's records say against it: after a restore they may be of
//! different days, and whoever verifies wants to know.

use std::collections::{HashMap, HashSet};

use frokost_engine::command::Source;
use frokost_engine::{AccountId, Amount, Entry, OrderNumber, PayoutNumber, Record};
use frokost_persistence::records::{Order, OrderState, PayoutOrder, PayoutState};

/// Payments and pay-outs, as far as the records were read.
#[derive(Default)]
pub(crate) struct JournalMoney {
    credits: HashMap<OrderNumber, Money>,
    payouts: HashMap<PayoutNumber, (Money, Stage)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Money {
    account: AccountId,
    amount: Amount,
}

/// Where a pay-out stands in the journal.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Reserved,
    Sent,
    Done,
    Returned,
}

/// What comes of holding the portal's records against it.
#[derive(Default)]
pub(crate) struct Held {
    /// What they say and the journal does not.
    pub(crate) wrong: Vec<String>,
    /// What a restore leaves to the operator: whether it was done does not show.
    pub(crate) to_see_to: Vec<String>,
    /// How many credits and pay-outs the journal has of which they know nothing: they are older than it.
    pub(crate) unknown: usize,
}

impl JournalMoney {
    pub(crate) fn take(&mut self, record: &Record) {
        let account = record.account;
        match record.entry {
            Entry::ToppedUp { order, amount, source: Source::Provider | Source::Automatic } => {
                self.credits.insert(order, Money { account, amount });
            }
            Entry::PayoutReserved { payout, amount } => {
                self.payouts.insert(payout, (Money { account, amount }, Stage::Reserved));
            }
            Entry::PayoutSent { payout, .. } => self.advance(payout, Stage::Sent),
            Entry::PayoutDone { payout, .. } => self.advance(payout, Stage::Done),
            Entry::PayoutReturned { payout, .. } => self.advance(payout, Stage::Returned),
            Entry::ToppedUp { source: Source::Counter | Source::Opening, .. }
            | Entry::Opened { .. }
            | Entry::CardBound { .. }
            | Entry::Blocked
            | Entry::Activated
            | Entry::Purchased { .. }
            | Entry::Refunded { .. }
            | Entry::DailyLimitSet { .. }
            | Entry::CreditLimitSet { .. }
            | Entry::TransferredOut { .. }
            | Entry::TransferredIn { .. }
            | Entry::Corrected { .. }
            | Entry::AutoTopUpAgreed { .. }
            | Entry::AutoTopUpCancelled
            | Entry::ChargeWished { .. }
            | Entry::ChargeFailed { .. }
            | Entry::Closed
            | Entry::Refused { .. } => {}
        }
    }

    fn advance(&mut self, payout: PayoutNumber, to: Stage) {
        if let Some((_, stage)) = self.payouts.get_mut(&payout) {
            *stage = to;
        }
    }

    /// Has a payment of the portal's been credited?
    pub(crate) fn has_credited(&self, order: OrderNumber) -> bool {
        self.credits.contains_key(&order)
    }

    /// Is a pay-out off the balance, and has the bank's answer to it not been taken in? Nothing, if it is not in the journal at all.
    pub(crate) fn awaits_the_bank(&self, payout: PayoutNumber) -> Option<bool> {
        self.payouts.get(&payout).map(|(_, stage)| matches!(stage, Stage::Reserved | Stage::Sent))
    }

    /// Everything the records say has happened has to have happened, to the same account and with the same amount. They may be a step behind,
    /// since the journal comes first; that is caught up with when the server runs. Further behind they are those of an older backup.
    pub(crate) fn hold(&self, orders: &[Order], payouts: &[PayoutOrder]) -> Held {
        let mut held = Held::default();
        for order in orders {
            let amount = Amount::from_ore(order.amount_ore);
            let said = Money { account: AccountId(order.account), amount };
            let what = match (order.state, self.credits.get(&OrderNumber(order.number))) {
                (_, Some(money)) if *money != said => {
                    format!("in the journal account {} is credited {} for it", money.account, money.amount)
                }
                (OrderState::Credited, None) => {
                    "it is called credited and is not in the journal: the account lacks it".to_owned()
                }
                (OrderState::Returning | OrderState::Returned, Some(_)) => {
                    "it is called given back, and the account was credited".to_owned()
                }
                (OrderState::Failed, Some(_)) => {
                    held.to_see_to.push(format!(
                        "order {} for account {} over {amount} was paid after all, and the records do not know it yet",
                        order.number, order.account
                    ));
                    continue;
                }
                (OrderState::Started | OrderState::Paid | OrderState::Credited, Some(_))
                | (
                    OrderState::Started
                    | OrderState::Paid
                    | OrderState::Failed
                    | OrderState::Returning
                    | OrderState::Returned,
                    None,
                ) => continue,
            };
            held.wrong.push(format!("order {} for account {} over {amount}: {what}", order.number, order.account));
        }
        for payout in payouts {
            let amount = Amount::from_ore(payout.amount_ore);
            let said = Money { account: AccountId(payout.account), amount };
            let known = self.payouts.get(&PayoutNumber(payout.number)).copied();
            let what = match (payout.state, known.map(|(_, stage)| stage)) {
                _ if known.is_some_and(|(money, _)| money != said) => {
                    "in the journal it is another's or over another amount"
                }
                (PayoutState::Sent | PayoutState::Done, None) => {
                    held.to_see_to.push(format!(
                        "pay-out {} over {amount} went to the bank before these books were restored: see that it was taken off account {}",
                        payout.number, payout.account
                    ));
                    continue;
                }
                (PayoutState::Reserved, None) => "it is not in the journal: the balance does not show it",
                (PayoutState::Refused, Some(Stage::Reserved | Stage::Sent | Stage::Done)) => {
                    "it is called refused, and is off the balance"
                }
                (PayoutState::Sent, Some(Stage::Reserved)) => {
                    held.to_see_to.push(format!(
                        "pay-out {} of account {} over {amount} went to the bank, and the journal waits for its answer",
                        payout.number, payout.account
                    ));
                    continue;
                }
                (PayoutState::Asked, Some(Stage::Sent | Stage::Done | Stage::Returned))
                | (PayoutState::Reserved, Some(Stage::Done | Stage::Returned)) => {
                    held.to_see_to.push(format!(
                        "pay-out {} of account {} over {amount} is further in the journal than in the records: look at the bank before the next payouts export",
                        payout.number, payout.account
                    ));
                    continue;
                }
                (PayoutState::Done, Some(Stage::Reserved | Stage::Sent | Stage::Returned)) => {
                    "it is called paid, and in the journal it is not"
                }
                (PayoutState::Returned, Some(Stage::Reserved | Stage::Sent | Stage::Done)) => {
                    "it is called given back, and in the journal it is not"
                }
                (PayoutState::Asked, Some(Stage::Reserved))
                | (PayoutState::Reserved, Some(Stage::Reserved | Stage::Sent))
                | (PayoutState::Sent, Some(Stage::Sent | Stage::Done | Stage::Returned))
                | (PayoutState::Done, Some(Stage::Done))
                | (PayoutState::Asked | PayoutState::Refused | PayoutState::Returned, None)
                | (PayoutState::Refused | PayoutState::Returned, Some(Stage::Returned)) => continue,
            };
            held.wrong.push(format!("pay-out {} of account {} over {amount}: {what}", payout.number, payout.account));
        }
        let orders: HashSet<u64> = orders.iter().map(|order| order.number).collect();
        let payouts: HashSet<u64> = payouts.iter().map(|payout| payout.number).collect();
        held.unknown = self.credits.keys().filter(|order| !orders.contains(&order.0)).count()
            + self.payouts.keys().filter(|payout| !payouts.contains(&payout.0)).count();
        held
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests stop where they are wrong")]

    use frokost_engine::{CallerId, Lsn, PersonId, RequestKey, Sequence, Text, Timestamp};
    use frokost_persistence::records::Purpose;

    use super::*;

    const ACCOUNT: AccountId = AccountId(7);
    const HUNDRED: Amount = Amount::from_kroner(100);

    fn journal(entries: &[Entry]) -> JournalMoney {
        let mut money = JournalMoney::default();
        for (lsn, entry) in (1..).zip(entries) {
            money.take(&Record {
                lsn: Lsn(lsn),
                at: Timestamp(lsn),
                key: RequestKey { caller: CallerId(1), sequence: Sequence(lsn) },
                fingerprint: 0,
                account: ACCOUNT,
                balance: Amount::ZERO,
                by: PersonId(0),
                text: Text::EMPTY,
                entry: *entry,
            });
        }
        money
    }

    fn order(state: OrderState) -> Order {
        Order {
            number: 3,
            account: ACCOUNT.0,
            login: "a@b.dk".to_owned(),
            amount_ore: HUNDRED.ore(),
            at_ms: 0,
            terms: "1".to_owned(),
            session: None,
            state,
            refusal: None,
            purpose: Purpose::PayIn,
            receipt_to: String::new(),
            saved_card: String::new(),
        }
    }

    fn payout(state: PayoutState) -> PayoutOrder {
        PayoutOrder {
            number: 5,
            account: ACCOUNT.0,
            login: "a@b.dk".to_owned(),
            amount_ore: HUNDRED.ore(),
            at_ms: 0,
            bank_sealed: String::new(),
            state,
            batch: None,
            reason: None,
        }
    }

    /// Which of `states` are wrong beside these entries.
    fn wrong<S: Copy>(entries: &[Entry], states: &[S], hold: impl Fn(&JournalMoney, S) -> Held) -> Vec<usize> {
        let money = journal(entries);
        (0..).zip(states).filter(|(_, state)| !hold(&money, **state).wrong.is_empty()).map(|(at, _)| at).collect()
    }

    #[test]
    fn a_payment_is_no_further_than_in_the_journal() {
        use OrderState::{Credited, Failed, Paid, Returned, Returning, Started};
        let states = [Started, Paid, Credited, Failed, Returning, Returned];
        let hold = |money: &JournalMoney, state| money.hold(&[order(state)], &[]);
        let credit = Entry::ToppedUp { order: OrderNumber(3), amount: HUNDRED, source: Source::Provider };
        assert_eq!(wrong(&[], &states, hold), [2]);
        assert_eq!(wrong(&[credit], &states, hold), [4, 5]);
        assert_eq!(journal(&[credit]).hold(&[order(Failed)], &[]).to_see_to.len(), 1);
        // What was paid in by hand has numbers of its own.
        let by_hand = Entry::ToppedUp { order: OrderNumber(3), amount: HUNDRED, source: Source::Counter };
        assert_eq!(wrong(&[by_hand], &states, hold), [2]);
        let less =
            Entry::ToppedUp { order: OrderNumber(3), amount: Amount::from_kroner(99), source: Source::Automatic };
        assert_eq!(wrong(&[less], &states, hold), [0, 1, 2, 3, 4, 5]);
        assert_eq!(
            journal(&[less]).hold(&[order(Credited)], &[]).wrong,
            ["order 3 for account 7 over 100,00 kr.: in the journal account 7 is credited 99,00 kr. for it"]
        );
        assert_eq!(journal(&[credit]).hold(&[], &[]).unknown, 1);
    }

    #[test]
    fn a_pay_out_is_no_further_than_in_the_journal() {
        use PayoutState::{Asked, Done, Refused, Reserved, Returned, Sent};
        let states = [Asked, Reserved, Sent, Done, Returned, Refused];
        let hold = |money: &JournalMoney, state| money.hold(&[], &[payout(state)]);
        let number = PayoutNumber(5);
        let reserved = Entry::PayoutReserved { payout: number, amount: HUNDRED };
        let sent = Entry::PayoutSent { payout: number };
        let done = Entry::PayoutDone { payout: number, amount: HUNDRED };
        let returned = Entry::PayoutReturned { payout: number, amount: HUNDRED };
        assert_eq!(wrong(&[], &states, hold), [1]);
        assert_eq!(wrong(&[reserved], &states, hold), [3, 4, 5]);
        assert_eq!(wrong(&[reserved, sent], &states, hold), [3, 4, 5]);
        assert_eq!(wrong(&[reserved, sent, done], &states, hold), [4, 5]);
        assert_eq!(wrong(&[reserved, sent, returned], &states, hold), [3]);
        let to_see_to = |entries: &[Entry], state| journal(entries).hold(&[], &[payout(state)]).to_see_to.len();
        assert_eq!([to_see_to(&[], Sent), to_see_to(&[], Done), to_see_to(&[reserved], Sent)], [1; 3]);
        assert_eq!([to_see_to(&[reserved, sent], Asked), to_see_to(&[reserved, sent, done], Reserved)], [1; 2]);
        assert_eq!([to_see_to(&[reserved, sent], Reserved), to_see_to(&[reserved], Asked)], [0; 2]);
        let another = Entry::PayoutReserved { payout: number, amount: Amount::from_kroner(1) };
        assert_eq!(wrong(&[another], &states, hold), [0, 1, 2, 3, 4, 5]);
    }
}
