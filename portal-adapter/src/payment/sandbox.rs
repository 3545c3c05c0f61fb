//! The sandbox: a payment provider of our own for demonstrations and tests, with its own window on its own address. It keeps its
//! payments in a file, calls back with a signature (once, twice, late or never), and lets test cards go through, be refused or be
//! expired. No real money.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use askama::Template;
use async_trait::async_trait;
use axum::extract::{Path as UrlPath, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Form, Router};
use frokost_engine::{Amount, Clock, OrderNumber};
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use tokio::net::TcpListener;

use crate::money;
use crate::payment::{NewPayment, PaymentProvider, PaymentState, ProviderError, Window};
use crate::words::Language;

/// The card that goes through.
pub const GOOD_CARD: &str = "4111111111111111";
/// The card the bank refuses.
pub const REFUSED_CARD: &str = "4000000000000002";
/// The card that has expired, whatever date is typed.
pub const EXPIRED_CARD: &str = "4000000000000069";
/// The card that has no cover.
pub const NO_COVER_CARD: &str = "4000000000009995";
/// The card whose holder the bank asks for a code first (3-D Secure); the code is 1234.
pub const SECURE_CARD: &str = "4000002500003155";
/// Cards that go through in the window and not when they are charged later: what becomes of such a charge.
const LATER: [(&str, &str); 3] =
    [("4000000000000341", "blocked"), ("4000000000000077", "no_cover"), ("4000000000000085", "expired")];
/// How long a late callback takes: longer than the shop waits before it asks.
const LATE: std::time::Duration = std::time::Duration::from_secs(8);

/// How the shop is called when something has happened to a payment. Real providers do all of these.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Callbacks {
    /// At once.
    #[default]
    Once,
    /// Twice, at once.
    Twice,
    /// When the shop has long found out by asking.
    Late,
    /// Not at all.
    Never,
}

/// How long the bank takes to answer a charge without its holder.
const CHARGED_AFTER: std::time::Duration = std::time::Duration::from_millis(300);

/// The sandbox provider. Clones are the same.
#[derive(Clone)]
pub struct Sandbox(Arc<Inner>);

struct Inner {
    file: PathBuf,
    secret: Vec<u8>,
    origin: String,
    clock: Arc<dyn Clock>,
    callbacks: Callbacks,
    book: Mutex<Book>,
    caller: reqwest::Client,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Book {
    payments: BTreeMap<String, Payment>,
    /// Saved cards: only whether a charge will go through is kept, no number.
    saved: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Payment {
    order: u64,
    amount_ore: i64,
    at_ms: u64,
    return_url: String,
    callback_url: String,
    save_card: bool,
    /// `waiting`, `secure` while the holder is asked for a code, `paid`, or why not.
    state: String,
    saved_card: Option<String>,
    /// What becomes of later charges of the card that is saved with this payment.
    #[serde(default)]
    later: String,
}

impl Sandbox {
    /// A sandbox that keeps its payments in `file`, whose window is reached at `origin`, and that calls back like `callbacks` says.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn open(file: &Path, origin: String, clock: Arc<dyn Clock>, callbacks: Callbacks) -> std::io::Result<Sandbox> {
        let book = match fs::read(file) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(std::io::Error::other)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Book::default(),
            Err(error) => return Err(error),
        };
        let mut secret = vec![0; 32];
        getrandom::fill(&mut secret).map_err(|error| std::io::Error::other(error.to_string()))?;
        let caller = reqwest::Client::builder()
            .timeout(std::time::Duration::from_secs(3))
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(std::io::Error::other)?;
        Ok(Sandbox(Arc::new(Inner {
            file: file.to_owned(),
            secret,
            origin,
            clock,
            callbacks,
            book: Mutex::new(book),
            caller,
        })))
    }

