//! The command line: every verb, every flag, and what `--help` says about them.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use frokost_engine::{Amount, CardNumber, Lsn, Text};
use frokost_loadtest::Expectation;

/// A canteen-card system: pupils pay with a card at a till, parents fill the account on a portal.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, max_term_width = 110)]
#[command(
    after_help = "Exit codes: 0 done, 1 something went wrong (one line says what), 2 the command line cannot be read,\n\
3 a load test's threshold did not hold, 4 a sale was refused, 5 an audit found something wrong,\n\
70 the journal failed while serving."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Make a small school, play a lunch rush, and stay up for a look at the portal.
    Demo(DemoArgs),
    /// Run the engine, listen for tills, and serve the portal.
    Serve(ServeArgs),
    /// Take in a school's list of pupils (CSV). Taking the same list in again changes nothing. The server must not be running.
    Import(ImportArgs),
    /// Look up, block, activate or fill an account.
    Account(AccountArgs),
    /// Issue a card, or see what a card leads to.
    Card(CardArgs),
    /// Give a parent a login to the portal.
    Parent(ParentArgs),
    /// Sell at a till; `till add` enrols one, `till revoke` locks one out.
    Till(TillArgs),
    /// Load a running server with many tills, and audit what it did. It buys with real cards: for test installations.
    Load(LoadArgs),
    /// Check every promise of the books on a data folder. The server must not be running.
    Verify(FolderArgs),
    /// Print the journal's records. The server must not be running.
    Inspect(InspectArgs),
    /// Sum up what moved between which ledgers, by school and day. The server must not be running.
    Books(BooksArgs),
    /// What parents have asked to be paid out: list it, write the bank's file, read the bank's answer. The server must not be running.
    Payouts(PayoutsArgs),
    /// Copy everything while the server runs, or while it does not; `restore` brings it back, also on another machine.
    Backup(FolderArgs),
    /// Make the journal anew from its mirror, or a whole installation from a backup. The server must not be running.
    Restore(RestoreArgs),
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Where the school is kept. Made if it is not there.
    #[arg(long, value_name = "DIR", default_value = "frokost-demo")]
    pub(crate) data: PathBuf,
    /// How many pupils the school has when it is made.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(2..=100_000))]
    pub(crate) pupils: u32,
    /// How many tills sell.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) tills: u32,
    /// Sales per second, all tills together.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    pub(crate) rate: u32,
    /// How long the lunch rush lasts, in seconds; 0 for none.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=3600))]
    pub(crate) seconds: u64,
    /// The portal's port (TCP); the payment sandbox has the next one.
    #[arg(long, default_value_t = 8080, value_parser = clap::value_parser!(u16).range(1..65535))]
    pub(crate) portal_port: u16,
    /// The tills' port (UDP).
    #[arg(long, default_value_t = 4433, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) till_port: u16,
    /// Do not stay up after the lunch rush.
    #[arg(long)]
    pub(crate) once: bool,
}

/// Where the settings come from; a flag wins over the environment, that over the file, that over the default.
#[derive(Debug, Args, Clone, Default)]
pub(crate) struct SettingsArgs {
    /// The settings file; see docs/settings.md.
    #[arg(long, value_name = "FILE", env = "FROKOST_CONFIG", global = true)]
    pub(crate) config: Option<PathBuf>,
    /// The data folder [env: FROKOST_DATA] [default: data].
    #[arg(long, value_name = "DIR", global = true)]
    pub(crate) data: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
    /// Where tills connect (UDP) [env: FROKOST_TILLS__LISTEN] [default: 127.0.0.1:4433].
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) tills: Option<SocketAddr>,
    /// Where browsers connect (TCP) [env: FROKOST_PORTAL__LISTEN] [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) portal: Option<SocketAddr>,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The list: a header line with name, cpr, card and, if there is one, balance (or navn, cpr, kortnummer, saldo), parted
    /// by commas or semicolons.
    pub(crate) file: PathBuf,
    /// The school's number.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) school: u32,
    /// The school's name; needed the first time.
    #[arg(long, value_name = "NAME")]
    pub(crate) school_name: Option<String>,
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
}

