//! An account: whose it is, what it holds, its card, and the button that blocks it.

use axum::Form;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use frokost_engine::{AccountId, Command, Outcome, SchoolId};
use serde::Deserialize;

use crate::Portal;
use crate::error::PortalError;
use crate::money;
use crate::once;
use crate::picture;
use crate::routes::{account_of, identifier_of, parent_frame, see};
use crate::session::Parent;
use crate::views;

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Made {
    oprettet: String,
}

/// The button that blocks stands on two pages; the browser goes back to where it was.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Button {
    token: String,
    back: String,
}

pub(super) async fn show(
    State(portal): State<Portal>,
    parent: Parent,
    headers: HeaderMap,
    Path(number): Path<u64>,
    Query(made): Query<Made>,
) -> Result<Response, PortalError> {
    let view = account_of(&portal, &parent, number).await?;
    let (frame, bar) = parent_frame(&portal, &headers, &parent, number, "konto", format!("/konto/{number}"))?;
    let internal = |error: &dyn std::fmt::Display| PortalError::Internal(error.to_string());
    let school = portal.setup.records.school(SchoolId(view.school.0)).map_err(|error| internal(&error))?;
    let page = views::Account {
        form_token: parent.session.form_token.clone(),
        identifier_label: portal.setup.identify_by.words(frame.w).label,
        identifier: identifier_of(&portal, view.account)?,
        school: school.map_or_else(|| view.school.to_string(), |school| school.name),
        balance: money::amount(view.balance, frame.language),
        card: view.card.map(|card| card.to_string()),
        blocked: view.blocked,
        made: made.oprettet == "1",
        live: super::live_address(&view),
        picture: picture::is_there(&portal, view.account),
        frame,
        bar,
    };
    Ok(views::show(&page))
}

pub(super) async fn block(
    State(portal): State<Portal>,
    parent: Parent,
    Path(number): Path<u64>,
    Form(form): Form<Button>,
) -> Result<Response, PortalError> {
    change(&portal, &parent, number, &form, |account| Command::Block { account }).await
}

pub(super) async fn activate(
    State(portal): State<Portal>,
    parent: Parent,
    Path(number): Path<u64>,
    Form(form): Form<Button>,
) -> Result<Response, PortalError> {
    change(&portal, &parent, number, &form, |account| Command::Activate { account }).await
}

/// Blocking what is blocked, from a second tab perhaps, is no error.
async fn change(
    portal: &Portal,
    parent: &Parent,
    number: u64,
    form: &Button,
    command: impl FnOnce(AccountId) -> Command,
) -> Result<Response, PortalError> {
    parent.check(&form.token)?;
    let account = parent.account(number)?;
    match portal.engine.command(once::by(&parent.login, command(account))).await? {
        Outcome::Approved(_) if form.back == "bruger" => Ok(see(&format!("/konto/{number}/bruger"))),
        Outcome::Approved(_) => Ok(see(&format!("/konto/{number}"))),
        other @ (Outcome::Rejected(_)
        | Outcome::View(_)
        | Outcome::Busy
        | Outcome::OutOfSpace
        | Outcome::Unavailable) => Err(PortalError::Internal(format!("the engine answered {other:?}"))),
    }
}
