//! The audit after a run: reads the whole journal over the wire and holds it against what the tills were told. Every approved
//! sale is there exactly once, for its amount; nothing is there that was refused; and the books are sound.

use std::collections::HashMap;

use frokost_engine::audit::Auditor;
use frokost_engine::{AccountId, CallerId, CardNumber, Entry, Lsn, Record};
use frokost_net::{Client, ClientError};
use serde::{Deserialize, Serialize};

use crate::till::{Log, Told};

/// So many are told.
const MOST_FINDINGS: usize = 100;

/// What the audit came to.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Audit {
    /// How many records the journal has.
    pub records: u64,
    /// How many sales the tills were told are approved.
    pub approved: u64,
    /// How many of them are in the journal, once and for their amount.
    pub found: u64,
    /// How many sales the tills never had an answer to.
    pub unanswered: u64,
    /// How many of those are in the journal.
    pub unanswered_found: u64,
    /// Accounts that were blocked for the run and may still be: they could not be activated again.
    pub left_blocked: u64,
    /// The sum of all ledgers in øre.
    pub ledgers_sum_ore: i64,
    /// Everything that is wrong, the first hundred.
    pub findings: Vec<String>,
}

impl Audit {
    /// Is everything as it must be?
    #[must_use]
    pub fn sound(&self) -> bool {
        self.findings.is_empty() && self.found == self.approved && self.ledgers_sum_ore == 0
    }

    /// The server could not be asked: nothing is shown, and that is a finding.
    pub(crate) fn impossible(logs: &[Log], why: &ClientError) -> Audit {
        let told =
            |told: fn(&Told) -> bool| logs.iter().flat_map(|log| &log.sales).filter(|sale| told(&sale.told)).count();
        Audit {
            approved: told(|told| matches!(told, Told::Approved(_))) as u64,
            unanswered: told(|told| matches!(told, Told::Nothing)) as u64,
            findings: vec![format!("the server could not be asked: {why}")],
            ..Audit::default()
        }
    }

    fn find(&mut self, what: String) {
        match self.findings.len() {
            0..MOST_FINDINGS => self.findings.push(what),
            MOST_FINDINGS => self.findings.push("and more".to_owned()),
            _ => {}
        }
    }
}

/// The accounts, each with the card that can buy now, in the order in which they had their first.
pub(crate) async fn cards(
    operator: &Client,
    mut progress: impl FnMut(Lsn, Lsn),
) -> Result<Vec<(AccountId, CardNumber)>, ClientError> {
    let mut of_account = HashMap::new();
    let mut order = Vec::new();
    let mut from = Lsn(1);
    loop {
        let (head, records) = operator.records(from).await?;
        for record in &records {
            if let Entry::CardBound { card } = record.entry
                && of_account.insert(record.account, card).is_none()
            {
                order.push(record.account);
            }
            if record.entry == Entry::Closed {
                of_account.remove(&record.account);
            }
        }
        match records.last() {
            Some(last) if last.lsn < head => from = last.lsn.next(),
            Some(_) | None => break,
        }
        progress(from, head);
    }
    Ok(order.iter().filter_map(|account| Some((*account, *of_account.get(account)?))).collect())
}

/// Reads the journal to its end and holds it against the tills' logs.
pub(crate) async fn audit(
    operator: &Client,
    logs: &[Log],
    mut progress: impl FnMut(Lsn, Lsn),
) -> Result<Audit, ClientError> {
    let mut check = Check::new(logs);
    let mut from = Lsn(1);
    loop {
        let (head, records) = operator.records(from).await?;
        for record in &records {
            check.take(record);
        }
        progress(check.auditor.head(), head);
        match records.last() {
            Some(last) if last.lsn < head => from = last.lsn.next(),
            Some(_) | None => break,
        }
    }
    Ok(check.finish())
}

/// The journal, record by record, beside what the tills were told.
struct Check<'a> {
    audit: Audit,
    logs: HashMap<CallerId, &'a Log>,
    /// How often each sale of each till was met.
    met: HashMap<CallerId, Vec<u8>>,
    owners: HashMap<CardNumber, AccountId>,
    auditor: Auditor,
}

