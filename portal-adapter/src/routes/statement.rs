//! The statement of a month: as a page that follows along, as a spreadsheet, and as a PDF.

use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use frokost_engine::command::Source;
use frokost_engine::time::Month;
use frokost_engine::{AccountId, Amount, CallerId, Entry, Record};
use serde::Deserialize;

use crate::Portal;
use crate::error::PortalError;
use crate::money;
use crate::pdf::{self, Sheet};
use crate::routes::{account_of, parent_frame};
use crate::session::{Parent, blocking};
use crate::views::{self, MonthLink, Posting};
use crate::words::{Language, Words};

/// How often an open page is looked after, and for how long; a browser that is still there comes again.
const LOOKS_EVERY: Duration = Duration::from_secs(1);
const WATCHED_FOR: Duration = Duration::from_secs(10 * 60);

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
    let path = match choice.maaned {
        Some(month) => format!("/konto/{number}/kontoudtog?maaned={month}"),
        None => format!("/konto/{number}/kontoudtog"),
    };
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
        month_number: month.number(),
        // The newest month is another one when something is bought in the next.
        live: (chosen.is_none() || month == this_month).then(|| super::live_address(&view)),
        postings: postings.iter().rev().map(|record| posting(&portal, &parent, record, language)).collect(),
        frame,
        bar,
    };
    Ok(views::show(&page))
}

/// The month that is chosen, of one of the parent's accounts, to be taken along.
async fn whole_month(
    portal: &Portal,
    parent: &Parent,
    number: u64,
    choice: &Choice,
) -> Result<(Month, Vec<Record>), PortalError> {
    let account = parent.account(number)?;
    let month = choice.maaned.and_then(Month::from_number).ok_or(PortalError::NotFound)?;
    Ok((month, portal.engine.statement(account, month).await?.1))
}

/// A month as a spreadsheet: semicolons and decimal commas, and a mark at the beginning by which a Danish spreadsheet knows that it is
/// UTF-8.
pub(super) async fn csv(
    State(portal): State<Portal>,
    parent: Parent,
    headers: HeaderMap,
    Path(number): Path<u64>,
    Query(choice): Query<Choice>,
) -> Result<Response, PortalError> {
    let language = super::language_of(&headers);
    let (month, postings) = whole_month(&portal, &parent, number, &choice).await?;
    let w = language.words();
    let mut sheet = csv::WriterBuilder::new().delimiter(b';').from_writer(vec![0xef, 0xbb, 0xbf]);
    let failed = |error: csv::Error| PortalError::Internal(error.to_string());
    sheet.write_record([w.date, w.text, w.amount, w.balance_after]).map_err(failed)?;
    for record in postings.iter().rev() {
        let row = posting(&portal, &parent, record, language);
        // A text that a spreadsheet would take for a formula stays a text.
        let text = if row.text.starts_with(['=', '+', '-', '@']) { format!("'{}", row.text) } else { row.text };
        let danish = Language::Danish;
        let (amount, balance) = (money::plain(record.change(), danish), money::plain(record.balance, danish));
        sheet.write_record([&row.date, &text, &amount, &balance]).map_err(failed)?;
    }
    let bytes = sheet.into_inner().map_err(|error| PortalError::Internal(error.to_string()))?;
    let name = format!("attachment; filename=\"kontoudtog-{number}-{}.csv\"", month.number());
    Ok(([(CONTENT_TYPE, "text/csv; charset=utf-8".to_owned()), (CONTENT_DISPOSITION, name)], bytes).into_response())
}

/// A month as a PDF, for printing and for keeping; a screen reader can read it.
pub(super) async fn pdf(
    State(portal): State<Portal>,
    parent: Parent,
    headers: HeaderMap,
    Path(number): Path<u64>,
    Query(choice): Query<Choice>,
) -> Result<Response, PortalError> {
    let (month, postings) = whole_month(&portal, &parent, number, &choice).await?;
    let view = account_of(&portal, &parent, number).await?;
    let language = super::language_of(&headers);
    let w = language.words();
    let name = super::pupil_name(&portal, number)?;
    let mut facts = vec![(w.account, number.to_string())];
    facts.extend(view.card.map(|card| (w.card_number, card.to_string())));
    facts.push((w.month, money::month(month, language)));
    let holder = &portal.setup.holder;
    let sheet = Sheet {
        language: language.code(),
        title: format!("{} – {name}", w.statement),
        facts,
        columns: [w.date, w.text, w.amount, w.balance_after],
        rows: postings.iter().rev().map(|record| posting(&portal, &parent, record, language)).collect(),
        foot: format!("{}, CVR {}", holder.name, holder.cvr),
        page: w.page,
    };
    let _drawing = portal.drawing.acquire().await.map_err(|error| PortalError::Internal(error.to_string()))?;
    let bytes = blocking(move || pdf::statement(&sheet)).await?;
    let name = format!("attachment; filename=\"kontoudtog-{number}-{}.pdf\"", month.number());
    Ok(([(CONTENT_TYPE, "application/pdf".to_owned()), (CONTENT_DISPOSITION, name)], bytes).into_response())
}

