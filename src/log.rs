//! The log: what is said on standard error, and how much. JSON where no person reads it.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// What libraries tell of each task and packet is for those who work on them: ractor marks every message an account handles, which costs time
/// (docs/settings.md) even where nothing is written. Whoever wants it names the library: `FROKOST_LOG=info,ractor=info`.
const LIBRARIES: &str = "quinn=warn,ractor=warn,sled=warn";

/// Starts it, as `FROKOST_LOG` says or with `level`.
pub(crate) fn start(level: &str) -> anyhow::Result<()> {
    let wanted = std::env::var("FROKOST_LOG").unwrap_or_default();
    let wanted = if wanted.trim().is_empty() { level } else { &wanted };
    let filter = filter(wanted).map_err(|error| {
        anyhow::anyhow!("FROKOST_LOG={wanted} says nothing: {error}; write a level, as info, or some for parts, as warn,frokost_net=debug")
    })?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        log.init();
    } else {
        log.json().init();
    }
    Ok(())
}

fn filter(wanted: &str) -> Result<EnvFilter, ParseError> {
    EnvFilter::builder().parse(format!("{LIBRARIES},{wanted}"))
}

#[cfg(test)]
mod tests {
    use tracing::{Level, span};
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// Is a span of ractor's, one of ours, and one of ours for those who debug let through?
    fn lets_through(wanted: &str) -> [bool; 3] {
        let log = tracing_subscriber::registry().with(filter(wanted).unwrap());
        tracing::subscriber::with_default(log, || {
            [
                !span!(target: "ractor::actor", Level::INFO, "Actor").is_disabled(),
                !span!(target: "frokost_net", Level::INFO, "ours").is_disabled(),
                !span!(target: "frokost_net", Level::DEBUG, "ours").is_disabled(),
            ]
        })
    }

    #[test]
    fn libraries_tell_of_each_task_only_where_they_are_named() {
        assert_eq!(lets_through("info"), [false, true, false]);
        assert_eq!(lets_through("debug"), [false, true, true]);
        assert_eq!(lets_through("warn,frokost_net=debug"), [false, true, true]);
        assert_eq!(lets_through("info,ractor=info"), [true, true, false]);
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        assert!(filter("loud,,=").is_err());
        assert!(filter("frokost_net=noisy").is_err());
    }
}
