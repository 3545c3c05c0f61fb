//! The auditor: is shown every record of a journal and checks what must hold of them, with arithmetic of its own. It shares
//! no code with the rules that made the records, so that a mistake there does not excuse itself here.

use std::collections::{HashMap, HashSet};

use crate::amount::Amount;
use crate::card::CardNumber;
use crate::command::Source;
use crate::entry::{Entry, Record};
use crate::id::{AccountId, Attempt, Lsn, OrderNumber, PayoutNumber, RequestKey};
use crate::ledger::{Ledger, TrialBalance};

/// Looks at records one by one, from the first.
#[derive(Debug, Default)]
pub struct Auditor {
    head: Lsn,
    keys: HashMap<RequestKey, Lsn>,
    balances: HashMap<AccountId, Amount>,
    opened: HashSet<AccountId>,
    cards: HashMap<CardNumber, AccountId>,
    orders: HashSet<(AccountId, OrderNumber)>,
    /// What is left of every sale.
    sales: HashMap<RequestKey, (AccountId, Amount)>,
    credit: HashMap<AccountId, Amount>,
    closed: HashSet<AccountId>,
    /// Every pay-out that is not settled.
    payouts: HashMap<(AccountId, PayoutNumber), Amount>,
    all_payouts: HashSet<(AccountId, PayoutNumber)>,
    /// Every automatic charge that is under way.
    charges: HashMap<AccountId, Attempt>,
    /// The first half of a transfer, until its companion comes.
    half: Option<Record>,
    previous: Option<Record>,
    trial: TrialBalance,
    findings: Vec<Finding>,
    purchases: u64,
    refusals: u64,
}

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("LSN {lsn}: {what}")]
pub struct Finding {
    /// Where.
    pub lsn: Lsn,
    /// What.
    pub what: String,
}

/// What an audit comes to.
#[derive(Debug)]
pub struct Report {
    /// The last record.
    pub head: Lsn,
    /// How many accounts were opened.
    pub accounts: usize,
    /// How many purchases there are.
    pub purchases: u64,
    /// How many refusals there are.
    pub refusals: u64,
    /// Every ledger's balance.
    pub trial: TrialBalance,
    /// Everything that is wrong.
    pub findings: Vec<Finding>,
}

impl Auditor {
    /// Looks at the next record.
    pub fn take(&mut self, record: &Record) {
        if record.lsn != self.head.next() {
            self.find(record.lsn, format!("follows LSN {}: there is a gap", self.head));
        }
        self.head = record.lsn;
        if record.entry.is_companion() {
            if self.previous.is_none_or(|previous| previous.key != record.key) {
                self.find(record.lsn, "it is a companion, and stands behind a record of another key".to_owned());
            }
        } else if let Some(first) = self.keys.insert(record.key, record.lsn) {
            self.find(record.lsn, format!("key {} was carried out before, at LSN {first}", record.key));
        }
        self.check_halves(record);
        self.previous = Some(*record);
        self.check_balance(record);
        self.check_entry(record);
        if let Some(movement) = record.movement() {
            if !movement.amount.is_positive() {
                self.find(record.lsn, format!("moves {}", movement.amount));
            }
            if let Err(overflow) = self.trial.add(movement) {
                self.find(record.lsn, overflow.to_string());
            }
        }
    }

    /// What it has found so far.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Every ledger's balance so far.
    #[must_use]
    pub fn trial(&self) -> &TrialBalance {
        &self.trial
    }

    /// The last record it has seen.
    #[must_use]
    pub fn head(&self) -> Lsn {
        self.head
    }

    /// The end of the journal: sums up.
    #[must_use]
    pub fn finish(mut self) -> Report {
        if let Some(half) = self.half {
            self.find(half.lsn, "the transfer has no second half".to_owned());
        }
        if self.trial.sum() != 0 {
            let what = format!("all ledgers together come to {} øre, not to zero", self.trial.sum());
            self.find(self.head, what);
        }
        let wrong: Vec<String> = self
            .balances
            .iter()
            .filter(|(account, balance)| self.trial.total(Ledger::Account(**account)) != **balance)
            .map(|(account, balance)| format!("account {account} shows {balance}, its postings come to another sum"))
            .collect();
        for what in wrong {
            self.find(self.head, what);
        }
        Report {
            head: self.head,
            accounts: self.opened.len(),
            purchases: self.purchases,
            refusals: self.refusals,
            trial: self.trial,
            findings: self.findings,
        }
    }

    fn find(&mut self, lsn: Lsn, what: String) {
        self.findings.push(Finding { lsn, what });
    }

