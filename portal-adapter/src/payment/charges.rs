//! Automatic top-up: charges saved cards for what the engine wishes, once for each wish, and reports back what came of it. The engine
//! decides when; nothing here looks at a balance.

use std::time::Duration;

use frokost_engine::command::ChargeFailure;
use frokost_engine::wishes::Wish;
use frokost_engine::{AccountId, Command, OrderNumber, Outcome, Rejection};
use frokost_persistence::keys;
use frokost_persistence::records::{Agreement, Matter, Order, OrderState, Purpose, RecordsError};

use crate::Portal;
use crate::error::PortalError;
use crate::payment::{NewPayment, ProviderError, orders};
use crate::session::{blocking, digest};
use crate::tickets::DAY_MS;

const MINUTE_MS: u64 = 60 * 1000;
const LOOKS_EVERY: Duration = Duration::from_millis(500);
/// As many as the engine shows at once.
const PAGE: usize = 256;

/// Looks for wishes, for as long as the portal runs.
pub(crate) async fn charge_wishes(portal: Portal) {
    let mut ticks = tokio::time::interval(LOOKS_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let mut after = AccountId(0);
        loop {
            let wishes = match portal.engine.wishes(after).await {
                Ok(wishes) => wishes,
                Err(error) => {
                    tracing::warn!(%error, "wishes for automatic top-up cannot be read now");
                    break;
                }
            };
            for wish in &wishes {
                if let Err(error) = charge(&portal, wish).await {
                    tracing::warn!(account = %wish.account, %error, "an automatic top-up cannot be charged now");
                }
            }
            match wishes.last() {
                Some(last) if wishes.len() >= PAGE => after = last.account,
                Some(_) | None => break,
            }
        }
    }
}

/// One wish: an order of its own, made once, charged once; settled like any other order.
async fn charge(portal: &Portal, wish: &Wish) -> Result<(), PortalError> {
    let (records, account, form) = (portal.setup.records.clone(), wish.account, form_of(wish));
    let (agreement, begun) =
        blocking(move || Ok::<_, RecordsError>((records.agreement(account)?, records.order_of_form(&form)?))).await?;
    let (order, saved_card) = match begun {
        // Begun, it is seen through whatever was cancelled or blocked since: the provider may have the money.
        Some(order) => {
            let saved_card = order.saved_card.clone();
            (order, saved_card)
        }
        None => {
            let view = portal.engine.account(wish.account).await?;
            let agreed = view.is_some_and(|view| view.auto_top_up.is_some());
            let Some(agreement) = agreement.filter(|agreement| agreed && agreement.number == wish.agreement.0) else {
                // Cancelled in the meantime: whoever agreed has taken it back.
                return failed(portal, wish.account, wish.attempt.0, "cancelled").await;
            };
            if view.is_some_and(|view| view.blocked) {
                return failed(portal, wish.account, wish.attempt.0, "canteen_card_blocked").await;
            }
            if let Some(why) = rests(&agreement, portal.setup.clock.now().0) {
                return failed(portal, wish.account, wish.attempt.0, why).await;
            }
            (order_of(portal, wish, &agreement).await?, agreement.saved_card)
        }
    };
    match order.state {
        OrderState::Started if order.session.is_none() => {}
        OrderState::Started | OrderState::Paid | OrderState::Returning => {
            return orders::settle(portal, OrderNumber(order.number)).await.map(drop);
        }
        // The report was lost.
        OrderState::Failed => {
            let why = order.refusal.as_deref().unwrap_or("refused");
            return failed(portal, wish.account, wish.attempt.0, why).await;
        }
        // Done with, and the engine still waits: it is of before a restore, and counts its attempts anew. Where the wish is only an old one,
        // the engine knows nothing of it any more.
        OrderState::Credited | OrderState::Returned => {
            return failed(portal, wish.account, wish.attempt.0, "cancelled").await;
        }
    }
    let payment = NewPayment {
        order: OrderNumber(order.number),
        amount: wish.amount,
        return_url: String::new(),
        callback_url: format!("{}/betaling/tilbagekald", portal.setup.public_url),
        save_card: false,
    };
    let number = OrderNumber(order.number);
    match portal.setup.provider.charge(&saved_card, &payment).await {
        Ok(session) => {
            let records = portal.setup.records.clone();
            let note = move || {
                records.change_order(number, |order| {
                    order.session = Some(session);
                    true
                })
            };
            blocking(note).await?;
            orders::settle(portal, number).await.map(drop)
        }
        Err(ProviderError::UnknownCard) => {
            let records = portal.setup.records.clone();
            let refuse = move || {
                records.change_order(number, |order| {
                    order.state = OrderState::Failed;
                    order.refusal = Some("blocked".to_owned());
                    true
                })
            };
            blocking(refuse).await?;
            failed(portal, wish.account, wish.attempt.0, "blocked").await
        }
        // Nothing is known: it is asked again, under the same number.
        Err(
            error @ (ProviderError::Unreachable(_)
            | ProviderError::UnknownSession(_)
            | ProviderError::NothingPaid
            | ProviderError::Forged),
        ) => Err(PortalError::Provider(error.to_string())),
    }
}

