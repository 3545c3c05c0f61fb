//! `frokost import`: a school's list of pupils. Every bad line is named; the good ones are taken in; the same list again
//! changes nothing.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use frokost_engine::{Amount, CardNumber, SchoolId};
use frokost_persistence::Records;
use frokost_persistence::records::School;
use frokost_portal::identifier::{Identifier, IdentifyBy};
use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::ImportArgs;
use crate::commands::pupils::{NewPupil, Taken, take_in};
use crate::data_folder::{DataFolder, sealing_key};
use crate::exit;
use crate::operator::Operator;
use crate::say::say;
use crate::settings::Settings;

/// A line that cannot be taken in.
#[derive(Debug, PartialEq, Eq)]
struct BadLine {
    line: u64,
    why: String,
}

pub(crate) async fn run(args: ImportArgs) -> anyhow::Result<ExitCode> {
    let settings = Settings::read(&args.settings, &[])?;
    let text = std::fs::read(&args.file).with_context(|| format!("the list {}", args.file.display()))?;
    let (lines, mut bad) = read_list(&text, settings.portal.card_length, settings.portal.identify_by)
        .with_context(|| format!("the list {}", args.file.display()))?;

    let folder = DataFolder::make(&settings.data)?;
    let records = folder.records()?;
    let school = SchoolId(args.school);
    name_school(&records, school, args.school_name.as_deref())?;
    let key = sealing_key(&settings, &records)?;
    let operator = Arc::new(Operator::connect_in(&folder, &settings).await?);
    let bar = progress(lines.len());
    let counting = bar.clone();
    let pupils: Vec<NewPupil> = lines.iter().map(|(_, pupil)| pupil.clone()).collect();
    let taken = take_in(&records, &key, Arc::clone(&operator), school, &pupils, move || counting.inc(1)).await?;
    bar.finish_and_clear();
    if let Some(operator) = Arc::into_inner(operator) {
        operator.close().await;
    }

    let (mut new, mut completed, mut unchanged) = (0, 0, 0);
    for ((line, _), taken) in lines.iter().zip(taken) {
        match taken {
            Taken::New(_) => new += 1,
            Taken::Completed => completed += 1,
            Taken::Unchanged => unchanged += 1,
            Taken::Refused(why) => bad.push(BadLine { line: *line, why }),
        }
    }
    bad.sort_by_key(|bad| bad.line);
    for BadLine { line, why } in &bad {
        say!("line {line}: {why}");
    }
    say!("{new} pupils taken in, {completed} completed, {unchanged} unchanged, {} bad lines", bad.len());
    Ok(if bad.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(exit::FAILED) })
}

fn name_school(records: &Records, school: SchoolId, name: Option<&str>) -> anyhow::Result<()> {
    let known = records.school(school)?;
    match (known, name) {
        (Some(known), Some(name)) if known.name != name => {
            bail!(
                "school {school} is '{}'; leave --school-name out, or choose another number with --school",
                known.name
            )
        }
        (Some(_), _) => Ok(()),
        (None, Some(name)) => Ok(records.put_school(&School { number: school.0, name: name.to_owned() })?),
        (None, None) => bail!("school {school} is new; give its name with --school-name"),
    }
}

fn progress(length: usize) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template("{pos} of {len} pupils  {wide_bar}").unwrap_or(ProgressStyle::default_bar());
    ProgressBar::new(length as u64).with_style(style)
}

type Lines = Vec<(u64, NewPupil)>;

/// The good lines with their numbers, and the bad ones.
fn read_list(bytes: &[u8], card_length: usize, by: IdentifyBy) -> anyhow::Result<(Lines, Vec<BadLine>)> {
    let text = std::str::from_utf8(bytes).context("it is not UTF-8; save it as 'CSV UTF-8'")?;
    let text = text.trim_start_matches('\u{feff}');
    let header = text.lines().next().unwrap_or_default();
    let delimiter = if header.contains(';') { b';' } else { b',' };
    let mut reader =
        csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).trim(csv::Trim::All).from_reader(text.as_bytes());
    let headers: Vec<String> = reader.headers()?.iter().map(str::to_lowercase).collect();
    let column = |names: &[&str]| headers.iter().position(|header| names.contains(&header.as_str()));
    let required = |names: &[&str]| {
        let wanted = names.join(" or ");
        column(names).with_context(|| format!("the first line names no column {wanted}"))
    };
    let name_column = required(&["name", "navn"])?;
    let identifier_column = required(match by {
        IdentifyBy::Cpr => &["cpr", "cpr-nummer"],
        IdentifyBy::BirthDate => &["birth date", "fødselsdato"],
    })?;
    let card_column = required(&["card", "kort", "kortnummer"])?;
    let balance_column = column(&["balance", "saldo"]);

    let (mut good, mut bad): (Lines, Vec<BadLine>) = (Vec::new(), Vec::new());
    let mut cards: HashMap<CardNumber, u64> = HashMap::new();
    // A CPR number is one pupil's; a birthday is shared by several names.
    let mut known: HashMap<(Identifier, String), u64> = HashMap::new();
    for row in reader.records() {
        let row = match row {
            Ok(row) => row,
            Err(error) => {
                let line = error.position().map_or(0, csv::Position::line);
                bad.push(BadLine { line, why: error.to_string() });
                continue;
            }
        };
        let line = row.position().map_or(0, csv::Position::line);
        let field = |column: usize| row.get(column).unwrap_or_default();
        let balance = balance_column.map(field).unwrap_or_default();
        match read_pupil(field(name_column), field(identifier_column), field(card_column), balance, card_length, by) {
            Err(why) => bad.push(BadLine { line, why }),
            Ok(pupil) => {
                let name = match by {
                    IdentifyBy::Cpr => String::new(),
                    IdentifyBy::BirthDate => pupil.name.to_lowercase(),
                };
                let who = (pupil.identifier.clone(), name);
                let twice = match (cards.get(&pupil.card), known.get(&who)) {
                    (Some(first), _) => Some(format!("the card is on line {first}, too")),
                    (None, Some(first)) if by == IdentifyBy::Cpr => {
                        Some(format!("the CPR number is on line {first}, too"))
                    }
                    (None, Some(first)) => Some(format!(
                        "name and birth date are on line {first}, too; if they are two pupils, give one another name"
                    )),
                    (None, None) => None,
                };
                match twice {
                    Some(why) => bad.push(BadLine { line, why }),
                    None => {
                        cards.insert(pupil.card, line);
                        known.insert(who, line);
                        good.push((line, pupil));
                    }
                }
            }
        }
    }
    Ok((good, bad))
}

