//! `frokost verify`: reads everything there is and says, promise by promise, whether it holds.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashSet};
use std::hash::{Hash, Hasher};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use frokost_engine::audit::Auditor;
use frokost_engine::books::Books;
use frokost_engine::journal::JournalError;
use frokost_engine::ledger::{Ledger, TrialBalance};
use frokost_engine::ledger_state::LedgerState;
use frokost_engine::rules::Rules;
use frokost_engine::snapshot::Snapshots;
use frokost_engine::statement::Statements;
use frokost_engine::time::Month;
use frokost_engine::{AccountId, Amount, Entry, Lsn, Record};
use frokost_persistence::{FileJournal, Records, SealingKey};

use crate::cli::FolderArgs;
use crate::data_folder::{DataFolder, sealing_key};
use crate::exit;
use crate::journal_money::JournalMoney;
use crate::say::say;
use crate::settings::Settings;
use crate::store::{Store, mirror_of};

/// The most records of one group: 512 with a companion each.
const MOST_OF_A_GROUP: u64 = 1_024;

/// What the checks have come to.
#[derive(Default)]
struct Findings(Vec<String>);

impl Findings {
    /// Prints whether a promise holds, and keeps what does not.
    fn check(&mut self, promise: &str, wrong: Vec<String>) {
        say!("{}  {promise}", if wrong.is_empty() { "ok   " } else { "WRONG" });
        for what in wrong.iter().take(20) {
            say!("       {what}");
        }
        if wrong.len() > 20 {
            say!("       and {} more", wrong.len() - 20);
        }
        self.0.extend(wrong);
    }
}

pub(crate) fn run(args: &FolderArgs) -> anyhow::Result<ExitCode> {
    let settings = Settings::read(&args.settings, &[])?;
    let folder = DataFolder::existing(&settings.data)?;
    let mut findings = Findings::default();
    let store = Store::open(&folder, &settings).with_context(|| format!("{}", folder.path().display()))?;
    let Read { auditor, books, money, postings, opened, snapshots, damage } = read_all(&store)?;
    let report = auditor.finish();
    findings.check(
        &format!("records: {} from the first on, no gaps, every checksum and link of the hash chain", report.head),
        damage,
    );
    findings.check(
        &format!(
            "books: {} accounts, {} purchases, {} refusals; every key once, every balance follows, none below what it may owe, no refund above its sale, no order or pay-out twice, both halves of every transfer, all ledgers sum to zero",
            report.accounts, report.purchases, report.refusals
        ),
        report.findings.iter().map(ToString::to_string).collect(),
    );
    let crooked = books.pages().filter(|(_, page)| page.sum() != 0);
    let crooked = crooked.map(|((day, school), page)| format!("school {school}, {}: {} øre", day.0, page.sum()));
    findings.check("books by school and day: every page sums to zero", crooked.collect());
    print_trial_balance(&report.trial);
    check_statements(&store, &postings, &opened, &mut findings)?;
    check_snapshots(&store, snapshots, report.head, &mut findings)?;
    if let Some(mirror) = mirror_of(&settings).filter(|mirror| mirror.exists()) {
        check_mirror(&store, &mirror, &mut findings)?;
    }

    let records = folder.records()?;
    check_pupils(&records, &sealing_key(&settings, &records)?, &opened, &mut findings)?;
    check_portal_money(&records, &money, &mut findings)?;

    if findings.0.is_empty() {
        say!("everything holds");
        Ok(ExitCode::SUCCESS)
    } else {
        say!("{} things are wrong; keep a copy of this folder before doing anything with it", findings.0.len());
        Ok(ExitCode::from(exit::UNSOUND))
    }
}

/// What one reading of all records comes to.
struct Read {
    auditor: Auditor,
    books: Books,
    money: JournalMoney,
    postings: BTreeMap<(AccountId, Month), Digest>,
    opened: HashSet<AccountId>,
    /// Which snapshots were held against the records before them, and what they have otherwise.
    snapshots: Vec<(Lsn, Option<String>)>,
    damage: Vec<String>,
}

/// A month's postings, told apart from others by number and hash.
#[derive(Default, PartialEq, Eq)]
struct Digest {
    count: usize,
    hash: u64,
}

