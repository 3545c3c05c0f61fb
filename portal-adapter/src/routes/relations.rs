//! Relations: several accounts under one login (quick guide, section C). CPR and card number are the proof, the parent's own word makes it
//! count, and those who manage the account already are told and can take it back.

use axum::Form;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use frokost_engine::AccountId;
use frokost_persistence::records::{Matter, Proof, RecordsError, TicketFor};
use serde::Deserialize;

use crate::Portal;
use crate::error::PortalError;
use crate::limits::Visitor;
use crate::proof::{self, Typed};
use crate::routes::{TokenForm, auto_top_up, bare_frame, parent_frame, pupil_name, see};
use crate::security_log;
use crate::session::{Parent, blocking, digest};
use crate::tickets::{self, DAY_MS};
use crate::views::{self, AccountLink, Field, any_problem};

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Entry {
    token: String,
    cpr: String,
    card: String,
}

fn page(
    portal: &Portal,
    headers: &HeaderMap,
    parent: &Parent,
    number: u64,
    fields: Vec<Field>,
    problem: Option<&'static str>,
) -> Result<Response, PortalError> {
    let (frame, bar) =
        parent_frame(portal, headers, parent, number, "konto", format!("/konto/{number}/tilknytninger"))?;
    let links = |accounts: &[u64]| -> Result<Vec<AccountLink>, PortalError> {
        accounts.iter().map(|&number| Ok(AccountLink { number, name: pupil_name(portal, number)? })).collect()
    };
    let mut present = links(&parent.login.accounts)?;
    let own = present.remove(0);
    let pending = links(&parent.login.pending)?;
    let status =
        if problem.is_some() || any_problem(&fields) { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let form_token = parent.session.form_token.clone();
    Ok(views::show_with(
        status,
        &views::Relations {
            how: portal.setup.identify_by.words(frame.w).relation_how,
            frame,
            bar,
            form_token,
            own,
            present,
            pending,
            fields,
            problem,
        },
    ))
}

fn fields(portal: &Portal, entry: &Entry, w: &'static crate::words::Words, judged: bool) -> Vec<Field> {
    let check = |problem: Option<&'static str>| problem.filter(|_| judged);
    let card = proof::card(&entry.card, portal.setup.card_length);
    let identifier = portal.setup.identify_by.words(w);
    vec![
        Field::new("cpr", identifier.label, &entry.cpr)
            .numeric()
            .hint(identifier.hint)
            .problem(check(proof::identifier(portal, &entry.cpr).err().map(|why| why.words(w)))),
        Field::new("card", w.card_number, &entry.card)
            .hint(w.card_number_where)
            .problem(check(card.is_none().then_some(w.card_wrong))),
    ]
}

pub(super) async fn show(
    State(portal): State<Portal>,
    parent: Parent,
    headers: HeaderMap,
    Path(number): Path<u64>,
) -> Result<Response, PortalError> {
    parent.account(number)?;
    let fields = fields(&portal, &Entry::default(), super::language_of(&headers).words(), false);
    page(&portal, &headers, &parent, number, fields, None)
}

/// Proved, an account waits for the parent's word.
pub(super) async fn add(
    State(portal): State<Portal>,
    parent: Parent,
    visitor: Visitor,
    headers: HeaderMap,
    Path(number): Path<u64>,
    Form(entry): Form<Entry>,
) -> Result<Response, PortalError> {
    parent.check(&entry.token)?;
    parent.account(number)?;
    let w = super::language_of(&headers).words();
    let fields = fields(&portal, &entry, w, true);
    let (Ok(identifier), Some(card), false) = (
        proof::identifier(&portal, &entry.cpr),
        proof::card(&entry.card, portal.setup.card_length),
        any_problem(&fields),
    ) else {
        return page(&portal, &headers, &parent, number, fields, None);
    };
    if portal.limits.proof_with(visitor, card.as_str(), &identifier).is_err() {
        return page(&portal, &headers, &parent, number, fields, Some(w.too_many));
    }
    let Typed::Proved(account) = proof::of_account(&portal, &identifier, card).await? else {
        security_log::note("proof_refused", Some(&parent.login), visitor);
        return page(
            &portal,
            &headers,
            &parent,
            number,
            fields,
            Some(portal.setup.identify_by.words(w).relation_proof_wrong),
        );
    };
    if parent.login.accounts.contains(&account.0) {
        return page(&portal, &headers, &parent, number, fields, Some(w.relation_known));
    }
    let (records, mail) = (portal.setup.records.clone(), parent.login.mail.clone());
    let proof = Proof { card: digest(card.as_str()), at_ms: portal.setup.clock.now().0 };
    blocking(move || {
        records.change_login(&mail, |login| {
            if !login.pending.contains(&account.0) {
                login.pending.push(account.0);
            }
            login.proofs.insert(account.0, proof);
            true
        })
    })
    .await?;
    Ok(see(&format!("/konto/{number}/tilknytninger")))
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Which {
    token: String,
    account: u64,
}

/// The parent's word. Whoever manages the account already is told.
pub(super) async fn approve(
    State(portal): State<Portal>,
    parent: Parent,
    visitor: Visitor,
    headers: HeaderMap,
    Path(number): Path<u64>,
    Form(which): Form<Which>,
) -> Result<Response, PortalError> {
    parent.check(&which.token)?;
    parent.account(number)?;
    let w = super::language_of(&headers).words();
    let now = portal.setup.clock.now().0;
    let (records, mail, account) = (portal.setup.records.clone(), parent.login.mail.clone(), which.account);
    if parent.login.pending.contains(&account) && !still_proved(&portal, &parent, account, now).await? {
        let fields = fields(&portal, &Entry::default(), w, false);
        return page(&portal, &headers, &parent, number, fields, Some(w.relation_proof_over));
    }
    if parent.login.pending.contains(&account) {
        security_log::note("relation_added", Some(&parent.login), visitor);
    }
    blocking(move || {
        records.change(|change| {
            let Some(mut login) = records.login(&mail)? else { return Ok(()) };
            if !login.pending.contains(&account) {
                return Ok(());
            }
            login.pending.retain(|pending| *pending != account);
            login.proofs.remove(&account);
            if !login.accounts.contains(&account) {
                login.accounts.push(account);
            }
            let others = records.logins_on(AccountId(account))?;
            if others.iter().any(|other| other.to_lowercase() != login.mail.to_lowercase()) {
                login.since.insert(account, now);
            }
            change.put_login(&login)?;
            for other in others {
                if let Some(other) = records.login(&other)?.filter(|other| other.mail != login.mail) {
                    let matter = Matter::RelationAdded { account, login: login.mail.clone() };
                    change.post(&other.mail, &other.language, matter)?;
                }
            }
            Ok(())
        })
    })
    .await?;
    Ok(see(&format!("/konto/{number}/tilknytninger")))
}

/// A proof holds for a day, and for as long as the card it was about is the account's and is not blocked.
async fn still_proved(portal: &Portal, parent: &Parent, account: u64, now: u64) -> Result<bool, PortalError> {
    let Some(proof) = parent.login.proofs.get(&account) else { return Ok(false) };
    let view = portal.engine.account(AccountId(account)).await?;
    let card = view.filter(|view| !view.blocked).and_then(|view| view.card);
    Ok(now.saturating_sub(proof.at_ms) < DAY_MS && card.is_some_and(|card| digest(card.as_str()) == proof.card))
}

/// Takes a relation away, or one that waits. The account the parent signed up with stays; money is never touched.
pub(super) async fn remove(
    State(portal): State<Portal>,
    parent: Parent,
    Path(number): Path<u64>,
    Form(which): Form<Which>,
) -> Result<Response, PortalError> {
    parent.check(&which.token)?;
    parent.account(number)?;
    take_away(&portal, parent.login.mail.clone(), which.account).await?;
    let back = if which.account == number { parent.login.accounts.first().copied().unwrap_or(number) } else { number };
    Ok(see(&format!("/konto/{back}/tilknytninger")))
}

/// Whoever no longer manages an account is not charged for it any more either.
async fn take_away(portal: &Portal, mail: String, account: u64) -> Result<(), PortalError> {
    let (records, charged, whose) = (portal.setup.records.clone(), AccountId(account), mail.clone());
    let (agreement, login) =
        blocking(move || Ok::<_, RecordsError>((records.agreement(charged)?, records.login(&whose)?))).await?;
    let theirs = agreement.is_some_and(|agreement| agreement.login.to_lowercase() == mail.to_lowercase());
    let stays = login.is_some_and(|login| login.accounts.first() == Some(&account));
    // The agreement first: where it cannot be ended now, whoever is charged still has the account and can try again.
    if theirs && !stays {
        auto_top_up::end(portal, &mail, charged).await?;
    }
    let records = portal.setup.records.clone();
    blocking(move || {
        records.change_login(&mail, |login| {
            let own = login.accounts.first().copied();
            login.accounts.retain(|known| *known != account || own == Some(account));
            login.pending.retain(|known| *known != account);
            login.proofs.remove(&account);
            login.since.remove(&account);
            true
        })
    })
    .await?;
    Ok(())
}

fn revocation(found: Option<TicketFor>) -> Option<(String, u64)> {
    match found? {
        TicketFor::Revoke { login, account } => Some((login, account)),
        TicketFor::Password { .. } | TicketFor::Mail { .. } => None,
    }
}

/// The page behind the link in the mail. It only asks: mail programs open links, too.
pub(super) async fn revoke_form(
    State(portal): State<Portal>,
    headers: HeaderMap,
    Path(ticket): Path<String>,
) -> Result<Response, PortalError> {
    let frame = bare_frame(&headers, &format!("/tilbagekald/{ticket}"));
    let w = frame.w;
    let found = revocation(tickets::look(&portal, &ticket).await?);
    let action = found
        .map(|(login, account)| pupil_name(&portal, account).map(|name| format!("{login} – {name}")))
        .transpose()?;
    Ok(views::confirm(frame, w.relations, w.revoke_about, action, w.relation_delete))
}

pub(super) async fn revoke(
    State(portal): State<Portal>,
    headers: HeaderMap,
    Path(ticket): Path<String>,
    Form(_): Form<TokenForm>,
) -> Result<Response, PortalError> {
    let frame = bare_frame(&headers, "/");
    let w = frame.w;
    match revocation(tickets::look(&portal, &ticket).await?) {
        Some((login, account)) => {
            take_away(&portal, login, account).await?;
            // Used up when it is done: what could not be done can be asked for again.
            tickets::take(&portal, &ticket).await?;
            Ok(views::said(frame, w.relations, w.relation_revoked))
        }
        None => Ok(views::confirm(frame, w.relations, w.revoke_about, None, w.relation_delete)),
    }
}
