//! Orders: made once for each form, settled by asking the provider, credited once by the engine. A callback, the parent's
//! return and a timer all lead to the same [`settle`]; whichever comes, comes twice or comes late, the money is credited once.

use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use frokost_engine::command::Source;
use frokost_engine::{AccountId, AgreementNumber, Amount, Command, OrderNumber, Outcome, Rejection, Timestamp};
use frokost_persistence::keys;
use frokost_persistence::records::{Agreement, Matter, Order, OrderState, Purpose};

use crate::Portal;
use crate::error::PortalError;
use crate::limits::Visitor;
use crate::once;
use crate::payment::charges;
use crate::payment::{NewPayment, PaymentState, ProviderError};
use crate::security_log;
use crate::session::{Parent, blocking};

/// The version of the terms that are accepted today; kept with every order.
pub(crate) const TERMS: &str = "2026-11";
/// How often unsettled orders are asked about.
const RECONCILE_EVERY: Duration = Duration::from_secs(5);
/// A window that was left is given up after this long. Until then money that was taken is found and credited.
const GIVE_UP_AFTER_MS: u64 = 7 * 24 * 60 * 60 * 1000;

/// Windows of one account that may be open; each is asked about until it is settled.
const MOST_OPEN: usize = 50;

/// What a parent orders.
pub(crate) struct Wanted<'a> {
    pub(crate) account: AccountId,
    pub(crate) amount: Amount,
    pub(crate) purpose: Purpose,
    pub(crate) receipt_to: &'a str,
    /// The key of the form.
    pub(crate) form: &'a str,
}

/// Makes an order for a form, or finds the one it has made, and returns where the browser is to go.
pub(crate) async fn start(portal: &Portal, parent: &Parent, wanted: Wanted<'_>) -> Result<String, PortalError> {
    let Wanted { account, amount, purpose, receipt_to, form } = wanted;
    let at_ms = portal.setup.clock.now().0;
    let key = once::key(parent, form);
    let (records, mail, receipt_to) =
        (portal.setup.records.clone(), parent.login.mail.clone(), receipt_to.trim().to_owned());
    let open = {
        let records = records.clone();
        blocking(move || records.orders_of(account)).await?
    };
    let open = open.iter().filter(|order| order.state == OrderState::Started).count();
    if open >= MOST_OPEN {
        return Err(PortalError::TooMany);
    }
    let order = blocking(move || {
        records.order_once(&key, |number| Order {
            number: number.0,
            account: account.0,
            login: mail,
            amount_ore: amount.ore(),
            at_ms,
            terms: TERMS.to_owned(),
            session: None,
            state: OrderState::Started,
            refusal: None,
            purpose,
            receipt_to,
            saved_card: String::new(),
        })
    })
    .await?;
    if order.state != OrderState::Started || order.account != account.0 || order.amount_ore != amount.ore() {
        // The form was sent before, and perhaps changed since: show what became of it.
        return Ok(format!("/ordre/{}", order.number));
    }
    let payment = NewPayment {
        order: OrderNumber(order.number),
        amount,
        return_url: format!("{}/ordre/{}", portal.setup.public_url, order.number),
        callback_url: format!("{}/betaling/tilbagekald", portal.setup.public_url),
        save_card: purpose == Purpose::Agreement,
    };
    let window =
        portal.setup.provider.open(&payment).await.map_err(|error| PortalError::Provider(error.to_string()))?;
    let (records, number, session) = (portal.setup.records.clone(), OrderNumber(order.number), window.session);
    blocking(move || {
        records.change_order(number, |order| {
            let changed = order.session.as_ref() != Some(&session);
            order.session = Some(session);
            changed
        })
    })
    .await?;
    Ok(window.url)
}

/// When the same amount was last paid into the account within the last `within_ms`.
pub(crate) async fn paid_lately(
    portal: &Portal,
    account: AccountId,
    amount: Amount,
    within_ms: u64,
) -> Result<Option<Timestamp>, PortalError> {
    let now = portal.setup.clock.now();
    let records = portal.setup.records.clone();
    let orders = blocking(move || records.orders_of(account)).await?;
    let latest = orders
        .iter()
        .filter(|order| matches!(order.state, OrderState::Paid | OrderState::Credited))
        .filter(|order| order.amount_ore == amount.ore())
        .map(|order| order.at_ms)
        .filter(|at| now.0.saturating_sub(*at) <= within_ms)
        .max();
    Ok(latest.map(Timestamp))
}

