//! `frokost inspect`: prints the journal's records, one a line.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use frokost_engine::journal::Journal;
use frokost_engine::{AccountId, Entry, Lsn, Record};

use crate::cli::InspectArgs;
use crate::data_folder::DataFolder;
use crate::settings::Settings;

pub(crate) fn run(args: &InspectArgs) -> anyhow::Result<ExitCode> {
    let settings = Settings::read(&args.settings, &[])?;
    let folder = DataFolder::existing(&settings.data)?;
    let journal = folder.journal().with_context(|| format!("{}", folder.path().display()))?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let last = args.to.unwrap_or(Lsn(u64::MAX));
    for record in journal.reader().read_from(args.from) {
        let record = record?;
        if record.lsn > last {
            break;
        }
        if args.account.is_none_or(|account| record.account == AccountId(account))
            && let Err(error) = writeln!(out, "{}", line(&record))
        {
            // Whoever reads has seen enough, `head` for instance.
            if error.kind() == std::io::ErrorKind::BrokenPipe {
                return Ok(ExitCode::SUCCESS);
            }
            return Err(error.into());
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn line(record: &Record) -> String {
    let at = record.at.local().strftime("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string();
    let detail = match record.entry {
        Entry::Opened { school } => format!("school={school}"),
        Entry::CardBound { card } => format!("card={card}"),
        Entry::Purchased { amount } => format!("amount={}", amount.kroner()),
        Entry::Refunded { sale, amount } => format!("amount={} sale={sale}", amount.kroner()),
        Entry::ToppedUp { order, amount, source } => {
            format!("amount={} order={order} source={source:?}", amount.kroner())
        }
        Entry::Blocked | Entry::Activated => String::new(),
        Entry::DailyLimitSet { limit } => {
            format!("limit={}", limit.map_or("none".to_owned(), |limit| limit.kroner().to_string()))
        }
        Entry::Refused { rejection } => format!("why={} amount={}", rejection.name(), rejection.amount().kroner()),
    };
    format!(
        "{} {at} {} account={} key={} balance={} {detail}",
        record.lsn,
        record.entry.name(),
        record.account,
        record.key,
        record.balance.kroner()
    )
    .trim_end()
    .to_owned()
}
