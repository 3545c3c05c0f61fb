//! Payment orders, and agreements to charge a saved card.

use frokost_engine::{AccountId, OrderNumber};
use serde::{Deserialize, Serialize};

use super::{Change, Records, RecordsError};
use crate::keys;

/// Where a payment order stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderState {
    /// Made; the payment window is open or was left.
    Started,
    /// The provider has the money; the account is being credited.
    Paid,
    /// The money is on the account.
    Credited,
    /// The provider refused or the parent gave up.
    Failed,
    /// Paid, and the account cannot take it: the provider is asked to give it back. It can no longer be credited.
    Returning,
    /// The provider has given it back.
    Returned,
}

/// A payment order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Its number: on receipts, at the provider, and in the engine's journal.
    pub number: u64,
    /// The account it is for.
    pub account: u64,
    /// Who ordered: the login's mail address.
    pub login: String,
    /// How much, in øre.
    pub amount_ore: i64,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// The version of the terms that were accepted.
    pub terms: String,
    /// The provider's name for the payment, once it has one.
    pub session: Option<String>,
    /// Where it stands.
    pub state: OrderState,
    /// Why it failed, in the provider's word.
    pub refusal: Option<String>,
    /// What it is for.
    #[serde(default)]
    pub purpose: Purpose,
    /// Where the receipt goes; to whoever ordered if empty.
    #[serde(default)]
    pub receipt_to: String,
    /// The provider's name for the card that is charged, where it is charged without a window.
    #[serde(default)]
    pub saved_card: String,
}

/// What an order is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Paying in once.
    #[default]
    PayIn,
    /// The first payment of an automatic top-up, in whose window the card is saved (quick guide, item 18).
    Agreement,
    /// An automatic top-up: which attempt of the account.
    Automatic {
        /// The attempt.
        attempt: u32,
    },
}

/// An agreement to charge a saved payment card when an account runs low. One an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreement {
    /// Its number, in the engine's journal.
    pub number: u64,
    /// The account.
    pub account: u64,
    /// Who agreed.
    pub login: String,
    /// How much at a time, in øre.
    pub amount_ore: i64,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// The version of the terms that were accepted.
    pub terms: String,
    /// The provider's name for the saved card. No number of a payment card is ever here.
    pub saved_card: String,
    /// Why the last charge failed, if it did.
    #[serde(default)]
    pub trouble: Option<String>,
    /// Which attempt that was.
    #[serde(default)]
    pub failed_attempt: Option<u32>,
    /// When it was, in milliseconds since 1970.
    #[serde(default)]
    pub failed_ms: u64,
    /// When whoever agreed was last told of that trouble.
    #[serde(default)]
    pub told_ms: u64,
}

impl Records {
    /// The order with that number.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn order(&self, number: OrderNumber) -> Result<Option<Order>, RecordsError> {
        self.get(&keys::order(number))
    }

    /// Every order.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn orders(&self) -> Result<Vec<Order>, RecordsError> {
        self.all("order/")
    }

    /// The orders that are not settled: started, paid and not credited, or not yet given back.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn open_orders(&self) -> Result<Vec<OrderNumber>, RecordsError> {
        Ok(self.all::<u64>("open/")?.into_iter().map(OrderNumber).collect())
    }

    /// Every order for an account, oldest first.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn orders_of(&self, account: AccountId) -> Result<Vec<Order>, RecordsError> {
        let numbers = self.all::<u64>(&keys::orders_of(account))?;
        let orders = numbers.into_iter().map(|number| self.order(OrderNumber(number)));
        Ok(orders.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }

    /// The order that the provider knows under this name.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn order_of_payment(&self, session: &str) -> Result<Option<OrderNumber>, RecordsError> {
        Ok(self.get::<u64>(&keys::payment(session))?.map(OrderNumber))
    }

    /// Makes an order for the form with the key `form`, or finds the one that form has made already. `make` is given
    /// the order's number.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn order_once(&self, form: &str, make: impl FnOnce(OrderNumber) -> Order) -> Result<Order, RecordsError> {
        self.change(|change| {
            if let Some(number) = self.get::<u64>(&keys::form(form))?
                && let Some(order) = self.order(OrderNumber(number))?
            {
                return Ok(order);
            }
            let number = change.number("order")?;
            let order = make(OrderNumber(number));
            change.put_order(&order)?;
            change.put(&keys::form(form), &number)?;
            Ok(order)
        })
    }

    /// The order that the form with the key `form` has made, if it has made one.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn order_of_form(&self, form: &str) -> Result<Option<Order>, RecordsError> {
        match self.get::<u64>(&keys::form(form))? {
            Some(number) => self.order(OrderNumber(number)),
            None => Ok(None),
        }
    }

    /// Changes an order under a lock: `with` sees its newest state and says whether it changed anything. Returns the order
    /// as it is afterwards, if there is one.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn change_order(
        &self,
        number: OrderNumber,
        with: impl FnOnce(&mut Order) -> bool,
    ) -> Result<Option<Order>, RecordsError> {
        self.change(|change| {
            let Some(mut order) = self.order(number)? else { return Ok(None) };
            if with(&mut order) {
                change.put_order(&order)?;
            }
            Ok(Some(order))
        })
    }

    /// The automatic top-up of an account, if it has one.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn agreement(&self, account: AccountId) -> Result<Option<Agreement>, RecordsError> {
        self.get(&keys::agreement(account))
    }
}

