//! Payments: the port to a payment provider, the orders we make, and the built-in sandbox that stands in for a provider. Card
//! data goes from the parent's browser to the provider's window and is never seen here.

pub(crate) mod charges;
pub mod orders;
pub mod sandbox;

use async_trait::async_trait;
use frokost_engine::{Amount, OrderNumber};

/// A payment that shall be made.
#[derive(Debug, Clone)]
pub struct NewPayment {
    /// Our number of it. The provider makes one payment of a number, however often it is asked.
    pub order: OrderNumber,
    /// How much.
    pub amount: Amount,
    /// Where the window sends the browser when it is done.
    pub return_url: String,
    /// Where the provider tells us that something has happened.
    pub callback_url: String,
    /// May the card be charged again later, without the parent?
    pub save_card: bool,
}

/// A payment window that is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// The provider's name for the payment.
    pub session: String,
    /// Where the browser is to go.
    pub url: String,
}

/// How a payment stands, as the provider says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PaymentState {
    /// Nothing has happened yet.
    Waiting,
    /// The provider has the money.
    Paid {
        /// How much; must be what was ordered.
        amount: Amount,
        /// A name for the card, if it may be charged again.
        saved_card: Option<String>,
    },
    /// It will not be paid.
    Refused {
        /// `refused`, `expired`, `no_cover`, `blocked`, `cancelled`, or `refunded` where the money went back.
        why: String,
    },
}

/// Why a provider cannot be asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ProviderError {
    /// No answer.
    #[error("it does not answer: {0}")]
    Unreachable(String),
    /// It knows no such payment.
    #[error("it knows no payment '{0}'")]
    UnknownSession(String),
    /// It knows no such card.
    #[error("it knows no saved card of that name")]
    UnknownCard,
    /// There is nothing to give back.
    #[error("the payment is not paid, so nothing can be given back")]
    NothingPaid,
    /// A callback that is not the provider's.
    #[error("the signature is wrong")]
    Forged,
}

/// A payment provider. Shaped after the real ones: a hosted window, a signed callback that may come twice, late or never,
/// a query that settles it, and saved cards that can be charged later.
#[async_trait]
pub trait PaymentProvider: Send + Sync {
    /// Opens a window for a payment.
    async fn open(&self, payment: &NewPayment) -> Result<Window, ProviderError>;

    /// How does a payment stand?
    async fn query(&self, session: &str) -> Result<PaymentState, ProviderError>;

    /// Charges a saved card, without the parent. The answer comes later, by callback and query.
    async fn charge(&self, saved_card: &str, payment: &NewPayment) -> Result<String, ProviderError>;

    /// Closes a window that nobody has paid in. Whether somebody has after all, a query says.
    async fn cancel(&self, session: &str) -> Result<(), ProviderError>;

    /// Gives a payment back to the card it came from, the whole of it. Twice is once.
    async fn refund(&self, session: &str) -> Result<(), ProviderError>;

    /// Which payment a callback is about, if it is really the provider's.
    ///
    /// # Errors
    /// [`ProviderError::Forged`].
    fn read_callback(&self, body: &str, signature: &str) -> Result<String, ProviderError>;

    /// The origin of the window, to which our forms may lead.
    fn window_origin(&self) -> &str;
}