impl<'a> Check<'a> {
    fn new(logs: &'a [Log]) -> Check<'a> {
        Check {
            audit: Audit::default(),
            logs: logs.iter().map(|log| (log.caller, log)).collect(),
            met: logs.iter().map(|log| (log.caller, vec![0; log.sales.len()])).collect(),
            owners: HashMap::new(),
            auditor: Auditor::default(),
        }
    }

    fn take(&mut self, record: &Record) {
        self.auditor.take(record);
        if let Entry::CardBound { card } = record.entry {
            self.owners.insert(card, record.account);
        }
        let Some(log) = self.logs.get(&record.key.caller) else { return };
        // What an earlier run of the same till has sold.
        let Some(index) = record.key.sequence.0.checked_sub(log.first).and_then(|n| usize::try_from(n).ok()) else {
            return;
        };
        let met = self.met.get_mut(&log.caller).and_then(|met| met.get_mut(index));
        let (Some(sale), Some(met)) = (log.sales.get(index), met) else {
            let (lsn, sequence) = (record.lsn, record.key.sequence);
            return self.audit.find(format!("LSN {lsn}: till {} never made sale {sequence}", log.caller));
        };
        let Entry::Purchased { amount } = record.entry else { return };
        *met = met.saturating_add(1);
        if amount != sale.amount {
            self.audit.find(format!("LSN {}: sale {} cost {}, not {amount}", record.lsn, record.key, sale.amount));
        }
        if self.owners.get(&sale.card) != Some(&record.account) {
            self.audit.find(format!(
                "LSN {}: sale {} was charged to account {}, which is another card's",
                record.lsn, record.key, record.account
            ));
        }
        match sale.told {
            Told::Approved(lsn) if lsn == record.lsn => self.audit.found += 1,
            Told::Approved(lsn) => {
                self.audit.find(format!("sale {} was told LSN {lsn} and stands at {}", record.key, record.lsn));
            }
            Told::Refused => {
                self.audit.find(format!("LSN {}: sale {} was refused to the till", record.lsn, record.key));
            }
            Told::Nothing => self.audit.unanswered_found += 1,
        }
    }

    fn finish(self) -> Audit {
        let Check { mut audit, logs, met, auditor, .. } = self;
        let mut logs: Vec<&Log> = logs.into_values().collect();
        logs.sort_by_key(|log| log.caller);
        for log in logs {
            for sequence in &log.contradictions {
                audit.find(format!("sale {}-{sequence} was asked for twice and answered in two ways", log.caller));
            }
            let met = met.get(&log.caller).map(Vec::as_slice).unwrap_or_default();
            for ((sale, met), sequence) in log.sales.iter().zip(met).zip(log.first..) {
                match (sale.told, met) {
                    (Told::Approved(_), 0) => {
                        audit.find(format!("sale {}-{sequence} was approved and is lost", log.caller));
                    }
                    (_, 2..) => audit.find(format!("sale {}-{sequence} is there {met} times", log.caller)),
                    _ => {}
                }
                match sale.told {
                    Told::Approved(_) => audit.approved += 1,
                    Told::Nothing => audit.unanswered += 1,
                    Told::Refused => {}
                }
            }
        }
        let report = auditor.finish();
        audit.records = report.head.0;
        audit.ledgers_sum_ore = i64::try_from(report.trial.sum()).unwrap_or(i64::MAX);
        for finding in report.findings {
            audit.find(finding.to_string());
        }
        audit
    }
}

#[cfg(test)]
mod tests {
    use frokost_engine::command::Source;
    use frokost_engine::{Amount, OrderNumber, PersonId, RequestKey, SchoolId, Sequence, Text, Timestamp};

    use super::*;
    use crate::till::Sale;

    const TILL: CallerId = CallerId(2);
    const FIRST: u64 = 100;

    fn card(account: u64) -> CardNumber {
        format!("CARD{account}").parse().unwrap()
    }

    fn record(lsn: u64, caller: CallerId, sequence: u64, account: u64, balance: i64, entry: Entry) -> Record {
        Record {
            lsn: Lsn(lsn),
            at: Timestamp(lsn),
            key: RequestKey { caller, sequence: Sequence(sequence) },
            fingerprint: 0,
            account: AccountId(account),
            balance: Amount::from_kroner(balance),
            by: PersonId(0),
            text: Text::EMPTY,
            entry,
        }
    }

