//! `frokost serve`: runs until it is told to stop, then lets everyone inside be answered.

use std::process::ExitCode;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::ServeArgs;
use crate::exit;
use crate::node::Node;
use crate::say::{complain, say};
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

/// Ctrl-C, the signal a service manager sends, and a terminal that is closed. Listened to from the moment this is made.
pub(crate) struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Option<Signal>,
}

impl StopSignals {
    pub(crate) fn listen() -> anyhow::Result<StopSignals> {
        Ok(StopSignals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: if outlives_its_terminal() { None } else { Some(signal(SignalKind::hangup())?) },
        })
    }

    /// Waits for one of them.
    pub(crate) async fn come(&mut self) {
        let hung_up = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            // A terminal is closed once; that both the system and the shell tell of it is not somebody who asks again.
            _ = hung_up => self.hangup = None,
        }
    }

    /// Whoever asks a second time means it, and is told what that leaves.
    pub(crate) fn again_ends_at_once(mut self, leaves: &'static str) {
        tokio::spawn(async move {
            self.come().await;
            complain!("frokost: stopped at once; {leaves}");
            std::process::exit(exit::FAILED.into());
        });
    }
}

/// Was it started by `nohup` or the like, with hangups ignored? Then it goes on.
fn outlives_its_terminal() -> bool {
    const HANGUP: u64 = 1;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    ignored.is_some_and(|ignored| ignored & HANGUP != 0)
}
