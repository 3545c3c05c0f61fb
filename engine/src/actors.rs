//! The actors: one for each account in use, and their supervisor. They carry messages and decide nothing.

pub(crate) mod account;
pub(crate) mod supervisor;
pub(crate) mod transfer;
