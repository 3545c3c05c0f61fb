//! `frokost verify`: reads everything there is and says, promise by promise, whether it holds.

use std::collections::{BTreeMap, HashSet};
use std::process::ExitCode;

use anyhow::Context;
use frokost_engine::audit::Auditor;
use frokost_engine::journal::Journal;
use frokost_engine::ledger::{Ledger, TrialBalance};
use frokost_engine::statement::{Projection, Statements};
use frokost_engine::time::Month;
use frokost_engine::{AccountId, Amount, Entry, Lsn, Record};

use crate::cli::FolderArgs;
use crate::data_folder::{DataFolder, sealing_key};
use crate::exit;
use crate::settings::Settings;

/// What the checks have come to.
#[derive(Default)]
struct Findings(Vec<String>);

impl Findings {
    /// Prints whether a promise holds, and keeps what does not.
    fn check(&mut self, promise: &str, wrong: Vec<String>) {
        println!("{}  {promise}", if wrong.is_empty() { "ok   " } else { "WRONG" });
        for what in wrong.iter().take(20) {
            println!("       {what}");
        }
        if wrong.len() > 20 {
            println!("       and {} more", wrong.len() - 20);
        }
        self.0.extend(wrong);
    }
}

pub(crate) fn run(args: &FolderArgs) -> anyhow::Result<ExitCode> {
    let settings = Settings::read(&args.settings, &[])?;
    let folder = DataFolder::existing(&settings.data)?;
    let mut findings = Findings::default();
    let journal = folder.journal().with_context(|| format!("{}", folder.path().display()))?;

    let mut auditor = Auditor::default();
    let mut postings: BTreeMap<(AccountId, Month), Vec<Record>> = BTreeMap::new();
    let mut opened = HashSet::new();
    let mut damage = Vec::new();
    let statements = folder.statements(&journal)?;
    let watermark = statements.watermark();
    for record in journal.reader().read_from(Lsn(1)) {
        match record {
            Ok(record) => {
                auditor.take(&record);
                if matches!(record.entry, Entry::Opened { .. }) {
                    opened.insert(record.account);
                }
                if record.movement().is_some() && record.lsn <= watermark {
                    postings.entry((record.account, record.at.month())).or_default().push(record);
                }
            }
            Err(error) => damage.push(error.to_string()),
        }
    }
    if auditor.head() != journal.head() {
        damage.push(format!("it reads up to LSN {}, its end is LSN {}", auditor.head(), journal.head()));
    }
    let report = auditor.finish();
    findings.check(
        &format!("journal: {} records, no gaps, every checksum and link of the hash chain", report.head),
        damage,
    );
    findings.check(
        &format!(
            "books: {} accounts, {} purchases, {} refusals; every key once, every balance follows, none below zero, no refund above its sale, no order twice, all ledgers sum to zero",
            report.accounts, report.purchases, report.refusals
        ),
        report.findings.iter().map(ToString::to_string).collect(),
    );
    print_trial_balance(&report.trial);

    let mut wrong = Vec::new();
    let mut count = 0;
    for ((account, month), expected) in &postings {
        let kept = statements.postings(*account, *month)?;
        count += kept.len();
        if kept != *expected {
            wrong.push(format!("account {account}, {}: the statement differs from the journal", month.number()));
        }
    }
    for account in &opened {
        for month in statements.months(*account)? {
            if !postings.contains_key(&(*account, month)) {
                wrong.push(format!(
                    "account {account}, {}: the statement has postings, the journal has none",
                    month.number()
                ));
            }
        }
    }
    findings.check(&format!("statements: {count} postings up to LSN {watermark}, as in the journal"), wrong);

    let records = folder.records()?;
    let key = sealing_key(&settings, &records)?;
    let pupils = records.pupils()?;
    let mut wrong = Vec::new();
    for pupil in &pupils {
        if !opened.contains(&AccountId(pupil.account)) {
            wrong.push(format!("pupil {} has no account in the journal; run the import again", pupil.account));
        }
        if key.open(&format!("pupil/{}/cpr", pupil.account), &pupil.cpr_sealed).is_err() {
            wrong.push(format!("the CPR number of pupil {} does not open with this key", pupil.account));
        }
    }
    findings.check(&format!("records: {} pupils, each with an account and a sealed CPR number", pupils.len()), wrong);

    if findings.0.is_empty() {
        println!("everything holds");
        Ok(ExitCode::SUCCESS)
    } else {
        println!("{} things are wrong; keep a copy of this folder before doing anything with it", findings.0.len());
        Ok(ExitCode::from(exit::UNSOUND))
    }
}

fn print_trial_balance(trial: &TrialBalance) {
    let mut sums: BTreeMap<&str, Amount> = BTreeMap::new();
    for (ledger, amount) in trial.iter() {
        let name = match ledger {
            Ledger::Account(_) => "accounts",
            Ledger::Sales(_) => "sales at tills",
            Ledger::ProviderClearing => "payment provider",
            Ledger::CounterClearing => "paid in by hand",
            Ledger::Opening => "opening balances",
        };
        let sum = sums.entry(name).or_default();
        *sum = sum.checked_add(amount).unwrap_or(*sum);
    }
    for (name, sum) in sums {
        println!("       {name:<18} {:>18}", sum.to_string());
    }
    println!(
        "       {:<18} {:>18}",
        "sum",
        Amount::from_ore(i64::try_from(trial.sum()).unwrap_or(i64::MAX)).to_string()
    );
}