#[derive(Debug, Args)]
pub(crate) struct AccountArgs {
    #[command(subcommand)]
    pub(crate) verb: AccountVerb,
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
}

/// An account is named by its number, or by its card's.
#[derive(Debug, Subcommand)]
pub(crate) enum AccountVerb {
    /// Balance, card, limit and whether it is blocked.
    Show {
        /// The account's number or its card's.
        account: String,
    },
    /// Whose account is meant, with the mail addresses of those who manage it.
    Find {
        /// A part of the pupil's name, the birth date (31-01-2014 or 310114), the card's number, or the mail address of a login.
        wanted: String,
    },
    /// Refuse purchases until it is activated. The money stays.
    Block {
        /// The account's number or its card's.
        account: String,
    },
    /// Let it buy again.
    Activate {
        /// The account's number or its card's.
        account: String,
    },
    /// Cap what it may spend on a day.
    Limit {
        /// The account's number or its card's.
        account: String,
        /// Kroner, or "none".
        limit: String,
    },
    /// Put money on it that was paid in by hand.
    TopUp {
        /// The account's number or its card's.
        account: String,
        /// Kroner, for instance 200 or 49,50.
        amount: Amount,
        /// The number of the receipt. The same number counts once.
        #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
        reference: u64,
    },
    /// Let purchases go so far below zero.
    Credit {
        /// The account's number or its card's.
        account: String,
        /// Kroner; 0 for no credit.
        limit: Amount,
    },
    /// Move money to another account.
    Transfer {
        /// The number of the account that pays, or its card's.
        from: String,
        /// The number of the account that is paid, or its card's.
        to: String,
        /// Kroner.
        amount: Amount,
        /// What the statements say of it.
        #[arg(long, default_value = "")]
        text: Text,
    },
    /// Mend a booking by another one.
    Correct {
        /// The account's number or its card's.
        account: String,
        /// Kroner to add; to take, write for instance -25.
        #[arg(allow_hyphen_values = true)]
        amount: Amount,
        /// Why.
        #[arg(long, value_enum)]
        reason: ReasonArg,
        /// What the statement says of it.
        #[arg(long, default_value = "")]
        text: Text,
    },
    /// End an account that is empty.
    Close {
        /// The account's number or its card's.
        account: String,
    },
    /// Its postings in a month.
    Statement {
        /// The account's number or its card's.
        account: String,
        /// As yyyymm; this month if left out.
        #[arg(long, value_name = "YYYYMM")]
        month: Option<u32>,
    },
}

/// Why a booking is mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReasonArg {
    /// A sale or refund was keyed in wrong.
    TillError,
    /// A payment was booked wrong.
    PaymentError,
    /// The school gives something.
    Goodwill,
    /// What cannot be got back.
    WriteOff,
    /// Something else; the text says what.
    Other,
}

