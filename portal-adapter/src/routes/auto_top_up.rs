//! Automatic top-up: setting it up through the payment window, and ending it (quick guide, section E).

use axum::Form;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use frokost_engine::{AccountId, AccountView, Amount, Command, Outcome, Rejection};
use frokost_persistence::keys;
use frokost_persistence::records::Purpose;

use crate::Portal;
use crate::error::PortalError;
use crate::money;
use crate::once;
use crate::payment::orders::{self, Wanted};
use crate::proof;
use crate::routes::pay_in::{PayIn, holder, most, payable, read_amount};
use crate::routes::{TokenForm, account_of, parent_frame, see};
use crate::session::{Parent, blocking, secret};
use crate::views::{self, Field, any_problem};
use crate::words::Words;

async fn page(
    portal: &Portal,
    headers: &HeaderMap,
    parent: &Parent,
    view: &AccountView,
    typed: PayIn,
    problems: [Option<String>; 2],
    consent_missing: bool,
) -> Result<Response, PortalError> {
    let number = view.account.0;
    let (frame, bar) =
        parent_frame(portal, headers, parent, number, "indbetal", format!("/konto/{number}/auto-optank"))?;
    let (records, account) = (portal.setup.records.clone(), view.account);
    let agreement = blocking(move || records.agreement(account)).await?;
    let w = frame.w;
    let fields = fields(w, &typed, problems);
    let status =
        if consent_missing || any_problem(&fields) { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    // The engine says whether it holds; the record, since when and with what trouble.
    let active = view.auto_top_up.map(|amount| views::AutoActive {
        amount: money::amount(amount, frame.language),
        since: agreement
            .as_ref()
            .map(|agreement| money::moment(frokost_engine::Timestamp(agreement.at_ms), frame.language))
            .unwrap_or_default(),
        // Nothing is bought with a blocked card, so nothing is charged, and nobody would hear of it otherwise.
        trouble: view
            .blocked
            .then_some(w.auto_card_blocked)
            .or(agreement.as_ref().and_then(|agreement| agreement.trouble.as_deref()).map(|why| w.trouble(why))),
    });
    let page = views::AutoTopUp {
        form_token: parent.session.form_token.clone(),
        form: typed.form,
        holder: holder(portal),
        consent: typed.consent == "yes",
        consent_missing,
        active,
        payable: payable(portal, parent, frame.language, |other| other.auto_top_up.is_none()).await?,
        fields,
        frame,
        bar,
    };
    Ok(views::show_with(status, &page))
}

fn fields(w: &'static Words, typed: &PayIn, problems: [Option<String>; 2]) -> Vec<Field> {
    let [amount, receipt] = problems;
    vec![
        Field::new("receipt", w.receipt_mail, &typed.receipt).of_kind("email", "email").problem(receipt),
        Field::new("amount", w.auto_amount, &typed.amount).numeric().problem(amount),
    ]
}

pub(super) async fn form(
    State(portal): State<Portal>,
    parent: Parent,
    headers: HeaderMap,
    Path(number): Path<u64>,
) -> Result<Response, PortalError> {
    let view = account_of(&portal, &parent, number).await?;
    let typed = PayIn { form: secret()?, receipt: parent.login.mail.clone(), ..PayIn::default() };
    page(&portal, &headers, &parent, &view, typed, [None, None], false).await
}

/// The first payment, in whose window the card is saved.
pub(super) async fn start(
    State(portal): State<Portal>,
    parent: Parent,
    headers: HeaderMap,
    Path(number): Path<u64>,
    Form(typed): Form<PayIn>,
) -> Result<Response, PortalError> {
    parent.check(&typed.token)?;
    let view = account_of(&portal, &parent, typed.account.unwrap_or(number)).await?;
    if view.auto_top_up.is_some() {
        // It is ended first, on its own page.
        return Ok(see(&format!("/konto/{}/auto-optank", view.account)));
    }
    let language = super::language_of(&headers);
    let w = language.words();
    let amount = read_amount(&typed.amount, portal.setup.min_top_up, most(&view), language);
    let problems = [amount.as_ref().err().cloned(), proof::mail(&typed.receipt, w).map(str::to_owned)];
    let consent_missing = typed.consent != "yes";
    if consent_missing || problems.iter().any(Option::is_some) || typed.form.is_empty() {
        let form = if typed.form.is_empty() { secret()? } else { typed.form.clone() };
        return page(&portal, &headers, &parent, &view, PayIn { form, ..typed }, problems, consent_missing).await;
    }
    let wanted = Wanted {
        account: view.account,
        amount: amount.unwrap_or(Amount::ZERO),
        purpose: Purpose::Agreement,
        receipt_to: &typed.receipt,
        form: &typed.form,
    };
    Ok(see(&orders::start(&portal, &parent, wanted).await?))
}

/// Ends it, at the engine first: from then on nothing is charged.
pub(super) async fn cancel(
    State(portal): State<Portal>,
    parent: Parent,
    Path(number): Path<u64>,
    Form(form): Form<TokenForm>,
) -> Result<Response, PortalError> {
    parent.check(&form.token)?;
    end(&portal, &parent.login.mail, parent.account(number)?).await?;
    Ok(see(&format!("/konto/{number}/auto-optank")))
}

/// Ends the agreement of an account, if it has one, for the login with that mail address.
pub(super) async fn end(portal: &Portal, mail: &str, account: AccountId) -> Result<(), PortalError> {
    let asked = once::by_mail(portal, mail, Command::CancelAutoTopUp { account }).await?;
    match portal.engine.command(asked).await? {
        // Ended before, in another tab perhaps.
        Outcome::Approved(_) | Outcome::Rejected(Rejection::NoAgreement) => {}
        other @ (Outcome::Rejected(_)
        | Outcome::View(_)
        | Outcome::Busy
        | Outcome::OutOfSpace
        | Outcome::Unavailable) => return Err(PortalError::Internal(format!("the engine answered {other:?}"))),
    }
    let records = portal.setup.records.clone();
    blocking(move || {
        records.change(|change| {
            change.remove(&keys::agreement(account));
            Ok(())
        })
    })
    .await
}
