//! `frokost till`: a till at the terminal. Type or scan a card number and an amount; every sale is in the outbox before it is
//! sent, and is sent again until it is answered.

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use frokost_engine::{
    Amount, Asked, CallerId, CardNumber, Clock, Command, Outcome, Role, SchoolId, Sequence, Text, Timestamp,
};
use frokost_net::enrol::EnrolError;
use frokost_net::outbox::OutboxError;
use frokost_net::{Bundle, Client, ClientError, Identity, Outbox, numbers};
use tokio::io::{AsyncBufReadExt, BufReader, Lines, Stdin};

use crate::cli::{Lang, SettingsArgs, TillArgs, TillVerb};
use crate::data_folder::DataFolder;
use crate::exit;
use crate::node::{SystemClock, loopback_of};
use crate::outcome_text::explain;
use crate::say::{complain, say, typed};
use crate::settings::Settings;

/// Names of the installation's own callers, and what those of the load tester begin with.
const RESERVED: [&str; 3] = ["operator", "portal", "try-me"];
const LOAD: &str = "load-";
/// From so long before it runs out on it is said that a bundle does.
const SAID_BEFORE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// How long a sale is sent again before the cashier is told to go on.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(500);

pub(crate) async fn run(args: TillArgs) -> anyhow::Result<ExitCode> {
    match args.verb {
        Some(TillVerb::Add { name, school, out, settings }) => add(&name, SchoolId(school), out, &settings),
        Some(TillVerb::Renew { name, out, settings }) => renew(&name, out, &settings),
        Some(TillVerb::Revoke { name, settings }) => revoke(&name, &settings),
        Some(TillVerb::Readmit { name, settings }) => readmit(&name, &settings),
        Some(TillVerb::List { settings }) => list(&settings),
        None => {
            let bundle = args.bundle.context("a till needs its bundle: --bundle FILE")?;
            let mut till = Till::open(&bundle, args.server, args.lang, args.picture).await?;
            match args.card.zip(args.amount) {
                Some((card, amount)) => {
                    till.catch_up().await?;
                    till.show_picture(card).await;
                    let sold = till.sell(card, amount, args.text).await;
                    till.client.close().await;
                    sold
                }
                None => till.serve().await,
            }
        }
    }
}

fn add(name: &str, school: SchoolId, out: Option<PathBuf>, settings: &SettingsArgs) -> anyhow::Result<ExitCode> {
    let settings = Settings::read(settings, &[])?;
    anyhow::ensure!(
        !RESERVED.contains(&name) && !name.starts_with(LOAD),
        "the name '{name}' is kept for the installation itself; choose another"
    );
    let folder = DataFolder::existing(&settings.data)?;
    let authority = folder.authority()?;
    // Where it cannot be written, nobody is enrolled.
    let file = BundleFile::begin(name, out)?;
    let (identity, pem) = authority.enrol(name, Role::Till, school)?;
    let out = file.write(&pem)?;
    say!("till {} '{name}' at school {school}; its bundle is {}", identity.0.id, out.display());
    let server = folder.serving_at().unwrap_or(loopback_of(settings.tills.listen));
    say!("sell with: frokost till --bundle {} --server {server}", typed(&out));
    Ok(ExitCode::SUCCESS)
}

fn renew(name: &str, out: Option<PathBuf>, settings: &SettingsArgs) -> anyhow::Result<ExitCode> {
    let settings = Settings::read(settings, &[])?;
    let authority = DataFolder::existing(&settings.data)?.authority()?;
    let known = authority.callers().enrolled()?.into_iter().find(|enrolled| enrolled.name == name);
    let caller = known.ok_or_else(|| EnrolError::NoSuchCaller(name.to_owned()))?.caller;
    anyhow::ensure!(
        caller.role == Role::Till,
        "'{name}' is no till but the installation's {}, whose bundle is made anew by itself",
        caller.role.name()
    );
    anyhow::ensure!(
        !authority.callers().revoked()?.contains_key(&caller.id),
        "'{name}' has been revoked: frokost till readmit {name} --data {} lets it in again, frokost till add makes a new one",
        typed(&settings.data)
    );
    let out = BundleFile::begin(name, out)?.write(&authority.bundle(Identity(caller))?)?;
    say!("till {} '{name}' has a new bundle, good for three years: {}", caller.id, out.display());
    say!("put it in the old one's place at the till, which keeps its outbox");
    Ok(ExitCode::SUCCESS)
}

/// A bundle's file that was not there, and is not if nothing is written into it.
struct BundleFile {
    path: PathBuf,
    file: File,
    written: bool,
}

