//! The pages: one struct a template, filled by the handlers. Formatting only.

mod field;

use askama::Template;
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};

use crate::words::{Language, Words};

pub(crate) use field::{Field, any_problem};

/// What every page of a parent shows around its content.
pub(crate) struct Frame {
    pub(crate) w: &'static Words,
    pub(crate) language: Language,
    /// The parent; `None` before logging in.
    pub(crate) parent: Option<ParentBar>,
    /// Where the language link leads back to.
    pub(crate) path: String,
}

/// The bar at the top and the menu.
pub(crate) struct ParentBar {
    pub(crate) accounts: Vec<AccountLink>,
    /// The account being acted on.
    pub(crate) current: AccountLink,
    pub(crate) form_token: String,
    /// Which item of the menu this page belongs to: `konto`, `indbetal` or `kontoudtog`.
    pub(crate) section: &'static str,
}

#[derive(Clone)]
pub(crate) struct AccountLink {
    pub(crate) number: u64,
    pub(crate) name: String,
}

#[derive(Template)]
#[template(path = "front.html")]
pub(crate) struct Front {
    pub(crate) frame: Frame,
}

#[derive(Template)]
#[template(path = "log_in.html")]
pub(crate) struct LogIn {
    pub(crate) frame: Frame,
    pub(crate) mail: String,
    pub(crate) wrong: Option<&'static str>,
    /// A new password was saved.
    pub(crate) saved: bool,
    /// A form was not sent, since nobody was logged in any more.
    pub(crate) interrupted: bool,
    /// The page that was asked for.
    pub(crate) wanted: String,
    /// The form that was not sent: its address and its fields.
    pub(crate) kept: Option<(String, String)>,
}

impl LogIn {
    pub(crate) fn new(frame: Frame) -> LogIn {
        LogIn {
            frame,
            mail: String::new(),
            wrong: None,
            saved: false,
            interrupted: false,
            wanted: String::new(),
            kept: None,
        }
    }
}

