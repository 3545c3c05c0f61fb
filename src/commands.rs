//! The subcommands, one a file.

pub(crate) mod account;
pub(crate) mod backup;
pub(crate) mod books;
pub(crate) mod card;
pub(crate) mod demo;
pub(crate) mod import;
pub(crate) mod inspect;
mod live;
mod live_screen;
pub(crate) mod load;
mod out_file;
pub(crate) mod parent;
pub(crate) mod payouts;
pub(crate) mod pupils;
pub(crate) mod restore;
pub(crate) mod serve;
pub(crate) mod till;
pub(crate) mod verify;
