//! Log in and log out.

use axum::Form;
use axum::extract::State;
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use crate::Portal;
use crate::error::PortalError;
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

pub(super) async fn form(headers: HeaderMap) -> Response {
    views::show(&views::LogIn { frame: bare_frame(&headers, "/log-paa"), mail: String::new(), wrong: false })
}

/// The same answer, after the same time, for an unknown mail address and a wrong password.
pub(super) async fn enter(
    State(portal): State<Portal>,
    headers: HeaderMap,
    Form(entry): Form<Entry>,
) -> Result<Response, PortalError> {
    let mail = entry.mail.trim().to_owned();
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
            let page = views::LogIn { frame: bare_frame(&headers, "/log-paa"), mail, wrong: true };
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
