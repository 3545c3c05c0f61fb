//! What a server tells whoever watches over it: `/metrics` in the text format of Prometheus, and `/healthz`. `docs/monitoring.md` explains each of them.

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use frokost_engine::Engine;
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_process::Collector;
use tokio::net::TcpListener;

/// How often what the histograms were given is put into their buckets, also where nobody looks.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// What is counted since the server was started. These have no labels and are there from the beginning, at zero.
const COUNTERS: [(&str, &str); 12] = [
    ("frokost_account_panics_total", "Account actors that fell; the account was made again from the journal."),
    ("frokost_connections_replaced_total", "Connections that were closed since their caller had too many."),
    ("frokost_journal_groups_total", "Groups that were made durable."),
    ("frokost_journal_records_total", "Records that were made durable."),
    ("frokost_mail_failures_total", "Letters that could not be sent and are tried again."),
    ("frokost_mails_given_up_total", "Letters that were given up."),
    ("frokost_malformed_frames_total", "Streams that were ended since what came cannot be read."),
    (
        "frokost_mirror_failures_total",
        "An asynchronous mirror that cannot be written any more; it catches up at the next start.",
    ),
    (
        "frokost_portal_too_many_total",
        "Tries and requests of browsers that were turned away since there were too many.",
    ),
    (
        "frokost_projector_failures_total",
        "1 if statements cannot be written any more until the server is started again.",
    ),
    ("frokost_snapshot_failures_total", "Snapshots that could not be made, or let go of; they are tried again."),
    ("frokost_snapshots_total", "Snapshots that were made."),
];
/// Counters with a label, and what it can be where that is known beforehand.
const LABELLED: [(&str, &str, &str, &[&str]); 2] = [
    (
        "frokost_answers_total",
        "Answers, by outcome.",
        "outcome",
        &["approved", "view", "again", "busy", "out_of_space"],
    ),
    (
        "frokost_connections_refused_total",
        "Connections that were not let in.",
        "why",
        &["handshake", "identity", "revoked", "unknown"],
    ),
];
const GAUGES: [(&str, &str); 5] = [
    ("frokost_account_actors", "Account actors that run now, those that rest included."),
    ("frokost_accounts", "Accounts."),
    ("frokost_connections", "Connections that are open now, by the caller's role."),
    ("frokost_out_of_space", "1 while the disk is nearly full and nothing new is let in."),
    ("frokost_requests_in_flight", "Requests that have been let in and are not answered."),
];
/// Buckets of a time in seconds, and of a number of records.
const SECONDS: [f64; 12] = [1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.5, 1.0];
const RECORDS: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];
const HISTOGRAMS: [(&str, Unit, &str); 3] = [
    (
        "frokost_journal_flush_seconds",
        Unit::Seconds,
        "What a group took from the committer until it survived a power cut, in all copies that answers wait for.",
    ),
    ("frokost_journal_group_records", Unit::Count, "Records in a group."),
    (
        "frokost_mirror_write_seconds",
        Unit::Seconds,
        "What a group took in the mirror; with flush=own, to survive a power cut there.",
    ),
];

/// Whoever is told what is counted, in this process from now on.
pub(crate) struct Monitoring {
    told: PrometheusHandle,
    process: Collector,
}

impl Monitoring {
    pub(crate) fn begin() -> anyhow::Result<Monitoring> {
        let records = Matcher::Full("frokost_journal_group_records".to_owned());
        let builder = PrometheusBuilder::new().set_buckets(&SECONDS)?.set_buckets_for_metric(records, &RECORDS)?;
        let told = builder.install_recorder()?;
        for (name, what) in COUNTERS {
            describe_counter!(name, what);
            counter!(name).increment(0);
        }
        for (name, what, label, values) in LABELLED {
            describe_counter!(name, what);
            values.iter().for_each(|value| counter!(name, label => *value).increment(0));
        }
        GAUGES.into_iter().for_each(|(name, what)| describe_gauge!(name, what));
        HISTOGRAMS.into_iter().for_each(|(name, unit, what)| describe_histogram!(name, unit, what));
        let process = Collector::default();
        process.describe();
        Ok(Monitoring { told, process })
    }

    /// Shows it to whoever asks on `listener`.
    pub(crate) async fn serve(
        self,
        listener: TcpListener,
        engine: Engine,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> std::io::Result<()> {
        let Monitoring { told, process } = self;
        let upkeep = told.clone();
        let keeping = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(UPKEEP_EVERY);
            loop {
                ticks.tick().await;
                upkeep.run_upkeep();
            }
        });
        let show = move || async move {
            for (name, now) in [
                ("frokost_requests_in_flight", engine.in_flight()),
                ("frokost_accounts", engine.accounts()),
                ("frokost_account_actors", engine.actors()),
            ] {
                gauge!(name).set(u32::try_from(now).unwrap_or(u32::MAX));
            }
            process.collect();
            told.render()
        };
        let table = Router::new().route("/metrics", get(show)).route("/healthz", get(|| async { "ok\n" }));
        let served = axum::serve(listener, table).with_graceful_shutdown(stop).await;
        keeping.abort();
        served
    }
}
