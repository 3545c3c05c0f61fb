//! How somebody outside says that a program which runs until it is told to stop shall stop.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit;
use crate::say;

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
            biased;
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = hung_up => {}
        }
        // System and shell both tell of a terminal that is closed, and service managers tell of it behind their own signal: none of that is somebody
        // who asks again.
        self.hangup = None;
    }

    /// Whoever asks a second time means it, and is told what that leaves.
    pub(crate) fn again_ends_at_once(mut self, leaves: &'static str) {
        tokio::spawn(async move {
            self.come().await;
            say::last_words(format!("frokost: stopped at once; {leaves}"));
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