/// Asks the provider how an order stands and credits it if it is paid. Returns the order as it is then.
pub(crate) async fn settle(portal: &Portal, number: OrderNumber) -> Result<Option<Order>, PortalError> {
    let records = portal.setup.records.clone();
    let Some(mut order) = blocking(move || records.order(number)).await? else { return Ok(None) };
    // Also of an order that was given up: its window may still have been open.
    if matches!(order.state, OrderState::Started | OrderState::Failed) {
        order = ask_provider(portal, order).await?;
    }
    if order.state == OrderState::Paid {
        order = credit(portal, order).await?;
    }
    if order.state == OrderState::Returning {
        order = give_back(portal, order).await?;
    }
    Ok(Some(order))
}

async fn ask_provider(portal: &Portal, order: Order) -> Result<Order, PortalError> {
    let too_old = portal.setup.clock.now().0.saturating_sub(order.at_ms) >= GIVE_UP_AFTER_MS;
    let Some(session) = order.session.clone() else {
        // No window was ever opened for it, or nobody was sent there.
        return match (order.state, order.purpose, too_old) {
            (OrderState::Started, Purpose::PayIn | Purpose::Agreement, true) => {
                advance(portal, &order, OrderState::Started, OrderState::Failed, Some("cancelled".to_owned())).await
            }
            _ => Ok(order),
        };
    };
    let state = match portal.setup.provider.query(&session).await {
        Ok(state) => state,
        Err(error) => {
            // Nothing is known, so nothing is decided, however old the order is.
            tracing::warn!(order = order.number, %error, "the provider cannot be asked about an order");
            return Ok(order);
        }
    };
    let (next, refusal) = match state {
        PaymentState::Paid { amount, saved_card } if amount.ore() == order.amount_ore => {
            if let (Purpose::Agreement, Some(saved_card)) = (order.purpose, saved_card) {
                agree(portal, &order, saved_card).await?;
            }
            (OrderState::Paid, None)
        }
        PaymentState::Paid { amount, .. } => {
            tracing::error!(
                order = order.number,
                paid = amount.ore(),
                ordered = order.amount_ore,
                "the provider names another amount; it is given back"
            );
            if let Purpose::Automatic { attempt } = order.purpose {
                charges::failed(portal, AccountId(order.account), attempt, "refused").await?;
            }
            (OrderState::Returning, None)
        }
        PaymentState::Refused { .. } | PaymentState::Waiting if order.state == OrderState::Failed => return Ok(order),
        PaymentState::Refused { why } => (OrderState::Failed, Some(why)),
        PaymentState::Waiting if !too_old => return Ok(order),
        PaymentState::Waiting => {
            // From now on nobody can pay in that window; if somebody just has, the next query says so.
            if let Err(error) = portal.setup.provider.cancel(&session).await {
                tracing::warn!(order = order.number, %error, "a payment window that was left cannot be closed");
            }
            return Ok(order);
        }
    };
    let order = advance(portal, &order, order.state, next, refusal).await?;
    if let (OrderState::Failed, Purpose::Automatic { attempt }) = (order.state, order.purpose) {
        let why = order.refusal.as_deref().unwrap_or("refused");
        charges::failed(portal, AccountId(order.account), attempt, why).await?;
    }
    Ok(order)
}

