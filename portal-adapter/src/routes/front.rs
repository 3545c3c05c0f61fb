//! The front page and the terms.

use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Redirect, Response};

use crate::Portal;
use crate::error::PortalError;
use crate::routes::{About, bare_frame, frame_of_all};
use crate::session::Parent;
use crate::views;

/// The front page; for a parent who is logged in, the first account.
pub(super) async fn show(parent: Option<Parent>, headers: HeaderMap) -> Response {
    match parent.as_ref().and_then(|parent| parent.login.accounts.first()) {
        Some(account) => Redirect::to(&format!("/konto/{account}")).into_response(),
        None => views::show(&views::Front { frame: bare_frame(&headers, "/") }),
    }
}

pub(super) async fn terms(
    State(portal): State<Portal>,
    parent: Option<Parent>,
    headers: HeaderMap,
    Query(about): Query<About>,
) -> Result<Response, PortalError> {
    let holder = super::pay_in::holder(&portal);
    let frame = frame_of_all(&portal, &headers, parent.as_ref(), &about, "betingelser")?;
    Ok(views::show(&views::Terms { frame, holder }))
}