    /// Two accounts with a card and 100 kr. each, and two sales: one whose answer the till heard, and one whose answer it did not.
    fn journal() -> Vec<Record> {
        let operator = |lsn, account, balance, entry| record(lsn, CallerId(1), lsn, account, balance, entry);
        let mut records = Vec::new();
        for account in [5, 6] {
            let (lsn, amount) = (records.len() as u64 + 1, Amount::from_kroner(100));
            records.extend([
                operator(lsn, account, 0, Entry::Opened { school: SchoolId(1) }),
                operator(lsn + 1, account, 0, Entry::CardBound { card: card(account) }),
                operator(lsn + 2, account, 100, {
                    Entry::ToppedUp { order: OrderNumber(account), amount, source: Source::Counter }
                }),
            ]);
        }
        records.extend([sold(7, FIRST, 5, 80), sold(8, FIRST + 2, 6, 80)]);
        records
    }

    fn sold(lsn: u64, sequence: u64, account: u64, balance: i64) -> Record {
        record(lsn, TILL, sequence, account, balance, Entry::Purchased { amount: Amount::from_kroner(20) })
    }

    fn log() -> Log {
        let sale = |account, told| Sale { card: card(account), amount: Amount::from_kroner(20), told };
        let sales = vec![sale(5, Told::Approved(Lsn(7))), sale(5, Told::Refused), sale(6, Told::Nothing)];
        Log { caller: TILL, first: FIRST, sales, contradictions: Vec::new(), gone: false }
    }

    fn checked(records: &[Record], log: Log) -> Audit {
        let logs = [log];
        let mut check = Check::new(&logs);
        records.iter().for_each(|record| check.take(record));
        check.finish()
    }

    #[test]
    fn a_sound_run_has_no_findings() {
        let audit = checked(&journal(), log());
        assert_eq!(audit.findings, Vec::<String>::new());
        assert_eq!((audit.approved, audit.found, audit.unanswered, audit.unanswered_found), (1, 1, 1, 1));
        assert!(audit.sound() && audit.records == 8);
        // Nor do sales of an earlier run of the same till.
        let mut before = journal();
        before.insert(6, sold(7, 3, 5, 80));
        before[7] = sold(8, FIRST, 5, 60);
        before[8].lsn = Lsn(9);
        let mut log = log();
        log.sales[0].told = Told::Approved(Lsn(8));
        assert!(checked(&before, log).sound());
    }

    /// Each kind of difference between what tills were told and what is there, made once: the audit has to see every one.
    #[test]
    fn every_kind_of_wrong_is_found() {
        type Wrong = fn(&mut Vec<Record>, &mut Log);
        let wrongs: [(&str, Wrong); 8] = [
            ("sale 2-100 was approved and is lost", |r, _| {
                r.remove(6);
                r[6].lsn = Lsn(7);
            }),
            ("sale 2-100 is there 2 times", |r, _| r.push(sold(9, FIRST, 5, 60))),
            ("sale 2-100 cost 20,00 kr., not 19,00 kr.", |r, _| {
                r[6].entry = Entry::Purchased { amount: Amount::from_kroner(19) };
                r[6].balance = Amount::from_kroner(81);
            }),
            ("sale 2-100 was charged to account 6, which is another card's", |r, _| {
                r[6] = sold(7, FIRST, 6, 80);
                r[7] = sold(8, FIRST + 2, 6, 60);
            }),
            ("sale 2-100 was told LSN 6 and stands at 7", |_, log| log.sales[0].told = Told::Approved(Lsn(6))),
            ("sale 2-101 was refused to the till", |r, _| r.push(sold(9, FIRST + 1, 5, 60))),
            ("till 2 never made sale 103", |r, _| r.push(sold(9, FIRST + 3, 5, 60))),
            ("sale 2-102 was asked for twice and answered in two ways", |_, log| log.contradictions.push(FIRST + 2)),
        ];
        for (says, wrong) in wrongs {
            let (mut records, mut log) = (journal(), log());
            wrong(&mut records, &mut log);
            let audit = checked(&records, log);
            assert!(audit.findings.iter().any(|finding| finding.contains(says)), "{says}: {:?}", audit.findings);
            assert!(!audit.sound(), "{says}");
        }
    }

    #[test]
    fn an_audit_with_a_finding_or_a_missing_sale_is_not_sound() {
        let sound = Audit { approved: 3, found: 3, ..Audit::default() };
        assert!(sound.sound());
        assert!(!Audit { found: 2, ..sound.clone() }.sound());
        assert!(!Audit { ledgers_sum_ore: 1, ..sound.clone() }.sound());
        assert!(!Audit { findings: vec!["x".to_owned()], ..sound }.sound());
    }
}
