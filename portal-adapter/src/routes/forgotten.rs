//! A forgotten password: the mail with the link, and the page behind it (quick guide, section K).

use axum::Form;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use frokost_persistence::records::{Matter, TicketFor};
use serde::Deserialize;

use crate::Portal;
use crate::error::PortalError;
use crate::limits::Visitor;
use crate::password;
use crate::proof;
use crate::routes::{bare_frame, language_of, see};
use crate::session::blocking;
use crate::tickets;
use crate::views::{self, Field};

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Entry {
    mail: String,
}

fn page(headers: &HeaderMap, mail: &str, problem: Option<&'static str>, sent: bool) -> Response {
    let frame = bare_frame(headers, "/glemt");
    let field = Field::new("mail", frame.w.mail, mail).of_kind("email", "username").problem(problem);
    let status = if problem.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    views::show_with(status, &views::Forgotten { frame, fields: vec![field], sent })
}

pub(super) async fn form(headers: HeaderMap) -> Response {
    page(&headers, "", None, false)
}

/// The same answer whether the address is known or not, and after the same time: who looks is the worker that mails.
pub(super) async fn ask(
    State(portal): State<Portal>,
    visitor: Visitor,
    headers: HeaderMap,
    Form(entry): Form<Entry>,
) -> Result<Response, PortalError> {
    let language = language_of(&headers);
    if let Some(problem) = proof::mail(&entry.mail, language.words()) {
        return Ok(page(&headers, &entry.mail, Some(problem), false));
    }
    if portal.limits.mail(visitor, &entry.mail).is_err() {
        return Ok(page(&headers, &entry.mail, Some(language.words().too_many), false));
    }
    let (records, mail) = (portal.setup.records.clone(), entry.mail.trim().to_owned());
    blocking(move || records.post(&mail, language.code(), Matter::Forgotten)).await?;
    Ok(page(&headers, "", None, true))
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct NewPassword {
    password: String,
    again: String,
}

fn reset_page(headers: &HeaderMap, ticket: &str, good: bool, problems: [Option<&'static str>; 2]) -> Response {
    let frame = bare_frame(headers, &format!("/nulstil/{ticket}"));
    let w = frame.w;
    let fields = vec![
        Field::password("password", w.new_password, "new-password").hint(w.password_rules).problem(problems[0]),
        Field::password("again", w.new_password_again, "new-password").problem(problems[1]),
    ];
    let status = match (good, problems) {
        (false, _) => StatusCode::GONE,
        (true, [None, None]) => StatusCode::OK,
        (true, _) => StatusCode::UNPROCESSABLE_ENTITY,
    };
    views::show_with(status, &views::Reset { frame, ticket: ticket.to_owned(), good, fields })
}

/// The login a ticket is good for.
fn login_of(found: Option<TicketFor>) -> Option<String> {
    match found? {
        TicketFor::Password { login } => Some(login),
        TicketFor::Revoke { .. } | TicketFor::Mail { .. } => None,
    }
}

pub(super) async fn reset_form(
    State(portal): State<Portal>,
    headers: HeaderMap,
    Path(ticket): Path<String>,
) -> Result<Response, PortalError> {
    let good = login_of(tickets::look(&portal, &ticket).await?).is_some();
    Ok(reset_page(&headers, &ticket, good, [None; 2]))
}

pub(super) async fn reset(
    State(portal): State<Portal>,
    headers: HeaderMap,
    Path(ticket): Path<String>,
    Form(typed): Form<NewPassword>,
) -> Result<Response, PortalError> {
    let Some(mail) = login_of(tickets::look(&portal, &ticket).await?) else {
        return Ok(reset_page(&headers, &ticket, false, [None; 2]));
    };
    let w = language_of(&headers).words();
    let problems = password::problems(&typed.password, &typed.again, &[&mail], w);
    if problems.iter().any(Option::is_some) {
        return Ok(reset_page(&headers, &ticket, true, problems));
    }
    // Now it is used up: of two tabs, one changes the password.
    let Some(mail) = login_of(tickets::take(&portal, &ticket).await?) else {
        return Ok(reset_page(&headers, &ticket, false, [None; 2]));
    };
    set(&portal, &mail, typed.password, None).await?;
    Ok(see("/log-paa?gemt=1"))
}

/// Sets a password, logs out everywhere but in the session `keep`, and says so in a mail.
pub(super) async fn set(
    portal: &Portal,
    mail: &str,
    password: String,
    keep: Option<String>,
) -> Result<(), PortalError> {
    let hash = portal.hashing.make(password).await?;
    let (records, mail) = (portal.setup.records.clone(), mail.to_owned());
    blocking(move || {
        let changed = records.change_login(&mail, |login| {
            login.password = hash;
            true
        })?;
        records.end_sessions_of(&mail, keep.as_deref())?;
        // A link that somebody else has asked for meanwhile must not undo it.
        records.end_tickets_of(&mail)?;
        match changed {
            Some(login) => records.post(&login.mail, &login.language, Matter::PasswordChanged),
            None => Ok(()),
        }
    })
    .await
}
