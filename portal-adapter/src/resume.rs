//! A form whose session ended before it was sent, or was made anew in another tab. Nothing is done; what was typed is kept through the log in
//! and shown before it is sent again. Passwords, CPR numbers and bank accounts are typed anew: whoever logs in next on a shared computer
//! is not to read them. The form's key stays the same, so that it counts once all the same.

use axum::Form;
use axum::body::Body;
use axum::extract::{FromRequest, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::Portal;
use crate::routes::{bare_frame, own_path};
use crate::session::{self, Parent};
use crate::views;
use crate::words::Words;

/// The fields of a form, in the order in which they came.
pub(crate) type Fields = Vec<(String, String)>;

/// The most that is carried along, in bytes; the forms of the pages are shorter.
const MOST: usize = 4 * 1024;

/// What a field is called on the page; nothing for one that is not shown.
fn label(name: &str, w: &'static Words) -> Option<&'static str> {
    Some(match name {
        "amount" => w.amount,
        "receipt" => w.receipt_mail,
        "message" => w.bank_message,
        "name" => w.name,
        "card" => w.card_number,
        "address" => w.address,
        "postcode" => w.postcode,
        "city" => w.city,
        "phone" => w.phone,
        "limit" => w.max_spending_daily,
        "new_mail" => w.mail_new,
        "to" => w.transfer_to,
        "account" => w.account,
        _ => return None,
    })
}

/// Fields that go along without being shown.
const UNSEEN: [&str; 6] = ["form", "consent", "again", "back", "shown_card", "shown_limit"];

/// What a form does, by the end of its address: the forms that can be taken up again.
fn action(path: &str, w: &'static Words) -> Option<&'static str> {
    let mut parts = path.strip_prefix("/konto/")?.splitn(2, '/');
    let numbered = parts.next()?.bytes().all(|b| b.is_ascii_digit());
    Some(match parts.next().filter(|_| numbered)? {
        "spaer" => w.block_card,
        "aktiver" => w.activate_card,
        "indbetal" => w.pay_in,
        "auto-optank" => w.auto_top_up,
        "auto-optank/annuller" => w.auto_cancel,
        "udbetal" => w.pay_out,
        "overfoer" => w.transfer,
        "tilknytninger" => w.relation_new,
        "tilknytninger/godkend" => w.allow,
        "tilknytninger/slet" => w.relation_delete,
        "bruger" => w.details,
        "bruger/mail" => w.mail_change,
        "bruger/andre-ud" => w.everywhere_out,
        _ => return None,
    })
}

/// A form that waits for its parent to log in.
pub(crate) struct Kept {
    path: String,
    fields: Fields,
}

impl Kept {
    /// Of a form that was sent to `path`: what the pages know, and no passwords.
    fn new(path: &str, fields: Fields, w: &'static Words) -> Option<Kept> {
        action(path, w)?;
        // There it is the bank's.
        let banks = path.ends_with("/udbetal");
        let known = |name: &str| UNSEEN.contains(&name) || label(name, w).is_some() && !(banks && name == "account");
        let fields: Fields = fields.into_iter().filter(|(name, _)| known(name)).collect();
        let length: usize = fields.iter().map(|(name, value)| name.len() + value.len()).sum();
        (length <= MOST).then(|| Kept { path: path.to_owned(), fields })
    }

    /// From the two hidden fields of the log in.
    pub(crate) fn read(path: &str, fields: &str, w: &'static Words) -> Option<Kept> {
        Kept::new(path, serde_json::from_str(fields).ok()?, w)
    }

    /// For the hidden fields of the log in.
    pub(crate) fn write(&self) -> (String, String) {
        (self.path.clone(), serde_json::to_string(&self.fields).unwrap_or_default())
    }

    /// Is it about one of these accounts?
    pub(crate) fn is_about(&self, accounts: &[u64]) -> bool {
        self.path
            .split('/')
            .nth(2)
            .is_some_and(|account| account.parse().is_ok_and(|account| accounts.contains(&account)))
    }

    /// The page that shows what was typed and sends it when the parent says so.
    pub(crate) fn page(self, frame: views::Frame, form_token: String) -> views::Resume {
        let w = frame.w;
        let facts = self.fields.iter().filter(|(_, value)| !value.is_empty());
        let account = self.path.split('/').nth(2).unwrap_or_default();
        views::Resume {
            action: action(&self.path, w).unwrap_or_default(),
            facts: facts.filter_map(|(name, value)| Some((label(name, w)?, value.clone()))).collect(),
            back: format!("/konto/{account}"),
            path: self.path,
            form_token,
            fields: self.fields,
            frame,
        }
    }
}

/// Browsers say where a form comes from.
fn is_form_of_ours(request: &Request) -> bool {
    let says = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    request.method() == Method::POST
        && says("sec-fetch-site") == Some("same-origin")
        && says("content-type").is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"))
}

/// Answers a form that belongs to no session, or to another than the browser has now. Only one of our own pages.
pub(crate) async fn keep(State(portal): State<Portal>, request: Request, next: Next) -> Response {
    let w = crate::routes::language_of(request.headers()).words();
    let path = request.uri().path().to_owned();
    if !is_form_of_ours(&request) || action(&path, w).is_none() {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let parent = match session::find(&portal, &parts.headers).await {
        Ok(parent) => parent,
        Err(error) => return error.into_response(),
    };
    let bytes = match axum::body::to_bytes(body, 16 * 1024).await {
        Ok(bytes) => bytes,
        Err(_) => return views::problem(StatusCode::PAYLOAD_TOO_LARGE),
    };
    let headers = parts.headers.clone();
    let again = Request::from_parts(parts.clone(), Body::from(bytes.clone()));
    let Ok(Form(fields)) = Form::<Fields>::from_request(Request::from_parts(parts, Body::from(bytes)), &()).await
    else {
        return next.run(again).await;
    };
    let token = fields.iter().find(|(name, _)| name == "token").map(|(_, value)| value.clone());
    let fits = |parent: &Parent| token.as_deref().is_some_and(|token| parent.check(token).is_ok());
    if parent.as_ref().is_some_and(fits) || token.is_none() {
        return next.run(again).await;
    }
    let Some(kept) = Kept::new(&path, fields, w) else { return next.run(again).await };
    let frame = bare_frame(&headers, "/log-paa");
    match parent {
        // Logged in anew in another tab.
        Some(parent) => views::show_with(StatusCode::FORBIDDEN, &kept.page(frame, parent.session.form_token)),
        None => {
            let page = views::LogIn { interrupted: true, kept: Some(kept.write()), ..views::LogIn::new(frame) };
            views::show_with(StatusCode::FORBIDDEN, &page)
        }
    }
}

/// Where a parent who was asked to log in wanted to go, if that is a page that login may see.
pub(crate) fn wanted(path: &str, accounts: &[u64]) -> Option<String> {
    let account = path.strip_prefix("/konto/").map(|rest| rest.split(['/', '?']).next().unwrap_or_default());
    let theirs = account.is_none_or(|account| account.parse().is_ok_and(|account| accounts.contains(&account)));
    (own_path(path) && theirs).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::Language;

    fn fields(pairs: &[(&str, &str)]) -> Fields {
        pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn what_was_typed_is_kept_and_no_password() {
        let w = Language::Danish.words();
        let typed = fields(&[
            ("token", "t"),
            ("form", "f"),
            ("amount", "30"),
            ("account", "1"),
            ("reg", "1"),
            ("cpr", "1"),
            ("password", "x"),
            ("mail_password", "x"),
        ]);
        let kept = Kept::new("/konto/1/udbetal", typed, w).unwrap();
        let (path, written) = kept.write();
        let read = Kept::read(&path, &written, w).unwrap();
        assert_eq!(read.fields, fields(&[("form", "f"), ("amount", "30")]));
        assert!(read.is_about(&[2, 1]) && !read.is_about(&[2]));
        for path in ["/konto/1", "/konto/x/udbetal", "/konto/1/bruger/adgangskode", "/log-paa", "//evil/1/udbetal"] {
            assert!(Kept::new(path, fields(&[]), w).is_none(), "{path}");
        }
        assert!(Kept::new("/konto/1/udbetal", fields(&[("message", &"x".repeat(5_000))]), w).is_none());
        assert!(Kept::read("/konto/1/udbetal", "no json", w).is_none());
    }

    #[test]
    fn a_log_in_leads_back_to_what_its_parent_may_see() {
        assert_eq!(wanted("/konto/2/kontoudtog", &[1, 2]).as_deref(), Some("/konto/2/kontoudtog"));
        assert_eq!(wanted("/ordre/7", &[1]).as_deref(), Some("/ordre/7"));
        for path in ["/konto/3", "/konto/x", "//evil.example", "https://evil.example", "/a\\b", ""] {
            assert_eq!(wanted(path, &[1, 2]), None, "{path}");
        }
    }
}
