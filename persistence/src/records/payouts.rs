//! Pay-outs to bank accounts, from the request to the bank's answer.

use frokost_engine::{AccountId, PayoutNumber};
use serde::{Deserialize, Serialize};

use super::{Change, Records, RecordsError};
use crate::keys;

/// Where a pay-out stands (quick guide, item 24: anmodet, sendt, gennemført, afvist).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PayoutState {
    /// Asked for; whether the balance covers it is not known yet.
    Asked,
    /// It is off the balance and waits for the bank's file.
    Reserved,
    /// It is in a file for the bank.
    Sent,
    /// The bank has paid it.
    Done,
    /// The bank has refused it, and it is back on the balance.
    Returned,
    /// It never left the balance.
    Refused,
}

/// A pay-out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayoutOrder {
    /// Its number, in the engine's journal and in the bank's file.
    pub number: u64,
    /// The account it leaves.
    pub account: u64,
    /// Who asked.
    pub login: String,
    /// How much, in øre.
    pub amount_ore: i64,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// Name, registration number, account number and message, a line each; sealed for the place `payout/<number>`.
    pub bank_sealed: String,
    /// Where it stands.
    pub state: PayoutState,
    /// The file it was sent in.
    #[serde(default)]
    pub batch: Option<String>,
    /// The bank's reason, if it refused.
    #[serde(default)]
    pub reason: Option<String>,
}

impl Records {
    /// The pay-out with that number.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn payout(&self, number: PayoutNumber) -> Result<Option<PayoutOrder>, RecordsError> {
        self.get(&keys::payout(number))
    }

    /// Every pay-out there ever was, oldest first.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn payouts(&self) -> Result<Vec<PayoutOrder>, RecordsError> {
        self.all("payout/")
    }

    /// Every pay-out of an account, oldest first.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn payouts_of(&self, account: AccountId) -> Result<Vec<PayoutOrder>, RecordsError> {
        let numbers = self.all::<u64>(&keys::payouts_of(account))?;
        let payouts = numbers.into_iter().map(|number| self.payout(PayoutNumber(number)));
        Ok(payouts.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }

    /// The pay-out that the form with the key `form` has made, if it has made one.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn payout_of_form(&self, form: &str) -> Result<Option<u64>, RecordsError> {
        self.get(&keys::form(&format!("payout/{form}")))
    }

    /// Makes a pay-out for the form with the key `form`, or finds the one that form has made already.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn payout_once(
        &self,
        form: &str,
        make: impl FnOnce(PayoutNumber) -> Result<PayoutOrder, RecordsError>,
    ) -> Result<PayoutOrder, RecordsError> {
        self.change(|change| {
            let key = keys::form(&format!("payout/{form}"));
            if let Some(number) = change.get::<u64>(&key)?
                && let Some(payout) = self.payout(PayoutNumber(number))?
            {
                return Ok(payout);
            }
            let number = change.number("payout")?;
            let payout = make(PayoutNumber(number))?;
            change.put_payout(&payout)?;
            change.put(&format!("{}{number:020}", keys::payouts_of(AccountId(payout.account))), &number)?;
            change.put(&key, &number)?;
            Ok(payout)
        })
    }

    /// Moves a pay-out on from one of the states `from`; nothing happens if it is in none of them. Returns it as it is then.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub fn advance_payout(
        &self,
        number: PayoutNumber,
        from: &[PayoutState],
        with: impl FnOnce(&mut PayoutOrder),
    ) -> Result<Option<PayoutOrder>, RecordsError> {
        self.change(|change| {
            let Some(mut payout) = self.payout(number)? else { return Ok(None) };
            if from.contains(&payout.state) {
                with(&mut payout);
                change.put_payout(&payout)?;
            }
            Ok(Some(payout))
        })
    }
}

impl Change<'_> {
    pub(super) fn put_payout(&mut self, payout: &PayoutOrder) -> Result<(), RecordsError> {
        self.put(&keys::payout(PayoutNumber(payout.number)), payout)
    }
}
