//! Every address of the portal, on one page.

mod account;
mod auto_top_up;
mod details;
mod forgotten;
mod front;
mod log_in;
pub(crate) mod money_out;
mod pay_in;
mod relations;
mod sign_up;
mod statement;
mod support;

use std::hash::{DefaultHasher, Hash, Hasher};

use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, REFERRER_POLICY, SET_COOKIE,
    STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use frokost_engine::{AccountId, AccountView, Amount};
use frokost_persistence::records::Pupil;
use serde::Deserialize;

use crate::Portal;
use crate::error::PortalError;
use crate::payment;
use crate::picture;
use crate::proof;
use crate::resume;
use crate::session::{Parent, cookie};
use crate::views;
use crate::views::{AccountLink, Frame, ParentBar};
use crate::words::Language;

/// The cookie with the language that was chosen.
const LANGUAGE: &str = "sprog";
const LANGUAGE_HTTPS: &str = "__Host-sprog";
/// Where the payment provider calls.
const CALLBACK: &str = "/betaling/tilbagekald";

/// The table of addresses.
pub(crate) fn table(portal: Portal) -> Router {
    Router::new()
        .route("/", get(front::show))
        .route("/betingelser", get(front::terms))
        .route("/sprog/{language}", get(language))
        .route("/support", get(support::form).post(support::send))
        .route("/opret", get(sign_up::form).post(sign_up::start))
        .route("/aktiver/{secret}", get(sign_up::activation).post(sign_up::activate))
        .route("/aktiver/{secret}/igen", post(sign_up::again))
        .route("/log-paa", get(log_in::form).post(log_in::enter))
        .route("/log-ud", post(log_in::leave))
        .route("/glemt", get(forgotten::form).post(forgotten::ask))
        .route("/nulstil/{ticket}", get(forgotten::reset_form).post(forgotten::reset))
        .route("/tilbagekald/{ticket}", get(relations::revoke_form).post(relations::revoke))
        .route("/ny-mail/{ticket}", get(details::confirm_mail_form).post(details::confirm_mail))
        .route("/konto/{account}", get(account::show))
        .route("/konto/{account}/spaer", post(account::block))
        .route("/konto/{account}/aktiver", post(account::activate))
        .route("/konto/{account}/tilknytninger", get(relations::show).post(relations::add))
        .route("/konto/{account}/tilknytninger/godkend", post(relations::approve))
        .route("/konto/{account}/tilknytninger/slet", post(relations::remove))
        .route("/konto/{account}/indbetal", get(pay_in::form).post(pay_in::start))
        .route("/konto/{account}/auto-optank", get(auto_top_up::form).post(auto_top_up::start))
        .route("/konto/{account}/auto-optank/annuller", post(auto_top_up::cancel))
        .route("/konto/{account}/betalinger", get(pay_in::orders_of))
        .route("/ordre/{order}", get(pay_in::order))
        .route("/konto/{account}/udbetal", get(money_out::pay_out_form).post(money_out::pay_out))
        .route("/konto/{account}/overfoer", get(money_out::transfer_form).post(money_out::transfer))
        .route("/konto/{account}/kontoudtog", get(statement::show))
        .route("/konto/{account}/kontoudtog.csv", get(statement::csv))
        .route("/konto/{account}/kontoudtog.pdf", get(statement::pdf))
        .route("/konto/{account}/live", get(statement::live))
        .route("/konto/{account}/bruger", get(details::show).post(details::save))
        .route("/konto/{account}/bruger/mail", post(details::change_mail))
        .route("/konto/{account}/bruger/adgangskode", post(details::change_password))
        .route("/konto/{account}/bruger/andre-ud", post(details::others_out))
        .route(
            "/konto/{account}/billede",
            get(details::show_picture)
                .post(details::save_picture)
                .layer(DefaultBodyLimit::max(picture::MOST_BYTES + 64 * 1024)),
        )
        .route("/konto/{account}/billede/slet", post(details::delete_picture))
        .route("/static/style.css", get(style))
        .route("/static/live.js", get(script))
        .fallback(|| async { PortalError::NotFound })
        .layer(middleware::from_fn_with_state(portal.clone(), resume::keep))
        .layer(middleware::from_fn_with_state(portal.clone(), same_site_only))
        // The provider's own call comes from elsewhere by design; its signature is what counts.
        .route(CALLBACK, post(payment::orders::callback))
        .layer(DefaultBodyLimit::max(16 * 1024))
        .layer(middleware::from_fn(see_through))
        .layer(middleware::from_fn_with_state(portal.clone(), headers))
        .with_state(portal)
}

