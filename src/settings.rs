//! Settings: flag, then environment (`FROKOST_TILLS__LISTEN`), then file, then default. An unknown key is refused, so that a
//! typing error is not a silent default.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use config::{Config, Environment, File, FileFormat};
use frokost_engine::Amount;
use frokost_portal::identifier::IdentifyBy;
use frokost_portal::mail::MailSetup;
use frokost_portal::payment::sandbox::Callbacks;
use serde::Deserialize;

use crate::cli::SettingsArgs;

/// Everything an installation can set. `docs/settings.md` explains each.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// The data folder.
    pub(crate) data: PathBuf,
    pub(crate) journal: Journal,
    pub(crate) tills: Tills,
    pub(crate) portal: Portal,
    pub(crate) mail: Mail,
    pub(crate) bank: Bank,
    pub(crate) payment: Payment,
    pub(crate) metrics: Metrics,
}

/// How the books are kept.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Journal {
    pub(crate) kind: JournalKind,
    pub(crate) mirror: MirrorMode,
    /// Where the mirror is; `mirror` in the data folder if empty. Better on another disk.
    pub(crate) mirror_folder: PathBuf,
    /// A snapshot is made after so many records; 0 for never.
    pub(crate) snapshot_every: u64,
    /// With less room than this on the disk, in megabytes, nothing new is let in.
    pub(crate) reserve_mb: u64,
    /// Where its threads run.
    pub(crate) processor: Processor,
    /// A journal that has not come back after so many seconds never will: the server ends.
    pub(crate) hung_after_s: u64,
}

/// Where the journal's threads run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) enum Processor {
    /// Where there are two processors, on the one that hears of the disk first.
    Auto,
    /// Wherever the system puts them.
    Any,
    /// On that one.
    Number(usize),
}

impl TryFrom<String> for Processor {
    type Error = String;

