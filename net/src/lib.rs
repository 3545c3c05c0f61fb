//! The wire: what tills, portals and operators say to the engine over QUIC, byte by byte, and both ends of it.
//!
//! It carries requests in and answers out. It decides nothing about money and stores nothing but a till's own outbox.

mod ack_delay;
mod admission;
mod answers;
mod batch_socket;
pub mod callers;
pub mod client;
pub mod conversation;
pub mod enrol;
mod frames;
pub mod identity;
mod lossy_socket;
pub mod numbers;
pub mod outbox;
mod reset_key;
pub mod server;
mod session;
pub mod socket;
mod tls;
pub mod wire;

pub use client::{Client, ClientError};
pub use enrol::{Authority, Bundle};
pub use identity::Identity;
pub use lossy_socket::Loss;
pub use outbox::Outbox;
pub use server::Server;
