//! `frokost books`: what moved between which ledgers, by school and day, and that it all sums to zero.

use std::process::ExitCode;

use anyhow::{Context, ensure};
use frokost_engine::books::{Books, Line};
use frokost_engine::time::{Day, Month};
use frokost_engine::{Amount, Lsn, SchoolId};

use crate::cli::BooksArgs;
use crate::data_folder::DataFolder;
use crate::exit;
use crate::say::{complain, say};
use crate::settings::Settings;
use crate::store::Store;

pub(crate) fn run(args: &BooksArgs) -> anyhow::Result<ExitCode> {
    let day = args.day.as_deref().map(read_day).transpose()?;
    let month =
        args.month.map(|month| Month::from_number(month).with_context(|| format!("{month} is no month; write 202611")));
    let month = month.transpose()?;
    let settings = Settings::read(&args.settings, &[])?;
    let folder = DataFolder::existing(&settings.data)?;
    let store = Store::open(&folder, &settings).with_context(|| format!("{}", folder.path().display()))?;
    let mut books = Books::default();
    for record in store.history(Lsn(1)) {
        let record = record?;
        books.take(&record).with_context(|| format!("LSN {}", record.lsn))?;
    }
    let in_month = |Day(day): Day| month.is_none_or(|month| u32::try_from(day / 100) == Ok(month.number()));
    let wanted = |on: Day, school: SchoolId| {
        day.is_none_or(|day| day == on) && in_month(on) && args.school.is_none_or(|number| school == SchoolId(number))
    };
    let lines = books.sum(wanted)?;
    if args.csv {
        print_csv(&lines)
    } else {
        print_table(&lines)
    }
    let crooked: Vec<_> =
        books.pages().filter(|((on, school), page)| wanted(*on, *school) && page.sum() != 0).collect();
    for ((day, school), page) in &crooked {
        complain!(
            "frokost: school {school} on {}: all ledgers together come to {} øre, not to zero",
            day.0,
            page.sum()
        );
    }
    Ok(if crooked.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(exit::UNSOUND) })
}

fn read_day(text: &str) -> anyhow::Result<Day> {
    let date: jiff::civil::Date = text.parse().with_context(|| format!("{text} is no day; write 2026-11-24"))?;
    ensure!(date.year() > 0, "{text} is no day; write 2026-11-24");
    Ok(Day(i32::from(date.year()) * 10_000 + i32::from(date.month()) * 100 + i32::from(date.day())))
}

fn name(line: &Line) -> String {
    if line.ledger == "sales" { format!("sales at till {}", line.till) } else { line.ledger.replace('_', " ") }
}

fn print_table(lines: &[Line]) {
    let mut school = None;
    let mut sum = Amount::ZERO;
    say!("{:>8}  {:<22} {:>18}", "school", "ledger", "moved");
    for line in lines {
        if school.is_some_and(|school| school != line.school) {
            say!("");
        }
        school = Some(line.school);
        sum = sum.checked_add(line.amount).unwrap_or(sum);
        say!("{:>8}  {:<22} {:>18}", line.school.to_string(), name(line), line.amount.to_string());
    }
    say!("{:>8}  {:<22} {:>18}", "", "sum", sum.to_string());
}

fn print_csv(lines: &[Line]) {
    say!("school;ledger;till;amount");
    for line in lines {
        let amount = line.amount.kroner().to_string().replace('.', ",");
        say!("{};{};{};{amount}", line.school, line.ledger, line.till);
    }
}
