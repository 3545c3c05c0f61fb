//! The front page and the terms.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Redirect, Response};

use crate::Portal;
use crate::routes::bare_frame;
use crate::session::Parent;
use crate::views;

/// The front page; for a parent who is logged in, the first account.
pub(super) async fn show(parent: Option<Parent>, headers: HeaderMap) -> Response {
    match parent.as_ref().and_then(|parent| parent.login.accounts.first()) {
        Some(account) => Redirect::to(&format!("/konto/{account}")).into_response(),
        None => views::show(&views::Front { frame: bare_frame(&headers, "/") }),
    }
}

pub(super) async fn terms(State(portal): State<Portal>, headers: HeaderMap) -> Response {
    let holder = super::pay_in::holder(&portal);
    views::show(&views::Terms { frame: bare_frame(&headers, "/betingelser"), holder })
}