impl BundleFile {
    fn begin(name: &str, out: Option<PathBuf>) -> anyhow::Result<BundleFile> {
        let path = out.unwrap_or_else(|| PathBuf::from(format!("{name}.pem")));
        anyhow::ensure!(!path.exists(), "{} is there already; choose another file with --out", path.display());
        let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        anyhow::ensure!(
            folder.is_none_or(Path::is_dir),
            "the folder for {} is not there; make it first",
            path.display()
        );
        let file = File::options().write(true).create_new(true).mode(0o600).open(&path);
        let file = file.with_context(|| format!("{} cannot be written", path.display()))?;
        Ok(BundleFile { path, file, written: false })
    }

    fn write(mut self, pem: &str) -> anyhow::Result<PathBuf> {
        let written = self.file.write_all(pem.as_bytes()).and_then(|()| self.file.sync_all());
        written.with_context(|| format!("{} cannot be written", self.path.display()))?;
        self.written = true;
        Ok(self.path.clone())
    }
}

impl Drop for BundleFile {
    fn drop(&mut self) {
        if !self.written {
            // Whoever reads the folder would take it for a bundle.
            drop(std::fs::remove_file(&self.path));
        }
    }
}

fn revoke(name: &str, settings: &SettingsArgs) -> anyhow::Result<ExitCode> {
    let settings = Settings::read(settings, &[])?;
    let now = SystemClock.now();
    let (caller, since) = DataFolder::existing(&settings.data)?.authority()?.callers().revoke(name, now)?;
    if since == now {
        say!("till {} '{name}' is revoked: a server that runs turns it out within two seconds", caller.id);
        say!("take that back with: frokost till readmit {name} --data {}", typed(&settings.data));
        say!("a new one in its place needs another name: frokost till add NAME --data {}", typed(&settings.data));
    } else {
        say!("till {} '{name}' has been revoked since {}", caller.id, moment(since));
    }
    Ok(ExitCode::SUCCESS)
}

fn readmit(name: &str, settings: &SettingsArgs) -> anyhow::Result<ExitCode> {
    let settings = Settings::read(settings, &[])?;
    let (caller, since) = DataFolder::existing(&settings.data)?.authority()?.callers().readmit(name)?;
    match since {
        Some(since) => say!("till {} '{name}' may sell again; it was revoked on {}", caller.id, moment(since)),
        None => say!("till {} '{name}' is not revoked", caller.id),
    }
    Ok(ExitCode::SUCCESS)
}

fn list(settings: &SettingsArgs) -> anyhow::Result<ExitCode> {
    let settings = Settings::read(settings, &[])?;
    let authority = DataFolder::existing(&settings.data)?.authority()?;
    let revoked = authority.callers().revoked()?;
    for enrolled in authority.callers().enrolled()? {
        let caller = enrolled.caller;
        let since =
            revoked.get(&caller.id).map_or_else(String::new, |since| format!("  revoked on {}", moment(*since)));
        say!("{:>6}  {:<9}  school {:<4}  {}{since}", caller.id.0, caller.role.name(), caller.school, enrolled.name);
    }
    Ok(ExitCode::SUCCESS)
}

fn moment(at: Timestamp) -> String {
    at.local().strftime("%Y-%m-%d %H:%M").to_string()
}

struct Till {
    bundle: Bundle,
    server: SocketAddr,
    lang: Lang,
    client: Client,
    outbox: Outbox,
    /// Where the picture of the pupil is kept whose card was read.
    picture: Option<PathBuf>,
}

impl Till {
    async fn open(bundle: &Path, server: SocketAddr, lang: Lang, picture: Option<PathBuf>) -> anyhow::Result<Till> {
        let outbox = bundle.with_extension("outbox");
        let bundle = Bundle::read(bundle)?;
        let (client, welcome) = Client::connect(server, &bundle).await.map_err(|error| said(error, lang))?;
        // An outbox that is new begins above every number this till can have used before.
        let first = numbers::first(welcome.now);
        let outbox = match Outbox::open(&outbox, welcome.caller, first) {
            Err(OutboxError::OfAnother { path, caller, sales }) => {
                let aside = Outbox::set_aside(&path, caller)?;
                tell_left(caller, &sales, &aside, lang);
                Outbox::open(&path, welcome.caller, first)?
            }
            opened => opened?,
        };
        if !bundle.is_good_at(SystemTime::now() + SAID_BEFORE) {
            complain!(
                "{}",
                in_language(
                    lang,
                    "kassens certifikat udløber inden for 30 dage; ring til den, der driver anlægget: frokost till renew laver et nyt",
                    "this till's bundle runs out within 30 days; call whoever runs the installation: frokost till renew makes a new one"
                )
            );
        }
        anyhow::ensure!(welcome.role == Role::Till, "this bundle is a {}'s, not a till's", welcome.role.name());
        Ok(Till { bundle, server, lang, client, outbox, picture })
    }