impl Change<'_> {
    /// An order, and what leads to it.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn put_order(&mut self, order: &Order) -> Result<(), RecordsError> {
        let number = OrderNumber(order.number);
        self.put(&keys::order(number), order)?;
        self.put(&format!("{}{:020}", keys::orders_of(AccountId(order.account)), order.number), &order.number)?;
        if let Some(session) = &order.session {
            self.put(&keys::payment(session), &order.number)?;
        }
        match order.state {
            OrderState::Started | OrderState::Paid | OrderState::Returning => {
                self.put(&keys::open_order(number), &order.number)
            }
            OrderState::Credited | OrderState::Failed | OrderState::Returned => {
                self.remove(&keys::open_order(number));
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use frokost_engine::PayoutNumber;

    use super::super::{PayoutOrder, PayoutState};
    use super::*;

    fn make(number: OrderNumber) -> Order {
        Order {
            number: number.0,
            account: 1,
            login: "a@b.dk".to_owned(),
            amount_ore: 20_000,
            at_ms: 0,
            terms: "1".to_owned(),
            session: None,
            state: OrderState::Started,
            refusal: None,
            purpose: Purpose::PayIn,
            receipt_to: String::new(),
            saved_card: String::new(),
        }
    }

    #[test]
    fn the_same_form_makes_one_order() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::open(&folder.path().join("records")).unwrap();
        let first = records.order_once("form-1", make).unwrap();
        assert_eq!(records.order_once("form-1", make).unwrap(), first);
        assert_ne!(records.order_once("form-2", make).unwrap().number, first.number);
        drop(records);
        let records = Records::open(&folder.path().join("records")).unwrap();
        assert_eq!(records.order_once("form-1", make).unwrap(), first, "also after a restart");
        assert_eq!(records.open_orders().unwrap().len(), 2);
        // Settled, it is no longer open; its account and the provider's name still lead to it.
        let number = OrderNumber(first.number);
        let settle = |order: &mut Order| {
            order.session = Some("abc".to_owned());
            order.state = OrderState::Credited;
            true
        };
        records.change_order(number, settle).unwrap();
        assert_eq!(records.open_orders().unwrap().len(), 1);
        assert_eq!(records.orders_of(AccountId(1)).unwrap().len(), 2);
        assert_eq!(records.orders_of(AccountId(2)).unwrap(), []);
        assert_eq!(records.order_of_payment("abc").unwrap(), Some(number));
    }

    #[test]
    fn what_is_under_way_goes_along_with_a_new_address() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::open(&folder.path().join("records")).unwrap();
        let states = [OrderState::Started, OrderState::Paid, OrderState::Failed, OrderState::Credited];
        for (form, state) in ["1", "2", "3", "4"].into_iter().zip(states) {
            records
                .order_once(form, |number| Order { state, receipt_to: "A@b.dk".to_owned(), ..make(number) })
                .unwrap();
        }
        let others = records.order_once("5", |number| Order { login: "far@b.dk".to_owned(), ..make(number) }).unwrap();
        let payout = |state| {
            move |number: PayoutNumber| {
                let (login, bank_sealed) = ("a@b.dk".to_owned(), String::new());
                let (number, account, amount_ore, at_ms, batch, reason) = (number.0, 1, 100, 0, None, None);
                Ok(PayoutOrder { number, account, login, amount_ore, at_ms, bank_sealed, state, batch, reason })
            }
        };
        records.payout_once("6", payout(PayoutState::Sent)).unwrap();
        records.payout_once("7", payout(PayoutState::Done)).unwrap();
        records.change(|change| change.hand_over(&[1], "a@B.dk", "new@b.dk")).unwrap();
        let orders = records.orders_of(AccountId(1)).unwrap();
        let whose: Vec<&str> = orders.iter().map(|order| order.login.as_str()).collect();
        assert_eq!(whose, ["new@b.dk", "new@b.dk", "new@b.dk", "a@b.dk", "far@b.dk"]);
        let receipts: Vec<&str> = orders.iter().map(|order| order.receipt_to.as_str()).collect();
        assert_eq!(receipts, ["new@b.dk", "new@b.dk", "new@b.dk", "A@b.dk", ""]);
        assert_eq!(orders[4], others);
        let payouts = records.payouts_of(AccountId(1)).unwrap();
        let whose: Vec<&str> = payouts.iter().map(|payout| payout.login.as_str()).collect();
        assert_eq!(whose, ["new@b.dk", "a@b.dk"], "what is settled stays as it was");
    }
}
