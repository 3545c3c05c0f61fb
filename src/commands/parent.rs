//! `frokost parent`: gives a parent a login, until sign-up on the portal does it.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use frokost_persistence::Records;
use frokost_persistence::records::Login;

use crate::cli::{ParentArgs, ParentVerb};
use crate::data_folder::DataFolder;
use crate::operator::Operator;
use crate::say::{complain, say};
use crate::settings::Settings;

const SHORTEST_PASSWORD: usize = 10;

pub(crate) async fn run(args: ParentArgs) -> anyhow::Result<ExitCode> {
    let settings = Settings::read(&args.settings, &[])?;
    let records = DataFolder::existing(&settings.data)?.records()?;
    let ParentVerb::Add { mail, name, accounts, password_file } = &args.verb;
    let operator = Operator::connect(&settings).await?;
    anyhow::ensure!(mail.contains('@') && mail.len() <= 200, "'{mail}' is no mail address");
    let numbers = resolve(&operator, &records, accounts).await;
    operator.close().await;
    let numbers = numbers?;
    let password = read_password(password_file.as_deref())?;
    let mut login = records.login(mail)?.unwrap_or(Login {
        number: 0,
        mail: mail.clone(),
        name: name.clone(),
        password: String::new(),
        accounts: Vec::new(),
        pending: Vec::new(),
        proofs: BTreeMap::new(),
        since: BTreeMap::new(),
        language: String::new(),
    });
    login.name.clone_from(name);
    if let Some(problem) = frokost_portal::password_weakness(&password, &[mail, name]) {
        bail!("{problem}");
    }
    login.password = frokost_portal::hash_password(&password);
    for number in numbers {
        if !login.accounts.contains(&number) {
            login.accounts.push(number);
        }
    }
    records.put_login(&login)?;
    // What was open under an old password is over.
    records.end_sessions_of(mail, None)?;
    records.end_tickets_of(mail)?;
    say!("{mail} may log in and sees {} account(s)", login.accounts.len());
    Ok(ExitCode::SUCCESS)
}

/// The numbers of accounts that are named by their own number or their card's.
async fn resolve(operator: &Operator, records: &Records, accounts: &[String]) -> anyhow::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for account in accounts {
        let view = operator.account(account).await?;
        anyhow::ensure!(records.pupil(view.account)?.is_some(), "account {} belongs to no pupil", view.account);
        numbers.push(view.account.0);
    }
    Ok(numbers)
}

fn read_password(file: Option<&Path>) -> anyhow::Result<String> {
    let mut line = String::new();
    match file {
        Some(file) => {
            let opened = std::fs::File::open(file).with_context(|| format!("the password file {}", file.display()))?;
            std::io::BufReader::new(opened).read_line(&mut line)?;
        }
        None => {
            complain!("password (at least {SHORTEST_PASSWORD} characters, then Enter):");
            std::io::stdin().lock().read_line(&mut line)?;
        }
    }
    let password = line.trim_end_matches(['\r', '\n']).to_owned();
    anyhow::ensure!(
        password.chars().count() >= SHORTEST_PASSWORD,
        "the password has fewer than {SHORTEST_PASSWORD} characters; a short sentence is easy to keep in mind"
    );
    Ok(password)
}