/// One line's pupil, or what is wrong with it. Messages never repeat what stands in a cell: it may be a CPR number in the
/// wrong column.
fn read_pupil(
    name: &str,
    identifier: &str,
    card: &str,
    balance: &str,
    card_length: usize,
    by: IdentifyBy,
) -> Result<NewPupil, String> {
    if name.is_empty() || name.chars().count() > 200 {
        return Err("the name is missing, or longer than 200 characters".to_owned());
    }
    let identifier = by.read(identifier).map_err(|error| error.to_string())?;
    let number = card.parse::<CardNumber>().map_err(|error| format!("the card number is wrong: {error}"))?;
    if number.as_str().len() != card_length {
        return Err(format!("the card number has {} characters, not {card_length}", number.as_str().len()));
    }
    let balance: Amount = match balance {
        "" => Amount::ZERO,
        text => text.parse().map_err(|_| "the balance is wrong; write for instance 25 or 25,50".to_owned())?,
    };
    if balance < Amount::ZERO || balance > Amount::from_kroner(10_000) {
        return Err(format!("the balance {balance} is not between 0 and 10.000 kr."));
    }
    Ok(NewPupil { name: name.to_owned(), identifier, card: number, balance })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_lines_are_read_and_bad_ones_named() {
        let list = "\u{feff}Navn;CPR;Kortnummer;Saldo\n\
            Anna Ås;010110-5123;12345678901234;100,50\n\
            Bo;0101105124;12345678901235;\n\
            ;0101105125;12345678901236;1\n\
            Cy;3102105126;12345678901237;1\n\
            Di;0101105127;123;1\n\
            Eb;0101105128;12345678901238;1.2.3\n\
            Fi;0101105129;12345678901234;1\n\
            Gu;0101105123;12345678901239;1\n\
            Ha;0101105130;12345678901240;-1\n\
            In;0101105131\n\
            Jo;0101105132;1234 5678 abcd 41;1.000\n";
        let (good, bad) = read_list(list.as_bytes(), 14, IdentifyBy::Cpr).unwrap();
        let names: Vec<&str> = good.iter().map(|(_, pupil)| pupil.name.as_str()).collect();
        assert_eq!(names, ["Anna Ås", "Bo", "Jo"]);
        assert_eq!(good[0].1.balance, Amount::from_ore(10_050));
        assert_eq!(good[2].1.balance, Amount::from_kroner(1000));
        assert_eq!(good[2].1.card.as_str(), "12345678ABCD41");
        let lines: Vec<u64> = bad.iter().map(|bad| bad.line).collect();
        assert_eq!(lines, [4, 5, 6, 7, 8, 9, 10, 11]);
        assert!(bad[4].why.contains("line 2"), "{bad:?}");
        assert!(!bad.iter().any(|bad| bad.why.contains("0101105123")), "a CPR number is repeated: {bad:?}");
    }

    #[test]
    fn a_school_without_cpr_numbers_has_birth_dates() {
        let list = "Navn;Fødselsdato;Kortnummer\n\
            Anna Ås;01-02-2014;12345678901234\n\
            Bo Ås;1.2.2014;12345678901235\n\
            anna ås;1-2-2014;12345678901236\n\
            Cy;31-02-2014;12345678901237\n\
            Di;010214-5123;12345678901238\n";
        let (good, bad) = read_list(list.as_bytes(), 14, IdentifyBy::BirthDate).unwrap();
        assert_eq!(good.len(), 2, "twins are two pupils");
        assert_eq!(bad.iter().map(|bad| bad.line).collect::<Vec<_>>(), [4, 5, 6]);
        assert!(bad[0].why.contains("line 2"), "{bad:?}");
        assert!(read_list(b"navn;cpr;kort\n", 14, IdentifyBy::BirthDate).is_err());
    }

    #[test]
    fn a_list_without_its_columns_is_refused() {
        let why = read_list(b"Fornavn,CPR\n", 14, IdentifyBy::Cpr).unwrap_err().to_string();
        assert!(why.contains("name or navn") && !why.contains("Fornavn,CPR"), "{why}");
        assert!(read_list(&[0xff, 0xfe, 0x00], 14, IdentifyBy::Cpr).is_err());
    }
}