/// The card is saved: from now on the account may wish to be topped up. Done before the order is marked paid, so that a machine that
/// stops in between does it again; twice is once.
async fn agree(portal: &Portal, order: &Order, saved_card: String) -> Result<(), PortalError> {
    let account = AccountId(order.account);
    let (records, mail) = (portal.setup.records.clone(), order.login.clone());
    let login = blocking(move || records.login(&mail)).await?;
    if !login.is_some_and(|login| login.accounts.contains(&order.account)) {
        // Whoever opened that window has no say over the account any more, and could not take the agreement back. The payment counts.
        tracing::warn!(order = order.number, "a window was paid after its relation had ended; nothing is agreed on");
        return Ok(());
    }
    let command = Command::AgreeAutoTopUp {
        account,
        agreement: AgreementNumber(order.number),
        amount: Amount::from_ore(order.amount_ore),
    };
    match portal.engine.command(once::by_mail(portal, &order.login, command).await?).await? {
        Outcome::Approved(_) => {}
        other @ (Outcome::Rejected(_)
        | Outcome::View(_)
        | Outcome::Busy
        | Outcome::OutOfSpace
        | Outcome::Unavailable) => {
            // The payment counts all the same; only the agreement does not.
            tracing::error!(order = order.number, ?other, "an automatic top-up cannot be agreed on");
            return Ok(());
        }
    }
    let agreement = Agreement {
        number: order.number,
        account: order.account,
        login: order.login.clone(),
        amount_ore: order.amount_ore,
        at_ms: order.at_ms,
        terms: order.terms.clone(),
        saved_card,
        trouble: None,
        failed_attempt: None,
        failed_ms: 0,
        told_ms: 0,
    };
    let records = portal.setup.records.clone();
    blocking(move || records.change(|change| change.put(&keys::agreement(account), &agreement))).await
}

async fn credit(portal: &Portal, order: Order) -> Result<Order, PortalError> {
    let command = Command::TopUp {
        account: AccountId(order.account),
        order: OrderNumber(order.number),
        amount: Amount::from_ore(order.amount_ore),
        source: match order.purpose {
            Purpose::Automatic { attempt } if is_open(portal, AccountId(order.account), attempt).await? => {
                Source::Automatic
            }
            // Money of an attempt that was ended meanwhile must not end the one that is open now.
            Purpose::PayIn | Purpose::Agreement | Purpose::Automatic { .. } => Source::Provider,
        },
    };
    match portal.engine.command(once::by_mail(portal, &order.login, command).await?).await? {
        // Credited before, and the answer lost: that is what the order number is for.
        Outcome::Approved(_) | Outcome::Rejected(Rejection::OrderCredited) => credited(portal, &order).await,
        // It never can be. From here on it is not credited any more, whatever becomes of the account.
        Outcome::Rejected(
            why @ (Rejection::UnknownAccount | Rejection::AccountClosed | Rejection::AmountTooLarge { .. }),
        ) => {
            tracing::error!(order = order.number, ?why, "a payment cannot be credited; it is given back");
            advance(portal, &order, OrderState::Paid, OrderState::Returning, None).await
        }
        other @ (Outcome::Rejected(_)
        | Outcome::View(_)
        | Outcome::Busy
        | Outcome::OutOfSpace
        | Outcome::Unavailable) => {
            tracing::error!(
                order = order.number,
                ?other,
                "a payment cannot be credited; it stays paid and is tried again"
            );
            Ok(order)
        }
    }
}

/// Is this the attempt the engine waits for?
async fn is_open(portal: &Portal, account: AccountId, attempt: u32) -> Result<bool, PortalError> {
    let wishes = portal.engine.wishes(AccountId(account.0.saturating_sub(1))).await?;
    Ok(wishes.first().is_some_and(|wish| wish.account == account && wish.attempt.0 == attempt))
}

/// Sends a payment back to the card it came from, and tells whoever paid.
async fn give_back(portal: &Portal, order: Order) -> Result<Order, PortalError> {
    let Some(session) = order.session.clone() else { return Ok(order) };
    if let Err(error) = portal.setup.provider.refund(&session).await {
        tracing::error!(order = order.number, %error, "a payment cannot be given back now; it is tried again");
        return Ok(order);
    }
    let (records, number) = (portal.setup.records.clone(), OrderNumber(order.number));
    let returned = blocking(move || {
        records.change(|change| {
            let Some(mut order) = records.order(number)? else { return Ok(None) };
            if order.state != OrderState::Returning {
                return Ok(Some(order));
            }
            order.state = OrderState::Returned;
            change.put_order(&order)?;
            let language = records.login(&order.login)?.map(|login| login.language).unwrap_or_default();
            change.post(&order.login, &language, Matter::PaymentReturned { order: order.number })?;
            Ok(Some(order))
        })
    })
    .await?;
    returned.ok_or(PortalError::NotFound)
}

