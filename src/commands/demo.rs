//! `frokost demo`: a small school in one process. Made when it is not there, found again when it is; then a short lunch rush
//! through real tills, and the portal stays up for a look.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use frokost_engine::{AccountId, Amount, Command, Outcome, Query, SchoolId};
use frokost_loadtest::run::Cast;
use frokost_loadtest::{Cards, Plan, Report, Shape};
use frokost_persistence::records::{Login, School};
use frokost_portal::identifier::{Identifier, IdentifyBy};
use tokio::sync::watch;

use crate::cli::{DemoArgs, SettingsArgs};
use crate::commands::live::Live;
use crate::commands::load::till_bundles;
use crate::commands::pupils::{NewPupil, Taken, take_in};
use crate::data_folder::{DataFolder, sealing_key};
use crate::exit;
use crate::node::Node;
use crate::operator::Operator;
use crate::say::say;
use crate::settings::Settings;
use crate::stop_signals::StopSignals;

const SCHOOL: SchoolId = SchoolId(1);
const SCHOOL_NAME: &str = "Sct. Frokost Skole";
const PARENT: &str = "mor@example.dk";
const PASSWORD: &str = "rugbrød-med-leverpostej";

pub(crate) async fn run(args: DemoArgs) -> anyhow::Result<ExitCode> {
    let port = |port: u16| Some(format!("127.0.0.1:{port}"));
    let flags = [
        ("tills.listen", port(args.till_port)),
        ("portal.listen", port(args.portal_port)),
        ("payment.sandbox_listen", port(args.portal_port + 1)),
        ("metrics.listen", Some("127.0.0.1:0".to_owned())),
    ];
    let source = SettingsArgs { config: None, data: Some(args.data.clone()) };
    let settings = Settings::read(&source, &flags)?;
    refuse_a_real_school(&settings)?;
    let node = Node::start(settings).await?;
    let mut stop = StopSignals::listen()?;
    let ended = tokio::select! {
        played = play(&node, &args) => played.map(Some),
        () = stop.come() => Ok(None),
    };
    let report = match ended {
        Ok(report) => report,
        Err(error) => {
            node.shutdown().await;
            return Err(error);
        }
    };
    if report.is_some() && !args.once {
        stop.come().await;
    }
    stop.again_ends_at_once("what was answered is durable");
    let engine = node.core.engine.clone();
    node.shutdown().await;
    say!("\nstopped: everyone was answered; {} records are durable in {}", engine.durable(), args.data.display());
    let sound = report.flatten().is_none_or(|report| report.audit.sound());
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::from(exit::UNSOUND) })
}

/// The demo sells to everybody and lets anyone log in; it stays away from an installation that is not its own.
fn refuse_a_real_school(settings: &Settings) -> anyhow::Result<()> {
    if !settings.data.join("records").exists() {
        return Ok(());
    }
    let records = DataFolder::make(&settings.data)?.records()?;
    let own = records.school(SCHOOL)?.is_some_and(|school| school.name == SCHOOL_NAME);
    let empty = records.schools()?.is_empty() && records.pupils()?.is_empty();
    anyhow::ensure!(
        own || empty,
        "{} is an installation that the demo did not make; choose another folder with --data",
        settings.data.display()
    );
    Ok(())
}

async fn play(node: &Node, args: &DemoArgs) -> anyhow::Result<Option<Report>> {
    let operator = Arc::new(Operator::to(&node.core, &node.settings).await?);
    let made = make_school(node, args, &operator).await?;
    let (accounts, total) = holdings(node, &operator).await?;
    if made {
        say!(
            "made {accounts} pupils' accounts with {total} in total, {} tills and a parent with two children",
            args.tills
        );
    } else {
        say!("found {accounts} accounts as they were left: {total} in total");
    }
    let report = if args.seconds == 0 { None } else { Some(lunch_rush(node, args).await?) };
    if let Some(report) = &report {
        crate::say::out(format_args!("\n{report}"));
    }
    let child = operator.account("1").await?;
    say!("\nThe portal is at {}", node.public_url);
    say!("  log in as      {PARENT}");
    say!("  password       {PASSWORD}");
    say!("  mails are in   {}", node.settings.mail_setup().maildir.join("new").display());
    say!("  a child's card {}", child.card.map(|card| card.to_string()).unwrap_or_default());
    say!("Sell something to it from another terminal:");
    say!(
        "  {} till --bundle {} --server {}",
        std::env::args().next().unwrap_or_else(|| "frokost".to_owned()),
        bundle_path(args).display(),
        node.core.server.address()
    );
    if !args.once {
        say!("Ctrl-C stops.");
    }
    Ok(report)
}

fn bundle_path(args: &DemoArgs) -> std::path::PathBuf {
    args.data.join("try-me.pem")
}