impl Digest {
    fn take(&mut self, record: &Record) {
        let mut hasher = DefaultHasher::new();
        (self.hash, record.lsn, record.at, record.key, record.balance, record.change()).hash(&mut hasher);
        record.text.as_str().hash(&mut hasher);
        self.hash = hasher.finish();
        self.count += 1;
    }
}

fn read_all(store: &Store) -> anyhow::Result<Read> {
    let mut read = Read {
        auditor: Auditor::default(),
        books: Books::default(),
        money: JournalMoney::default(),
        postings: BTreeMap::new(),
        opened: HashSet::new(),
        snapshots: Vec::new(),
        damage: Vec::new(),
    };
    let watermark = store.watermark();
    let snapshots = store.snapshots.list()?;
    let rules = Rules::default();
    let mut state: LedgerState = LedgerState::default();
    for record in store.history(Lsn(1)) {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                read.damage.push(error.to_string());
                break;
            }
        };
        read.auditor.take(&record);
        read.money.take(&record);
        if let Err(error) = read.books.take(&record) {
            read.damage.push(format!("LSN {}: {error}", record.lsn));
        }
        if matches!(record.entry, Entry::Opened { .. }) {
            read.opened.insert(record.account);
        }
        if record.is_posting() && record.lsn <= watermark {
            read.postings.entry((record.account, record.at.month())).or_default().take(&record);
        }
        if snapshots.first().is_some_and(|newest| record.lsn <= *newest) {
            if let Err(error) = state.replay(&record, &rules) {
                read.damage.push(error.to_string());
                break;
            }
            if snapshots.contains(&record.lsn) {
                let differs = store.snapshots.read(record.lsn).and_then(|items| state.differs_from(items));
                read.snapshots.push((record.lsn, differs.unwrap_or_else(|error| Some(error.to_string()))));
            }
        }
    }
    if read.damage.is_empty() && read.auditor.head() != store.head {
        read.damage.push(format!(
            "they read up to LSN {}, the journal's end is LSN {}",
            read.auditor.head(),
            store.head
        ));
    }
    Ok(read)
}

/// The index of statements against the records themselves, and those against the journal where it still has them.
fn check_statements(
    store: &Store,
    postings: &BTreeMap<(AccountId, Month), Digest>,
    opened: &HashSet<AccountId>,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let mut wrong = Vec::new();
    let mut count = 0;
    for ((account, month), expected) in postings {
        let mut kept = Digest::default();
        match store.statements.postings(*account, *month) {
            Ok(postings) => postings.iter().for_each(|posting| kept.take(posting)),
            Err(error) => wrong.push(format!("account {account}, {}: {error}", month.number())),
        }
        count += kept.count;
        if kept != *expected {
            wrong.push(format!("account {account}, {}: the statement differs from the records", month.number()));
        }
    }
    for account in opened {
        for month in store.statements.months(*account)? {
            if !postings.contains_key(&(*account, month)) {
                wrong.push(format!(
                    "account {account}, {}: the statement has postings, the records none",
                    month.number()
                ));
            }
        }
    }
    let reader = store.journal.reader();
    let first = reader.first()?;
    let kept = store.statements.records_from(first);
    wrong.extend(differences("the statements", reader.read_from(first), kept, store.watermark()));
    findings.check(&format!("statements: {count} postings up to LSN {}, as in the records", store.watermark()), wrong);
    Ok(())
}

fn check_snapshots(
    store: &Store,
    held: Vec<(Lsn, Option<String>)>,
    head: Lsn,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let all = store.snapshots.list()?;
    let promise = format!("snapshots: {} of {}, each what the records before it come to", held.len(), all.len());
    let unheld = all.iter().filter(|lsn| held.iter().all(|(of, _)| of != *lsn));
    let mut wrong: Vec<String> = unheld
        .map(|lsn| format!("the snapshot at LSN {lsn}: the records could be read up to LSN {head} only"))
        .collect();
    wrong.extend(held.into_iter().filter_map(|(lsn, what)| Some(format!("the snapshot at LSN {lsn}: {}", what?))));
    findings.check(&promise, wrong);
    Ok(())
}