/// Marks an order credited and posts its receipt, once, whoever settles it; both or neither, since a credited order is not looked at again.
async fn credited(portal: &Portal, order: &Order) -> Result<Order, PortalError> {
    let (records, number) = (portal.setup.records.clone(), OrderNumber(order.number));
    let credited = blocking(move || {
        records.change(|change| {
            let Some(order) = records.order(number)? else { return Ok(None) };
            if order.state != OrderState::Paid {
                return Ok(Some(order));
            }
            let order = Order { state: OrderState::Credited, refusal: None, ..order };
            change.put_order(&order)?;
            // An installation that was restored may have credited it before.
            let key = keys::form(&format!("receipt/{}", order.number));
            if change.get::<u64>(&key)?.is_some() {
                return Ok(Some(order));
            }
            change.put(&key, &order.number)?;
            if let (Purpose::Automatic { .. }, Some(agreement)) =
                (order.purpose, records.agreement(AccountId(order.account))?)
            {
                change.put(&keys::agreement(AccountId(order.account)), &Agreement { trouble: None, ..agreement })?;
            }
            let to = if order.receipt_to.is_empty() { &order.login } else { &order.receipt_to };
            let language = records.login(&order.login)?.map(|login| login.language).unwrap_or_default();
            change.post(to, &language, Matter::Receipt { order: order.number })?;
            Ok(Some(order))
        })
    })
    .await?;
    credited.ok_or(PortalError::NotFound)
}

/// Moves an order on, if it is still where it was.
async fn advance(
    portal: &Portal,
    order: &Order,
    from: OrderState,
    to: OrderState,
    refusal: Option<String>,
) -> Result<Order, PortalError> {
    let (records, number) = (portal.setup.records.clone(), OrderNumber(order.number));
    let changed = blocking(move || {
        records.change_order(number, |order| {
            if order.state != from {
                return false;
            }
            order.state = to;
            order.refusal = refusal;
            true
        })
    })
    .await?;
    changed.ok_or(PortalError::NotFound)
}

/// Settles whatever a callback or a parent's return has not, again and again.
pub(crate) async fn reconcile(portal: Portal) {
    let mut ticks = tokio::time::interval(RECONCILE_EVERY);
    loop {
        ticks.tick().await;
        let records = portal.setup.records.clone();
        let open = match blocking(move || records.open_orders()).await {
            Ok(orders) => orders,
            Err(error) => {
                tracing::error!(%error, "orders cannot be read");
                continue;
            }
        };
        for number in open {
            if let Err(error) = settle(&portal, number).await {
                tracing::warn!(order = %number, %error, "an order cannot be settled now");
            }
        }
    }
}

/// The provider says that something has happened to a payment. What, it is asked: a callback is a hint, never a proof.
pub(crate) async fn callback(
    State(portal): State<Portal>,
    visitor: Visitor,
    headers: HeaderMap,
    body: String,
) -> StatusCode {
    let signature = headers.get("x-signature").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let session = match portal.setup.provider.read_callback(&body, signature) {
        Ok(session) => session,
        Err(ProviderError::Forged) => {
            if portal.limits.forged(visitor) {
                tracing::warn!("a callback with a wrong signature was refused");
                security_log::note("forged_callback", None, visitor);
            }
            return StatusCode::FORBIDDEN;
        }
        Err(error) => {
            tracing::warn!(%error, "a callback cannot be read");
            return StatusCode::BAD_REQUEST;
        }
    };
    let records = portal.setup.records.clone();
    let order = match blocking(move || records.order_of_payment(&session)).await {
        Ok(order) => order,
        Err(_) => return StatusCode::SERVICE_UNAVAILABLE,
    };
    let Some(order) = order else { return StatusCode::NOT_FOUND };
    match settle(&portal, order).await {
        Ok(_) => StatusCode::NO_CONTENT,
        // The provider will call again.
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}