/// Why a saved card is not asked for money just now: it has just failed, and every sale that is refused wishes anew.
fn rests(agreement: &Agreement, now_ms: u64) -> Option<&str> {
    let why = agreement.trouble.as_deref()?;
    let pause = match why {
        // For good.
        "expired" => u64::MAX,
        "blocked" => DAY_MS,
        // Not the provider's word; whether it still is so has been looked at.
        "canteen_card_blocked" => 0,
        _ => 10 * MINUTE_MS,
    };
    (now_ms.saturating_sub(agreement.failed_ms) < pause).then_some(why)
}

/// The key of the form that a wish would be: account and attempt name it for ever.
fn form_of(wish: &Wish) -> String {
    digest(&format!("wish/{}/{}", wish.account, wish.attempt.0))
}

async fn order_of(portal: &Portal, wish: &Wish, agreement: &Agreement) -> Result<Order, PortalError> {
    let records = portal.setup.records.clone();
    let form = form_of(wish);
    let saved_card = agreement.saved_card.clone();
    let (at_ms, account, amount_ore, attempt) =
        (portal.setup.clock.now().0, wish.account.0, wish.amount.ore(), wish.attempt.0);
    let (login, terms) = (agreement.login.clone(), agreement.terms.clone());
    blocking(move || {
        records.order_once(&form, |number| Order {
            number: number.0,
            account,
            receipt_to: login.clone(),
            login,
            amount_ore,
            at_ms,
            terms,
            session: None,
            state: OrderState::Started,
            refusal: None,
            purpose: Purpose::Automatic { attempt },
            saved_card,
        })
    })
    .await
}

/// Tells the engine that a charge came to nothing, and whoever agreed what to do about it.
pub(crate) async fn failed(portal: &Portal, account: AccountId, attempt: u32, why: &str) -> Result<(), PortalError> {
    let failure = match why {
        "expired" => ChargeFailure::Expired,
        "no_cover" => ChargeFailure::NoCover,
        "blocked" => ChargeFailure::Blocked,
        "canteen_card_blocked" => ChargeFailure::AccountBlocked,
        _ => ChargeFailure::Provider,
    };
    if why != "cancelled" {
        note_trouble(portal, account, attempt, why).await?;
    }
    let command = Command::ReportChargeFailed { account, attempt: frokost_engine::Attempt(attempt), failure };
    match portal.engine.command(command).await? {
        // Reported before, and the answer lost.
        Outcome::Approved(_) | Outcome::Rejected(Rejection::UnknownAttempt) => {}
        other @ (Outcome::Rejected(_)
        | Outcome::View(_)
        | Outcome::Busy
        | Outcome::OutOfSpace
        | Outcome::Unavailable) => {
            return Err(PortalError::Internal(format!("the engine answered {other:?}")));
        }
    }
    Ok(())
}

/// Keeps what is wrong with a saved card and tells whoever agreed. Before the engine hears of it: its wish is gone then, and with it what a
/// machine that stops in between would have left undone. Once for an attempt, a mail about the same trouble once a day, and
/// nothing for a card that was left in peace.
async fn note_trouble(portal: &Portal, account: AccountId, attempt: u32, why: &str) -> Result<(), PortalError> {
    let (records, why, now) = (portal.setup.records.clone(), why.to_owned(), portal.setup.clock.now().0);
    blocking(move || {
        records.change(|change| {
            let Some(agreement) = records.agreement(account)? else { return Ok(()) };
            let same = agreement.trouble.as_deref() == Some(why.as_str());
            if agreement.failed_attempt == Some(attempt) || (same && rests(&agreement, now).is_some()) {
                return Ok(());
            }
            let told = same && now.saturating_sub(agreement.told_ms) < DAY_MS;
            if !told {
                let language = records.login(&agreement.login)?.map(|login| login.language).unwrap_or_default();
                let matter = Matter::ChargeFailed { account: account.0, why: why.clone() };
                change.post(&agreement.login, &language, matter)?;
            }
            let told_ms = if told { agreement.told_ms } else { now };
            let noted =
                Agreement { trouble: Some(why), failed_attempt: Some(attempt), failed_ms: now, told_ms, ..agreement };
            change.put(&keys::agreement(account), &noted)
        })
    })
    .await
}
