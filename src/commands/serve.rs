//! `frokost serve`: runs until it is told to stop, then lets everyone inside be answered.

use std::process::ExitCode;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::ServeArgs;
use crate::exit;
use crate::node::Node;
use crate::settings::Settings;

pub(crate) async fn run(args: ServeArgs) -> anyhow::Result<ExitCode> {
    let flags = [
        ("tills.listen", args.tills.map(|address| address.to_string())),
        ("portal.listen", args.portal.map(|address| address.to_string())),
    ];
    let settings = Settings::read(&args.settings, &flags)?;
    let node = Node::start(settings).await?;
    let mut stop = StopSignals::listen()?;
    // One line on standard output when it is ready, for people and for whoever waits for it.
    println!(
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
    println!("stopped: everyone was answered, everything is durable up to LSN {}", engine.durable());
    Ok(ExitCode::SUCCESS)
}

/// Ctrl-C, and the signal a service manager sends. Listened to from the moment this is made.
pub(crate) struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl StopSignals {
    pub(crate) fn listen() -> anyhow::Result<StopSignals> {
        Ok(StopSignals { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for either.
    pub(crate) async fn come(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// Whoever asks a second time means it, and is told what that leaves.
    pub(crate) fn again_ends_at_once(mut self, leaves: &'static str) {
        tokio::spawn(async move {
            self.come().await;
            eprintln!("frokost: stopped at once; {leaves}");
            std::process::exit(exit::FAILED.into());
        });
    }
}
