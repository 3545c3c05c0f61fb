//! The audit after a run: reads the whole journal over the wire and holds it against what the tills were told. Every approved
//! sale is there exactly once, for its amount; nothing is there that was refused; and the books are sound.

use std::collections::HashMap;

use frokost_engine::audit::Auditor;
use frokost_engine::{AccountId, CallerId, CardNumber, Entry, Lsn};
use frokost_net::{Client, ClientError};
use serde::{Deserialize, Serialize};

use crate::till::{Log, Told};

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
        if self.findings.len() < 100 {
            self.findings.push(what);
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
    let mut audit = Audit::default();
    let by_caller: HashMap<CallerId, &Log> = logs.iter().map(|log| (log.caller, log)).collect();
    let mut seen: HashMap<CallerId, Vec<u8>> = logs.iter().map(|log| (log.caller, vec![0; log.sales.len()])).collect();
    let mut auditor = Auditor::default();
    let mut owners: HashMap<CardNumber, AccountId> = HashMap::new();
    let mut from = Lsn(1);
    loop {
        let (head, records) = operator.records(from).await?;
        for record in &records {
            auditor.take(record);
            if let Entry::CardBound { card } = record.entry {
                owners.insert(card, record.account);
            }
            let Some(log) = by_caller.get(&record.key.caller) else { continue };
            let Some(index) = record.key.sequence.0.checked_sub(log.first).and_then(|n| usize::try_from(n).ok()) else {
                continue;
            };
            let (Some(sale), Some(times)) =
                (log.sales.get(index), seen.get_mut(&log.caller).and_then(|seen| seen.get_mut(index)))
            else {
                audit.find(format!("LSN {}: till {} never made sale {}", record.lsn, log.caller, record.key.sequence));
                continue;
            };
            let Entry::Purchased { amount } = record.entry else { continue };
            *times = times.saturating_add(1);
            if amount != sale.amount {
                audit.find(format!("LSN {}: sale {} cost {}, not {amount}", record.lsn, record.key, sale.amount));
            }
            if owners.get(&sale.card) != Some(&record.account) {
                audit.find(format!(
                    "LSN {}: sale {} was charged to account {}, which is another card's",
                    record.lsn, record.key, record.account
                ));
            }
            match sale.told {
                Told::Approved(lsn) if lsn == record.lsn => audit.found += 1,
                Told::Approved(lsn) => {
                    audit.find(format!("sale {} was told LSN {lsn} and stands at {}", record.key, record.lsn))
                }
                Told::Refused => audit.find(format!("LSN {}: sale {} was refused to the till", record.lsn, record.key)),
                Told::Nothing => audit.unanswered_found += 1,
            }
        }
        progress(auditor.head(), head);
        match records.last() {
            Some(last) if last.lsn < head => from = last.lsn.next(),
            Some(_) | None => break,
        }
    }
    for log in logs {
        for sequence in &log.contradictions {
            audit.find(format!("sale {}-{sequence} was asked for twice and answered in two ways", log.caller));
        }
        let times = seen.get(&log.caller).map(Vec::as_slice).unwrap_or_default();
        for (n, (sale, times)) in log.sales.iter().zip(times).enumerate() {
            match (sale.told, times) {
                (Told::Approved(_), 0) => {
                    audit.find(format!("sale {}-{} was approved and is lost", log.caller, log.first + n as u64))
                }
                (_, 2..) => audit.find(format!("sale {}-{} is there {times} times", log.caller, log.first + n as u64)),
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
    Ok(audit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_audit_with_a_finding_or_a_missing_sale_is_not_sound() {
        let sound = Audit { approved: 3, found: 3, ..Audit::default() };
        assert!(sound.sound());
        assert!(!Audit { found: 2, ..sound.clone() }.sound());
        assert!(!Audit { ledgers_sum_ore: 1, ..sound.clone() }.sound());
        assert!(!Audit { findings: vec!["x".to_owned()], ..sound }.sound());
    }
}
