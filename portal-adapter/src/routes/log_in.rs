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
use crate::routes::{TokenForm, bare_frame, see};
use crate::session::{self, Parent, blocking};
use crate::views;

#[derive(Deserialize)]
pub(super) struct Entry {
    #[serde(default)]
    mail: String,
    #[serde(default)]
    password: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Done {
    gemt: String,
}

pub(super) async fn form(headers: HeaderMap, Query(done): Query<Done>) -> Response {
    let frame = bare_frame(&headers, "/log-paa");
    views::show(&views::LogIn { frame, mail: String::new(), wrong: None, saved: done.gemt == "1" })
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
    if portal.limits.log_in(visitor, &mail).is_err() {
        let wrong = Some(frame.w.too_many);
        return Ok(views::show_with(StatusCode::TOO_MANY_REQUESTS, &views::LogIn { frame, mail, wrong, saved: false }));
    }
    let (records, key) = (portal.setup.records.clone(), mail.clone());
    let login = blocking(move || records.login(&key)).await?;
    let stored = login.as_ref().map(|login| login.password.clone());
    let right = portal.hashing.check(entry.password, stored).await;
    match login {
        Some(login) if right => {
            let cookie = session::open(&portal, &login).await?;
            Ok(([(SET_COOKIE, cookie)], see("/")).into_response())
        }
        Some(_) | None => {
            let wrong = Some(frame.w.wrong_login);
            let page = views::LogIn { frame, mail, wrong, saved: false };
            Ok(views::show_with(StatusCode::UNPROCESSABLE_ENTITY, &page))
        }
    }
}

pub(super) async fn leave(
    State(portal): State<Portal>,
    parent: Parent,
    Form(form): Form<TokenForm>,
) -> Result<Response, PortalError> {
    parent.check(&form.token)?;
    let cookie = session::close(&portal, &parent).await?;
    Ok(([(SET_COOKIE, cookie)], see("/")).into_response())
}
