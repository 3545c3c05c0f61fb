//! Sign-ups that wait for the code that was mailed.

use serde::{Deserialize, Serialize};

/// A sign-up. Its name in the records is the hash of the secret in its address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignUp {
    /// The mail address it is for.
    pub mail: String,
    /// The account that was proved by CPR and card number.
    pub account: u64,
    /// The name that was typed.
    pub name: String,
    /// The address that was typed.
    pub address: String,
    /// Its postal code.
    pub postcode: String,
    /// Its town.
    pub city: String,
    /// A telephone number; may be empty.
    pub phone: String,
    /// The language of the page, `da` or `en`.
    pub language: String,
    /// The hash of the code that was mailed; empty where the address was in use already, and no code fits.
    pub code_hash: String,
    /// How many wrong codes may still be typed.
    pub tries_left: u32,
    /// How many codes were mailed.
    pub sent: u32,
    /// Until when, in milliseconds since 1970.
    pub until_ms: u64,
}
