//! Log in and log out.

use axum::Form;
use axum::extract::{Query, State};
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use crate::Portal;
use crate::error::PortalError;
use crate::limits::Visitor;
use crate::resume::{self, Kept};
use crate::routes::{TokenForm, bare_frame, see};
use crate::security_log;
use crate::session::{self, Parent, blocking};
use crate::views;

#[derive(Deserialize)]
pub(super) struct Entry {
    #[serde(default)]
    mail: String,
    #[serde(default)]
    password: String,
    /// The page that was asked for.
    #[serde(default)]
    til: String,
    /// The form that was not sent.
    #[serde(default)]
    kept_path: String,
    #[serde(default)]
    kept: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Done {
    gemt: String,
    til: String,
    afbrudt: String,
}

pub(super) async fn form(headers: HeaderMap, Query(done): Query<Done>) -> Response {
    let frame = bare_frame(&headers, "/log-paa");
    views::show(&views::LogIn {
        saved: done.gemt == "1",
        interrupted: done.afbrudt == "1",
        wanted: done.til,
        ..views::LogIn::new(frame)
    })
}

/// The same answer, after the same time, for an unknown mail address and a wrong password.
pub(super) async fn enter(
    State(portal): State<Portal>,
    visitor: Visitor,
    headers: HeaderMap,
    Form(entry): Form<Entry>,
) -> Result<Response, PortalError> {
    let mail = entry.mail.trim().to_owned();
    let frame = bare_frame(&headers, "/log-paa");
    let kept = Kept::read(&entry.kept_path, &entry.kept, frame.w);
    let again = |frame: views::Frame, mail, wrong, kept: Option<&Kept>| views::LogIn {
        mail,
        wrong: Some(wrong),
        wanted: entry.til.clone(),
        kept: kept.map(Kept::write),
        ..views::LogIn::new(frame)
    };
    if portal.limits.log_in(visitor, &mail).is_err() {
        let wrong = frame.w.too_many;
        security_log::note("log_in_too_often", None, visitor);
        return Ok(views::show_with(StatusCode::TOO_MANY_REQUESTS, &again(frame, mail, wrong, kept.as_ref())));
    }
    let (records, key) = (portal.setup.records.clone(), mail.clone());
    let login = blocking(move || records.login(&key)).await?;
    let stored = login.as_ref().map(|login| login.password.clone());
    let right = portal.hashing.check(entry.password, stored).await;
    security_log::note(if right { "log_in" } else { "log_in_refused" }, login.as_ref(), visitor);
    match login {
        Some(login) if right => {
            // What this browser had open before is over.
            if let Some(before) = session::find(&portal, &headers).await? {
                session::close(&portal, &before).await?;
            }
            let (cookie, form_token) = session::open(&portal, &login).await?;
            let answer = match kept {
                Some(kept) if kept.is_about(&login.accounts) => views::show(&kept.page(frame, form_token)),
                Some(_) | None => see(&resume::wanted(&entry.til, &login.accounts).unwrap_or_else(|| "/".to_owned())),
            };
            Ok(([(SET_COOKIE, cookie)], answer).into_response())
        }
        Some(_) | None => {
            let wrong = frame.w.wrong_login;
            Ok(views::show_with(StatusCode::UNPROCESSABLE_ENTITY, &again(frame, mail, wrong, kept.as_ref())))
        }
    }
}

pub(super) async fn leave(
    State(portal): State<Portal>,
    parent: Option<Parent>,
    visitor: Visitor,
    Form(form): Form<TokenForm>,
) -> Result<Response, PortalError> {
    // Whose session has ended is logged out.
    let Some(parent) = parent else { return Ok(see("/")) };
    parent.check(&form.token)?;
    security_log::note("log_out", Some(&parent.login), visitor);
    let cookie = session::close(&portal, &parent).await?;
    Ok(([(SET_COOKIE, cookie)], see("/")).into_response())
}