/// What changes something is seen through, also where the browser hangs up: money would have moved, and nobody been told.
async fn see_through(request: Request, next: Next) -> Response {
    let settles = request.method() == Method::POST || request.uri().path().split('/').nth(1) == Some("ordre");
    if !settles {
        return next.run(request).await;
    }
    match tokio::spawn(next.run(request)).await {
        Ok(response) => response,
        Err(error) => PortalError::Internal(format!("a request failed: {error}")).into_response(),
    }
}

/// A form of another site is refused whatever it says; browsers tell where a request comes from.
async fn same_site_only(State(portal): State<Portal>, request: Request, next: Next) -> Response {
    if request.method() == Method::POST && !is_from_us(&portal, request.headers()) {
        return PortalError::ForgedForm.into_response();
    }
    next.run(request).await
}

fn is_from_us(portal: &Portal, headers: &HeaderMap) -> bool {
    let says = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    match (says("sec-fetch-site"), says("origin")) {
        (Some(site), _) => matches!(site, "same-origin" | "none"),
        // An older browser says only where the page is from.
        (None, Some(origin)) => origin == portal.setup.public_url,
        (None, None) => true,
    }
}

/// What every answer says to the browser about itself.
async fn headers(State(portal): State<Portal>, request: Request, next: Next) -> Response {
    let for_people = request.uri().path() != CALLBACK;
    let mut response = next.run(request).await;
    // What the framework refuses it says in English and without a page.
    let bare = response.headers().get(CONTENT_TYPE).is_none_or(|kind| kind.as_bytes().starts_with(b"text/plain"));
    if for_people && bare && response.status().is_client_error() {
        response = views::problem(response.status());
    }
    let headers = response.headers_mut();
    // A form may lead on to the payment window, and nowhere else.
    let policy = format!(
        "default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self'; connect-src 'self'; form-action 'self' {}; object-src 'none'; base-uri 'none'; frame-ancestors 'none'",
        portal.setup.provider.window_origin()
    );
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    if portal.setup.is_https() {
        let year = HeaderValue::from_static("max-age=31536000; includeSubDomains");
        headers.insert(STRICT_TRANSPORT_SECURITY, year);
    }
    headers.insert(HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

async fn style() -> Response {
    let headers = [(CONTENT_TYPE, "text/css; charset=utf-8"), (CACHE_CONTROL, "max-age=300")];
    (headers, include_str!("../static/style.css")).into_response()
}

async fn script() -> Response {
    let headers = [(CONTENT_TYPE, "text/javascript; charset=utf-8"), (CACHE_CONTROL, "max-age=300")];
    (headers, include_str!("../static/live.js")).into_response()
}

/// Is it the path of a page of ours? Nobody is led elsewhere by a link to us.
pub(crate) fn own_path(path: &str) -> bool {
    let sound = |c: char| c.is_ascii_alphanumeric() || "/-_?=".contains(c);
    path.starts_with('/') && !path.starts_with("//") && path.chars().all(sound)
}

#[derive(Deserialize)]
struct Back {
    #[serde(default)]
    til: String,
}

/// Chooses the language and goes back to where the link was.
async fn language(State(portal): State<Portal>, Path(language): Path<String>, Query(back): Query<Back>) -> Response {
    let language = Language::from_code(&language);
    let to = if own_path(&back.til) { back.til } else { "/".to_owned() };
    let (name, secure) = if portal.setup.is_https() { (LANGUAGE_HTTPS, "; Secure") } else { (LANGUAGE, "") };
    let cookie = format!("{name}={}; Path=/; Max-Age=31536000; HttpOnly; SameSite=Lax{secure}", language.code());
    ([(SET_COOKIE, cookie)], Redirect::to(&to)).into_response()
}

/// The language a browser has chosen.
pub(crate) fn language_of(headers: &HeaderMap) -> Language {
    let chosen = cookie(headers, LANGUAGE_HTTPS).or_else(|| cookie(headers, LANGUAGE));
    chosen.map_or(Language::Danish, Language::from_code)
}

/// The frame of a page without a parent.
pub(crate) fn bare_frame(headers: &HeaderMap, path: &str) -> Frame {
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
    for &number in &parent.login.accounts {
        accounts.push(AccountLink { number, name: pupil_name(portal, number)? });
    }
    let current = accounts.iter().find(|link| link.number == number).cloned().ok_or(PortalError::NotFound)?;
    let language = language_of(headers);
    let bar = ParentBar { accounts, current: current.clone(), form_token: parent.session.form_token.clone(), section };
    Ok((Frame { w: language.words(), language, parent: Some(bar), path }, current))
}

/// Which of a parent's accounts a page for everybody is looked at from.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default)]
struct About {
    konto: Option<u64>,
}

/// The frame of a page for everybody, which shows a parent who is logged in where they come from.
fn frame_of_all(
    portal: &Portal,
    headers: &HeaderMap,
    parent: Option<&Parent>,
    about: &About,
    section: &'static str,
) -> Result<Frame, PortalError> {
    let Some(parent) = parent else { return Ok(bare_frame(headers, &format!("/{section}"))) };
    let asked = about.konto.filter(|asked| parent.login.accounts.contains(asked));
    let Some(number) = asked.or_else(|| parent.login.accounts.first().copied()) else {
        return Ok(bare_frame(headers, &format!("/{section}")));
    };
    Ok(parent_frame(portal, headers, parent, number, section, format!("/{section}?konto={number}"))?.0)
}

/// The pupil of an account. Whether the account is the caller's to see was settled before.
fn pupil_of(portal: &Portal, number: u64) -> Result<Pupil, PortalError> {
    let pupil = portal.setup.records.pupil(AccountId(number));
    pupil.map_err(|error| PortalError::Internal(error.to_string()))?.ok_or(PortalError::NotFound)
}

/// The name shown for an account: its pupil's.
fn pupil_name(portal: &Portal, number: u64) -> Result<String, PortalError> {
    match pupil_of(portal, number) {
        Ok(pupil) => Ok(pupil.name),
        Err(PortalError::NotFound) => Ok(number.to_string()),
        Err(error) => Err(error),
    }
}

/// What identifies an account's pupil, as it is shown; the rest of a CPR number never leaves the records.
fn identifier_of(portal: &Portal, account: AccountId) -> Result<String, PortalError> {
    Ok(proof::kept(portal, account)?.map(|identifier| identifier.shown()).unwrap_or_default())
}

/// Where an open page hears of changes to an account since it was drawn.
fn live_address(view: &AccountView) -> String {
    format!("/konto/{}/live?set={}", view.account, drawn(view))
}

/// A number of no meaning that is another one when anything has changed that pages show.
fn drawn(view: &AccountView) -> u64 {
    let mut hasher = DefaultHasher::new();
    let AccountView { balance, card, blocked, daily_limit, spent_today, auto_top_up, .. } = view;
    (balance.ore(), card.map(|card| card.bytes()), blocked).hash(&mut hasher);
    (daily_limit.map(Amount::ore), spent_today.ore(), auto_top_up.map(Amount::ore)).hash(&mut hasher);
    hasher.finish()
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
