//! `frokost payouts`: what parents have asked to be paid out, as a file for the bank, and the bank's answer. A pay-out is in one file and
//! settled once, however often either is done.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use frokost_engine::{AccountId, Amount, Clock, Command, Outcome, PayoutNumber, Rejection, Timestamp};
use frokost_persistence::records::{Matter, PayoutOrder, PayoutState};
use frokost_persistence::{Records, SealingKey};

use crate::bank_file::{self, Debtor, Transfer, Verdict};
use crate::cli::{Lang, PayoutsArgs, PayoutsVerb};
use crate::data_folder::{DataFolder, sealing_key};
use crate::node::SystemClock;
use crate::operator::Operator;
use crate::outcome_text::explain;
use crate::say::say;
use crate::settings::Settings;

/// The bank's codes for what it has had before: no reason to give money back.
const DUPLICATE: [&str; 4] = ["AM05", "DUPL", "DU01", "DU02"];

pub(crate) async fn run(args: PayoutsArgs) -> anyhow::Result<ExitCode> {
    let settings = Settings::read(&args.settings, &[])?;
    let folder = DataFolder::existing(&settings.data)?;
    let records = folder.records()?;
    match args.verb {
        PayoutsVerb::List => list(&records)?,
        PayoutsVerb::Export { out, again } => {
            let key = sealing_key(&settings, &records)?;
            export(&settings, &records, &key, &out, again).await?;
        }
        PayoutsVerb::Import { file } => import(&settings, &records, &file).await?,
    }
    Ok(ExitCode::SUCCESS)
}

fn list(records: &Records) -> anyhow::Result<()> {
    say!("{:>7}  {:>8}  {:<16}  {:>14}  {:<9}  file", "pay-out", "account", "asked for", "amount", "state");
    for payout in records.payouts()? {
        let state = match payout.state {
            PayoutState::Asked => "asked",
            PayoutState::Reserved => "reserved",
            PayoutState::Sent => "sent",
            PayoutState::Done => "done",
            PayoutState::Returned => "returned",
            PayoutState::Refused => "refused",
        };
        let at = Timestamp(payout.at_ms).local().strftime("%Y-%m-%d %H:%M").to_string();
        let amount = Amount::from_ore(payout.amount_ore).to_string();
        let file = payout.batch.as_deref().unwrap_or_default();
        say!("{:>7}  {:>8}  {at:<16}  {amount:>14}  {state:<9}  {file}", payout.number, payout.account);
    }
    Ok(())
}

/// Marks first, writes then: a file that was not written can be written again from what is marked, while one that was written and not
/// marked would be paid twice.
async fn export(
    settings: &Settings,
    records: &Records,
    key: &SealingKey,
    out: &Path,
    again: Option<String>,
) -> anyhow::Result<()> {
    let iban = settings.bank.iban.replace(' ', "");
    ensure!(
        bank_file::is_iban(&iban),
        "bank.iban is '{iban}'; set the IBAN of the account that pays, see docs/settings.md"
    );
    ensure!(!out.exists(), "{} is there already; choose another file with --out", out.display());
    let batch = match again {
        Some(batch) => batch,
        None => {
            let batch = format!("frokost-{}", SystemClock.now().local().strftime("%Y%m%d-%H%M%S"));
            let ready = records.payouts()?.into_iter().filter(|payout| payout.state == PayoutState::Reserved);
            let ready: Vec<PayoutOrder> = ready.collect();
            if ready.is_empty() {
                say!("there is nothing to pay out");
                return Ok(());
            }
            // Whatever cannot be written is found out before anything is marked.
            ready.iter().try_for_each(|payout| transfer(key, payout).map(drop))?;
            let operator = Operator::connect(settings).await?;
            say!("{batch}: should this be interrupted, write the file with --again {batch}");
            for payout in &ready {
                let (account, number) = (AccountId(payout.account), PayoutNumber(payout.number));
                match operator.command(Command::MarkPayoutSent { account, payout: number }).await? {
                    Outcome::Approved(_) => {}
                    // One of before a restore: it must not keep the others from being paid.
                    Outcome::Rejected(Rejection::UnknownPayout) => {
                        say!("pay-out {number} of account {account} is not in the books and is left out");
                        continue;
                    }
                    Outcome::Rejected(Rejection::PayoutSettled) => {
                        say!("pay-out {number} of account {account} is settled in the books and is left out");
                        continue;
                    }
                    other @ (Outcome::Rejected(_)
                    | Outcome::View(_)
                    | Outcome::Busy
                    | Outcome::OutOfSpace
                    | Outcome::Unavailable) => anyhow::bail!("pay-out {number}: {}", explain(&other, Lang::En)),
                }
                records.advance_payout(number, &[PayoutState::Reserved], |payout| {
                    payout.state = PayoutState::Sent;
                    payout.batch = Some(batch.clone());
                })?;
            }
            operator.close().await;
            batch
        }
    };
    let mut payouts = records.payouts()?;
    // What is settled is not sent again, whatever file it was in.
    payouts.retain(|payout| payout.batch.as_deref() == Some(&batch) && payout.state == PayoutState::Sent);
    ensure!(
        !payouts.is_empty(),
        "there is nothing unsettled in a file '{batch}'; `frokost payouts list` shows what there is"
    );
    let transfers = payouts.iter().map(|payout| transfer(key, payout)).collect::<anyhow::Result<Vec<_>>>()?;
    let made = SystemClock.now().local().strftime("%Y-%m-%dT%H:%M:%S").to_string();
    let debtor = Debtor { name: &settings.portal.holder_name, iban: &iban };
    let bytes = bank_file::credit_transfer(&batch, &made, &debtor, &transfers)?;
    // It names people and their accounts.
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(out);
    let written = match &mut file {
        Ok(file) => file.write_all(&bytes).and_then(|()| file.sync_all()),
        Err(error) => Err(std::io::Error::from(error.kind())),
    };
    written.with_context(|| format!("{}; write it again with --again {batch}", out.display()))?;
    let sum = payouts.iter().try_fold(Amount::ZERO, |sum, p| sum.checked_add(Amount::from_ore(p.amount_ore)));
    say!("{}: {} pay-outs, {} in all, as {batch}", out.display(), payouts.len(), sum.unwrap_or_default());
    Ok(())
}