    /// A transfer is two records, one after the other, or nothing.
    fn check_halves(&mut self, record: &Record) {
        let half = self.half.take();
        let is_other_half = |half: Record| match (half.entry, record.entry) {
            (Entry::TransferredOut { to, amount: out }, Entry::TransferredIn { from, amount }) => {
                to == record.account && from == half.account && out == amount
            }
            _ => false,
        };
        match half {
            Some(half) if !is_other_half(half) => {
                self.find(half.lsn, "the transfer has no second half".to_owned());
            }
            None if matches!(record.entry, Entry::TransferredIn { .. }) => {
                self.find(record.lsn, "the transfer has no first half".to_owned());
            }
            Some(_) | None => {}
        }
        if matches!(record.entry, Entry::TransferredOut { .. }) {
            self.half = Some(*record);
        }
    }

    fn check_balance(&mut self, record: &Record) {
        if record.account == AccountId(0) {
            return;
        }
        let before = self.balances.get(&record.account).copied().unwrap_or_default();
        if before.checked_add(record.change()) != Some(record.balance) {
            let what = format!(
                "account {} goes from {before} to {}, which its entry does not explain",
                record.account, record.balance
            );
            self.find(record.lsn, what);
        }
        let may_owe = matches!(record.entry, Entry::Purchased { .. } | Entry::Corrected { .. });
        let credit = self.credit.get(&record.account).copied().filter(|_| may_owe).unwrap_or_default();
        let lowest = credit.checked_neg().unwrap_or_default();
        if record.change() < Amount::ZERO && record.balance < lowest {
            self.find(record.lsn, format!("account {} is at {}", record.account, record.balance));
        }
        self.balances.insert(record.account, record.balance);
    }

