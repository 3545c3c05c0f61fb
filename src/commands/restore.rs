//! `frokost restore`: makes the journal anew from its mirror, or a whole installation from a backup. What it replaces is
//! set aside, never removed.

use std::fs::{self, File, TryLockError};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use frokost_engine::journal::{Journal, Shard};
use frokost_engine::{Amount, Clock, Lsn, OrderNumber, PayoutNumber};
use frokost_net::callers::Callers;
use frokost_persistence::records::{Line, OrderState, PayoutState};
use frokost_persistence::{FileJournal, Records, SledJournal, acknowledged};
use indicatif::ProgressBar;

use crate::backup::{check, copy_files, private_folder};
use crate::cli::RestoreArgs;
use crate::data_folder::DataFolder;
use crate::journal_money::JournalMoney;
use crate::node::SystemClock;
use crate::say::{say, typed};
use crate::settings::{JournalKind, Settings};
use crate::store::mirror_of;

/// What is made from the journal, and is made anew with it.
const BOOKS: [&str; 5] = ["journal", "journal.head", "journal.files", "statements", "snapshots"];
/// Kinds of numbers that others than the records know.
const NUMBERED_OUTSIDE: [&str; 3] = ["order", "payout", "login"];
/// More than can have been given out since the backup.
const NUMBERS_LEFT_OUT: u64 = 1_000_000;
/// Records that are written at once.
const RUN: usize = 512;

