//! `frokost account`: look up, block, activate, cap, fill, print a statement.

use std::process::ExitCode;

use anyhow::{Context, bail};
use frokost_engine::command::Reason;
use frokost_engine::command::Source;
use frokost_engine::time::Month;
use frokost_engine::{AccountId, AccountView, Amount, Asked, Clock, Command, Details, OrderNumber, Outcome, Query};

use crate::cli::{AccountArgs, AccountVerb, Lang, ReasonArg};
use crate::node::SystemClock;
use crate::operator::Operator;
use crate::outcome_text::explain;
use crate::say::say;
use crate::settings::Settings;

pub(crate) async fn run(args: AccountArgs) -> anyhow::Result<ExitCode> {
    let settings = Settings::read(&args.settings, &[])?;
    let operator = Operator::connect(&settings).await?;
    let done = act(&operator, args.verb).await;
    operator.close().await;
    done.map(|()| ExitCode::SUCCESS)
}

async fn act(operator: &Operator, verb: AccountVerb) -> anyhow::Result<()> {
    match verb {
        AccountVerb::Find { wanted } => find(operator, &wanted).await?,
        AccountVerb::Show { account } => show(&operator.account(&account).await?),
        AccountVerb::Block { account } => {
            let account = operator.account(&account).await?.account;
            operator.must(Command::Block { account }).await?;
            say!("account {account} is blocked; every till refuses it from now on");
        }
        AccountVerb::Activate { account } => {
            let account = operator.account(&account).await?.account;
            operator.must(Command::Activate { account }).await?;
            say!("account {account} is active");
        }
        AccountVerb::Limit { account, limit } => {
            let account = operator.account(&account).await?.account;
            let limit = match limit.as_str() {
                "none" => None,
                kroner => Some(kroner.parse::<Amount>().context("write kroner, or 'none'")?),
            };
            operator.must(Command::SetDailyLimit { account, limit }).await?;
            match limit {
                Some(limit) => say!("account {account} may spend {limit} a day"),
                None => say!("account {account} has no daily limit"),
            }
        }
        AccountVerb::TopUp { account, amount, reference } => {
            let account = operator.account(&account).await?.account;
            let order = OrderNumber(by_hand(reference)?);
            let receipt = operator.must(Command::TopUp { account, order, amount, source: Source::Counter }).await?;
            say!("{amount} paid in to account {account}; balance {}", receipt.balance);
        }
        AccountVerb::Credit { account, limit } => {
            let account = operator.account(&account).await?.account;
            operator.must(Command::SetCreditLimit { account, limit }).await?;
            say!("account {account} may go {limit} below zero");
        }
        AccountVerb::Transfer { from, to, amount, text } => {
            let from = operator.account(&from).await?.account;
            let to = operator.account(&to).await?.account;
            let details = Details { text, ..Details::default() };
            let receipt = operator.must(Asked { command: Command::Transfer { from, to, amount }, details }).await?;
            say!("{amount} moved from account {from} to account {to}; {} left", receipt.balance);
        }
        AccountVerb::Correct { account, amount, reason, text } => {
            let account = operator.account(&account).await?.account;
            anyhow::ensure!(
                reason != ReasonArg::Other || !text.is_empty(),
                "say with --text what the reason 'other' is"
            );
            let details = Details { text, ..Details::default() };
            let command = Command::Correct { account, amount, reason: reason.into() };
            let receipt = operator.must(Asked { command, details }).await?;
            say!("account {account} is corrected by {amount}; balance {}", receipt.balance);
        }
        AccountVerb::Close { account } => {
            let account = operator.account(&account).await?.account;
            operator.must(Command::Close { account }).await?;
            say!("account {account} is closed");
        }
        AccountVerb::Statement { account, month } => {
            let view = operator.account(&account).await?;
            let month = match month {
                Some(number) => {
                    Month::from_number(number).with_context(|| format!("{number} is no month; write 202611"))?
                }
                None => SystemClock.now().month(),
            };
            statement(operator, &view, month).await?;
        }
    }
    Ok(())
}

