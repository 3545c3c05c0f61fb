//! Support: a form for everybody, also for who cannot log in. What the portal knows of the account goes along, so that nobody has to
//! ask for it (quick guide, item 35).

use axum::Form;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use frokost_persistence::records::Matter;
use serde::Deserialize;

use crate::Portal;
use crate::error::PortalError;
use crate::limits::Visitor;
use crate::money;
use crate::proof;
use crate::routes::{About, frame_of_all};
use crate::session::{Parent, blocking};
use crate::views::{self, Field, Frame, any_problem};
use crate::words::Words;

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Entry {
    token: String,
    mail: String,
    subject: String,
    text: String,
}

/// A letter is at most a record long, whatever the script it is written in.
fn text_problem(text: &str, w: &Words) -> Option<&'static str> {
    match text.trim() {
        "" => Some(w.field_missing),
        // As it is kept: quotes, lines and signs that are not for reading take up to six times their room.
        long if serde_json::to_string(long).map_or(usize::MAX, |kept| kept.len()) > 2_400 => Some(w.field_too_long),
        _ => None,
    }
}

fn page(frame: Frame, parent: Option<&Parent>, entry: &Entry, judged: bool, sent: bool, slow: bool) -> Response {
    let w = frame.w;
    let check = |problem: Option<&'static str>| problem.filter(|_| judged);
    let mail = Field::new("mail", w.mail, &entry.mail).of_kind("email", "email");
    let fields = vec![
        mail.problem(check(if slow { Some(w.too_many) } else { proof::mail(&entry.mail, w) })),
        Field::new("subject", w.support_subject, &entry.subject).problem(check(proof::needed(&entry.subject, 80, w))),
    ];
    let text_problem = check(text_problem(&entry.text, w));
    let wrong = any_problem(&fields) || text_problem.is_some();
    let status = if wrong { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let form_token = parent.map(|parent| parent.session.form_token.clone()).unwrap_or_default();
    let text = entry.text.clone();
    views::show_with(status, &views::Support { frame, form_token, fields, text, text_problem, sent })
}

pub(super) async fn form(
    State(portal): State<Portal>,
    parent: Option<Parent>,
    headers: HeaderMap,
    Query(about): Query<About>,
) -> Result<Response, PortalError> {
    let mail = parent.as_ref().map(|parent| parent.login.mail.clone()).unwrap_or_default();
    let frame = frame_of_all(&portal, &headers, parent.as_ref(), &about, "support")?;
    Ok(page(frame, parent.as_ref(), &Entry { mail, ..Entry::default() }, false, false, false))
}

pub(super) async fn send(
    State(portal): State<Portal>,
    parent: Option<Parent>,
    visitor: Visitor,
    headers: HeaderMap,
    Query(about): Query<About>,
    Form(entry): Form<Entry>,
) -> Result<Response, PortalError> {
    if let Some(parent) = &parent {
        parent.check(&entry.token)?;
    }
    let frame = frame_of_all(&portal, &headers, parent.as_ref(), &about, "support")?;
    let w = frame.w;
    let wrong = proof::mail(&entry.mail, w).is_some()
        || proof::needed(&entry.subject, 80, w).is_some()
        || text_problem(&entry.text, w).is_some();
    if wrong {
        return Ok(page(frame, parent.as_ref(), &entry, true, false, false));
    }
    if portal.limits.mail(visitor, "support").is_err() {
        return Ok(page(frame, parent.as_ref(), &entry, true, false, true));
    }
    let mut text = format!("{}\n\n--\nFra: {}", entry.text.trim(), entry.mail.trim());
    if let Some(parent) = &parent {
        text.push_str(&format!("\nLogin: {}", parent.login.mail));
        for account in &parent.login.accounts {
            let view = portal.engine.account(frokost_engine::AccountId(*account)).await?;
            let about = view.map(|view| {
                let card = view.card.map(|card| card.to_string()).unwrap_or_default();
                let ending: String = card.chars().rev().take(4).collect::<Vec<_>>().into_iter().rev().collect();
                let state = if view.blocked { "spærret" } else { "aktiv" };
                let balance = money::amount(view.balance, crate::words::Language::Danish);
                format!("\nKonto {account}: saldo {balance}, kort …{ending} ({state})")
            });
            text.push_str(&about.unwrap_or_default());
        }
    }
    let matter = Matter::Support { from: entry.mail.trim().to_owned(), subject: entry.subject.trim().to_owned(), text };
    let (records, to) = (portal.setup.records.clone(), portal.setup.mail.support.clone());
    blocking(move || records.post(&to, "da", matter)).await?;
    Ok(page(frame, parent.as_ref(), &Entry::default(), false, true, false))
}