pub(crate) fn run(args: &RestoreArgs) -> anyhow::Result<ExitCode> {
    let settings = Settings::read(&args.settings, &[])?;
    let from = match &args.from {
        Some(from) => from.clone(),
        None => {
            mirror_of(&settings).context("this installation has no mirror; say with --from what to restore from")?
        }
    };
    ensure!(from.is_dir(), "{} is not a folder with a backup or a mirror", from.display());
    let manifest = from.join("manifest.json").exists().then(|| check(&from)).transpose()?;
    let segments = if manifest.is_some() { from.join("journal") } else { from.clone() };
    let folder = DataFolder::to_restore(&settings.data)?;
    nobody_uses(&folder, &settings)?;
    let (head, reader) =
        FileJournal::peek(&segments).with_context(|| format!("{} cannot be restored from", segments.display()))?;
    ensure!(head > Lsn::ZERO, "{} holds no records", segments.display());
    if let Some(manifest) = &manifest {
        ensure!(head == Lsn(manifest.head), "{}: its records end at {head}, not at {}", from.display(), manifest.head);
    }
    let lost = acknowledged(&folder.path().join("journal.head")).saturating_sub(head.0);
    ensure!(
        lost == 0 || args.accept_loss,
        "{} ends at LSN {head}, and {lost} records behind it were acknowledged; restore from a newer copy, or say --accept-loss",
        segments.display()
    );

    // Into a folder beside it first: what is there stays until the new one is whole.
    let new = folder.path().join("set-aside").join("unfinished");
    if new.exists() {
        fs::remove_dir_all(&new)?;
    }
    private_folder(&new)?;
    let bar = ProgressBar::new(head.0);
    let kind = settings.journal.kind;
    let mut journal: Box<dyn Journal> = match kind {
        JournalKind::Sled => Box::new(SledJournal::open(&new.join("journal"))?),
        JournalKind::File => Box::new(FileJournal::open(&new.join("journal.files"))?),
    };
    let claim = journal.claim(Shard(0), "restore")?;
    let mut done = claim.head;
    let mut run = Vec::with_capacity(RUN);
    let mut money = JournalMoney::default();
    for record in reader.read_from(Lsn(1)) {
        let record = record.with_context(|| format!("{}", segments.display()))?;
        let last = record.lsn;
        money.take(&record);
        run.push(record);
        if run.len() == RUN || last == head {
            done = journal.append(&claim, done, &run)?;
            run.clear();
            bar.set_position(done.0);
        }
    }
    bar.finish_and_clear();
    ensure!(done == head, "{} reads up to LSN {done}, its end is {head}", segments.display());
    drop(journal);
    let people = if manifest.is_some() { people(&from, &folder, &new)? } else { Vec::new() };

    // Until here nothing has been touched, and what was there is as good as it was. From here on nothing else is begun with it until this is done.
    let accepted = if args.accept_loss { " --accept-loss" } else { "" };
    folder.begin_restoring(&format!(
        "frokost restore --data {} --from {}{accepted}",
        typed(folder.path()),
        typed(&fs::canonicalize(&from)?)
    ))?;
    let records = [&new, folder.path()].map(|place| place.join("records")).into_iter().find(|place| place.exists());
    if let Some(records) = records {
        do_again(&Records::open(&records)?, &money)?;
    }

    // Who the books belong to comes first: if this is cut off, what is there then is whole.
    for name in &people {
        put_in_place(&new, &folder, name)?;
    }
    let aside = set_aside(folder.path())?;
    for name in BOOKS {
        put_in_place(&new, &folder, name)?;
    }
    fs::remove_dir_all(&new)?;
    folder.end_restoring()?;
    say!("restored up to LSN {head} from {}", from.display());
    if lost > 0 {
        say!("{lost} records that were acknowledged are not in it");
    }
    if let Some(aside) = aside {
        say!("what was there before is in {}; remove it when `frokost verify` finds everything sound", aside.display());
    }
    if let Some(manifest) = manifest {
        if people.contains(&"pki") {
            let data = typed(folder.path());
            say!("the list of tills is of {}; what has happened since has to be done again:", manifest.made);
            say!("  who was revoked: frokost till revoke NAME --data {data}");
            say!("  who was enrolled: frokost till add NAME --data {data}");
        }
        if !settings.key_file().exists() {
            say!(
                "put the key file back to {} before the server starts: it opens the CPR numbers",
                settings.key_file().display()
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A journal that is in use is left alone; a damaged one is what we are here for. Nothing is touched by asking.
fn nobody_uses(folder: &DataFolder, settings: &Settings) -> anyhow::Result<()> {
    let mirrored = mirror_of(settings).and_then(|mirror| File::open(mirror.join("lock")).ok());
    let locked = mirrored.is_some_and(|lock| matches!(lock.try_lock(), Err(TryLockError::WouldBlock)));
    let records = folder.path().join("records").exists();
    ensure!(
        !locked
            && (!records || folder.records().map_or_else(|error| !format!("{error:#}").contains("in use"), |_| true)),
        "a server is running on {}; stop it first",
        folder.path().display()
    );
    Ok(())
}

/// Moves the books that are there out of the way.
fn set_aside(data: &Path) -> anyhow::Result<Option<PathBuf>> {
    let present: Vec<&str> = BOOKS.into_iter().filter(|name| data.join(name).exists()).collect();
    if present.is_empty() {
        return Ok(None);
    }
    let stamp = SystemClock.now().local().strftime("%Y%m%d-%H%M%S").to_string();
    let mut aside = data.join("set-aside").join(&stamp);
    let mut n = 1;
    while aside.exists() {
        n += 1;
        aside = data.join("set-aside").join(format!("{stamp}-{n}"));
    }
    private_folder(&aside)?;
    for name in present {
        fs::rename(data.join(name), aside.join(name))?;
    }
    Ok(Some(aside))
}

/// The records may be newer than the journal that was restored, and call done what it knows nothing of: then it is done again. A parent has
/// paid, and the money has to be on the card.
fn do_again(records: &Records, money: &JournalMoney) -> anyhow::Result<()> {
    let mut again = [0, 0];
    for order in records.orders()? {
        let number = OrderNumber(order.number);
        if order.state == OrderState::Credited && !money.has_credited(number) {
            records.change_order(number, |order| {
                order.state = OrderState::Paid;
                true
            })?;
            again[0] += 1;
        }
    }
    for payout in records.payouts()? {
        let number = PayoutNumber(payout.number);
        match (payout.state, money.awaits_the_bank(number)) {
            (PayoutState::Reserved, None) => {
                records.advance_payout(number, &[PayoutState::Reserved], |payout| payout.state = PayoutState::Asked)?;
                again[1] += 1;
            }
            // Asked for again it would be paid again.
            (PayoutState::Sent | PayoutState::Done, None) => say!(
                "pay-out {} of {} went to the bank and is not in these books: take it off account {} with frokost account correct",
                payout.number,
                Amount::from_ore(payout.amount_ore),
                payout.account
            ),
            (PayoutState::Done | PayoutState::Returned, Some(true)) => {
                records.advance_payout(number, &[PayoutState::Done, PayoutState::Returned], |payout| {
                    payout.state = PayoutState::Sent;
                })?;
                say!(
                    "pay-out {number}: these books do not have the bank's answer; take it in again with frokost payouts import"
                );
            }
            (PayoutState::Asked | PayoutState::Returned | PayoutState::Refused, None)
            | (PayoutState::Asked | PayoutState::Reserved | PayoutState::Sent | PayoutState::Refused, Some(true))
            | (_, Some(false)) => {}
        }
    }
    let [credited, reserved] = again;
    if credited > 0 {
        say!("{credited} payments that are not in these books are credited when the server runs");
    }
    if reserved > 0 {
        say!("{reserved} pay-outs that are not in these books are asked for when the server runs");
    }
    Ok(())
}

/// Makes names, logins, orders, certificates and pictures of a backup in `new`, those that are not there; says which.
fn people(backup: &Path, folder: &DataFolder, new: &Path) -> anyhow::Result<Vec<&'static str>> {
    let mut made = Vec::new();
    if folder.path().join("records").exists() && !folder.records()?.export()?.is_empty() {
        say!("the records that are there stay as they are");
    } else {
        let file = BufReader::new(File::open(backup.join("records.jsonl"))?);
        let mut lines: Vec<Line> = Vec::new();
        for (n, line) in file.lines().enumerate() {
            let line = serde_json::from_str(&line?);
            lines.push(line.with_context(|| format!("records.jsonl, line {}", n + 1))?);
        }
        let records = Records::open(&new.join("records"))?;
        records.import(lines)?;
        // The provider, the bank and the journal know numbers that were given out after the backup was made.
        records.change(|change| {
            NUMBERED_OUTSIDE.iter().try_for_each(|kind| change.skip_numbers(kind, NUMBERS_LEFT_OUT))
        })?;
        made.push("records");
    }
    for (name, what) in [("pki", "certificates"), ("pictures", "pictures")] {
        if folder.path().join(name).exists() {
            say!("the {what} that are there stay as they are");
        } else {
            copy_files(&backup.join(name), &new.join(name), &|| Ok(()))?;
            made.push(name);
        }
    }
    if made.contains(&"pki") {
        // There are tills that were enrolled after the backup was made.
        Callers::of(&new.join("pki")).skip_numbers()?;
    }
    Ok(made)
}

/// Moves one of what was made to where it belongs, if it was made. Where it belongs there is nothing of worth.
fn put_in_place(new: &Path, folder: &DataFolder, name: &str) -> anyhow::Result<()> {
    let (from, to) = (new.join(name), folder.path().join(name));
    if from.exists() {
        if name == "records" && to.exists() {
            fs::remove_dir_all(&to)?;
        }
        fs::rename(&from, &to)?;
        File::open(folder.path())?.sync_all()?;
    }
    Ok(())
}
