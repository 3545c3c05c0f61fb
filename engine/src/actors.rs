//! The actors: one for each account that somebody asks, and their supervisor. They carry messages and decide nothing.

pub(crate) mod account;
pub(crate) mod pool;
pub(crate) mod supervisor;
pub(crate) mod transfer;
