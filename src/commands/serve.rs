//! `frokost serve`: runs until it is told to stop, then lets everyone inside be answered.

use std::process::ExitCode;

use crate::cli::ServeArgs;
use crate::node::Node;
use crate::settings::Settings;

pub(crate) async fn run(args: ServeArgs) -> anyhow::Result<ExitCode> {
    let flags = [
        ("tills.listen", args.tills.map(|address| address.to_string())),
        ("portal.listen", args.portal.map(|address| address.to_string())),
    ];
    let settings = Settings::read(&args.settings, &flags)?;
    let node = Node::start(settings).await?;
    // One line on standard output when it is ready, for people and for whoever waits for it.
    println!(
        "ready: tills on {} (UDP), portal on {}, metrics on http://{}/metrics; {} accounts, journal at LSN {}",
        node.core.server.address(),
        node.public_url,
        node.metrics,
        node.core.engine.accounts(),
        node.core.engine.durable()
    );
    stop_signal().await?;
    let engine = node.core.engine.clone();
    node.shutdown().await;
    println!("stopped: everyone was answered, everything is durable up to LSN {}", engine.durable());
    Ok(ExitCode::SUCCESS)
}

/// Ctrl-C, or the signal a service manager sends.
pub(crate) async fn stop_signal() -> anyhow::Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        pressed = tokio::signal::ctrl_c() => pressed?,
        _ = terminate.recv() => {}
    }
    Ok(())
}
