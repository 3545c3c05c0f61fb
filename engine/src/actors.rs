//! The actors: one for each account in use, and their supervisor.

pub(crate) mod account;
pub(crate) mod supervisor;