    fn say(&self, danish: &str, english: &str) -> String {
        in_language(self.lang, danish, english).to_owned()
    }

    /// Sales from before a power cut: sent again, under the same numbers.
    async fn catch_up(&mut self) -> anyhow::Result<()> {
        for (sequence, sale) in self.outbox.unanswered() {
            let Command::Purchase { card, amount } = sale.command else { continue };
            let about = self.say("Fra sidst:", "From before:");
            say!("{about} {amount} {}", ending_of(card));
            match self.settle(sequence, sale).await? {
                Some(outcome) => say!("{}", explain(&outcome, self.lang)),
                None => say!("{}", explain(&Outcome::Unavailable, self.lang)),
            }
        }
        Ok(())
    }

    /// Puts the pupil's picture where the display looks, or takes the last one's away. A sale never waits for it to succeed.
    async fn show_picture(&self, card: CardNumber) {
        let Some(file) = &self.picture else { return };
        let jpeg = match self.client.picture(card).await {
            Ok(Ok(jpeg)) => jpeg,
            Ok(Err(_)) | Err(_) => Vec::new(),
        };
        let shown = if jpeg.is_empty() {
            match std::fs::remove_file(file) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
                Ok(()) | Err(_) => Ok(()),
            }
        } else {
            // In one step: a display never sees half of one.
            let beside = file.with_extension("new");
            std::fs::write(&beside, jpeg).and_then(|()| std::fs::rename(&beside, file))
        };
        if let Err(error) = shown {
            complain!("the picture cannot be shown in {}: {error}", file.display());
        }
    }

    /// One sale; how it ended is the exit code.
    async fn sell(&mut self, card: CardNumber, amount: Amount, text: Text) -> anyhow::Result<ExitCode> {
        let (mut sequence, sale) = self.outbox.put(card, amount, text)?;
        let mut outcome = self.settle(sequence, sale).await?;
        for years in numbers::AHEAD_YEARS {
            if !outcome.as_ref().is_some_and(numbers::is_taken) {
                break;
            }
            // The outbox is newer than a time in which a clock was wrong.
            self.outbox.go_on_from(numbers::ahead(sequence, years))?;
            (sequence, _) = self.outbox.put(card, amount, text)?;
            outcome = self.settle(sequence, sale).await?;
        }
        say!("{}", explain(&outcome.unwrap_or(Outcome::Unavailable), self.lang));
        Ok(match outcome {
            Some(Outcome::Approved(_)) => ExitCode::SUCCESS,
            Some(Outcome::Rejected(_)) => ExitCode::from(exit::REFUSED),
            Some(Outcome::View(_) | Outcome::Busy | Outcome::OutOfSpace | Outcome::Unavailable) | None => {
                ExitCode::from(exit::FAILED)
            }
        })
    }

    /// Sends a sale until it is answered, or patience ends; then it stays in the outbox.
    async fn settle(&mut self, sequence: Sequence, sale: Asked) -> anyhow::Result<Option<Outcome>> {
        let give_up = tokio::time::Instant::now() + PATIENCE;
        let mut told = false;
        loop {
            match self.client.command(sequence, sale).await {
                // Without space nothing was done, and nothing will be: the cashier is told, the sale is not sent again.
                Ok(outcome @ (Outcome::Approved(_) | Outcome::Rejected(_) | Outcome::OutOfSpace)) => {
                    self.outbox.done(sequence)?;
                    return Ok(Some(outcome));
                }
                Ok(Outcome::Busy | Outcome::Unavailable | Outcome::View(_)) => {}
                Err(error) if error.is_final() => return Err(said(error, self.lang)),
                Err(error) => {
                    if !told {
                        complain!("{error}");
                        told = true;
                    }
                    match Client::connect(self.server, &self.bundle).await {
                        Ok((client, _)) => self.client = client,
                        Err(error @ (ClientError::Revoked | ClientError::Unknown)) => {
                            return Err(said(error, self.lang));
                        }
                        Err(_) => {}
                    }
                }
            }
            if tokio::time::Instant::now() > give_up {
                return Ok(None);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Sells until the input ends.
    async fn serve(&mut self) -> anyhow::Result<ExitCode> {
        self.catch_up().await?;
        say!("{}", self.say("Kassen er klar. Tom linje afslutter.", "The till is ready. An empty line ends."));
        let mut lines = BufReader::new(tokio::io::stdin()).lines();
        loop {
            let prompt = self.say("Kort:  ", "Card:   ");
            let Some(line) = ask(&prompt, &mut lines).await? else { break };
            if line.is_empty() {
                break;
            }
            let card: CardNumber = match line.parse() {
                Ok(card) => card,
                Err(_) => {
                    say!(
                        "{}",
                        self.say(
                            "Kortet kan ikke læses. Tast nummeret: 4 til 16 cifre og bogstaver.",
                            "The card cannot be read. Type its number: 4 to 16 digits and letters.",
                        )
                    );
                    continue;
                }
            };
            if std::io::stdout().is_terminal() {
                crate::say::out(format_args!("\x07"));
            }
            self.show_picture(card).await;
            let prompt = self.say("Beløb: ", "Amount: ");
            let Some(line) = ask(&prompt, &mut lines).await? else { break };
            match amount_and_text(&line) {
                Ok((amount, text)) => {
                    // What had no answer goes first: it is settled before the next pupil is served.
                    self.catch_up().await?;
                    let _ = self.sell(card, amount, text).await?;
                }
                Err(error) => {
                    say!(
                        "{}",
                        self.say(
                            "Beløbet skrives som 25 eller 25,50; bagefter kan stå højst 48 tegn om varerne. Intet er solgt.",
                            &error.to_string()
                        )
                    )
                }
            }
        }
        self.client.close().await;
        Ok(ExitCode::SUCCESS)
    }
}

fn in_language<'a>(lang: Lang, danish: &'a str, english: &'a str) -> &'a str {
    match lang {
        Lang::Da => danish,
        Lang::En => english,
    }
}

/// What another till that had this outbox before never had an answer to.
fn tell_left(caller: CallerId, sales: &[Asked], aside: &Path, lang: Lang) {
    let (till, begin, end) = match lang {
        Lang::Da => ("kasse", "stod her før og fik ikke svar på dette salg", "de sendes ikke igen herfra og ligger i"),
        Lang::En => {
            ("till", "was here before and had no answer to", "they are not sent again from here, and are kept in")
        }
    };
    complain!("{till} {caller} {begin}:");
    for sale in sales {
        if let Command::Purchase { card, amount } = sale.command {
            complain!("  {amount} {} {}", ending_of(card), sale.details.text);
        }
    }
    complain!("{end} {}", aside.display());
}

/// Why there is nothing to be sold; what the cashier has to act on in the display's language.
fn said(error: ClientError, lang: Lang) -> anyhow::Error {
    match (error, lang) {
        (ClientError::Revoked, Lang::Da) => anyhow::anyhow!(
            "kassen er spærret og kan ikke sælge; ring til den, der driver anlægget: frokost till readmit lukker den ind igen, \
             frokost till add laver en ny. Salg uden svar er gemt ved siden af kassens certifikat"
        ),
        (ClientError::Revoked, Lang::En) => anyhow::anyhow!(
            "this till has been revoked and cannot sell; call whoever runs the installation: frokost till readmit lets it in again, \
             frokost till add makes a new one. Sales without an answer are kept beside the till's bundle"
        ),
        (ClientError::Unknown, Lang::Da) => anyhow::anyhow!(
            "kassen er ikke oprettet i dette anlæg og kan ikke sælge; er anlægget genskabt fra en sikkerhedskopi, er kassen nyere end den. \
             Ring til den, der driver anlægget: frokost till add laver en ny. Salg uden svar er gemt ved siden af kassens certifikat"
        ),
        (ClientError::Unknown, Lang::En) => anyhow::anyhow!(
            "this till is not enrolled in this installation and cannot sell; if the installation was restored from a backup, the till is newer. \
             Call whoever runs it: frokost till add makes a new one. Sales without an answer are kept beside the till's bundle"
        ),
        (error, Lang::Da | Lang::En) => error.into(),
    }
}

/// What was typed for a sale: `25,50`, or `25,50 2 sandwich, 1 mælk`, of which the rest goes on the statement.
fn amount_and_text(line: &str) -> anyhow::Result<(Amount, Text)> {
    let (amount, text) = line.split_once(' ').unwrap_or((line, ""));
    Ok((amount.parse()?, text.trim().parse()?))
}

fn ending_of(card: CardNumber) -> String {
    let text = card.as_str();
    format!("..{}", text.get(text.len().saturating_sub(4)..).unwrap_or_default())
}

async fn ask(prompt: &str, lines: &mut Lines<BufReader<Stdin>>) -> anyhow::Result<Option<String>> {
    crate::say::out(format_args!("{prompt}"));
    Ok(lines.next_line().await?.map(|line| line.trim().to_owned()))
}