fn check_pupils(
    records: &Records,
    key: &SealingKey,
    opened: &HashSet<AccountId>,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let pupils = records.pupils()?;
    let mut wrong = Vec::new();
    let mut nobodys = opened.clone();
    for pupil in &pupils {
        if !opened.contains(&AccountId(pupil.account)) {
            wrong.push(format!("pupil {} has no account in the journal; run the import again", pupil.account));
        }
        if key.open(&format!("pupil/{}/cpr", pupil.account), &pupil.cpr_sealed).is_err() {
            wrong.push(format!("the CPR number of pupil {} does not open with this key", pupil.account));
        }
        nobodys.remove(&AccountId(pupil.account));
    }
    findings.check(&format!("records: {} pupils, each with an account and a sealed CPR number", pupils.len()), wrong);
    if !nobodys.is_empty() {
        // As after records of an older backup were restored beside the newer journal.
        let mut some: Vec<u64> = nobodys.iter().map(|account| account.0).collect();
        some.sort_unstable();
        some.truncate(20);
        say!("       {} accounts in the journal belong to no pupil in the records: {some:?}", nobodys.len());
    }
    Ok(())
}

/// What the portal says of payments and pay-outs against the journal.
fn check_portal_money(records: &Records, money: &JournalMoney, findings: &mut Findings) -> anyhow::Result<()> {
    let (orders, payouts) = (records.orders()?, records.payouts()?);
    let held = money.hold(&orders, &payouts);
    let promise =
        format!("portal: {} payments and {} pay-outs, none further than in the journal", orders.len(), payouts.len());
    findings.check(&promise, held.wrong);
    for what in held.to_see_to {
        say!("       {what}");
    }
    if held.unknown > 0 {
        say!("       {} more are in the journal and not in the records, which are older, then", held.unknown);
    }
    Ok(())
}

fn check_mirror(store: &Store, mirror: &Path, findings: &mut Findings) -> anyhow::Result<()> {
    let (head, reader) = FileJournal::peek(mirror)?;
    let mut wrong: Vec<String> =
        differences("the mirror", store.history(Lsn(1)), reader.read_from(Lsn(1)), head.min(store.head))
            .into_iter()
            .collect();
    if head < store.head {
        // It catches up at the next start; nobody has been answered by it alone.
        say!("       the mirror is {} records behind; the next start catches up", store.head.0 - head.0);
    }
    let ahead = head.0.saturating_sub(store.head.0);
    if (1..=MOST_OF_A_GROUP).contains(&ahead) {
        // Both are written at once; nobody was answered, or the journal's own mark of what was acknowledged would say so.
        say!(
            "       the mirror has {ahead} more: a group that was being written when the machine stopped; the next start copies it"
        );
    } else if ahead > 0 {
        wrong.push(format!(
            "the mirror reaches LSN {head}, the journal {}: more than one group is missing there",
            store.head
        ));
    }
    findings.check(&format!("mirror: every record up to LSN {head}, as in the journal"), wrong);
    Ok(())
}

/// The first place up to `last` where two tellings of the same records differ.
fn differences<'a>(
    what: &str,
    ours: impl Iterator<Item = Result<Record, JournalError>> + 'a,
    theirs: impl Iterator<Item = Result<Record, JournalError>> + 'a,
    last: Lsn,
) -> Option<String> {
    let mut theirs = theirs;
    for record in ours {
        let Ok(record) = record else { return None };
        if record.lsn > last {
            return None;
        }
        match theirs.next() {
            Some(Ok(other)) if other == record => {}
            Some(Ok(other)) => {
                return Some(format!("LSN {}: {what} say something else there ({})", record.lsn, other.lsn));
            }
            Some(Err(error)) => return Some(format!("{what}: {error}")),
            None => return Some(format!("LSN {}: {what} lack it", record.lsn)),
        }
    }
    None
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
            Ledger::PayoutsReserved => "pay-outs on their way",
            Ledger::Bank => "paid out by the bank",
            Ledger::Corrections => "corrections",
            Ledger::BetweenSchools => "between schools",
        };
        let sum = sums.entry(name).or_default();
        *sum = sum.checked_add(amount).unwrap_or(*sum);
    }
    for (name, sum) in sums {
        say!("       {name:<22} {:>18}", sum.to_string());
    }
    say!("       {:<22} {:>18}", "sum", Amount::from_ore(i64::try_from(trial.sum()).unwrap_or(i64::MAX)).to_string());
}
