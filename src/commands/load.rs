//! `frokost load`: many tills against a running server, then the audit.

use std::collections::HashSet;
use std::fs::File;
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
use crate::commands::out_file::OutFile;
use crate::data_folder::DataFolder;
use crate::exit;
use crate::node::loopback_of;
use crate::say::say;
use crate::settings::Settings;
use crate::stop_signals::StopSignals;

/// What a run without a scenario does where nothing is said.
const TILLS: u32 = 16;
const SECONDS: u64 = 10;
const WARM_UP: u64 = 2;

pub(crate) async fn run(args: LoadArgs) -> anyhow::Result<ExitCode> {
    if args.list {
        for (_, text) in BUILT_IN {
            let scenario = Scenario::read(text)?;
            say!("{:<14} {}", scenario.name, scenario.about);
        }
        return Ok(ExitCode::SUCCESS);
    }
    if args.show {
        let name = args.scenario.as_deref().context("--show needs --scenario")?;
        let (_, text) = BUILT_IN.iter().find(|(known, _)| *known == name).with_context(|| not_built_in(name))?;
        crate::say::out(format_args!("{text}"));
        return Ok(ExitCode::SUCCESS);
    }
    let settings = Settings::read(&args.settings, &[])?;
    let (plan, tills, expectations) = plan(&args)?;
    // Before anything is measured: a file that cannot be read or written is said now.
    let baseline = args.baseline.as_deref().map(read_baseline).transpose()?;
    if let (Some(relative), None) = (expectations.iter().find(|expected| expected.is_relative()), &baseline) {
        anyhow::bail!("the threshold '{relative}' is beside an earlier run; name its report with --baseline");
    }
    let mut signals = StopSignals::listen()?;
    let out = args.out.as_deref().map(OutFile::prepare).transpose()?;
    let html = args.html.as_deref().map(OutFile::prepare).transpose()?;
    let both = out.as_ref().map(OutFile::path).zip(html.as_ref().map(OutFile::path));
    anyhow::ensure!(both.is_none_or(|(out, html)| out != html), "--out and --html name the same file");
    // A server elsewhere has its data there; its keys are enough.
    let folder = match args.server {
        Some(_) => DataFolder::with_keys(&settings.data),
        None => DataFolder::existing(&settings.data),
    }?;
    let authority = folder.authority()?;
    if !folder.is_begun() {
        only_enrolled(&authority, &folder, tills, plan.readers.is_some())?;
    }
    // Two at the same tills would find each other's sales in the journal, and each call the other's wrong.
    let lock = folder.path().join("pki/load.lock");
    let alone = File::create(&lock).with_context(|| format!("{}", lock.display()))?;
    anyhow::ensure!(alone.try_lock().is_ok(), "another load test sells at the tills of {}", folder.path().display());
    let portal = plan.readers.map(|_| folder.own_bundle(&authority, "load-portal", Role::Portal)).transpose()?;
    let cast = Cast {
        server: args.server.or(folder.serving_at()).unwrap_or(loopback_of(settings.tills.listen)),
        tills: till_bundles(&authority, "load", tills, SchoolId(0))?,
        operator: folder.own_bundle(&authority, "operator", Role::Operator)?,
        portal,
    };
    // Ctrl-C ends the run early; it is audited and reported all the same. Whoever asks a second time does not want to wait for that.
    let (stop, stopped) = watch::channel(false);
    let twice = async move {
        signals.come().await;
        stop.send_replace(true);
        signals.come().await;
    };
    let mut live = Live::new(&plan, cast.tills.len(), cast.server.to_string());
    let run =
        frokost_loadtest::run(cast, &plan, &expectations, baseline.as_ref(), stopped, |progress| live.show(&progress));
    let report = tokio::select! {
        report = run => Some(report),
        () = twice => None,
    };
    drop(live);
    let report = report.context(if plan.blocked > 0.0 {
        "stopped at once: nothing is audited or reported, and accounts that were blocked for the run stay blocked"
    } else {
        "stopped at once: nothing is audited or reported"
    })??;
    // Files first: whoever reads what is printed may have gone. A file that fails takes nothing else with it.
    let json = serde_json::to_string_pretty(&report)?;
    let written = out.map(|out| out.write(&json)).transpose();
    let drawn = html.map(|html| {
        let page =
            report.html(baseline.as_ref()).map_err(|why| anyhow::anyhow!("the report cannot be drawn: {why}"))?;
        html.write(&page)
    });
    let drawn = drawn.transpose();
    let printed = if args.json { format!("{json}\n") } else { report.to_string() };
    crate::say::out(format_args!("{printed}"));
    written.and(drawn)?;
    Ok(if !report.audit.sound() {
        ExitCode::from(exit::UNSOUND)
    } else if !report.passed() {
        ExitCode::from(exit::EXPECTATION)
    } else {
        ExitCode::SUCCESS
    })
}

/// A copy of the keys: whoever is enrolled there is unknown to the installation, and its number is given to somebody else.
fn only_enrolled(authority: &Authority, folder: &DataFolder, tills: u32, with_portal: bool) -> anyhow::Result<()> {
    let names: HashSet<String> = authority.callers().enrolled()?.into_iter().map(|enrolled| enrolled.name).collect();
    let portal = with_portal.then(|| "load-portal".to_owned());
    let mut wanted = (1..=tills).map(|number| format!("load-{number}")).chain(portal);
    match wanted.find(|name| !names.contains(name)) {
        None => Ok(()),
        Some(name) => anyhow::bail!(
            "{name} is not enrolled in {}, and a copy can enrol nobody: run the same once where the installation is, with --seconds 1, and copy its pki then",
            folder.path().display()
        ),
    }
}

fn read_baseline(file: &Path) -> anyhow::Result<Report> {
    let said = || format!("the baseline {}", file.display());
    Report::read(&std::fs::read_to_string(file).with_context(said)?).with_context(said)
}

/// What is to be done, by how many tills, and what is expected of it.
fn plan(args: &LoadArgs) -> anyhow::Result<(Plan, u32, Vec<Expectation>)> {
    let (mut plan, tills, mut expectations) = match &args.scenario {
        Some(name) => {
            let scenario = scenario(name)?;
            let mut plan = scenario.plan(args.scale.unwrap_or(1.0)).with_context(|| format!("the scenario {name}"))?;
            if let Some(seconds) = args.seconds {
                let whole = plan.shape.duration();
                plan.shape = plan.shape.cut(Duration::from_secs(seconds));
                // What is cut off may be what its name promises.
                if plan.shape.duration() < whole {
                    plan.name = format!("{}, the first {seconds} of {:.0} s", plan.name, whole.as_secs_f64());
                }
            }
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
    let text = std::fs::read_to_string(name).with_context(|| not_built_in(name))?;
    Scenario::read(&text).with_context(|| format!("the scenario {name}"))
}

fn not_built_in(name: &str) -> String {
    let known: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
    format!("'{name}' is neither a file nor one of the scenarios {}; see `frokost load --list`", known.join(", "))
}

fn flags(args: &LoadArgs) -> anyhow::Result<Plan> {
    let duration = Duration::from_secs(args.seconds.unwrap_or(SECONDS));
    let shape = match args.rate {
        Some(rate) => {
            anyhow::ensure!(
                (0.1..=10_000_000.0).contains(&rate),
                "--rate {rate} cannot be asked for: 0.1 to 10,000,000 sales a second can"
            );
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
    let enrolled = authority.callers().enrolled()?;
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