    fn check_entry(&mut self, record: &Record) {
        let account = record.account;
        match record.entry {
            Entry::Opened { .. } => {
                if !self.opened.insert(account) {
                    self.find(record.lsn, format!("account {account} is opened twice"));
                }
                return;
            }
            Entry::Refused { .. } => {
                self.refusals += 1;
                return;
            }
            Entry::CardBound { card } => {
                if *self.cards.entry(card).or_insert(account) != account {
                    self.find(record.lsn, "a card is bound to a second account".to_owned());
                }
            }
            Entry::Purchased { amount } => {
                if self.closed.contains(&account) {
                    self.find(record.lsn, format!("account {account} buys after it was closed"));
                }
                self.purchases += 1;
                self.sales.insert(record.key, (account, amount));
            }
            Entry::Refunded { sale, amount } => {
                let left = match self.sales.get(&sale) {
                    Some((owner, left)) if *owner == account => left.checked_sub(amount),
                    Some(_) | None => None,
                };
                match left {
                    Some(left) if left >= Amount::ZERO => {
                        self.sales.insert(sale, (account, left));
                    }
                    Some(_) | None => self.find(record.lsn, format!("gives back more than there is of sale {sale}")),
                }
            }
            Entry::ToppedUp { order, source, .. } => {
                if source == Source::Automatic {
                    self.charges.remove(&account);
                }
                if !self.orders.insert((account, order)) {
                    self.find(record.lsn, format!("order {order} is credited twice"));
                }
            }
            Entry::CreditLimitSet { limit } => drop(self.credit.insert(account, limit)),
            Entry::PayoutReserved { payout, amount } => {
                self.payouts.insert((account, payout), amount);
                if !self.all_payouts.insert((account, payout)) {
                    self.find(record.lsn, format!("pay-out {payout} is reserved twice"));
                }
            }
            Entry::PayoutSent { payout } => {
                if !self.payouts.contains_key(&(account, payout)) {
                    self.find(record.lsn, format!("pay-out {payout} is sent and not open"));
                }
            }
            Entry::PayoutDone { payout, amount } | Entry::PayoutReturned { payout, amount } => {
                if self.payouts.remove(&(account, payout)) != Some(amount) {
                    self.find(record.lsn, format!("pay-out {payout} ends with another amount, or twice"));
                }
            }
            Entry::ChargeWished { attempt, .. } => {
                if self.charges.insert(account, attempt).is_some() {
                    self.find(record.lsn, format!("account {account} has two charges under way"));
                }
            }
            Entry::ChargeFailed { attempt, .. } => {
                if self.charges.remove(&account) != Some(attempt) {
                    self.find(record.lsn, format!("charge {attempt} fails and is not under way"));
                }
            }
            Entry::Closed => {
                if record.balance != Amount::ZERO || !self.closed.insert(account) {
                    self.find(record.lsn, format!("account {account} is closed with {}, or twice", record.balance));
                }
            }
            Entry::Blocked
            | Entry::Activated
            | Entry::DailyLimitSet { .. }
            | Entry::TransferredOut { .. }
            | Entry::TransferredIn { .. }
            | Entry::Corrected { .. }
            | Entry::AutoTopUpAgreed { .. }
            | Entry::AutoTopUpCancelled => {}
        }
        if !self.opened.contains(&account) {
            self.find(record.lsn, format!("account {account} is used before it is opened"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Source;
    use crate::id::{AgreementNumber, CallerId, PersonId, SchoolId, Sequence};
    use crate::text::Text;
    use crate::time::Timestamp;

    fn record(lsn: u64, balance: i64, entry: Entry) -> Record {
        let key = RequestKey { caller: CallerId(1), sequence: Sequence(lsn) };
        let balance = Amount::from_kroner(balance);
        Record {
            lsn: Lsn(lsn),
            at: Timestamp(lsn),
            key,
            fingerprint: 0,
            account: AccountId(5),
            balance,
            by: PersonId(0),
            text: Text::EMPTY,
            entry,
        }
    }

    fn good() -> Vec<Record> {
        let kroner = Amount::from_kroner;
        let sale = RequestKey { caller: CallerId(1), sequence: Sequence(3) };
        vec![
            record(1, 0, Entry::Opened { school: SchoolId(1) }),
            record(2, 100, Entry::ToppedUp { order: OrderNumber(1), amount: kroner(100), source: Source::Provider }),
            record(3, 75, Entry::Purchased { amount: kroner(25) }),
            record(4, 80, Entry::Refunded { sale, amount: kroner(5) }),
        ]
    }

    fn findings(records: &[Record]) -> Vec<String> {
        let mut auditor = Auditor::default();
        records.iter().for_each(|record| auditor.take(record));
        auditor.finish().findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_sound_journal_has_no_findings() {
        assert_eq!(findings(&good()), Vec::<String>::new());
    }

    /// Each kind of damage to the books, done once: the auditor has to see every one.
    #[test]
    fn every_kind_of_wrong_is_found() {
        type Damage = fn(&mut Vec<Record>);
        let damages: [(&str, Damage); 17] = [
            ("gap", |r| r.retain(|record| record.lsn != Lsn(3))),
            ("carried out before", |r| r[3].key = r[2].key),
            ("does not explain", |r| r[2].balance = Amount::from_kroner(80)),
            ("more than there is", |r| {
                r[3].entry = Entry::Refunded { sale: r[2].key, amount: Amount::from_kroner(26) };
                r[3].balance = Amount::from_kroner(101);
            }),
            ("is at -25,00 kr.", |r| {
                r[2].entry = Entry::Purchased { amount: Amount::from_kroner(125) };
                r[2].balance = Amount::from_kroner(-25);
            }),
            ("second account", |r| {
                let card = "12345678901234".parse().unwrap();
                r.push(record(5, 80, Entry::CardBound { card }));
                r.push(Record { account: AccountId(6), ..record(6, 0, Entry::CardBound { card }) });
            }),
            ("moves 0,00 kr.", |r| {
                r[2].entry = Entry::Purchased { amount: Amount::ZERO };
                r[2].balance = Amount::from_kroner(100);
            }),
            ("no second half", |r| {
                let (to, amount) = (AccountId(6), Amount::from_kroner(1));
                r.push(record(5, 79, Entry::TransferredOut { to, amount }));
            }),
            ("no first half", |r| {
                let (from, amount) = (AccountId(6), Amount::from_kroner(1));
                r.push(record(5, 81, Entry::TransferredIn { from, amount }));
            }),
            ("of another key", |r| {
                let (attempt, agreement, amount) = (Attempt(1), AgreementNumber(1), Amount::from_kroner(200));
                r.push(record(5, 80, Entry::ChargeWished { attempt, agreement, amount }));
            }),
            ("not open", |r| r.push(record(5, 80, Entry::PayoutSent { payout: PayoutNumber(1) }))),
            ("or twice", |r| {
                let (payout, amount) = (PayoutNumber(1), Amount::from_kroner(80));
                r.push(record(5, 0, Entry::PayoutReserved { payout, amount }));
                r.push(record(6, 0, Entry::PayoutDone { payout, amount }));
                r.push(record(7, 80, Entry::PayoutReturned { payout, amount }));
            }),
            ("reserved twice", |r| {
                let (payout, amount) = (PayoutNumber(1), Amount::from_kroner(40));
                r.push(record(5, 40, Entry::PayoutReserved { payout, amount }));
                r.push(record(6, 40, Entry::PayoutDone { payout, amount }));
                r.push(record(7, 0, Entry::PayoutReserved { payout, amount }));
            }),
            ("after it was closed", |r| {
                r.push(record(5, 0, Entry::Purchased { amount: Amount::from_kroner(80) }));
                r.push(record(6, 0, Entry::Closed));
                r.push(record(7, -1, Entry::Purchased { amount: Amount::from_kroner(1) }));
            }),
            ("opened twice", |r| r[1].entry = Entry::Opened { school: SchoolId(1) }),
            ("before it is opened", |r| r[0].entry = Entry::Blocked),
            ("credited twice", |r| {
                let again =
                    Entry::ToppedUp { order: OrderNumber(1), amount: Amount::from_kroner(1), source: Source::Provider };
                r.push(record(5, 81, again));
            }),
        ];
        for (word, damage) in damages {
            let mut records = good();
            damage(&mut records);
            let found = findings(&records);
            assert!(found.iter().any(|finding| finding.contains(word)), "{word}: {found:?}");
        }
    }
}
