//! The program `frokost`: reads what it is asked, wires the parts together, and says in one line what went wrong. It holds
//! no rules of its own.

mod backup;
mod bank_file;
mod cli;
mod commands;
mod data_folder;
mod journal_money;
mod log;
mod lookup;
mod monitoring;
mod node;
mod operator;
mod outcome_text;
mod say;
mod settings;
mod stop_signals;
mod store;

use std::process::ExitCode;

use clap::Parser;
use frokost_engine::StartError;
use frokost_engine::journal::JournalError;

use crate::cli::{Cli, Verb};
use crate::say::complain;

/// Memory that is asked for by one thread and given back by another is what an engine of actors does all day.
#[global_allocator]
static MEMORY: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// How the program ends, beside 0 for success and 2 for a command line that cannot be read.
pub(crate) mod exit {
    /// Something went wrong; one line says what.
    pub(crate) const FAILED: u8 = 1;
    /// A threshold of a load test did not hold.
    pub(crate) const EXPECTATION: u8 = 3;
    /// A sale was refused.
    pub(crate) const REFUSED: u8 = 4;
    /// An audit found something wrong.
    pub(crate) const UNSOUND: u8 = 5;
    /// The journal failed while the server ran; start it again to recover.
    pub(crate) const STORAGE: i32 = 70;
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    say::begin();
    // Whoever serves wants to read what happens; the other commands print it themselves.
    let _log = match log::start(if matches!(cli.verb, Verb::Serve(_)) { "info" } else { "error" }) {
        Ok(log) => log,
        Err(error) => {
            complain!("frokost: {error:#}");
            return ExitCode::from(exit::FAILED);
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain!("frokost: no threads to run on: {error}");
            return ExitCode::from(exit::FAILED);
        }
    };
    match runtime.block_on(run(cli)) {
        Ok(code) => match say::failed() {
            Some(error) if code == ExitCode::SUCCESS => {
                complain!("frokost: what was asked for is done, but standard output cannot be written: {error}");
                ExitCode::from(exit::FAILED)
            }
            Some(_) | None => code,
        },
        Err(error) => {
            // Some libraries draw pictures over several lines; what went wrong is one line here.
            let mut text = with_causes(&error);
            if is_damage(&error) {
                text.push_str("; keep a copy of the data folder, then `frokost restore` makes the journal anew from its mirror or a backup");
            }
            complain!("frokost: {}", text.split_whitespace().collect::<Vec<_>>().join(" "));
            ExitCode::from(exit::FAILED)
        }
    }
}

/// What went wrong and why, each cause once: some errors say theirs themselves.
fn with_causes(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.ends_with(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

/// Is it the books themselves that cannot be trusted?
fn is_damage(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let journal = cause.downcast_ref::<JournalError>().or_else(|| match cause.downcast_ref::<StartError>()? {
            StartError::Journal(error) => Some(error),
            StartError::Spawn(..) => None,
        });
        matches!(journal, Some(JournalError::Damaged { .. }))
    })
}

async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    // Boxed: the commands' states are large, and one is made in the life of the program.
    match cli.verb {
        Verb::Demo(args) => Box::pin(commands::demo::run(args)).await,
        Verb::Serve(args) => Box::pin(commands::serve::run(args)).await,
        Verb::Import(args) => Box::pin(commands::import::run(args)).await,
        Verb::Account(args) => Box::pin(commands::account::run(args)).await,
        Verb::Card(args) => Box::pin(commands::card::run(args)).await,
        Verb::Parent(args) => Box::pin(commands::parent::run(args)).await,
        Verb::Till(args) => Box::pin(commands::till::run(args)).await,
        Verb::Load(args) => Box::pin(commands::load::run(args)).await,
        Verb::Verify(args) => commands::verify::run(&args),
        Verb::Inspect(args) => commands::inspect::run(&args),
        Verb::Books(args) => commands::books::run(&args),
        Verb::Payouts(args) => Box::pin(commands::payouts::run(args)).await,
        Verb::Backup(args) => Box::pin(commands::backup::run(args)).await,
        Verb::Restore(args) => commands::restore::run(&args),
    }
}
