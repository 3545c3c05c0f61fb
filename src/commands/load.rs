//! `frokost load`: many tills against a running server, then the audit.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use frokost_engine::{Role, SchoolId};
use frokost_loadtest::run::Cast;
use frokost_loadtest::{Cards, Plan, Shape};
use frokost_net::{Authority, Bundle, Identity};
use tokio::sync::watch;

use crate::cli::LoadArgs;
use crate::commands::live::Live;
use crate::commands::serve::StopSignals;
use crate::data_folder::DataFolder;
use crate::exit;
use crate::node::loopback_of;
use crate::settings::Settings;

pub(crate) async fn run(args: LoadArgs) -> anyhow::Result<ExitCode> {
    let settings = Settings::read(&args.settings, &[])?;
    let plan = plan(&args)?;
    let folder = DataFolder::existing(&settings.data)?;
    let authority = folder.authority()?;
    let cast = Cast {
        server: args.server.or(folder.serving_at()).unwrap_or(loopback_of(settings.tills.listen)),
        tills: till_bundles(&authority, "load", args.tills, SchoolId(0))?,
        operator: folder.own_bundle(&authority, "operator", Role::Operator)?,
    };
    // Ctrl-C ends the run early; it is audited and reported all the same.
    let (stop, stopped) = watch::channel(false);
    let mut signals = StopSignals::listen()?;
    tokio::spawn(async move {
        signals.come().await;
        stop.send_replace(true);
    });
    let live = Live::new();
    let tills = cast.tills.len();
    let report =
        frokost_loadtest::run(cast, &plan, &args.expect, stopped, |progress| live.show(&progress, tills)).await;
    live.end();
    let report = report?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{report}");
    }
    Ok(if !report.audit.sound() {
        ExitCode::from(exit::UNSOUND)
    } else if report.expectations.values().any(|held| !held) {
        ExitCode::from(exit::EXPECTATION)
    } else {
        ExitCode::SUCCESS
    })
}

fn plan(args: &LoadArgs) -> anyhow::Result<Plan> {
    let shape = match args.rate {
        Some(rate) => {
            anyhow::ensure!(rate.is_finite() && (0.1..=10_000_000.0).contains(&rate), "--rate {rate} is no rate");
            Shape::Open { rate }
        }
        None => Shape::Closed { in_flight: usize::try_from(args.in_flight.unwrap_or(1))? },
    };
    let cards = match args.zipf {
        Some(exponent) => {
            anyhow::ensure!((0.0..=10.0).contains(&exponent), "--zipf {exponent} is not between 0 and 10");
            Cards::Zipf { exponent }
        }
        None => Cards::Uniform,
    };
    anyhow::ensure!(
        args.min.is_positive() && args.min <= args.max,
        "--min {} and --max {} are no range of prices",
        args.min,
        args.max
    );
    Ok(Plan {
        shape,
        duration: Duration::from_secs(args.seconds),
        warm_up: Duration::from_secs(args.warm_up),
        cards,
        price: (args.min, args.max),
        seed: args.seed,
    })
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
