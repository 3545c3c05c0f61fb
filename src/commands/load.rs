//! `frokost load`: many tills against a running server, then the audit.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use frokost_engine::{Role, SchoolId};
use frokost_loadtest::run::Cast;
use frokost_loadtest::scenario::{BUILT_IN, Scenario};
use frokost_loadtest::{Cards, Expectation, Plan, Report, Shape};
use frokost_net::{Authority, Bundle, Identity};
use tokio::sync::watch;

use crate::cli::LoadArgs;
use crate::commands::live::Live;
use crate::commands::serve::StopSignals;
use crate::data_folder::DataFolder;
use crate::exit;
use crate::node::loopback_of;
use crate::settings::Settings;

/// What a run without a scenario does where nothing is said.
const TILLS: u32 = 16;
const SECONDS: u64 = 10;
const WARM_UP: u64 = 2;

pub(crate) async fn run(args: LoadArgs) -> anyhow::Result<ExitCode> {
    if args.list {
        for (_, text) in BUILT_IN {
            let scenario = Scenario::read(text)?;
            println!("{:<14} {}", scenario.name, scenario.about);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let settings = Settings::read(&args.settings, &[])?;
    let (plan, tills, expectations) = plan(&args)?;
    // Before anything is measured: a file that cannot be read or written is said now.
    let baseline = args.baseline.as_deref().map(read_baseline).transpose()?;
    for file in args.html.iter().chain(&args.out) {
        std::fs::write(file, "").with_context(|| format!("{} cannot be written", file.display()))?;
    }
    let folder = DataFolder::existing(&settings.data)?;
    let authority = folder.authority()?;
    let portal = plan.readers.map(|_| folder.own_bundle(&authority, "load-portal", Role::Portal)).transpose()?;
    let cast = Cast {
        server: args.server.or(folder.serving_at()).unwrap_or(loopback_of(settings.tills.listen)),
        tills: till_bundles(&authority, "load", tills, SchoolId(0))?,
        operator: folder.own_bundle(&authority, "operator", Role::Operator)?,
        portal,
    };
    // Ctrl-C ends the run early; it is audited and reported all the same.
    let (stop, stopped) = watch::channel(false);
    let mut signals = StopSignals::listen()?;
    tokio::spawn(async move {
        signals.come().await;
        stop.send_replace(true);
    });
    let mut live = Live::new(&plan, cast.tills.len(), cast.server.to_string());
    let report = frokost_loadtest::run(cast, &plan, &expectations, stopped, |progress| live.show(&progress)).await;
    drop(live);
    let report = report?;
    let json = serde_json::to_string_pretty(&report)?;
    if args.json {
        println!("{json}");
    } else {
        print!("{report}");
        if let Some(before) = &baseline {
            print!("{}", report.against(before));
        }
    }
    if let Some(file) = &args.out {
        std::fs::write(file, json).with_context(|| format!("{} cannot be written", file.display()))?;
    }
    if let Some(file) = &args.html {
        let page =
            report.html(baseline.as_ref()).map_err(|why| anyhow::anyhow!("the report cannot be drawn: {why}"))?;
        std::fs::write(file, page).with_context(|| format!("{} cannot be written", file.display()))?;
    }
    Ok(if !report.audit.sound() {
        ExitCode::from(exit::UNSOUND)
    } else if report.expectations.values().any(|held| !held) {
        ExitCode::from(exit::EXPECTATION)
    } else {
        ExitCode::SUCCESS
    })
}

fn read_baseline(file: &Path) -> anyhow::Result<Report> {
    let text = std::fs::read_to_string(file).with_context(|| format!("the baseline {}", file.display()))?;
    let report: Report = serde_json::from_str(&text)
        .with_context(|| format!("{} is no report of this version; write one with --out", file.display()))?;
    Ok(report)
}

/// What is to be done, by how many tills, and what is expected of it.
fn plan(args: &LoadArgs) -> anyhow::Result<(Plan, u32, Vec<Expectation>)> {
    let (mut plan, tills, mut expectations) = match &args.scenario {
        Some(name) => {
            let scenario = scenario(name)?;
            let plan = scenario.plan(args.scale.unwrap_or(1.0)).with_context(|| format!("the scenario {name}"))?;
            (plan, scenario.tills, scenario.expectations()?)
        }
        None => (flags(args)?, TILLS, Vec::new()),
    };
    if let Some(exponent) = args.zipf {
        anyhow::ensure!((0.0..=10.0).contains(&exponent), "--zipf {exponent} is not between 0 and 10");
        plan.cards = Cards::Zipf { exponent };
    }
    if let Some(seed) = args.seed {
        plan.seed = seed;
    }
    if let Some(sockets) = args.sockets {
        plan.sockets = sockets;
    }
    if let Some(warm_up) = args.warm_up {
        plan.warm_up = Duration::from_secs(warm_up);
    }
    expectations.extend(args.expect.iter().cloned());
    Ok((plan, args.tills.unwrap_or(tills), expectations))
}

/// One that comes with the program, or a file.
fn scenario(name: &str) -> anyhow::Result<Scenario> {
    if let Some(scenario) = Scenario::built_in(name) {
        return Ok(scenario);
    }
    let known: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
    let text = std::fs::read_to_string(name).with_context(|| {
        format!("'{name}' is neither a file nor one of the scenarios {}; see `frokost load --list`", known.join(", "))
    })?;
    Scenario::read(&text).with_context(|| format!("the scenario {name}"))
}

fn flags(args: &LoadArgs) -> anyhow::Result<Plan> {
    let duration = Duration::from_secs(args.seconds.unwrap_or(SECONDS));
    let shape = match args.rate {
        Some(rate) => {
            anyhow::ensure!(rate.is_finite() && (0.1..=10_000_000.0).contains(&rate), "--rate {rate} is no rate");
            Shape::steady(rate, duration)
        }
        None => Shape::Closed { in_flight: usize::try_from(args.in_flight.unwrap_or(1))?, duration },
    };
    anyhow::ensure!(
        args.min.is_positive() && args.min <= args.max,
        "--min {} and --max {} are no range of prices",
        args.min,
        args.max
    );
    Ok(Plan { warm_up: Duration::from_secs(WARM_UP), price: (args.min, args.max), ..Plan::new("load", shape) })
}

/// Bundles for tills named after `prefix`, enrolled as far as they are not.
pub(crate) fn till_bundles(
    authority: &Authority,
    prefix: &str,
    count: u32,
    school: SchoolId,
) -> anyhow::Result<Vec<Bundle>> {
    let enrolled = authority.enrolled()?;
    (1..=count)
        .map(|number| {
            let name = format!("{prefix}-{number}");
            let pem = match enrolled.iter().find(|known| known.name == name) {
                Some(known) => authority.bundle(Identity(known.caller))?,
                None => authority.enrol(&name, Role::Till, school)?.1,
            };
            Bundle::from_pem(pem.as_bytes()).context("a new bundle cannot be read")
        })
        .collect()
}