#[derive(Debug, Args)]
pub(crate) struct CardArgs {
    #[command(subcommand)]
    pub(crate) verb: CardVerb,
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CardVerb {
    /// Make this the account's card. An earlier one is dead from the next scan on.
    Issue {
        /// The account's number or its present card's.
        account: String,
        /// The new card's number.
        card: CardNumber,
    },
    /// See what a card leads to.
    Show {
        /// The card's number.
        card: CardNumber,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ParentArgs {
    #[command(subcommand)]
    pub(crate) verb: ParentVerb,
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ParentVerb {
    /// Add a login, or give an existing one another password or further accounts. The server must not be running.
    Add {
        /// The mail address to log in with.
        mail: String,
        /// The name shown.
        #[arg(long)]
        name: String,
        /// The accounts' numbers or their cards'; several with commas.
        #[arg(long, required = true, value_delimiter = ',')]
        accounts: Vec<String>,
        /// A file whose first line is the password; without it, it is asked for on standard input.
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct TillArgs {
    #[command(subcommand)]
    pub(crate) verb: Option<TillVerb>,
    /// The till's bundle, from `till add`.
    #[arg(long, value_name = "FILE", required = true, env = "FROKOST_BUNDLE")]
    pub(crate) bundle: Option<PathBuf>,
    /// The server's address.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:4433")]
    pub(crate) server: SocketAddr,
    /// One sale to this card, without asking.
    #[arg(long, requires = "amount")]
    pub(crate) card: Option<CardNumber>,
    /// The price of that sale, in kroner.
    #[arg(long, requires = "card")]
    pub(crate) amount: Option<Amount>,
    /// What was bought, for the statement: at most 48 characters. At the terminal it is typed behind the amount.
    #[arg(long, requires = "card", default_value = "", hide_default_value = true)]
    pub(crate) text: Text,
    /// Keep the picture of the pupil whose card was read last in this file, for a display beside the till.
    #[arg(long, value_name = "FILE")]
    pub(crate) picture: Option<PathBuf>,
    /// The language of the display.
    #[arg(long, value_enum, default_value_t = Lang::Da)]
    pub(crate) lang: Lang,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Lang {
    /// Danish.
    Da,
    /// English.
    En,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TillVerb {
    /// Enrol a till: gives it a number and writes its certificate, key and our authority into one file.
    Add {
        /// A name for people: lower-case letters, digits and hyphens.
        name: String,
        /// The school it stands in; it sells to that school's pupils only.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        school: u32,
        /// Where to write the bundle; NAME.pem if left out.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        #[command(flatten)]
        settings: SettingsArgs,
    },
    /// Make a new bundle for a till that is enrolled, before its old one runs out after three years. It stays the same till, and the old one
    /// stays good until then: where somebody else may have it, revoke the till and add another.
    Renew {
        /// The name it was enrolled under.
        name: String,
        /// Where to write the bundle; NAME.pem if left out.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        #[command(flatten)]
        settings: SettingsArgs,
    },
    /// Let a till in no more that is lost or stolen, or whose bundle is. A running server closes its connections within two seconds; what
    /// it has sold stands.
    Revoke {
        /// The name it was enrolled under.
        name: String,
        #[command(flatten)]
        settings: SettingsArgs,
    },
    /// Let a till in again that was revoked.
    Readmit {
        /// The name it was enrolled under.
        name: String,
        #[command(flatten)]
        settings: SettingsArgs,
    },
    /// Everyone who is enrolled, and who is revoked.
    List {
        #[command(flatten)]
        settings: SettingsArgs,
    },
}

#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
    /// The server's address; as in the settings if left out.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) server: Option<SocketAddr>,
    /// A scenario: the name of one that comes with the program (see --list) or a TOML file.
    #[arg(long, value_name = "NAME|FILE", conflicts_with_all = ["rate", "in_flight", "min", "max"])]
    pub(crate) scenario: Option<String>,
    /// Print the scenario instead of running it, as a beginning of one's own.
    #[arg(long, requires = "scenario")]
    pub(crate) show: bool,
    /// List the scenarios that come with the program.
    #[arg(long)]
    pub(crate) list: bool,
    /// Multiply every rate of the scenario by this.
    #[arg(long, value_name = "FACTOR", requires = "scenario")]
    pub(crate) scale: Option<f64>,
    /// How many tills [default: 16, or the scenario's]. They are enrolled in the data folder as load-1, load-2 and so on.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) tills: Option<u32>,
    /// How many UDP sockets the tills share [default: 1, or the scenario's]. As many as tills: one each, as the tills of a school have.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) sockets: Option<u32>,
    /// Open model: sales per second, all tills together, whether or not earlier ones are answered.
    #[arg(long, value_name = "PER_SECOND", conflicts_with = "in_flight", allow_negative_numbers = true)]
    pub(crate) rate: Option<f64>,
    /// Closed loop: sales in flight on each till [default: 1].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) in_flight: Option<u32>,
    /// How long to measure, in seconds [default: 10]. A scenario is ended after so long.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) seconds: Option<u64>,
    /// How long to warm up before, in seconds [default: 2, or the scenario's].
    #[arg(long, value_parser = clap::value_parser!(u64).range(0..=3600))]
    pub(crate) warm_up: Option<u64>,
    /// The n-th card buys 1/n^EXPONENT as often as the first; uniform if left out.
    #[arg(long, value_name = "EXPONENT")]
    pub(crate) zipf: Option<f64>,
    /// The least a sale costs, in kroner.
    #[arg(long, default_value = "0,01")]
    pub(crate) min: Amount,
    /// The most a sale costs, in kroner.
    #[arg(long, default_value = "0,05")]
    pub(crate) max: Amount,
    /// Makes the choices: the same seed, the same plan [default: 1, or the scenario's].
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// A threshold, for instance 'p99<20ms', 'refused.max<=1s', 'undisturbed.p99<5ms', 'refused<1%', 'unanswered<1', 'rate>=5000', or
    /// 'p99<=1.2x' beside a baseline; may be given several times, and adds to the scenario's. If one does not hold the exit code is 3.
    #[arg(long, value_name = "THRESHOLD")]
    pub(crate) expect: Vec<Expectation>,
    /// Print the report as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Write the report as JSON into a file.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Write the report as one HTML page with pictures.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Hold the run against an earlier one, written with --out by this version of the program.
    #[arg(long, value_name = "FILE")]
    pub(crate) baseline: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct FolderArgs {
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// A backup, or a mirror; the installation's own mirror if left out.
    #[arg(long, value_name = "DIR")]
    pub(crate) from: Option<PathBuf>,
    /// Restore although what was acknowledged last is not in it.
    #[arg(long)]
    pub(crate) accept_loss: bool,
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
}

#[derive(Debug, Args)]
pub(crate) struct PayoutsArgs {
    #[command(subcommand)]
    pub(crate) verb: PayoutsVerb,
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PayoutsVerb {
    /// Every pay-out and where it stands.
    List,
    /// Write everything that waits into a file for the bank (ISO 20022 pain.001).
    Export {
        /// The file to write. It is not overwritten.
        #[arg(long, value_name = "FILE", default_value = "payouts.xml")]
        out: PathBuf,
        /// Write a file again that was made before, by its name; nothing else is sent.
        #[arg(long, value_name = "NAME")]
        again: Option<String>,
    },
    /// Read the bank's answer (pain.002): what was paid is closed, what was refused goes back. Twice is once.
    Import {
        /// The bank's file.
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct BooksArgs {
    /// Only this day, as yyyy-mm-dd.
    #[arg(long, value_name = "DAY", conflicts_with = "month")]
    pub(crate) day: Option<String>,
    /// Only this month, as yyyymm.
    #[arg(long, value_name = "YYYYMM")]
    pub(crate) month: Option<u32>,
    /// Only this school.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) school: Option<u32>,
    /// As lines of CSV: semicolons and decimal commas, as a Danish spreadsheet reads them.
    #[arg(long)]
    pub(crate) csv: bool,
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
    /// The first record to print.
    #[arg(long, value_name = "LSN", default_value = "1", value_parser = lsn)]
    pub(crate) from: Lsn,
    /// The last record to print.
    #[arg(long, value_name = "LSN", value_parser = lsn)]
    pub(crate) to: Option<Lsn>,
    /// Only this account's.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) account: Option<u64>,
}

fn lsn(text: &str) -> Result<Lsn, std::num::ParseIntError> {
    text.parse().map(Lsn)
}