impl From<ReasonArg> for Reason {
    fn from(reason: ReasonArg) -> Reason {
        match reason {
            ReasonArg::TillError => Reason::TillError,
            ReasonArg::PaymentError => Reason::PaymentError,
            ReasonArg::Goodwill => Reason::Goodwill,
            ReasonArg::WriteOff => Reason::WriteOff,
            ReasonArg::Other => Reason::Other,
        }
    }
}

/// Receipts paid by hand have order numbers of their own, so that none meets a payment's.
fn by_hand(reference: u64) -> anyhow::Result<u64> {
    const BY_HAND: u64 = 1 << 61;
    anyhow::ensure!(reference < BY_HAND, "the reference {reference} is too large");
    Ok(BY_HAND + reference)
}

pub(crate) fn show(view: &AccountView) {
    say!("account       {}", view.account);
    say!("school        {}", view.school);
    say!("balance       {}", view.balance);
    say!("card          {}", view.card.map_or("none".to_owned(), |card| card.to_string()));
    let status = match (view.closed, view.blocked) {
        (true, _) => "closed",
        (false, true) => "blocked",
        (false, false) => "active",
    };
    say!("status        {status}");
    say!("daily limit   {}", view.daily_limit.map_or("none".to_owned(), |limit| limit.to_string()));
    say!("spent today   {}", view.spent_today);
    say!("credit limit  {}", view.credit_limit);
    if let Some(amount) = view.auto_top_up {
        say!("auto top-up   {amount}{}", if view.charging { ", being charged" } else { "" });
    }
}

async fn statement(operator: &Operator, view: &AccountView, month: Month) -> anyhow::Result<()> {
    let (months, postings) = match operator.client().statement(view.account, month).await? {
        Ok(statement) => statement,
        Err(outcome) => bail!("{}", explain(&outcome, Lang::En)),
    };
    let numbers: Vec<String> = months.iter().map(|month| month.number().to_string()).collect();
    say!("account {}, {}; balance {}; months: {}", view.account, month.number(), view.balance, numbers.join(" "));
    for posting in postings {
        let at = posting.at.local().strftime("%d-%m-%Y %H.%M").to_string();
        let line = format!(
            "{at}  {:<15} {:>5}  {:>16}  {:>16}  {}",
            posting.entry.name(),
            posting.key.caller.to_string(),
            posting.change().to_string(),
            posting.balance.to_string(),
            posting.text
        );
        say!("{}", line.trim_end());
    }
    Ok(())
}

/// A card number leads to its account; everything else is looked for in the records.
async fn find(operator: &Operator, wanted: &str) -> anyhow::Result<()> {
    let mut account = AccountId(0);
    if let Some(card) = operator.card_number(wanted)
        && let Outcome::View(view) = operator.query(Query::CardBalance { card }).await?
    {
        account = view.account;
    }
    let text = wanted.parse().with_context(|| format!("'{wanted}' is too long to be looked for: 48 bytes at most"))?;
    let found = match operator.client().find(account, text).await? {
        Ok(found) => found,
        Err(outcome) => bail!("{}", explain(&outcome, Lang::En)),
    };
    anyhow::ensure!(
        !found.pupils.is_empty(),
        "nobody is found by '{wanted}': it is no part of a pupil's name, no birth date (31-01-2014 or 310114), no card and no login's mail address"
    );
    for pupil in &found.pupils {
        let card = if let Outcome::View(view) = operator.query(Query::AccountBalance { account: pupil.account }).await?
        {
            view.card.map_or("no card".to_owned(), |card| format!("card {card}"))
        } else {
            "no account".to_owned()
        };
        let logins = if pupil.logins.is_empty() { "no login" } else { &pupil.logins };
        say!("{:>8}  {}  {card}  school {}  {logins}", pupil.account, pupil.name, pupil.school);
    }
    if found.more {
        say!("and more; say more of the name");
    }
    Ok(())
}
