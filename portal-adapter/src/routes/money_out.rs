//! Money that leaves an account: to a bank account, or to another account of the same parent (quick guide, section F).

use std::time::Duration;

use axum::Form;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use frokost_engine::{
    AccountId, AccountView, Amount, Command, Entry, Outcome, PayoutNumber, PersonId, Record, Rejection, Timestamp,
};
use frokost_persistence::keys;
use frokost_persistence::records::{Matter, PayoutOrder, PayoutState, RecordsError};
use serde::Deserialize;

use crate::Portal;
use crate::error::PortalError;
use crate::limits::Visitor;
use crate::money;
use crate::once;
use crate::proof;
use crate::routes::{account_of, parent_frame, pupil_name, see};
use crate::security_log;
use crate::session::{Parent, blocking, secret};
use crate::tickets;
use crate::views::{self, AccountLink, Field, PayoutRow, any_problem};
use crate::words::{Language, Words};

const TAKE_UP_EVERY: Duration = Duration::from_secs(10);

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct PayOut {
    token: String,
    form: String,
    name: String,
    reg: String,
    account: String,
    message: String,
    amount: String,
    password: String,
}

/// An amount within a balance, or what to say.
fn amount(text: &str, balance: Amount, language: Language) -> Result<Amount, String> {
    let w = language.words();
    match money::read(text, language) {
        Some(amount) if amount > Amount::ZERO && amount <= balance => Ok(amount),
        Some(amount) if amount > balance => {
            Err(format!("{} {}", w.amount_over_balance, money::amount(balance, language)))
        }
        Some(_) | None => Err(w.amount_kroner_wrong.to_owned()),
    }
}

fn digits(text: &str) -> Option<String> {
    let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    text.bytes().all(|b| b.is_ascii_digit()).then_some(text)
}