/// Makes the school, if it is not there whole. Says whether it was made now.
async fn make_school(node: &Node, args: &DemoArgs, operator: &Arc<Operator>) -> anyhow::Result<bool> {
    let records = &node.records;
    if records.login(PARENT)?.is_some() {
        return Ok(false);
    }
    records.put_school(&School { number: SCHOOL.0, name: SCHOOL_NAME.to_owned() })?;
    let key = sealing_key(&node.settings, records)?;
    let pupils = (0..args.pupils)
        .map(|number| pupil(number, node.settings.portal.identify_by))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let taken = take_in(records, &key, Arc::clone(operator), SCHOOL, &pupils, || {}).await?;
    if let Some(Taken::Refused(why)) = taken.iter().find(|taken| matches!(taken, Taken::Refused(_))) {
        anyhow::bail!("the demo's school cannot be made in {}: {why}", args.data.display());
    }
    // Some cards are blocked and some have a daily limit, so that the rush sees every refusal.
    for number in (7..=u64::from(args.pupils)).step_by(40) {
        operator.must(Command::Block { account: AccountId(number) }).await?;
    }
    for number in (11..=u64::from(args.pupils)).step_by(10) {
        let limit = Some(Amount::from_kroner(40));
        operator.must(Command::SetDailyLimit { account: AccountId(number), limit }).await?;
    }
    let path = bundle_path(args);
    if !path.exists() {
        let authority = &node.core.authority;
        let known = authority.callers().enrolled()?.into_iter().find(|enrolled| enrolled.name == "try-me");
        let pem = match known {
            Some(known) => authority.bundle(frokost_net::Identity(known.caller))?,
            None => authority.enrol("try-me", frokost_engine::Role::Till, SCHOOL)?.1,
        };
        frokost_net::enrol::write_new(&path, pem.as_bytes(), 0o600)?;
    }
    // The login comes last: where it is, everything before it is.
    let password = tokio::task::spawn_blocking(|| frokost_portal::hash_password(PASSWORD)).await?;
    records.put_login(&Login {
        number: 0,
        mail: PARENT.to_owned(),
        name: "Mor".to_owned(),
        password,
        accounts: vec![1, 2],
        pending: Vec::new(),
        proofs: BTreeMap::new(),
        since: BTreeMap::new(),
        language: String::new(),
    })?;
    Ok(true)
}

/// A made-up pupil: always the same for the same number.
fn pupil(number: u32, by: IdentifyBy) -> anyhow::Result<NewPupil> {
    const FIRST: [&str; 20] = [
        "Alma", "Noah", "Ida", "Oscar", "Clara", "Carl", "Freja", "Malthe", "Ella", "Emil", "Agnes", "August", "Luna",
        "Oliver", "Sofia", "Arthur", "Karla", "Valdemar", "Nora", "Aksel",
    ];
    const LAST: [&str; 15] = [
        "Jensen",
        "Nielsen",
        "Hansen",
        "Pedersen",
        "Andersen",
        "Christensen",
        "Larsen",
        "Sørensen",
        "Rasmussen",
        "Jørgensen",
        "Petersen",
        "Madsen",
        "Kristensen",
        "Olsen",
        "Thomsen",
    ];
    let at = |names: &[&'static str], n: u32| names.get(n as usize % names.len()).copied().unwrap_or_default();
    let name = format!("{} {}", at(&FIRST, number), at(&LAST, number / 20 + number));
    let (day, month, year) = (number % 28 + 1, number / 28 % 12 + 1, number / 336 % 8 + 8);
    let cpr = format!("{day:02}{month:02}{year:02}{}", 5000 + number % 1000 + number / 2688 % 3 * 1000);
    let cpr = IdentifyBy::Cpr.read(&cpr).with_context(|| format!("the made-up CPR number of pupil {number}"))?;
    let card = format!("{:014}", 10_000_000_000_000_u64 + u64::from(number) * 7_919);
    // The two children have enough for the day; of the others some have little.
    let kroner = if number < 2 { 250 } else { i64::from(number * 37 % 260) };
    Ok(NewPupil {
        name,
        identifier: match by {
            IdentifyBy::Cpr => cpr,
            IdentifyBy::BirthDate => Identifier::BirthDate(cpr.birth_date()),
        },
        card: card.parse()?,
        balance: Amount::from_kroner(kroner),
    })
}

/// How many accounts there are, and what they hold together.
async fn holdings(node: &Node, operator: &Operator) -> anyhow::Result<(usize, Amount)> {
    let mut total = Amount::ZERO;
    let pupils = node.records.pupils()?;
    for pupil in &pupils {
        if let Outcome::View(view) = operator.query(Query::AccountBalance { account: AccountId(pupil.account) }).await?
        {
            total = total.checked_add(view.balance).context("more money than there is")?;
        }
    }
    Ok((pupils.len(), total))
}

async fn lunch_rush(node: &Node, args: &DemoArgs) -> anyhow::Result<Report> {
    let cast = Cast {
        server: node.core.server.address(),
        tills: till_bundles(&node.core.authority, "till", args.tills, SCHOOL)?,
        operator: node.core.operator.clone(),
        portal: None,
    };
    let shape = Shape::steady(f64::from(args.rate), Duration::from_secs(args.seconds));
    let plan = Plan {
        cards: Cards::Zipf { exponent: 0.3 },
        price: (Amount::from_kroner(8), Amount::from_kroner(34)),
        seed: node.core.engine.durable().0,
        ..Plan::new("lunch", shape)
    };
    say!("lunch: {} tills, {} sales/s planned, {} s", args.tills, args.rate, args.seconds);
    let mut live = Live::lines(cast.tills.len());
    // The sender stays alive until the run is over; the demo's own Ctrl-C drops the run as a whole.
    let (_stop, stopped) = watch::channel(false);
    let report = frokost_loadtest::run(cast, &plan, &[], None, stopped, |progress| live.show(&progress)).await;
    Ok(report?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_made_up_pupil_can_exist_and_is_alone() {
        let pupils: Vec<NewPupil> = (0..10_000).map(|n| pupil(n, IdentifyBy::Cpr).unwrap()).collect();
        let cprs: HashSet<_> = pupils.iter().map(|pupil| pupil.identifier.clone()).collect();
        let cards: HashSet<_> = pupils.iter().map(|pupil| pupil.card).collect();
        assert_eq!((cprs.len(), cards.len()), (pupils.len(), pupils.len()));
    }
}
