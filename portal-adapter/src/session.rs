//! Browser sessions: a random secret in a cookie, its hash in the records. New at every log in, ended after half an hour
//! without use and after twelve hours in any case.

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use axum::http::header::{COOKIE, REFERER};
use axum::http::request::Parts;
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderMap, Method};
use axum::response::{IntoResponse, Redirect, Response};
use frokost_engine::AccountId;
use frokost_persistence::records::{Login, WebSession};
use sha2::{Digest, Sha256};

use crate::Portal;
use crate::error::PortalError;
use crate::routes::own_path;

const IDLE_MS: u64 = 30 * 60 * 1000;
const ABSOLUTE_MS: u64 = 12 * 60 * 60 * 1000;
/// The use of a session is noted at most this often: a page view is not worth a write to disk.
const NOTE_AFTER_MS: u64 = 60 * 1000;

/// A parent who is logged in.
#[derive(Debug, Clone)]
pub(crate) struct Parent {
    pub(crate) login: Login,
    pub(crate) session: WebSession,
    /// The session's hash, its name in the records.
    pub(crate) hash: String,
}

impl Parent {
    /// The account, if it is one of this parent's.
    pub(crate) fn account(&self, number: u64) -> Result<AccountId, PortalError> {
        if self.login.accounts.contains(&number) { Ok(AccountId(number)) } else { Err(PortalError::NotFound) }
    }

    /// Does a form come from one of our pages in this session?
    pub(crate) fn check(&self, form_token: &str) -> Result<(), PortalError> {
        // Comparing hashes takes the same time wherever the difference is.
        if digest(form_token) == digest(&self.session.form_token) { Ok(()) } else { Err(PortalError::ForgedForm) }
    }
}

/// Ends what nobody can use any more, every minute.
pub(crate) async fn sweep(portal: Portal) {
    let mut ticks = tokio::time::interval(std::time::Duration::from_secs(60));
    loop {
        ticks.tick().await;
        let (records, now) = (portal.setup.records.clone(), portal.setup.clock.now().0);
        let (idle, opened) = (now.saturating_sub(IDLE_MS), now.saturating_sub(ABSOLUTE_MS));
        portal.limits.sweep();
        let ended = move || {
            records.end_old_sessions(idle, opened)?;
            records.end_old_sign_ups(now)?;
            records.end_old_tickets(now)
        };
        if let Err(error) = blocking(ended).await {
            tracing::error!(%error, "old sessions cannot be ended");
        }
    }
}

/// A random text of 64 characters.
pub(crate) fn secret() -> Result<String, PortalError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| PortalError::Internal(error.to_string()))?;
    Ok(hex(&bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256, in hexadecimal: what is kept of a secret.
pub(crate) fn digest(secret: &str) -> String {
    hex(&Sha256::digest(secret.as_bytes()))
}

/// The cookie's name. With HTTPS it is one that no other host and no plain page can set.
fn cookie_name(portal: &Portal) -> &'static str {
    if portal.setup.is_https() { "__Host-frokost" } else { "frokost" }
}

/// Opens a session and returns the cookie for it, and what its forms carry.
pub(crate) async fn open(portal: &Portal, login: &Login) -> Result<(String, String), PortalError> {
    let secret_value = secret()?;
    let now = portal.setup.clock.now().0;
    let form_token = secret()?;
    let session =
        WebSession { login: login.mail.clone(), form_token: form_token.clone(), opened_ms: now, used_ms: now };
    let (records, name) = (portal.setup.records.clone(), digest(&secret_value));
    blocking(move || records.put_session(&name, &session)).await?;
    let secure = if cookie_name(portal).starts_with("__Host-") { "; Secure" } else { "" };
    let cookie = format!("{}={secret_value}; Path=/; HttpOnly; SameSite=Lax{secure}", cookie_name(portal));
    Ok((cookie, form_token))
}

/// Ends a session and returns the cookie that makes the browser forget it.
pub(crate) async fn close(portal: &Portal, parent: &Parent) -> Result<String, PortalError> {
    let (records, name) = (portal.setup.records.clone(), parent.hash.clone());
    blocking(move || records.end_session(&name)).await?;
    let secure = if cookie_name(portal).starts_with("__Host-") { "; Secure" } else { "" };
    Ok(format!("{}=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0{secure}", cookie_name(portal)))
}

/// Runs what touches the disk away from the threads that serve requests.
pub(crate) async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, PortalError>
where
    T: Send + 'static,
    E: std::fmt::Display + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(PortalError::Internal(error.to_string())),
        Err(error) => Err(PortalError::Internal(error.to_string())),
    }
}

