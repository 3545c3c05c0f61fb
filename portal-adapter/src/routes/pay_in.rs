//! Paying in: the form, the way to the payment window, and what became of an order.

use axum::Form;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use frokost_engine::rules::Rules;
use frokost_engine::{AccountView, Amount, OrderNumber};
use frokost_persistence::records::{OrderState, Purpose};
use serde::Deserialize;

use crate::Portal;
use crate::error::PortalError;
use crate::money;
use crate::payment::orders::{self, Wanted};
use crate::proof;
use crate::routes::{account_of, parent_frame, pupil_name, see};
use crate::session::{Parent, blocking, secret};
use crate::views::{self, Field, OrderRow};
use crate::words::Language;

/// The same amount within this time is asked about before it is paid again.
const AGAIN_MS: u64 = 10 * 60 * 1000;

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct PayIn {
    pub(super) token: String,
    pub(super) form: String,
    /// Another of the parent's accounts than the page's.
    pub(super) account: Option<u64>,
    pub(super) amount: String,
    pub(super) consent: String,
    pub(super) again: String,
    /// Where the receipt goes.
    pub(super) receipt: String,
}

pub(super) async fn form(
    State(portal): State<Portal>,
    parent: Parent,
    headers: HeaderMap,
    Path(number): Path<u64>,
) -> Result<Response, PortalError> {
    let view = account_of(&portal, &parent, number).await?;
    let typed = PayIn { form: secret()?, receipt: parent.login.mail.clone(), ..PayIn::default() };
    let page = page(&portal, &headers, &parent, &view, typed).await?;
    Ok(views::show(&page))
}

/// Checks the form, makes an order of it, and leads on to the payment window. The same form makes one order, however often
/// it is sent.
pub(super) async fn start(
    State(portal): State<Portal>,
    parent: Parent,
    headers: HeaderMap,
    Path(number): Path<u64>,
    Form(typed): Form<PayIn>,
) -> Result<Response, PortalError> {
    parent.check(&typed.token)?;
    let view = account_of(&portal, &parent, typed.account.unwrap_or(number)).await?;
    let language = super::language_of(&headers);
    let consent = typed.consent == "yes";
    let read = read_amount(&typed.amount, portal.setup.min_top_up, most(&view), language);
    let (amount, problem) = match read {
        Ok(amount) => (amount, None),
        Err(problem) => (Amount::ZERO, Some(problem)),
    };
    let receipt_problem = proof::mail(&typed.receipt, language.words());
    if problem.is_some() || receipt_problem.is_some() || !consent || typed.form.is_empty() {
        let form = if typed.form.is_empty() { secret()? } else { typed.form.clone() };
        let mut page = page(&portal, &headers, &parent, &view, PayIn { form, ..typed }).await?;
        page.amount_problem = problem;
        page.receipt.problem = receipt_problem.map(str::to_owned);
        page.consent_missing = !consent;
        return Ok(views::show_with(StatusCode::UNPROCESSABLE_ENTITY, &page));
    }
    if typed.again != "yes"
        && let Some(at) = orders::paid_lately(&portal, view.account, amount, AGAIN_MS).await?
    {
        let mut page = page(&portal, &headers, &parent, &view, typed).await?;
        page.payable.retain(|account| account.number == view.account.0);
        page.again = Some((money::clock_time(at, language), money::amount(amount, language)));
        return Ok(views::show(&page));
    }
    let wanted = Wanted {
        account: view.account,
        amount,
        purpose: Purpose::PayIn,
        receipt_to: &typed.receipt,
        form: &typed.form,
    };
    let window = orders::start(&portal, &parent, wanted).await?;
    Ok(see(&window))
}

/// What became of an order; asks the provider again if it is not settled.
pub(super) async fn order(
    State(portal): State<Portal>,
    parent: Parent,
    headers: HeaderMap,
    Path(number): Path<u64>,
) -> Result<Response, PortalError> {
    let records = portal.setup.records.clone();
    let order = blocking(move || records.order(OrderNumber(number))).await?.ok_or(PortalError::NotFound)?;
    parent.account(order.account)?;
    let order = orders::settle(&portal, OrderNumber(number)).await?.unwrap_or(order);
    let view = account_of(&portal, &parent, order.account).await?;
    let path = format!("/ordre/{number}");
    let (frame, bar) = parent_frame(&portal, &headers, &parent, order.account, "indbetal", path)?;
    let w = frame.w;
    let (message, mood) = match (order.state, order.refusal.as_deref()) {
        (OrderState::Credited, _) => (w.order_credited, "good"),
        (OrderState::Paid, _) => (w.order_paid, "waiting"),
        (OrderState::Started, _) => (w.order_started, "waiting"),
        (OrderState::Returning, _) => (w.order_returning, "waiting"),
        (OrderState::Returned, _) => (w.order_returned, "problem"),
        (OrderState::Failed, Some("refused")) => (w.order_failed_refused, "problem"),
        (OrderState::Failed, Some("expired")) => (w.order_failed_expired, "problem"),
        (OrderState::Failed, Some("no_cover")) => (w.order_failed_no_cover, "problem"),
        (OrderState::Failed, Some("cancelled")) => (w.order_failed_cancelled, "problem"),
        (OrderState::Failed, _) => (w.order_failed, "problem"),
    };
    let page = views::Order {
        number,
        date: money::moment(frokost_engine::Timestamp(order.at_ms), frame.language),
        amount: money::amount(Amount::from_ore(order.amount_ore), frame.language),
        balance: money::amount(view.balance, frame.language),
        message,
        mood,
        frame,
        bar,
    };
    Ok(views::show(&page))
}

