//! The statement of a month.

use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::Response;
use frokost_engine::command::Source;
use frokost_engine::time::Month;
use frokost_engine::{Amount, Entry, Record};
use serde::Deserialize;

use crate::Portal;
use crate::error::PortalError;
use crate::money;
use crate::routes::{account_of, parent_frame};
use crate::session::Parent;
use crate::views::{self, MonthLink, Posting};
use crate::words::Language;

#[derive(Deserialize)]
pub(super) struct Choice {
    /// `yyyymm`
    maaned: Option<u32>,
}

pub(super) async fn show(
    State(portal): State<Portal>,
    parent: Parent,
    headers: HeaderMap,
    Path(number): Path<u64>,
    Query(choice): Query<Choice>,
) -> Result<Response, PortalError> {
    let account = parent.account(number)?;
    let path = format!("/konto/{number}/kontoudtog");
    let (frame, bar) = parent_frame(&portal, &headers, &parent, number, "kontoudtog", path)?;
    let view = account_of(&portal, &parent, number).await?;
    let chosen = choice.maaned.and_then(Month::from_number);
    let this_month = portal.setup.clock.now().month();
    let mut month = chosen.unwrap_or(this_month);
    let (months, mut postings) = portal.engine.statement(account, month).await?;
    // Without a choice, the newest month that has postings.
    if let (None, true, Some(newest)) = (chosen, postings.is_empty(), months.first()) {
        month = *newest;
        postings = portal.engine.statement(account, month).await?.1;
    }
    let language = frame.language;
    let page = views::Statement {
        balance: money::amount(view.balance, language),
        months: months
            .iter()
            .map(|m| MonthLink { number: m.number(), name: money::month(*m, language), current: *m == month })
            .collect(),
        month: money::month(month, language),
        postings: postings.iter().rev().map(|record| posting(record, language)).collect(),
        frame,
        bar,
    };
    Ok(views::show(&page))
}

fn posting(record: &Record, language: Language) -> Posting {
    let w = language.words();
    let text = match record.entry {
        Entry::Purchased { .. } => format!("{} {}", w.posting_purchase, record.key.caller),
        Entry::Refunded { sale, .. } => format!("{} {}", w.posting_refund, sale.caller),
        Entry::ToppedUp { order, source: Source::Provider, .. } => format!("{} {order}", w.posting_top_up),
        Entry::ToppedUp { source: Source::Counter, .. } => w.posting_by_hand.to_owned(),
        Entry::ToppedUp { source: Source::Opening, .. } => w.posting_opening.to_owned(),
        Entry::ToppedUp { order, source: Source::Automatic, .. } => format!("{} {order}", w.posting_automatic),
        Entry::TransferredOut { to, .. } => format!("{} {to}", w.posting_transfer_out),
        Entry::TransferredIn { from, .. } => format!("{} {from}", w.posting_transfer_in),
        Entry::PayoutReserved { payout, .. } => format!("{} {payout}", w.posting_payout),
        Entry::PayoutReturned { payout, .. } => format!("{} {payout}", w.posting_payout_returned),
        Entry::Corrected { .. } => w.posting_correction.to_owned(),
        Entry::Opened { .. }
        | Entry::CardBound { .. }
        | Entry::Blocked
        | Entry::Activated
        | Entry::DailyLimitSet { .. }
        | Entry::CreditLimitSet { .. }
        | Entry::PayoutSent { .. }
        | Entry::PayoutDone { .. }
        | Entry::AutoTopUpAgreed { .. }
        | Entry::AutoTopUpCancelled
        | Entry::ChargeWished { .. }
        | Entry::ChargeFailed { .. }
        | Entry::Closed
        | Entry::Refused { .. } => record.entry.name().to_owned(),
    };
    // What the till or the secretary said it is for.
    let text = if record.text.is_empty() { text } else { format!("{text}: {}", record.text) };
    let change = record.change();
    Posting {
        date: money::moment(record.at, language),
        text,
        amount: money::amount(change, language),
        negative: change < Amount::ZERO,
        balance: money::amount(record.balance, language),
    }
}