fn transfer(key: &SealingKey, payout: &PayoutOrder) -> anyhow::Result<Transfer> {
    let bank = key
        .open(&format!("payout/{}", payout.number), &payout.bank_sealed)
        .with_context(|| format!("pay-out {}", payout.number))?;
    let mut lines = bank.split('\n').map(str::to_owned);
    let mut line = || lines.next().unwrap_or_default();
    let (name, reg, account, message) = (line(), line(), line(), line());
    Ok(Transfer {
        id: format!("frokost-{}", payout.number),
        amount: Amount::from_ore(payout.amount_ore),
        name: for_the_bank(&name),
        iban: bank_file::danish_iban(&reg, &account)?,
        message: for_the_bank(&message),
    })
}

/// What was typed before it was looked at may have in it what no bank takes, and no XML file may hold: one file would be refused whole.
fn for_the_bank(text: &str) -> String {
    text.chars().map(|c| if frokost_portal::proof::is_for_a_bank(c) { c } else { '?' }).collect()
}

/// Everything in the answer is looked up before anything is done, so that an answer to somebody else's file changes nothing.
async fn import(settings: &Settings, records: &Records, file: &Path) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| format!("{}", file.display()))?;
    let answer = bank_file::status_report(&text).with_context(|| format!("{}", file.display()))?;
    let known = records.payouts()?;
    let mut verdicts: Vec<(PayoutOrder, Verdict)> = Vec::new();
    for (id, verdict) in answer.transfers {
        let number = id.strip_prefix("frokost-").and_then(|number| number.parse::<u64>().ok());
        let payout = known.iter().find(|payout| Some(payout.number) == number && payout.batch.is_some());
        let payout =
            payout.with_context(|| format!("{}: '{id}' is none of ours; nothing was changed", file.display()))?;
        verdicts.push((payout.clone(), verdict));
    }
    let twice = |verdict: &Verdict| matches!(verdict, Verdict::Refused(why) if DUPLICATE.contains(&why.as_str()));
    ensure!(
        !verdicts.iter().map(|(_, verdict)| verdict).chain(&answer.whole).any(twice),
        "{}: the bank says it has this file already; nothing was changed, wait for its answer to the first",
        file.display()
    );
    if let Some(whole) = answer.whole {
        let named: Vec<u64> = verdicts.iter().map(|(payout, _)| payout.number).collect();
        let rest = known.iter().filter(|payout| payout.batch.as_deref() == Some(&answer.batch));
        verdicts.extend(rest.filter(|p| !named.contains(&p.number)).map(|payout| (payout.clone(), whole.clone())));
    }
    ensure!(!verdicts.is_empty(), "{}: it says nothing about any pay-out of ours", file.display());
    let operator = Operator::connect(settings).await?;
    let mut counts = [0; 4];
    let mut settled = Ok(());
    for (payout, verdict) in verdicts {
        match settle(&operator, records, &payout, verdict).await {
            Ok(kind) => {
                if let Some(count) = counts.get_mut(kind) {
                    *count += 1;
                }
            }
            Err(error) => {
                settled = Err(error);
                break;
            }
        }
    }
    operator.close().await;
    settled?;
    let [done, returned, waiting, before] = counts;
    say!("{done} paid, {returned} refused and back on the balance, {waiting} not decided yet, {before} settled before");
    Ok(())
}

/// The engine first, the record then: asked again after a crash in between, the engine says that it was done. Returns which count it is.
async fn settle(
    operator: &Operator,
    records: &Records,
    payout: &PayoutOrder,
    verdict: Verdict,
) -> anyhow::Result<usize> {
    let (account, number) = (AccountId(payout.account), PayoutNumber(payout.number));
    if payout.state != PayoutState::Sent {
        return Ok(3);
    }
    let (command, state, reason, kind) = match verdict {
        Verdict::Waiting => return Ok(2),
        Verdict::Done => (Command::MarkPayoutDone { account, payout: number }, PayoutState::Done, None, 0),
        Verdict::Refused(why) => {
            (Command::ReturnPayout { account, payout: number }, PayoutState::Returned, Some(why), 1)
        }
    };
    match operator.command(command).await? {
        Outcome::Approved(_) | Outcome::Rejected(Rejection::PayoutSettled) => {}
        other @ (Outcome::Rejected(_)
        | Outcome::View(_)
        | Outcome::Busy
        | Outcome::OutOfSpace
        | Outcome::Unavailable) => anyhow::bail!("pay-out {number}: {}", explain(&other, Lang::En)),
    }
    records.advance_payout(number, &[PayoutState::Sent], |payout| {
        payout.state = state;
        payout.reason = reason;
    })?;
    if state == PayoutState::Returned {
        let language = records.login(&payout.login)?.map(|login| login.language).unwrap_or_default();
        records.post(&payout.login, &language, Matter::PayoutReturned { payout: payout.number })?;
    }
    Ok(kind)
}
