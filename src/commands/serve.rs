//! `frokost serve`: runs until it is told to stop, then lets everyone inside be answered.

use std::process::ExitCode;

use crate::cli::ServeArgs;
use crate::node::Node;
use crate::say::say;
use crate::settings::Settings;
use crate::stop_signals::StopSignals;

pub(crate) async fn run(args: ServeArgs) -> anyhow::Result<ExitCode> {
    let flags = [
        ("tills.listen", args.tills.map(|address| address.to_string())),
        ("portal.listen", args.portal.map(|address| address.to_string())),
    ];
    let settings = Settings::read(&args.settings, &flags)?;
    let node = Node::start(settings).await?;
    let mut stop = StopSignals::listen()?;
    // One line on standard output when it is ready, for people and for whoever waits for it.
    say!(
        "ready: tills on {} (UDP), portal on {}, metrics on http://{}/metrics; {} accounts, journal at LSN {}",
        node.core.server.address(),
        node.public_url,
        node.metrics,
        node.core.engine.accounts(),
        node.core.engine.durable()
    );
    stop.come().await;
    stop.again_ends_at_once("what was answered is durable, start again to recover");
    let engine = node.core.engine.clone();
    node.shutdown().await;
    say!("stopped: everyone was answered, everything is durable up to LSN {}", engine.durable());
    Ok(ExitCode::SUCCESS)
}
