//! The bounds that every decision is held to. Amounts in øre, times in milliseconds.

use crate::amount::Amount;
use crate::text::Currency;

/// Bounds of one installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// The most one purchase may cost.
    pub max_purchase: Amount,
    /// The most one top-up may bring.
    pub max_top_up: Amount,
    /// The most an account may hold after a top-up by hand. A refund and what the provider has taken may pass it: money is
    /// never kept back.
    pub max_balance: Amount,
    /// The most credit an account may be given.
    pub max_credit: Amount,
    /// A purchase that leaves less than this wishes for an automatic top-up (quick guide, item 19).
    pub auto_top_up_below: Amount,
    /// Automatic top-up begins once this much has been paid in (item 20).
    pub auto_top_up_after: Amount,
    /// What the accounts are kept in.
    pub currency: Currency,
    /// How long a sale can be given back at the till, in milliseconds.
    pub refund_window_ms: u64,
    /// How long a key is remembered, in milliseconds: as long as a client may still ask again.
    pub key_memory_ms: u64,
}

impl Default for Rules {
    fn default() -> Rules {
        const DAY_MS: u64 = 24 * 60 * 60 * 1000;
        Rules {
            max_purchase: Amount::from_kroner(5_000),
            max_top_up: Amount::from_kroner(10_000),
            max_balance: Amount::from_kroner(50_000),
            max_credit: Amount::from_kroner(1_000),
            auto_top_up_below: Amount::from_kroner(50),
            auto_top_up_after: Amount::from_kroner(100),
            currency: Currency::DKK,
            refund_window_ms: 14 * DAY_MS,
            key_memory_ms: DAY_MS,
        }
    }
}