    /// Serves the window until `stop` is ready.
    ///
    /// # Errors
    /// If the listener fails.
    pub async fn serve(
        self,
        listener: TcpListener,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> std::io::Result<()> {
        // What was being charged when the sandbox stopped.
        let open: Vec<String> = {
            let book = self.book();
            let charges = book.payments.iter().filter(|(_, p)| p.state == "waiting" && p.saved_card.is_some());
            charges.map(|(session, _)| session.clone()).collect()
        };
        open.into_iter().for_each(|session| self.charge_later(session));
        let style = || async { ([(CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("../../static/style.css")) };
        let table = Router::new()
            .route("/betaling/{session}", get(show).post(pay))
            .route("/style.css", get(style))
            .with_state(self);
        axum::serve(listener, table).with_graceful_shutdown(stop).await
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the book beside the old one and puts it in its place.
    fn keep(&self, book: &Book) -> Result<(), ProviderError> {
        let failed = |error: std::io::Error| ProviderError::Unreachable(error.to_string());
        let bytes = serde_json::to_vec_pretty(book).map_err(|error| failed(error.into()))?;
        let beside = self.0.file.with_extension("new");
        fs::write(&beside, bytes).map_err(failed)?;
        fs::File::open(&beside).and_then(|file| file.sync_all()).map_err(failed)?;
        fs::rename(&beside, &self.0.file).map_err(failed)
    }

    /// One payment of an order, however often it is asked for.
    fn find_or_add(&self, payment: &NewPayment, saved_card: Option<&str>) -> Result<String, ProviderError> {
        let mut book = self.book();
        if let Some((session, _)) = book.payments.iter().find(|(_, known)| known.order == payment.order.0) {
            return Ok(session.clone());
        }
        let state = match saved_card {
            Some(card) if !book.saved.contains_key(card) => return Err(ProviderError::UnknownCard),
            // Answered later, as a bank would.
            Some(_) | None => "waiting".to_owned(),
        };
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|error| ProviderError::Unreachable(error.to_string()))?;
        let session = hex(&bytes);
        let new = Payment {
            order: payment.order.0,
            amount_ore: payment.amount.ore(),
            at_ms: self.0.clock.now().0,
            return_url: payment.return_url.clone(),
            callback_url: payment.callback_url.clone(),
            save_card: payment.save_card,
            state,
            saved_card: saved_card.map(str::to_owned),
            later: String::new(),
        };
        book.payments.insert(session.clone(), new);
        self.keep(&book)?;
        Ok(session)
    }

    /// Decides a payment, once. `later` is what becomes of further charges of its card.
    fn decide(&self, session: &str, state: &str, later: &str) -> Result<Payment, ProviderError> {
        let mut book = self.book();
        let unknown = || ProviderError::UnknownSession(session.to_owned());
        let payment = book.payments.get_mut(session).ok_or_else(unknown)?;
        if matches!(payment.state.as_str(), "waiting" | "secure") {
            state.clone_into(&mut payment.state);
            if !later.is_empty() {
                later.clone_into(&mut payment.later);
            }
            if state == "paid" && payment.save_card {
                payment.saved_card = Some(format!("card-{session}"));
            }
        }
        let payment = payment.clone();
        if let Some(card) = &payment.saved_card {
            let later = if payment.later.is_empty() { "paid" } else { &payment.later };
            book.saved.entry(card.clone()).or_insert_with(|| later.to_owned());
        }
        self.keep(&book)?;
        Ok(payment)
    }

    /// The bank decides a charge after a while, and the shop is called.
    fn charge_later(&self, session: String) {
        let sandbox = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(CHARGED_AFTER).await;
            let outcome = {
                let book = sandbox.book();
                let card = book.payments.get(&session).and_then(|payment| payment.saved_card.clone());
                card.and_then(|card| book.saved.get(&card).cloned())
            };
            match outcome.map(|outcome| sandbox.decide(&session, &outcome, "")) {
                Some(Ok(payment)) => sandbox.call_back(&session, &payment).await,
                Some(Err(_)) | None => tracing::warn!("the sandbox could not decide a charge"),
            }
        });
    }

    fn sign(&self, body: &str) -> String {
        let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(&self.0.secret).expect("HMAC takes keys of every length");
        mac.update(body.as_bytes());
        hex(&mac.finalize().into_bytes())
    }

    /// Calls the shop the way it is set.
    async fn call_back(&self, session: &str, payment: &Payment) {
        match self.0.callbacks {
            Callbacks::Never => {}
            Callbacks::Once => self.call(session, payment).await,
            Callbacks::Twice => {
                self.call(session, payment).await;
                self.call(session, payment).await;
            }
            Callbacks::Late => {
                let (sandbox, session, payment) = (self.clone(), session.to_owned(), payment.clone());
                tokio::spawn(async move {
                    tokio::time::sleep(LATE).await;
                    sandbox.call(&session, &payment).await;
                });
            }
        }
    }

    /// Calls the shop. If it does not listen, it will find out by asking.
    async fn call(&self, session: &str, payment: &Payment) {
        let signature = self.sign(session);
        let call = self.0.caller.post(&payment.callback_url).header("x-signature", signature).body(session.to_owned());
        if let Err(error) = call.send().await {
            tracing::warn!(%error, "the sandbox's callback did not reach the shop");
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[async_trait]
impl PaymentProvider for Sandbox {
    async fn open(&self, payment: &NewPayment) -> Result<Window, ProviderError> {
        let session = self.find_or_add(payment, None)?;
        let url = format!("{}/betaling/{session}", self.0.origin);
        Ok(Window { session, url })
    }

    async fn query(&self, session: &str) -> Result<PaymentState, ProviderError> {
        let book = self.book();
        let unknown = || ProviderError::UnknownSession(session.to_owned());
        let payment = book.payments.get(session).ok_or_else(unknown)?;
        Ok(match payment.state.as_str() {
            "waiting" | "secure" => PaymentState::Waiting,
            "paid" => PaymentState::Paid {
                amount: Amount::from_ore(payment.amount_ore),
                saved_card: payment.saved_card.clone(),
            },
            why => PaymentState::Refused { why: why.to_owned() },
        })
    }

    async fn charge(&self, saved_card: &str, payment: &NewPayment) -> Result<String, ProviderError> {
        let session = self.find_or_add(payment, Some(saved_card))?;
        self.charge_later(session.clone());
        Ok(session)
    }

    async fn cancel(&self, session: &str) -> Result<(), ProviderError> {
        self.decide(session, "cancelled", "").map(drop)
    }

    async fn refund(&self, session: &str) -> Result<(), ProviderError> {
        let mut book = self.book();
        let unknown = || ProviderError::UnknownSession(session.to_owned());
        let payment = book.payments.get_mut(session).ok_or_else(unknown)?;
        match payment.state.as_str() {
            "paid" => "refunded".clone_into(&mut payment.state),
            "refunded" => return Ok(()),
            _ => return Err(ProviderError::NothingPaid),
        }
        self.keep(&book)
    }

    fn read_callback(&self, body: &str, signature: &str) -> Result<String, ProviderError> {
        // Signing both again makes the comparison take the same time wherever they differ.
        if self.sign(&self.sign(body)) == self.sign(signature) {
            Ok(body.to_owned())
        } else {
            Err(ProviderError::Forged)
        }
    }

    fn window_origin(&self) -> &str {
        &self.0.origin
    }
}

#[derive(Template)]
#[template(path = "window.html")]
struct WindowPage {
    date: String,
    order: OrderNumber,
    amount: String,
    problem: Option<&'static str>,
    receipt: Option<&'static str>,
    /// The holder is asked for the bank's code.
    secure: bool,
    /// Is the card saved for later charges?
    saves: bool,
    paid: bool,
    back: String,
}

fn page(payment: &Payment, problem: Option<&'static str>) -> Response {
    let receipt = match payment.state.as_str() {
        "waiting" | "secure" => None,
        "paid" => Some("Betalingen er gennemført."),
        "no_cover" => Some("Der er ikke dækning på kortet. Der er ikke trukket penge."),
        "expired" => Some("Kortet er udløbet. Der er ikke trukket penge."),
        "cancelled" => Some("Betalingen blev afbrudt."),
        "refunded" => Some("Beløbet er ført tilbage til kortet."),
        _ => Some("Kortet blev afvist af banken. Der er ikke trukket penge."),
    };
    let page = WindowPage {
        date: money::moment(frokost_engine::Timestamp(payment.at_ms), Language::Danish),
        order: OrderNumber(payment.order),
        amount: Amount::from_ore(payment.amount_ore).to_string(),
        problem,
        receipt,
        secure: payment.state == "secure",
        saves: payment.save_card,
        paid: payment.state == "paid",
        back: payment.return_url.clone(),
    };
    let policy = "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
    match page.render() {
        Ok(html) => ([(CONTENT_SECURITY_POLICY, policy)], Html(html)).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn show(State(sandbox): State<Sandbox>, UrlPath(session): UrlPath<String>) -> Response {
    let payment = sandbox.book().payments.get(&session).cloned();
    payment.map_or_else(|| StatusCode::NOT_FOUND.into_response(), |payment| page(&payment, None))
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct CardForm {
    number: String,
    expiry: String,
    check: String,
    code: String,
    #[serde(rename = "do")]
    act: String,
}

async fn pay(
    State(sandbox): State<Sandbox>,
    UrlPath(session): UrlPath<String>,
    Form(form): Form<CardForm>,
) -> Response {
    let known = sandbox.book().payments.get(&session).cloned();
    let Some(known) = known else { return StatusCode::NOT_FOUND.into_response() };
    let month = sandbox.0.clock.now().month().number();
    let judged = match (known.state.as_str(), form.act.as_str()) {
        ("secure", "pay") if form.code.trim() == "1234" => Ok("paid"),
        ("secure", "pay") => Err("Koden er forkert. I sandkassen er den 1234."),
        _ => judge(&form, month),
    };
    let state = match judged {
        Ok(state) => state,
        Err(problem) => return page(&known, Some(problem)),
    };
    match sandbox.decide(&session, state, later(&form)) {
        Ok(payment) if payment.state == "secure" => page(&payment, None),
        Ok(payment) => {
            sandbox.call_back(&session, &payment).await;
            page(&payment, None)
        }
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

/// What becomes of a card, or what is wrong with what was typed. `month` is now, as `yyyymm`.
fn judge(form: &CardForm, month: u32) -> Result<&'static str, &'static str> {
    if form.act == "cancel" {
        return Ok("cancelled");
    }
    let digits = |text: &str| -> String { text.chars().filter(char::is_ascii_digit).collect() };
    let number = digits(&form.number);
    if number.len() != 16 || !luhn(&number) {
        return Err("Kortnummeret er ikke rigtigt.");
    }
    let expiry = digits(&form.expiry);
    let valid_until = match (expiry.len(), expiry.get(..2).and_then(|m| m.parse::<u32>().ok()), expiry.get(2..)) {
        (4, Some(m @ 1..=12), Some(year)) => year.parse::<u32>().ok().map(|year| (2000 + year) * 100 + m),
        _ => None,
    };
    let valid_until = valid_until.ok_or("Udløbsdatoen skrives som 12/30.")?;
    if digits(&form.check).len() != 3 {
        return Err("Kontrolcifrene er de tre cifre bag på kortet.");
    }
    Ok(match number.as_str() {
        EXPIRED_CARD => "expired",
        _ if valid_until < month => "expired",
        REFUSED_CARD => "refused",
        NO_COVER_CARD => "no_cover",
        SECURE_CARD => "secure",
        GOOD_CARD => "paid",
        other if LATER.iter().any(|(card, _)| *card == other) => "paid",
        _ => "refused",
    })
}

/// What becomes of later charges of the card that was typed; nothing for what the first payment became.
fn later(form: &CardForm) -> &'static str {
    let number: String = form.number.chars().filter(char::is_ascii_digit).collect();
    LATER.iter().find(|(card, _)| *card == number).map_or("", |(_, outcome)| outcome)
}

/// The check digit of payment cards.
fn luhn(digits: &str) -> bool {
    let sum: u32 = digits
        .bytes()
        .rev()
        .enumerate()
        .map(|(place, digit)| {
            let digit = u32::from(digit - b'0');
            match (place % 2, digit * 2) {
                (0, _) => digit,
                (_, double) if double > 9 => double - 9,
                (_, double) => double,
            }
        })
        .sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use frokost_engine::Timestamp;

    struct Noon;

    impl Clock for Noon {
        fn now(&self) -> Timestamp {
            Timestamp(1_795_429_920_000)
        }
    }

    fn sandbox(folder: &Path) -> Sandbox {
        let origin = "http://127.0.0.1:1".to_owned();
        Sandbox::open(&folder.join("sandbox.json"), origin, Arc::new(Noon), Callbacks::Once).unwrap()
    }

    fn payment(order: u64, save_card: bool) -> NewPayment {
        NewPayment {
            order: OrderNumber(order),
            amount: Amount::from_kroner(300),
            return_url: String::new(),
            callback_url: "http://127.0.0.1:1/".to_owned(),
            save_card,
        }
    }

    #[test]
    fn test_cards_do_what_the_window_says() {
        let form = |number: &str, expiry: &str| CardForm {
            number: number.to_owned(),
            expiry: expiry.to_owned(),
            check: "123".to_owned(),
            code: String::new(),
            act: "pay".to_owned(),
        };
        assert_eq!(judge(&form("4111 1111 1111 1111", "12/30"), 202_611), Ok("paid"));
        assert_eq!(judge(&form(GOOD_CARD, "11/26"), 202_611), Ok("paid"), "valid to the end of its month");
        assert_eq!(judge(&form(GOOD_CARD, "10/26"), 202_611), Ok("expired"));
        assert_eq!(judge(&form(REFUSED_CARD, "12/30"), 202_611), Ok("refused"));
        assert_eq!(judge(&form(EXPIRED_CARD, "12/30"), 202_611), Ok("expired"));
        assert_eq!(judge(&form(NO_COVER_CARD, "12/30"), 202_611), Ok("no_cover"));
        assert_eq!(judge(&form(SECURE_CARD, "12/30"), 202_611), Ok("secure"));
        for (card, outcome) in LATER {
            assert_eq!(judge(&form(card, "12/30"), 202_611), Ok("paid"), "{card}");
            assert_eq!(later(&form(card, "12/30")), outcome);
        }
        assert!(judge(&form("4111111111111112", "12/30"), 202_611).is_err(), "a typing error");
        assert!(judge(&form(GOOD_CARD, "13/30"), 202_611).is_err());
        assert!(judge(&form(GOOD_CARD, ""), 202_611).is_err());
    }

    #[tokio::test]
    async fn an_order_is_one_payment_also_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let provider = sandbox(folder.path());
        let first = provider.open(&payment(7, false)).await.unwrap();
        assert_eq!(provider.open(&payment(7, false)).await.unwrap(), first);
        assert_eq!(provider.query(&first.session).await.unwrap(), PaymentState::Waiting);
        provider.decide(&first.session, "paid", "").unwrap();
        provider.decide(&first.session, "refused", "").unwrap();
        let provider = sandbox(folder.path());
        let amount = Amount::from_kroner(300);
        assert_eq!(provider.query(&first.session).await.unwrap(), PaymentState::Paid { amount, saved_card: None });
        assert!(matches!(provider.query("nothing").await, Err(ProviderError::UnknownSession(_))));
    }

    #[tokio::test]
    async fn a_saved_card_can_be_charged_later_and_another_cannot() {
        let folder = tempfile::tempdir().unwrap();
        let provider = sandbox(folder.path());
        let first = provider.open(&payment(7, true)).await.unwrap();
        provider.decide(&first.session, "paid", "").unwrap();
        let Ok(PaymentState::Paid { saved_card: Some(card), .. }) = provider.query(&first.session).await else {
            panic!("no card was saved")
        };
        let later = provider.charge(&card, &payment(8, false)).await.unwrap();
        assert_eq!(provider.query(&later).await.unwrap(), PaymentState::Waiting, "a bank answers later");
        while provider.query(&later).await.unwrap() == PaymentState::Waiting {
            tokio::time::sleep(CHARGED_AFTER).await;
        }
        assert!(matches!(provider.query(&later).await, Ok(PaymentState::Paid { .. })));
        assert_eq!(provider.charge(&card, &payment(8, false)).await.unwrap(), later, "charged once");
        assert!(matches!(provider.charge("other", &payment(9, false)).await, Err(ProviderError::UnknownCard)));
    }

    #[tokio::test]
    async fn what_was_paid_can_be_given_back_once_and_a_closed_window_cannot_be_paid_in() {
        let folder = tempfile::tempdir().unwrap();
        let provider = sandbox(folder.path());
        let paid = provider.open(&payment(7, false)).await.unwrap().session;
        assert!(matches!(provider.refund(&paid).await, Err(ProviderError::NothingPaid)));
        provider.decide(&paid, "paid", "").unwrap();
        provider.cancel(&paid).await.unwrap();
        assert!(matches!(provider.query(&paid).await, Ok(PaymentState::Paid { .. })), "too late to cancel");
        provider.refund(&paid).await.unwrap();
        provider.refund(&paid).await.unwrap();
        let refunded = PaymentState::Refused { why: "refunded".to_owned() };
        assert_eq!(sandbox(folder.path()).query(&paid).await.unwrap(), refunded, "or it would be credited");
        let left = provider.open(&payment(8, false)).await.unwrap().session;
        provider.cancel(&left).await.unwrap();
        provider.decide(&left, "paid", "").unwrap();
        assert_eq!(provider.query(&left).await.unwrap(), PaymentState::Refused { why: "cancelled".to_owned() });
        assert!(matches!(provider.refund("nothing").await, Err(ProviderError::UnknownSession(_))));
    }

    #[test]
    fn a_forged_callback_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let provider = sandbox(folder.path());
        let signature = provider.sign("session");
        assert_eq!(provider.read_callback("session", &signature).unwrap(), "session");
        assert!(provider.read_callback("other", &signature).is_err());
        assert!(provider.read_callback("session", "").is_err());
    }
}