/// The value of a cookie.
pub(crate) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|header| header.to_str().ok())
        .flat_map(|header| header.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(key, value)| (key == name).then_some(value))
}

pub(crate) async fn find(portal: &Portal, headers: &HeaderMap) -> Result<Option<Parent>, PortalError> {
    let Some(secret) = cookie(headers, cookie_name(portal)) else { return Ok(None) };
    let name = digest(secret);
    let records = &portal.setup.records;
    let internal = |error: frokost_persistence::records::RecordsError| PortalError::Internal(error.to_string());
    let Some(mut session) = records.session(&name).map_err(internal)? else { return Ok(None) };
    let now = portal.setup.clock.now().0;
    if now.saturating_sub(session.used_ms) > IDLE_MS || now.saturating_sub(session.opened_ms) > ABSOLUTE_MS {
        return Ok(None);
    }
    let Some(login) = records.login(&session.login).map_err(internal)? else { return Ok(None) };
    // A page that follows along by itself is not somebody who is there.
    let by_itself = headers.get("sec-fetch-dest").is_some_and(|kind| kind == "empty");
    if !by_itself && now.saturating_sub(session.used_ms) > NOTE_AFTER_MS {
        session.used_ms = now;
        let (records, name) = (records.clone(), name.clone());
        blocking(move || records.note_session_used(&name, now)).await?;
    }
    Ok(Some(Parent { login, session, hash: name }))
}

impl FromRequestParts<Portal> for Parent {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, portal: &Portal) -> Result<Parent, Response> {
        match find(portal, &parts.headers).await {
            Ok(Some(parent)) if parts.method == Method::POST && portal.limits.form(&parent.login.mail).is_err() => {
                Err(PortalError::TooMany.into_response())
            }
            Ok(Some(parent)) => Ok(parent),
            // A form that was sent is not looked at; a page is shown after the log in.
            Ok(None) if parts.method == Method::GET => {
                let page = parts.uri.path_and_query().map(PathAndQuery::as_str).filter(|page| own_path(page));
                let to = page.map_or_else(|| "/log-paa".to_owned(), |page| format!("/log-paa?til={page}"));
                Err(Redirect::to(&to).into_response())
            }
            // Unless it is kept (see [`crate::resume`]), whoever sent it is told that it did not arrive, and comes back to where they were.
            Ok(None) => {
                let from = parts.headers.get(REFERER).and_then(|from| from.to_str().ok());
                let from =
                    from.and_then(|from| from.strip_prefix(&portal.setup.public_url)).filter(|page| own_path(page));
                let back = from.map(|page| format!("&til={}", shown_at(page))).unwrap_or_default();
                Err(Redirect::to(&format!("/log-paa?afbrudt=1{back}")).into_response())
            }
            Err(error) => Err(error.into_response()),
        }
    }
}

/// The page that a form stands on whose own address may be all that the browser names.
fn shown_at(page: &str) -> String {
    let parts: Vec<&str> = page.split('/').collect();
    match parts[..] {
        ["", "konto", account, "bruger" | "billede", ..] => format!("/konto/{account}/bruger"),
        _ => page.to_owned(),
    }
}

impl OptionalFromRequestParts<Portal> for Parent {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, portal: &Portal) -> Result<Option<Parent>, Response> {
        find(portal, &parts.headers).await.map_err(IntoResponse::into_response)
    }
}