/// What the page shows that is open.
#[derive(Deserialize)]
pub(super) struct Seen {
    set: u64,
}

/// Says whenever something has changed since the page was drawn, for as long as it is open.
pub(super) async fn live(
    State(portal): State<Portal>,
    parent: Parent,
    Path(number): Path<u64>,
    Query(seen): Query<Seen>,
) -> Result<Response, PortalError> {
    let account = parent.account(number)?;
    let place = portal.watching.place(&parent.login.mail).ok_or(PortalError::TooMany)?;
    let mut last = seen.set;
    let until = tokio::time::Instant::now() + WATCHED_FOR;
    let changes = async_stream(
        portal,
        account,
        move |view| {
            let _held = &place;
            let before = std::mem::replace(&mut last, super::drawn(view));
            before != last
        },
        until,
    );
    Ok(Sse::new(changes).keep_alive(KeepAlive::default()).into_response())
}

/// A word each time `changed` says so, looking once a second, until `until`.
fn async_stream(
    portal: Portal,
    account: AccountId,
    changed: impl FnMut(&frokost_engine::AccountView) -> bool + Send + 'static,
    until: tokio::time::Instant,
) -> impl futures_util::Stream<Item = Result<Event, std::convert::Infallible>> + Send {
    futures_util::stream::unfold((portal, changed), move |(portal, mut changed)| async move {
        loop {
            if tokio::time::Instant::now() > until || portal.stopping() {
                return None;
            }
            if let Ok(Some(view)) = portal.engine.account(account).await
                && changed(&view)
            {
                return Some((Ok(Event::default().data("changed")), (portal, changed)));
            }
            tokio::time::sleep(LOOKS_EVERY).await;
        }
    })
}

/// Which till it was, and at which school.
fn till(portal: &Portal, caller: CallerId, language: Language) -> String {
    let Some((name, school)) = (portal.setup.till_names)(caller) else {
        return format!("{} {caller}", language.words().posting_till);
    };
    // A page without the school's name is better than none.
    match portal.setup.records.school(school) {
        Ok(Some(school)) => format!("{name}, {}", school.name),
        Ok(None) | Err(_) => name,
    }
}

/// The account at the other end of a transfer: by name where the parent has it, too.
fn other(portal: &Portal, parent: &Parent, account: AccountId, w: &Words) -> String {
    let name = parent.login.accounts.contains(&account.0).then(|| super::pupil_name(portal, account.0).ok()).flatten();
    name.unwrap_or_else(|| format!("{} {account}", w.account.to_lowercase()))
}

fn posting(portal: &Portal, parent: &Parent, record: &Record, language: Language) -> Posting {
    let w = language.words();
    let text = match record.entry {
        Entry::Purchased { .. } => format!("{} {}", w.posting_purchase, till(portal, record.key.caller, language)),
        Entry::Refunded { sale, .. } => format!("{} {}", w.posting_refund, till(portal, sale.caller, language)),
        Entry::ToppedUp { order, source: Source::Provider, .. } => format!("{} {order}", w.posting_top_up),
        Entry::ToppedUp { source: Source::Counter, .. } => w.posting_by_hand.to_owned(),
        Entry::ToppedUp { source: Source::Opening, .. } => w.posting_opening.to_owned(),
        Entry::ToppedUp { order, source: Source::Automatic, .. } => format!("{} {order}", w.posting_automatic),
        Entry::TransferredOut { to, .. } => format!("{} {}", w.posting_transfer_out, other(portal, parent, to, w)),
        Entry::TransferredIn { from, .. } => format!("{} {}", w.posting_transfer_in, other(portal, parent, from, w)),
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
