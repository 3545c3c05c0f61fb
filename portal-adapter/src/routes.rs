//! Every address of the portal, on one page.

mod account;
mod front;
mod log_in;
mod pay_in;
mod statement;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, REFERRER_POLICY, SET_COOKIE,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use frokost_engine::AccountView;
use serde::Deserialize;

use crate::Portal;
use crate::error::PortalError;
use crate::payment;
use crate::session::{Parent, cookie};
use crate::views::{AccountLink, Frame, ParentBar};
use crate::words::Language;

/// The table of addresses.
pub(crate) fn table(portal: Portal) -> Router {
    Router::new()
        .route("/", get(front::show))
        .route("/log-paa", get(log_in::form).post(log_in::enter))
        .route("/log-ud", post(log_in::leave))
        .route("/konto/{account}", get(account::show))
        .route("/konto/{account}/spaer", post(account::block))
        .route("/konto/{account}/aktiver", post(account::activate))
        .route("/konto/{account}/kontoudtog", get(statement::show))
        .route("/konto/{account}/indbetal", get(pay_in::form).post(pay_in::start))
        .route("/ordre/{order}", get(pay_in::order))
        .route("/betingelser", get(front::terms))
        .route("/sprog/{language}", get(language))
        .route("/static/style.css", get(style))
        .fallback(|| async { PortalError::NotFound })
        .layer(middleware::from_fn(same_site_only))
        // The provider's own call comes from elsewhere by design; its signature is what counts.
        .route("/betaling/tilbagekald", post(payment::orders::callback))
        .layer(DefaultBodyLimit::max(16 * 1024))
        .layer(middleware::from_fn_with_state(portal.clone(), headers))
        .with_state(portal)
}

/// A form of another site is refused whatever it says; browsers tell where a request comes from.
async fn same_site_only(request: Request, next: Next) -> Response {
    let site = request.headers().get("sec-fetch-site").and_then(|value| value.to_str().ok());
    if request.method() == Method::POST && !matches!(site, None | Some("same-origin" | "none")) {
        return PortalError::ForgedForm.into_response();
    }
    next.run(request).await
}

/// What every answer says to the browser about itself.
async fn headers(State(portal): State<Portal>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    // A form may lead on to the payment window, and nowhere else.
    let policy = format!(
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self' {}; base-uri 'none'; frame-ancestors 'none'",
        portal.setup.provider.window_origin()
    );
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

async fn style() -> Response {
    let headers = [(CONTENT_TYPE, "text/css; charset=utf-8"), (CACHE_CONTROL, "max-age=300")];
    (headers, include_str!("../static/style.css")).into_response()
}

#[derive(Deserialize)]
struct Back {
    #[serde(default)]
    til: String,
}

/// Chooses the language and goes back to where the link was.
async fn language(Path(language): Path<String>, Query(back): Query<Back>) -> Response {
    let language = Language::from_code(&language);
    // Only a path of ours: nobody is led elsewhere by a link to us.
    let sound = |c: char| c.is_ascii_alphanumeric() || "/-_".contains(c);
    let to = if back.til.starts_with('/') && !back.til.starts_with("//") && back.til.chars().all(sound) {
        back.til
    } else {
        "/".to_owned()
    };
    let cookie = format!("sprog={}; Path=/; Max-Age=31536000; SameSite=Lax", language.code());
    ([(SET_COOKIE, cookie)], Redirect::to(&to)).into_response()
}

/// The language a browser has chosen.
pub(crate) fn language_of(headers: &HeaderMap) -> Language {
    cookie(headers, "sprog").map_or(Language::Danish, Language::from_code)
}

/// The frame of a page without a parent.
fn bare_frame(headers: &HeaderMap, path: &str) -> Frame {
    let language = language_of(headers);
    Frame { w: language.words(), language, parent: None, path: path.to_owned() }
}

/// The frame of a parent's page, and the account it is about.
fn parent_frame(
    portal: &Portal,
    headers: &HeaderMap,
    parent: &Parent,
    number: u64,
    section: &'static str,
    path: String,
) -> Result<(Frame, AccountLink), PortalError> {
    let mut accounts = Vec::new();
    for account in &parent.login.accounts {
        let pupil = portal
            .setup
            .records
            .pupil(frokost_engine::AccountId(*account))
            .map_err(|error| PortalError::Internal(error.to_string()))?;
        let name = pupil.map_or_else(|| account.to_string(), |pupil| pupil.name);
        accounts.push(AccountLink { number: *account, name });
    }
    let current = accounts.iter().find(|link| link.number == number).cloned().ok_or(PortalError::NotFound)?;
    let language = language_of(headers);
    let bar = ParentBar { accounts, current: current.clone(), form_token: parent.session.form_token.clone(), section };
    Ok((Frame { w: language.words(), language, parent: Some(bar), path }, current))
}

/// One of the parent's accounts, as it is now.
async fn account_of(portal: &Portal, parent: &Parent, number: u64) -> Result<AccountView, PortalError> {
    let account = parent.account(number)?;
    portal.engine.account(account).await?.ok_or(PortalError::NotFound)
}

/// The least a form of a parent carries.
#[derive(Deserialize)]
struct TokenForm {
    #[serde(default)]
    token: String,
}

/// Where a browser goes after a form was carried out: a reload does not send it again.
fn see(path: &str) -> Response {
    (StatusCode::SEE_OTHER, [(axum::http::header::LOCATION, path.to_owned())]).into_response()
}
