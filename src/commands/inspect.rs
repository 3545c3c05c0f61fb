//! `frokost inspect`: prints the journal's records, one a line.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;
use frokost_engine::{AccountId, Entry, Lsn, Record};

use crate::cli::InspectArgs;
use crate::data_folder::DataFolder;
use crate::settings::Settings;
use crate::store::Store;

pub(crate) fn run(args: &InspectArgs) -> anyhow::Result<ExitCode> {
    let settings = Settings::read(&args.settings, &[])?;
    let folder = DataFolder::existing(&settings.data)?;
    let store = Store::open(&folder, &settings).with_context(|| format!("{}", folder.path().display()))?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let last = args.to.unwrap_or(Lsn(u64::MAX));
    for record in store.history(args.from) {
        let record = record?;
        if record.lsn > last {
            break;
        }
        if args.account.is_none_or(|account| record.account == AccountId(account))
            && !is_read(writeln!(out, "{}", line(&record)))?
        {
            return Ok(ExitCode::SUCCESS);
        }
    }
    is_read(out.flush())?;
    Ok(ExitCode::SUCCESS)
}

/// False where whoever reads has seen enough, `head` for instance.
fn is_read(written: io::Result<()>) -> io::Result<bool> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        written => written.map(|()| true),
    }
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
        Entry::Blocked | Entry::Activated | Entry::AutoTopUpCancelled | Entry::Closed => String::new(),
        Entry::CreditLimitSet { limit } => format!("limit={}", limit.kroner()),
        Entry::TransferredOut { to, amount } => format!("amount={} to={to}", amount.kroner()),
        Entry::TransferredIn { from, amount } => format!("amount={} from={from}", amount.kroner()),
        Entry::PayoutSent { payout } => format!("payout={payout}"),
        Entry::PayoutReserved { payout, amount }
        | Entry::PayoutDone { payout, amount }
        | Entry::PayoutReturned { payout, amount } => format!("amount={} payout={payout}", amount.kroner()),
        Entry::Corrected { amount, reason } => format!("amount={} reason={}", amount.kroner(), reason.name()),
        Entry::AutoTopUpAgreed { agreement, amount } => format!("amount={} agreement={agreement}", amount.kroner()),
        Entry::ChargeWished { attempt, agreement, amount } => {
            format!("amount={} attempt={attempt} agreement={agreement}", amount.kroner())
        }
        Entry::ChargeFailed { attempt, failure } => format!("attempt={attempt} why={}", failure.name()),
        Entry::DailyLimitSet { limit } => {
            format!("limit={}", limit.map_or("none".to_owned(), |limit| limit.kroner().to_string()))
        }
        Entry::Refused { rejection } => format!("why={} amount={}", rejection.name(), rejection.amount().kroner()),
    };
    let said = match (record.by.0, record.text.is_empty()) {
        (0, true) => String::new(),
        (by, true) => format!(" by={by}"),
        (by, false) => format!(" by={by} text={:?}", record.text.as_str()),
    };
    format!(
        "{} {at} {} account={} key={} balance={} {detail}{said}",
        record.lsn,
        record.entry.name(),
        record.account,
        record.key,
        record.balance.kroner()
    )
    .trim_end()
    .to_owned()
}
