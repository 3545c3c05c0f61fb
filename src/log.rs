//! The log: what is said on standard error, and how much. JSON where no person reads it.

use std::io::IsTerminal;

use anyhow::Context;
use tracing::Level;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

/// What libraries tell of each task and packet is for those who work on them: ractor marks every message an account handles, which costs time
/// (docs/settings.md) even where nothing is written. Whoever wants it names the library: `FROKOST_LOG=info,ractor=info`.
const LIBRARIES: &str = "quinn=warn,ractor=warn,sled=warn";

const LEVELS: &str = "off, error, warn, info, debug or trace";

/// So many lines wait for somebody to take them; what comes then is lost. A log that is not read must not hold up a sale.
const LINES: usize = 8192;

/// The log while it is written.
pub(crate) struct Log(Option<WorkerGuard>);

impl Drop for Log {
    fn drop(&mut self) {
        // The library says on standard output what it could not write, which may be where nobody listens either.
        let written = self.0.take();
        crate::say::before_the_end(move || drop(written));
    }
}

/// Starts it, as `FROKOST_LOG` says or with `level`. What was logged last is written when what is returned is dropped.
pub(crate) fn start(level: &str) -> anyhow::Result<Log> {
    let wanted = std::env::var("FROKOST_LOG").unwrap_or_default();
    let wanted = if wanted.trim().is_empty() { level } else { &wanted };
    let filter = filter(wanted).with_context(|| {
        format!("FROKOST_LOG={wanted} cannot be read; write a level, as info, or levels for parts, as warn,frokost_net=debug")
    })?;
    let lines = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(LINES).thread_name("frokost-log");
    let (lines, written) = lines.finish(std::io::stderr());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(lines);
    if std::io::stderr().is_terminal() {
        log.init();
    } else {
        log.json().init();
    }
    Ok(Log(Some(written)))
}

fn filter(wanted: &str) -> anyhow::Result<EnvFilter> {
    let parts: Vec<&str> = wanted.split(',').map(str::trim).collect();
    let mut all = String::new();
    for part in &parts {
        if part.contains(['=', '[']) {
            continue;
        }
        // By itself a word would be taken for the name of a part, of which everything is to be logged; mostly it is a level with a slip in it.
        let known = part.eq_ignore_ascii_case("off") || part.parse::<Level>().is_ok();
        anyhow::ensure!(known, "'{part}' is no level: {LEVELS}");
        if part.parse::<Level>().is_ok_and(|level| level > Level::WARN) {
            all.push_str(LIBRARIES);
            all.push(',');
        }
    }
    all.push_str(&parts.join(","));
    let filter = EnvFilter::builder().parse(&all).ok();
    filter.with_context(|| format!("a part has no level that there is: {LEVELS}"))
}

#[cfg(test)]
mod tests {
    use tracing::span;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// Is a warning of quinn's let through, a span of ractor's, one of ours, and one of ours for those who debug?
    fn lets_through(wanted: &str) -> [bool; 4] {
        let log = tracing_subscriber::registry().with(filter(wanted).unwrap());
        tracing::subscriber::with_default(log, || {
            [
                !span!(target: "quinn_proto::connection", Level::WARN, "lost").is_disabled(),
                !span!(target: "ractor::actor", Level::INFO, "Actor").is_disabled(),
                !span!(target: "frokost_net", Level::INFO, "ours").is_disabled(),
                !span!(target: "frokost_net", Level::DEBUG, "ours").is_disabled(),
            ]
        })
    }

    #[test]
    fn libraries_tell_of_each_task_only_where_they_are_named() {
        assert_eq!(lets_through("info"), [true, false, true, false]);
        assert_eq!(lets_through(" DEBUG "), [true, false, true, true]);
        assert_eq!(lets_through("warn, frokost_net=debug"), [true, false, true, true]);
        assert_eq!(lets_through("info,ractor=info"), [true, true, true, false]);
    }

    #[test]
    fn they_are_not_louder_than_everything() {
        assert_eq!(lets_through("error"), [false; 4]);
        assert_eq!(lets_through("off"), [false; 4]);
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        for text in ["loud", "inof", "info,frokost_net", "frokost_net=noisy", "info,"] {
            assert!(filter(text).is_err(), "{text}");
        }
    }
}