    fn try_from(word: String) -> Result<Processor, String> {
        match word.as_str() {
            "auto" => Ok(Processor::Auto),
            "any" => Ok(Processor::Any),
            number => {
                let number = number.parse().map(Processor::Number);
                number.map_err(|_| {
                    format!("journal.processor is '{word}'; write \"auto\", \"any\" or the number of a processor")
                })
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum JournalKind {
    /// sled, and the mirror beside it.
    Sled,
    /// Plain files alone, no mirror.
    File,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MirrorMode {
    /// An answer waits for both.
    Sync,
    /// The mirror follows.
    Async,
    /// There is none.
    Off,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tills {
    pub(crate) listen: SocketAddr,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Portal {
    pub(crate) listen: SocketAddr,
    /// What browsers call it; `http://<listen>` if empty.
    pub(crate) public_url: String,
    /// Characters of a card number.
    pub(crate) card_length: usize,
    /// What identifies a pupil besides the card: `cpr` or `birth_date`.
    pub(crate) identify_by: IdentifyBy,
    /// The least that can be paid in, in kroner.
    pub(crate) min_top_up: i64,
    pub(crate) holder_name: String,
    pub(crate) holder_cvr: String,
    /// The key that seals CPR numbers; `keys/records.key` in the data folder if empty.
    pub(crate) key_file: PathBuf,
    /// Is there a proxy in front that writes `X-Forwarded-For`?
    pub(crate) behind_proxy: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mail {
    /// The mail server; mails go into a maildir if empty.
    pub(crate) smtp: String,
    /// That maildir; `mail` in the data folder if empty.
    pub(crate) maildir: PathBuf,
    pub(crate) from: String,
    /// Who answers the support form.
    pub(crate) support: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Bank {
    /// The account that pays pay-outs.
    pub(crate) iban: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Payment {
    /// Where the sandbox's window is served.
    pub(crate) sandbox_listen: SocketAddr,
    /// What browsers call it; `http://<sandbox_listen>` if empty.
    pub(crate) sandbox_url: String,
    /// Is the sandbox meant? Its test cards make money out of nothing; with an `https://` address it has to be said.
    pub(crate) sandbox: bool,
    /// How the sandbox calls the portal back: once, twice, late or never.
    pub(crate) sandbox_callbacks: Callbacks,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Metrics {
    /// Where `/metrics` and `/healthz` are served.
    pub(crate) listen: SocketAddr,
}

const DEFAULTS: &str = r#"
data = "data"

[journal]
kind = "sled"
mirror = "sync"
mirror_folder = ""
snapshot_every = 250000
reserve_mb = 64
processor = "auto"
hung_after_s = 30

[tills]
listen = "127.0.0.1:4433"

[portal]
listen = "127.0.0.1:8080"
public_url = ""
card_length = 14
identify_by = "cpr"
min_top_up = 200
holder_name = "Frokost Demo A/S"
holder_cvr = "00 00 00 00"
key_file = ""
behind_proxy = false

[mail]
smtp = ""
maildir = ""
from = "frokost <frokost@localhost.localdomain>"
support = "support@localhost.localdomain"

[bank]
iban = ""

[payment]
sandbox_listen = "127.0.0.1:8081"
sandbox_url = ""
sandbox = false
sandbox_callbacks = "once"

[metrics]
listen = "127.0.0.1:9464"
"#;

impl Settings {
    /// Reads the settings; `flags` are keys like `tills.listen` and what was given for them.
    pub(crate) fn read(args: &SettingsArgs, flags: &[(&str, Option<String>)]) -> anyhow::Result<Settings> {
        let mut sources = Config::builder().add_source(File::from_str(DEFAULTS, FileFormat::Toml));
        if let Some(file) = &args.config {
            anyhow::ensure!(file.is_file(), "the settings file {} is not there", file.display());
            sources = sources.add_source(File::from(file.as_path()).format(FileFormat::Toml));
        }
        // These three have names of their own and are no settings.
        let ours = |name: &str| !["FROKOST_CONFIG", "FROKOST_LOG", "FROKOST_BUNDLE"].contains(&name);
        // What is not Unicode is not ours.
        let unicode =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let variables = unicode.filter(|(name, _)| ours(name)).collect();
        let environment = Environment::with_prefix("FROKOST").prefix_separator("_").separator("__");
        sources = sources.add_source(environment.source(Some(variables)));
        let data = args.data.as_ref().map(|data| data.display().to_string());
        sources = sources.set_override_option("data", data)?;
        for (key, value) in flags {
            sources = sources.set_override_option(*key, value.clone())?;
        }
        let settings: Settings = sources.build()?.try_deserialize().context("the settings cannot be used")?;
        settings.check()?;
        Ok(settings)
    }

    fn check(&self) -> anyhow::Result<()> {
        let hung_after_s = self.journal.hung_after_s;
        anyhow::ensure!(
            (1..=3600).contains(&hung_after_s),
            "journal.hung_after_s is {hung_after_s}; choose 1 to 3600 seconds"
        );
        let portal = &self.portal;
        anyhow::ensure!(
            (4..=16).contains(&portal.card_length),
            "portal.card_length is {}; a card number has 4 to 16 characters",
            portal.card_length
        );
        anyhow::ensure!(
            (1..=10_000).contains(&portal.min_top_up),
            "portal.min_top_up is {}; choose 1 to 10000 kroner",
            portal.min_top_up
        );
        self.mail_setup().check().map_err(|why| anyhow::anyhow!("the settings of [mail] cannot be used: {why}"))?;
        let urls = [
            ("portal.public_url", &portal.public_url, portal.listen),
            ("payment.sandbox_url", &self.payment.sandbox_url, self.payment.sandbox_listen),
        ];
        for (key, url, listen) in urls {
            anyhow::ensure!(
                url.is_empty() || ((url.starts_with("https://") || url.starts_with("http://")) && !url.ends_with('/')),
                "{key} is '{url}'; write for instance https://frokost.example.dk, without a slash at the end"
            );
            anyhow::ensure!(
                !(url.is_empty() && listen.ip().is_unspecified()),
                "{key} is needed when it listens on {listen}: browsers have to be told an address they can reach"
            );
        }
        let url = &portal.public_url;
        if url.starts_with("https://") {
            anyhow::ensure!(
                portal.behind_proxy,
                "portal.public_url is '{url}', so a proxy stands in front; set portal.behind_proxy = true, else all parents are one visitor and slow each other down"
            );
            anyhow::ensure!(
                self.payment.sandbox,
                "portal.public_url is '{url}', and payments are the sandbox's, whose test cards make money out of nothing; if that is meant, set payment.sandbox = true"
            );
        }
        anyhow::ensure!(
            !url.starts_with("http://") || is_loopback(url),
            "portal.public_url is '{url}': passwords would cross the network in clear; put a proxy with HTTPS in front and write https://"
        );
        let smtp = &self.mail.smtp;
        anyhow::ensure!(
            !smtp.starts_with("smtp://") || smtp.contains("tls=required") || is_loopback(smtp),
            "mail.smtp is an address without TLS: codes and links would cross the network in clear; write smtps://, or smtp:// with ?tls=required"
        );
        Ok(())
    }

    pub(crate) fn min_top_up(&self) -> Amount {
        Amount::from_kroner(self.portal.min_top_up)
    }

    pub(crate) fn mirror_folder(&self) -> PathBuf {
        let folder = &self.journal.mirror_folder;
        if folder == Path::new("") { self.data.join("mirror") } else { folder.clone() }
    }

    /// How mails leave.
    pub(crate) fn mail_setup(&self) -> MailSetup {
        let Mail { smtp, maildir, from, support } = self.mail.clone();
        let maildir = if maildir == Path::new("") { self.data.join("mail") } else { maildir };
        MailSetup { smtp, maildir, from, support }
    }

    pub(crate) fn key_file(&self) -> PathBuf {
        let file = &self.portal.key_file;
        if file == Path::new("") { self.data.join("keys/records.key") } else { file.clone() }
    }
}
/// Does an address lead to this machine?
fn is_loopback(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let host = host
        .rsplit_once(':')
        .filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()))
        .map_or(host, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}