/// Every payment of an account, the newest first.
pub(super) async fn orders_of(
    State(portal): State<Portal>,
    parent: Parent,
    headers: HeaderMap,
    Path(number): Path<u64>,
) -> Result<Response, PortalError> {
    let account = parent.account(number)?;
    let records = portal.setup.records.clone();
    let orders = blocking(move || records.orders_of(account)).await?;
    let (frame, bar) =
        parent_frame(&portal, &headers, &parent, number, "indbetal", format!("/konto/{number}/betalinger"))?;
    let w = frame.w;
    let rows = orders.iter().rev().map(|order| OrderRow {
        number: order.number,
        date: money::moment(frokost_engine::Timestamp(order.at_ms), frame.language),
        kind: match order.purpose {
            Purpose::PayIn => w.kind_pay_in,
            Purpose::Agreement => w.kind_agreement,
            Purpose::Automatic { .. } => w.kind_automatic,
        },
        amount: money::amount(Amount::from_ore(order.amount_ore), frame.language),
        state: match order.state {
            OrderState::Started => w.state_started,
            OrderState::Paid => w.state_paid,
            OrderState::Credited => w.state_credited,
            OrderState::Failed => w.state_failed,
            OrderState::Returning => w.state_returning,
            OrderState::Returned => w.state_returned,
        },
    });
    let rows = rows.collect();
    Ok(views::show(&views::Orders { rows, frame, bar }))
}

/// Who holds the money, as it is stated.
pub(super) fn holder(portal: &Portal) -> String {
    format!("{} (CVR {})", portal.setup.holder.name, portal.setup.holder.cvr)
}

/// The most that can be paid in now.
pub(super) fn most(view: &AccountView) -> Amount {
    let rules = Rules::default();
    rules.max_top_up.min(rules.max_balance.checked_sub(view.balance).unwrap_or_default())
}

/// Whole kroner within bounds, or what to tell the parent.
pub(super) fn read_amount(text: &str, least: Amount, most: Amount, language: Language) -> Result<Amount, String> {
    let w = language.words();
    let show = |amount| money::amount(amount, language);
    let amount = money::read(text, language).ok_or_else(|| w.amount_wrong.to_owned())?;
    if amount.ore() % 100 != 0 {
        return Err(w.amount_wrong.to_owned());
    }
    if amount < least {
        return Err(format!("{} {}", w.amount_too_small, show(least)));
    }
    if amount > most {
        return Err(format!("{} {}", w.amount_too_large, show(most)));
    }
    Ok(amount)
}

/// The accounts that can be paid into, as the guide names them.
pub(super) async fn payable(
    portal: &Portal,
    parent: &Parent,
    language: Language,
    offered: impl Fn(&AccountView) -> bool,
) -> Result<Vec<views::Payable>, PortalError> {
    let mut payable = Vec::new();
    for &number in &parent.login.accounts {
        let view = account_of(portal, parent, number).await?;
        if !offered(&view) {
            continue;
        }
        payable.push(views::Payable {
            number,
            name: pupil_name(portal, number)?,
            card: view.card.map(|card| card.to_string()).unwrap_or_default(),
            balance: money::amount(view.balance, language),
        });
    }
    Ok(payable)
}

async fn page(
    portal: &Portal,
    headers: &HeaderMap,
    parent: &Parent,
    view: &AccountView,
    typed: PayIn,
) -> Result<views::PayIn, PortalError> {
    let number = view.account.0;
    let path = format!("/konto/{number}/indbetal");
    let (frame, bar) = parent_frame(portal, headers, parent, number, "indbetal", path)?;
    Ok(views::PayIn {
        form_token: parent.session.form_token.clone(),
        form: typed.form,
        least: money::amount(portal.setup.min_top_up, frame.language),
        holder: holder(portal),
        receipt: Field::new("receipt", frame.w.receipt_mail, &typed.receipt).of_kind("email", "email"),
        amount: typed.amount,
        consent: typed.consent == "yes",
        amount_problem: None,
        consent_missing: false,
        again: None,
        payable: payable(portal, parent, frame.language, |_| true).await?,
        frame,
        bar,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_whole_kroner_within_bounds() {
        let read = |text: &str| {
            let (least, most) = (Amount::from_kroner(200), Amount::from_kroner(1000));
            read_amount(text, least, most, Language::Danish)
        };
        assert_eq!(read("300"), Ok(Amount::from_kroner(300)));
        assert_eq!(read(" 1.000 "), Ok(Amount::from_kroner(1000)));
        assert_eq!(read("300,00 kr."), Ok(Amount::from_kroner(300)));
        for (text, part) in [
            ("", "hele kroner"),
            ("abc", "hele kroner"),
            ("300,50", "hele kroner"),
            ("199", "200,00 kr."),
            ("-300", "200,00 kr."),
            ("1001", "1.000,00 kr."),
            ("99999999999999999999999", "hele kroner"),
        ] {
            assert!(read(text).unwrap_err().contains(part), "{text}");
        }
    }
}