async fn pay_out_page(
    portal: &Portal,
    headers: &HeaderMap,
    parent: &Parent,
    view: &AccountView,
    form: String,
    fields: Vec<Field>,
    done: bool,
) -> Result<Response, PortalError> {
    let number = view.account.0;
    let (frame, bar) = parent_frame(portal, headers, parent, number, "konto", format!("/konto/{number}/udbetal"))?;
    let (records, account) = (portal.setup.records.clone(), view.account);
    let payouts = blocking(move || records.payouts_of(account)).await?;
    let w = frame.w;
    let rows = payouts.iter().rev().map(|payout| PayoutRow {
        date: money::moment(frokost_engine::Timestamp(payout.at_ms), frame.language),
        amount: money::amount(Amount::from_ore(payout.amount_ore), frame.language),
        state: match payout.state {
            PayoutState::Asked | PayoutState::Reserved => w.payout_asked,
            PayoutState::Sent => w.payout_sent,
            PayoutState::Done => w.payout_done,
            PayoutState::Returned => w.payout_returned,
            PayoutState::Refused => w.payout_refused,
        },
    });
    let status = if any_problem(&fields) { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let page = views::PayOut {
        form_token: parent.session.form_token.clone(),
        form,
        balance: money::amount(view.balance, frame.language),
        payouts: rows.collect(),
        fields,
        done,
        frame,
        bar,
    };
    Ok(views::show_with(status, &page))
}

fn pay_out_fields(typed: &PayOut, w: &'static Words, problems: [Option<String>; 6]) -> Vec<Field> {
    let [name, reg, account, message, amount, password] = problems;
    vec![
        Field::new("name", w.bank_name, &typed.name).of_kind("text", "name").problem(name),
        Field::new("reg", w.bank_reg, &typed.reg).numeric().problem(reg),
        Field::new("account", w.bank_account, &typed.account).numeric().problem(account),
        Field::new("message", w.bank_message, &typed.message).optional().problem(message),
        Field::new("amount", w.amount_kroner, &typed.amount).of_kind("text", "off").problem(amount),
        Field::password("password", w.password_now, "current-password").problem(password),
    ]
}

pub(super) async fn pay_out_form(
    State(portal): State<Portal>,
    parent: Parent,
    headers: HeaderMap,
    Path(number): Path<u64>,
    Query(done): Query<Done>,
) -> Result<Response, PortalError> {
    let view = account_of(&portal, &parent, number).await?;
    let fields = pay_out_fields(&PayOut::default(), super::language_of(&headers).words(), Default::default());
    pay_out_page(&portal, &headers, &parent, &view, secret()?, fields, done.gjort == "1").await
}

/// Reserves the money at the engine and keeps where it is to go, sealed. The same form makes one pay-out.
pub(super) async fn pay_out(
    State(portal): State<Portal>,
    parent: Parent,
    visitor: Visitor,
    headers: HeaderMap,
    Path(number): Path<u64>,
    Form(typed): Form<PayOut>,
) -> Result<Response, PortalError> {
    parent.check(&typed.token)?;
    let view = account_of(&portal, &parent, number).await?;
    let language = super::language_of(&headers);
    let w = language.words();
    let key = once::key(&parent, &typed.form);
    let made_before = {
        let (records, key) = (portal.setup.records.clone(), key.clone());
        blocking(move || records.payout_of_form(&key)).await?.is_some()
    };
    let owned = |problem: Option<&'static str>| problem.map(str::to_owned);
    let reg = digits(&typed.reg).filter(|reg| reg.len() == 4);
    let account = digits(&typed.account).filter(|account| (1..=10).contains(&account.len()));
    // Sent again, the money has left the balance already, which is what it would be held against.
    let wanted = amount(&typed.amount, if made_before { Amount::from_ore(i64::MAX) } else { view.balance }, language);
    let message = typed.message.trim();
    let mut problems = [
        owned(proof::needed(&typed.name, 70, w).or(proof::for_the_bank(&typed.name, 70, w))),
        reg.is_none().then(|| w.bank_reg_wrong.to_owned()),
        account.is_none().then(|| w.bank_account_wrong.to_owned()),
        owned(proof::for_the_bank(message, 35, w)),
        wanted.as_ref().err().cloned(),
        None,
    ];
    if portal.limits.log_in(visitor, &parent.login.mail).is_err() {
        problems[5] = Some(w.too_many.to_owned());
    } else if !portal.hashing.check(typed.password.clone(), Some(parent.login.password.clone())).await {
        problems[5] = Some(w.password_not_yours.to_owned());
        security_log::note("pay_out_refused", Some(&parent.login), visitor);
    }
    if typed.form.is_empty() {
        return Err(PortalError::ForgedForm);
    }
    if problems[4].is_none() && is_new_here(&portal, &parent, number) {
        problems[4] = Some(w.too_new_here.to_owned());
    }
    let (Ok(wanted), Some(reg), Some(account), false) = (wanted, reg, account, problems.iter().any(Option::is_some))
    else {
        let fields = pay_out_fields(&typed, w, problems);
        return pay_out_page(&portal, &headers, &parent, &view, typed.form, fields, false).await;
    };
    // One whose answer was lost is seen through first, and shown: nobody is paid twice what was wanted.
    let (records, of) = (portal.setup.records.clone(), view.account);
    let open = blocking(move || records.payouts_of(of)).await?;
    if let Some(open) = open.iter().find(|payout| payout.state == PayoutState::Asked && !made_before) {
        reserve(&portal, open).await?;
        return Ok(see(&format!("/konto/{number}/udbetal")));
    }
    let bank = [typed.name.trim(), &reg, &account, message].join("\n");
    let made = {
        let (records, sealing, login) =
            (portal.setup.records.clone(), portal.setup.key.clone(), parent.login.mail.clone());
        let at_ms = portal.setup.clock.now().0;
        blocking(move || {
            records.payout_once(&key, |payout| {
                let sealed = sealing.seal(&format!("payout/{payout}"), &bank);
                Ok(PayoutOrder {
                    number: payout.0,
                    account: number,
                    login,
                    amount_ore: wanted.ore(),
                    at_ms,
                    bank_sealed: sealed.map_err(|error| RecordsError::Storage(error.to_string()))?,
                    state: PayoutState::Asked,
                    batch: None,
                    reason: None,
                })
            })
        })
        .await?
    };
    security_log::note("pay_out", Some(&parent.login), visitor);
    let state = reserve(&portal, &made).await?;
    if state == PayoutState::Refused {
        let mut problems: [Option<String>; 6] = Default::default();
        problems[4] = Some(w.payout_refused.to_owned());
        let view = account_of(&portal, &parent, number).await?;
        return pay_out_page(&portal, &headers, &parent, &view, secret()?, pay_out_fields(&typed, w, problems), false)
            .await;
    }
    Ok(see(&format!("/konto/{number}/udbetal?gjort=1")))
}

/// Has the engine take a pay-out off the balance, if it was not done before. A pay-out whose answer was lost is asked for again when the
/// form is sent again or the portal starts.
pub(crate) async fn reserve(portal: &Portal, payout: &PayoutOrder) -> Result<PayoutState, PortalError> {
    if payout.state != PayoutState::Asked {
        return Ok(payout.state);
    }
    let number = PayoutNumber(payout.number);
    let command = Command::RequestPayout {
        account: AccountId(payout.account),
        payout: number,
        amount: Amount::from_ore(payout.amount_ore),
    };
    let asked = once::by_mail(portal, &payout.login, command).await?;
    let state = state_after(&portal.engine.command(asked).await?);
    if state == PayoutState::Asked {
        return Ok(state);
    }
    let (records, account) = (portal.setup.records.clone(), AccountId(payout.account));
    blocking(move || {
        // What another request was refused may be covered now.
        let from = [PayoutState::Asked, PayoutState::Refused];
        let mut moved = false;
        records.advance_payout(number, &from, |payout| {
            moved = payout.state != state;
            payout.state = state;
        })?;
        if state == PayoutState::Reserved && moved {
            // Everybody who manages the account hears of money that leaves it.
            for mail in records.logins_on(account)? {
                let language = records.login(&mail)?.map(|login| login.language).unwrap_or_default();
                records.post(&mail, &language, Matter::PayoutAsked { payout: number.0 })?;
            }
        }
        Ok::<_, RecordsError>(())
    })
    .await?;
    Ok(state)
}

/// Where a pay-out stands that the engine has been asked for: still asked for where the answer says nothing about it.
fn state_after(outcome: &Outcome) -> PayoutState {
    match outcome {
        Outcome::Approved(_) | Outcome::Rejected(Rejection::PayoutExists) => PayoutState::Reserved,
        // It may have left the balance long ago, and is asked for again.
        Outcome::Rejected(Rejection::KeyExpired | Rejection::KeyReused | Rejection::NotAllowed) => PayoutState::Asked,
        Outcome::Rejected(_) => PayoutState::Refused,
        Outcome::View(_) | Outcome::Busy | Outcome::OutOfSpace | Outcome::Unavailable => PayoutState::Asked,
    }
}

/// Pay-outs whose answer was lost, again and again until it is there.
pub(crate) async fn take_up(portal: Portal) {
    let mut ticks = tokio::time::interval(TAKE_UP_EVERY);
    loop {
        ticks.tick().await;
        let records = portal.setup.records.clone();
        let Ok(payouts) = blocking(move || records.payouts()).await else { continue };
        for payout in payouts.iter().filter(|payout| payout.state == PayoutState::Asked) {
            if let Err(error) = reserve(&portal, payout).await {
                tracing::warn!(payout = payout.number, %error, "a pay-out cannot be taken up now");
            }
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Transfer {
    token: String,
    form: String,
    to: u64,
    amount: String,
    again: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Done {
    gjort: String,
}

fn transfer_page(
    portal: &Portal,
    headers: &HeaderMap,
    parent: &Parent,
    view: &AccountView,
    form: String,
    typed: &Transfer,
    Said { problem, done, again }: Said,
) -> Result<Response, PortalError> {
    let number = view.account.0;
    let (frame, bar) = parent_frame(portal, headers, parent, number, "konto", format!("/konto/{number}/overfoer"))?;
    let others = parent.login.accounts.iter().filter(|other| **other != number);
    let others = others.map(|&number| Ok(AccountLink { number, name: pupil_name(portal, number)? }));
    let status = if problem.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let page = views::Transfer {
        form_token: parent.session.form_token.clone(),
        form,
        balance: money::amount(view.balance, frame.language),
        others: others.collect::<Result<Vec<_>, PortalError>>()?,
        to: typed.to,
        field: Field::new("amount", frame.w.amount_kroner, &typed.amount).problem(problem),
        done,
        again,
        frame,
        bar,
    };
    Ok(views::show_with(status, &page))
}

/// What a page with the form says of the last try.
#[derive(Default)]
struct Said {
    problem: Option<String>,
    done: bool,
    again: Option<(String, String)>,
}

/// The same amount within this time is asked about before it is transferred again.
const AGAIN_MS: u64 = 10 * 60 * 1000;
const STATEMENT_WITHIN: Duration = Duration::from_secs(1);

/// When the same parent last moved the same amount between the same accounts, if it was a moment ago and by another form: its answer may
/// have been lost, and the page with it.
async fn transferred_lately(
    portal: &Portal,
    parent: &Parent,
    form: &str,
    (from, to, amount): (AccountId, AccountId, Amount),
) -> Result<Option<Timestamp>, PortalError> {
    let now = portal.setup.clock.now();
    let same = |record: &&Record| {
        record.entry == Entry::TransferredOut { to, amount }
            && record.by == PersonId(parent.login.number)
            && now.0.saturating_sub(record.at.0) < AGAIN_MS
    };
    let earliest = Timestamp(now.0.saturating_sub(AGAIN_MS));
    let mut months = vec![now.month(), earliest.month()];
    months.dedup();
    for month in months {
        // Where statements are not written any more, transfers go on.
        let asked = tokio::time::timeout(STATEMENT_WITHIN, portal.engine.statement(from, month)).await;
        let Ok(Ok((_, postings))) = asked else {
            tracing::warn!("whether the same was transferred a moment ago cannot be looked up");
            return Ok(None);
        };
        // A form has its number before anything of it is in a statement: asked for now, the form sent twice at once knows its own.
        let this = once::number_of(portal, parent, form).await?;
        let another = |record: &&Record| Some(record.key.sequence) != this;
        if let Some(before) = postings.iter().rev().filter(same).find(another) {
            return Ok(Some(before.at));
        }
    }
    Ok(None)
}

pub(super) async fn transfer_form(
    State(portal): State<Portal>,
    parent: Parent,
    headers: HeaderMap,
    Path(number): Path<u64>,
    Query(done): Query<Done>,
) -> Result<Response, PortalError> {
    let view = account_of(&portal, &parent, number).await?;
    let said = Said { done: done.gjort == "1", ..Said::default() };
    transfer_page(&portal, &headers, &parent, &view, secret()?, &Transfer::default(), said)
}

/// Everybody else who manages the account hears of money that leaves it, once.
async fn tell_the_others(
    portal: &Portal,
    parent: &Parent,
    form: &str,
    (from, to, amount): (AccountId, AccountId, Amount),
) -> Result<(), PortalError> {
    let (records, login) = (portal.setup.records.clone(), parent.login.mail.clone());
    let told = keys::form(&format!("told/{}", once::key(parent, form)));
    blocking(move || {
        records.change(|change| {
            if change.get::<bool>(&told)?.is_some() {
                return Ok(());
            }
            change.put(&told, &true)?;
            for mail in records.logins_on(from)?.iter().filter(|mail| mail.to_lowercase() != login.to_lowercase()) {
                let language = records.login(mail)?.map(|login| login.language).unwrap_or_default();
                let matter =
                    Matter::Transferred { from: from.0, to: to.0, amount_ore: amount.ore(), login: login.clone() };
                change.post(mail, &language, matter)?;
            }
            Ok(())
        })
    })
    .await
}

/// For a day after somebody was let in to an account of others, its money stays: they are told by mail, and have time to say no.
const STAYS_MS: u64 = tickets::DAY_MS;

pub(super) fn is_new_here(portal: &Portal, parent: &Parent, account: u64) -> bool {
    let now = portal.setup.clock.now().0;
    parent.login.since.get(&account).is_some_and(|since| now.saturating_sub(*since) < STAYS_MS)
}

/// Between two accounts of the same parent, in one step that is seen whole or not at all.
pub(super) async fn transfer(
    State(portal): State<Portal>,
    parent: Parent,
    headers: HeaderMap,
    Path(number): Path<u64>,
    Form(typed): Form<Transfer>,
) -> Result<Response, PortalError> {
    parent.check(&typed.token)?;
    let view = account_of(&portal, &parent, number).await?;
    let to = parent.account(typed.to)?;
    let language = super::language_of(&headers);
    let w = language.words();
    let again = |problem: String| {
        let said = Said { problem: Some(problem), ..Said::default() };
        transfer_page(&portal, &headers, &parent, &view, secret()?, &typed, said)
    };
    // Sent again after it was done, the balance is lower; the engine knows the number and answers as before.
    if is_new_here(&portal, &parent, number) {
        return again(w.too_new_here.to_owned());
    }
    let wanted = match money::read(&typed.amount, language) {
        Some(amount) if amount > Amount::ZERO && !typed.form.is_empty() => amount,
        Some(_) | None => {
            return again(w.amount_kroner_wrong.to_owned());
        }
    };
    if typed.again != "yes"
        && let Some(at) = transferred_lately(&portal, &parent, &typed.form, (view.account, to, wanted)).await?
    {
        let asked = Some((money::clock_time(at, language), money::amount(wanted, language)));
        let said = Said { again: asked, ..Said::default() };
        return transfer_page(&portal, &headers, &parent, &view, typed.form.clone(), &typed, said);
    }
    let command = Command::Transfer { from: view.account, to, amount: wanted };
    let problem = match once::command(&portal, &parent, &typed.form, command).await? {
        Outcome::Approved(_) => {
            tell_the_others(&portal, &parent, &typed.form, (view.account, to, wanted)).await?;
            return Ok(see(&format!("/konto/{number}/overfoer?gjort=1")));
        }
        Outcome::Rejected(Rejection::LowBalance { .. }) => {
            format!("{} {}", w.amount_over_balance, money::amount(view.balance, language))
        }
        Outcome::Rejected(Rejection::BalanceTooHigh { .. } | Rejection::AmountTooLarge { .. }) => {
            format!("{} {}", w.account_refuses, w.refusal_too_high)
        }
        Outcome::Rejected(Rejection::AccountClosed) => format!("{} {}", w.account_refuses, w.refusal_closed),
        Outcome::Rejected(_) | Outcome::View(_) | Outcome::Busy | Outcome::OutOfSpace | Outcome::Unavailable => {
            format!("{} {}", w.account_refuses, w.refusal_other)
        }
    };
    again(problem)
}

#[cfg(test)]
mod tests {
    use frokost_engine::{Lsn, Receipt};

    use super::*;

    #[test]
    fn a_pay_out_is_called_refused_only_where_it_was() {
        let approved = Outcome::Approved(Receipt { lsn: Lsn(1), balance: Amount::ZERO });
        assert_eq!(state_after(&approved), PayoutState::Reserved);
        for nothing_said in [Outcome::Busy, Outcome::OutOfSpace, Outcome::Unavailable] {
            assert_eq!(state_after(&nothing_said), PayoutState::Asked);
        }
        for code in 1.. {
            let Some(rejection) = Rejection::from_code(code, Amount::ZERO) else { break };
            // The money is gone where its number is known. The others are of the request and not of the pay-out.
            let of_the_request = [Rejection::KeyExpired, Rejection::KeyReused, Rejection::NotAllowed];
            let expected = if rejection == Rejection::PayoutExists {
                PayoutState::Reserved
            } else if of_the_request.contains(&rejection) {
                PayoutState::Asked
            } else {
                PayoutState::Refused
            };
            assert_eq!(state_after(&Outcome::Rejected(rejection)), expected, "{rejection:?}");
        }
    }
}
