//! An operator's connection for the subcommands. There is one way in, over QUIC: to the running server if there is one, else to
//! an engine that is started for as long as the subcommand lasts.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use frokost_engine::journal::JournalError;
use frokost_engine::{AccountView, Asked, CardNumber, Outcome, Query, Sequence};
use frokost_net::{Bundle, Client, ClientError, numbers};

use crate::cli::Lang;
use crate::data_folder::DataFolder;
use crate::node::{Core, loopback_of};
use crate::outcome_text::explain;
use crate::settings::Settings;
use crate::store::Store;
use crate::{backup, lookup};

/// How often, and after which pause, what has no answer is asked for again.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(500);

/// A connection with the role operator.
pub(crate) struct Operator {
    client: Mutex<Client>,
    /// Where a server is that can come back, if the engine is not ours.
    server: Option<(SocketAddr, Bundle)>,
    /// The engine, if it is ours.
    core: Option<Core>,
    sequence: AtomicU64,
    card_length: usize,
}

impl Operator {
    /// Connects to the server that runs on the data folder, or starts the engine on it.
    pub(crate) async fn connect(settings: &Settings) -> anyhow::Result<Operator> {
        Operator::connect_in(&DataFolder::existing(&settings.data)?, settings).await
    }

    /// The same on a folder that may be new.
    pub(crate) async fn connect_in(folder: &DataFolder, settings: &Settings) -> anyhow::Result<Operator> {
        let (core, address, bundle) = match Store::open(folder, settings) {
            Ok(store) => {
                let desk = lookup::desk_in(folder, settings);
                let core = Core::start(folder, store, ([127, 0, 0, 1], 0).into(), |_| backup::no_desks(desk)).await?;
                let (address, bundle) = (core.server.address(), core.operator.clone());
                (Some(core), address, bundle)
            }
            Err(JournalError::InUse) => {
                let bundle = folder.own_bundle(&folder.authority()?, "operator", frokost_engine::Role::Operator)?;
                (None, folder.serving_at().unwrap_or(loopback_of(settings.tills.listen)), bundle)
            }
            Err(error) => return Err(error).with_context(|| format!("{}", folder.path().display())),
        };
        Operator::with(core, address, &bundle, settings.portal.card_length).await
    }

    /// Connects to an engine that runs in this process.
    pub(crate) async fn to(core: &Core, settings: &Settings) -> anyhow::Result<Operator> {
        Operator::with(None, core.server.address(), &core.operator, settings.portal.card_length).await
    }

    async fn with(
        core: Option<Core>,
        address: SocketAddr,
        bundle: &Bundle,
        card_length: usize,
    ) -> anyhow::Result<Operator> {
        let (client, welcome) = Client::connect(address, bundle).await?;
        let server = core.is_none().then(|| (address, bundle.clone()));
        // From the server's clock, so that no number is used twice.
        let sequence = AtomicU64::new(numbers::first(welcome.now).0);
        Ok(Operator { client: Mutex::new(client), server, core, sequence, card_length })
    }

    pub(crate) fn client(&self) -> Client {
        self.client.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has a command carried out.
    pub(crate) async fn command(&self, asked: impl Into<Asked>) -> anyhow::Result<Outcome> {
        let asked = asked.into();
        let next = || Sequence(self.sequence.fetch_add(1, Ordering::SeqCst));
        let mut sequence = next();
        let mut outcome = self.command_as(sequence, asked).await?;
        for years in numbers::AHEAD_YEARS {
            if !numbers::is_taken(&outcome) {
                break;
            }
            self.sequence.fetch_max(numbers::ahead(sequence, years).0, Ordering::SeqCst);
            sequence = next();
            outcome = self.command_as(sequence, asked).await?;
        }
        Ok(outcome)
    }

    /// Under the same number until it is answered: typed again it would be done twice.
    async fn command_as(&self, sequence: Sequence, asked: Asked) -> anyhow::Result<Outcome> {
        self.until_answered(|client| async move { client.command(sequence, asked).await })
            .await
            .context("whether it was done is not known; look at the account before you type it again")
    }

    /// Asks again, over a new connection, where the answer is lost and there is a server that can come back.
    async fn until_answered<F>(&self, ask: impl Fn(Client) -> F) -> Result<Outcome, ClientError>
    where
        F: Future<Output = Result<Outcome, ClientError>>,
    {
        let mut tries = 0;
        loop {
            let error = match ask(self.client()).await {
                Ok(outcome) => return Ok(outcome),
                Err(error) => error,
            };
            let Some((address, bundle)) = self.server.as_ref().filter(|_| !error.is_final() && tries < TRIES) else {
                return Err(error);
            };
            tries += 1;
            tokio::time::sleep(PAUSE).await;
            if let Ok((client, _)) = Client::connect(*address, bundle).await {
                *self.client.lock().unwrap_or_else(PoisonError::into_inner) = client;
            }
        }
    }

    /// Has a command carried out that must be approved.
    pub(crate) async fn must(&self, asked: impl Into<Asked>) -> anyhow::Result<frokost_engine::Receipt> {
        let outcome = self.command(asked).await?;
        let Outcome::Approved(receipt) = outcome else { bail!("{}", explain(&outcome, Lang::En)) };
        Ok(receipt)
    }

    /// The account with that number or that card.
    pub(crate) async fn account(&self, number_or_card: &str) -> anyhow::Result<AccountView> {
        self.view(number_or_card, account_query(number_or_card, self.card_length)?).await
    }

    /// The text as a card's number, if it is as long as one.
    pub(crate) fn card_number(&self, text: &str) -> Option<CardNumber> {
        is_as_long_as_a_card(text, self.card_length).then(|| text.parse().ok()).flatten()
    }

    /// The account a card leads to.
    pub(crate) async fn account_of(&self, card: CardNumber) -> anyhow::Result<AccountView> {
        self.view(card.as_str(), Query::CardBalance { card }).await
    }

    async fn view(&self, what: &str, query: Query) -> anyhow::Result<AccountView> {
        let outcome = self.query(query).await?;
        let Outcome::View(view) = outcome else { bail!("{what}: {}", explain(&outcome, Lang::En)) };
        Ok(view)
    }

    pub(crate) async fn query(&self, query: Query) -> anyhow::Result<Outcome> {
        Ok(self.until_answered(|client| async move { client.query(query).await }).await?)
    }

    /// Ends the connection, and the engine if it is ours.
    pub(crate) async fn close(self) {
        self.client().close().await;
        if let Some(core) = self.core {
            core.shutdown().await;
        }
    }
}

/// What is as long as a card number is one; other numbers are accounts'.
fn account_query(text: &str, card_length: usize) -> anyhow::Result<Query> {
    if !is_as_long_as_a_card(text, card_length)
        && let Ok(number) = text.parse()
    {
        return Ok(Query::AccountBalance { account: frokost_engine::AccountId(number) });
    }
    let card = text.parse().with_context(|| format!("'{text}' is neither an account's number nor a card's"))?;
    Ok(Query::CardBalance { card })
}

fn is_as_long_as_a_card(text: &str, card_length: usize) -> bool {
    text.chars().filter(|c| !c.is_whitespace() && *c != '-').count() == card_length
}