/// A form that was not sent, to be looked at and sent.
#[derive(Template)]
#[template(path = "resume.html")]
pub(crate) struct Resume {
    pub(crate) frame: Frame,
    pub(crate) action: &'static str,
    pub(crate) path: String,
    pub(crate) back: String,
    pub(crate) form_token: String,
    pub(crate) facts: Vec<(&'static str, String)>,
    pub(crate) fields: Vec<(String, String)>,
}

#[derive(Template)]
#[template(path = "account.html")]
pub(crate) struct Account {
    pub(crate) frame: Frame,
    pub(crate) bar: AccountLink,
    pub(crate) form_token: String,
    pub(crate) identifier_label: &'static str,
    pub(crate) identifier: String,
    pub(crate) school: String,
    pub(crate) balance: String,
    pub(crate) card: Option<String>,
    pub(crate) blocked: bool,
    /// The account has just been made.
    pub(crate) made: bool,
    pub(crate) picture: bool,
    /// Where the page hears of changes.
    pub(crate) live: String,
}

#[derive(Template)]
#[template(path = "sign_up.html")]
pub(crate) struct SignUp {
    pub(crate) frame: Frame,
    pub(crate) fields: Vec<Field>,
    pub(crate) problem: Option<&'static str>,
}

#[derive(Template)]
#[template(path = "activate.html")]
pub(crate) struct Activate {
    pub(crate) frame: Frame,
    pub(crate) secret: String,
    /// Where the code went; nothing if it is over.
    pub(crate) mail: Option<String>,
    /// The code has just been sent again.
    pub(crate) sent_again: bool,
    pub(crate) fields: Vec<Field>,
}

#[derive(Template)]
#[template(path = "forgotten.html")]
pub(crate) struct Forgotten {
    pub(crate) frame: Frame,
    pub(crate) fields: Vec<Field>,
    pub(crate) sent: bool,
}

#[derive(Template)]
#[template(path = "reset.html")]
pub(crate) struct Reset {
    pub(crate) frame: Frame,
    pub(crate) ticket: String,
    pub(crate) good: bool,
    pub(crate) fields: Vec<Field>,
}

#[derive(Template)]
#[template(path = "relations.html")]
pub(crate) struct Relations {
    pub(crate) frame: Frame,
    pub(crate) bar: AccountLink,
    pub(crate) form_token: String,
    pub(crate) how: &'static str,
    pub(crate) own: AccountLink,
    pub(crate) present: Vec<AccountLink>,
    pub(crate) pending: Vec<AccountLink>,
    pub(crate) fields: Vec<Field>,
    pub(crate) problem: Option<&'static str>,
}

#[derive(Template)]
#[template(path = "details.html")]
pub(crate) struct Details {
    pub(crate) frame: Frame,
    pub(crate) bar: AccountLink,
    pub(crate) form_token: String,
    pub(crate) identifier_label: &'static str,
    pub(crate) identifier: String,
    pub(crate) login_mail: String,
    pub(crate) balance: String,
    pub(crate) card: Option<String>,
    pub(crate) blocked: bool,
    pub(crate) picture: bool,
    pub(crate) fields: Vec<Field>,
    /// What card and limit were when the fields were filled in.
    pub(crate) shown_card: String,
    pub(crate) shown_limit: String,
    pub(crate) mail: Vec<Field>,
    pub(crate) password: Vec<Field>,
    pub(crate) good: Option<&'static str>,
    pub(crate) problem: Option<String>,
}

#[derive(Template)]
#[template(path = "auto_top_up.html")]
pub(crate) struct AutoTopUp {
    pub(crate) frame: Frame,
    pub(crate) bar: AccountLink,
    pub(crate) form_token: String,
    pub(crate) form: String,
    pub(crate) holder: String,
    pub(crate) consent: bool,
    pub(crate) consent_missing: bool,
    pub(crate) active: Option<AutoActive>,
    pub(crate) payable: Vec<Payable>,
    pub(crate) fields: Vec<Field>,
}

/// An automatic top-up that is on.
pub(crate) struct AutoActive {
    pub(crate) amount: String,
    pub(crate) since: String,
    pub(crate) trouble: Option<&'static str>,
}

#[derive(Template)]
#[template(path = "orders.html")]
pub(crate) struct Orders {
    pub(crate) frame: Frame,
    pub(crate) bar: AccountLink,
    pub(crate) rows: Vec<OrderRow>,
}

pub(crate) struct OrderRow {
    pub(crate) number: u64,
    pub(crate) date: String,
    pub(crate) kind: &'static str,
    pub(crate) amount: String,
    pub(crate) state: &'static str,
}

#[derive(Template)]
#[template(path = "pay_out.html")]
pub(crate) struct PayOut {
    pub(crate) frame: Frame,
    pub(crate) bar: AccountLink,
    pub(crate) form_token: String,
    pub(crate) form: String,
    pub(crate) balance: String,
    pub(crate) payouts: Vec<PayoutRow>,
    pub(crate) done: bool,
    pub(crate) fields: Vec<Field>,
}

pub(crate) struct PayoutRow {
    pub(crate) date: String,
    pub(crate) amount: String,
    pub(crate) state: &'static str,
}

#[derive(Template)]
#[template(path = "transfer.html")]
pub(crate) struct Transfer {
    pub(crate) frame: Frame,
    pub(crate) bar: AccountLink,
    pub(crate) form_token: String,
    pub(crate) form: String,
    pub(crate) balance: String,
    pub(crate) others: Vec<AccountLink>,
    pub(crate) to: u64,
    pub(crate) field: Field,
    pub(crate) done: bool,
    /// The same amount was transferred a moment ago: when, and how much.
    pub(crate) again: Option<(String, String)>,
}

#[derive(Template)]
#[template(path = "support.html")]
pub(crate) struct Support {
    pub(crate) frame: Frame,
    pub(crate) form_token: String,
    pub(crate) fields: Vec<Field>,
    pub(crate) text: String,
    pub(crate) text_problem: Option<&'static str>,
    pub(crate) sent: bool,
}

#[derive(Template)]
#[template(path = "confirm.html")]
struct Confirm {
    frame: Frame,
    title: &'static str,
    about: &'static str,
    /// What is confirmed; nothing if the link is over.
    action: Option<String>,
    button: &'static str,
}

/// A page behind a link in a mail, that asks before it does something.
pub(crate) fn confirm(
    frame: Frame,
    title: &'static str,
    about: &'static str,
    action: Option<String>,
    button: &'static str,
) -> Response {
    let status = if action.is_some() { StatusCode::OK } else { StatusCode::GONE };
    show_with(status, &Confirm { frame, title, about, action, button })
}

#[derive(Template)]
#[template(path = "said.html")]
struct Said {
    frame: Frame,
    title: &'static str,
    text: &'static str,
}

/// A page that says that something was done.
pub(crate) fn said(frame: Frame, title: &'static str, text: &'static str) -> Response {
    show(&Said { frame, title, text })
}

#[derive(Template)]
#[template(path = "statement.html")]
pub(crate) struct Statement {
    pub(crate) frame: Frame,
    pub(crate) bar: AccountLink,
    pub(crate) balance: String,
    pub(crate) months: Vec<MonthLink>,
    pub(crate) month: String,
    pub(crate) month_number: u32,
    /// Where the page hears of changes, if it follows along.
    pub(crate) live: Option<String>,
    pub(crate) postings: Vec<Posting>,
}

pub(crate) struct MonthLink {
    pub(crate) number: u32,
    pub(crate) name: String,
    pub(crate) current: bool,
}

pub(crate) struct Posting {
    pub(crate) date: String,
    pub(crate) text: String,
    pub(crate) amount: String,
    pub(crate) negative: bool,
    pub(crate) balance: String,
}

/// The day, and the time of the day: a narrow page puts one below the other, and breaks neither.
pub(crate) fn day_and_time(moment: &str) -> (&str, &str) {
    moment.split_once(' ').unwrap_or((moment, ""))
}

#[derive(Template)]
#[template(path = "pay_in.html")]
pub(crate) struct PayIn {
    pub(crate) frame: Frame,
    pub(crate) bar: AccountLink,
    pub(crate) form_token: String,
    pub(crate) form: String,
    pub(crate) least: String,
    pub(crate) holder: String,
    pub(crate) receipt: Field,
    /// What was typed, to be mended.
    pub(crate) amount: String,
    pub(crate) consent: bool,
    pub(crate) amount_problem: Option<String>,
    pub(crate) consent_missing: bool,
    /// The same amount was paid in a moment ago: when, and how much.
    pub(crate) again: Option<(String, String)>,
    pub(crate) payable: Vec<Payable>,
}

/// One of a parent's accounts that can be paid into.
pub(crate) struct Payable {
    pub(crate) number: u64,
    pub(crate) name: String,
    pub(crate) card: String,
    pub(crate) balance: String,
}

#[derive(Template)]
#[template(path = "order.html")]
pub(crate) struct Order {
    pub(crate) frame: Frame,
    pub(crate) bar: AccountLink,
    pub(crate) number: u64,
    pub(crate) date: String,
    pub(crate) amount: String,
    pub(crate) balance: String,
    pub(crate) message: &'static str,
    /// `good`, `waiting` or `bad`.
    pub(crate) mood: &'static str,
}

#[derive(Template)]
#[template(path = "terms.html")]
pub(crate) struct Terms {
    pub(crate) frame: Frame,
    pub(crate) holder: String,
}

#[derive(Template)]
#[template(path = "problem.html")]
struct Problem {
    title: &'static str,
    number: u16,
    danish: &'static str,
    english: &'static str,
}

/// A page, or the bare word that there is none.
pub(crate) fn show(template: &impl Template) -> Response {
    show_with(StatusCode::OK, template)
}

pub(crate) fn show_with(status: StatusCode, template: &impl Template) -> Response {
    match template.render() {
        Ok(page) => (status, Html(page)).into_response(),
        Err(error) => {
            tracing::error!(%error, "a page cannot be rendered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// The page for when there is no page.
pub(crate) fn problem(status: StatusCode) -> Response {
    let (title, danish, english) = match status {
        StatusCode::NOT_FOUND => (
            "Siden findes ikke",
            "Siden findes ikke, eller den hører til en anden konto.",
            "There is no such page, or it belongs to another account.",
        ),
        StatusCode::FORBIDDEN => (
            "Formularen var for gammel",
            "Formularen var for gammel. Gå tilbage, opdater siden og prøv igen. Der er ikke sket noget.",
            "The form was too old. Go back, reload the page and try again. Nothing has happened.",
        ),
        StatusCode::SERVICE_UNAVAILABLE => (
            "Systemet svarer ikke",
            "Systemet svarer ikke lige nu. Pengene er i god behold. Prøv igen om et øjeblik.",
            "The system does not answer right now. The money is safe. Try again in a moment.",
        ),
        StatusCode::TOO_MANY_REQUESTS => (
            "For mange på én gang",
            "Der er for mange på én gang. Vent lidt, og prøv igen.",
            "There are too many at once. Wait a little and try again.",
        ),
        StatusCode::PAYLOAD_TOO_LARGE => (
            "Det fylder for meget",
            "Det, du sendte, fylder for meget. Et billede må fylde 5 MB.",
            "What you sent is too large. A picture may have 5 MB.",
        ),
        StatusCode::BAD_REQUEST
        | StatusCode::METHOD_NOT_ALLOWED
        | StatusCode::UNSUPPORTED_MEDIA_TYPE
        | StatusCode::UNPROCESSABLE_ENTITY => (
            "Det kan ikke læses",
            "Det, du sendte, kan ikke læses. Gå tilbage, opdater siden og prøv igen. Der er ikke sket noget.",
            "What you sent cannot be read. Go back, reload the page and try again. Nothing has happened.",
        ),
        _ => (
            "Der er sket en fejl",
            "Der er sket en fejl hos os. Pengene er i god behold. Prøv igen om et øjeblik.",
            "Something went wrong on our side. The money is safe. Try again in a moment.",
        ),
    };
    show_with(status, &Problem { title, number: status.as_u16(), danish, english })
}
