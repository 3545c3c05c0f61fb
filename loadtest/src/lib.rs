//! The load tester: many tills over QUIC that buy according to a plan, what they measured, and an audit afterwards that
//! every approved sale is in the journal exactly once. A client like any other: it never looks into the server.

pub mod asked;
pub mod audit;
mod coming;
pub mod comparison;
pub mod expect;
mod html;
pub mod latency;
pub mod machine;
mod own_cost;
mod pacer;
pub mod plan;
mod readers;
pub mod report;
pub mod run;
pub mod scenario;
pub mod second;
pub mod stats;
mod switch;
mod till;

pub use expect::Expectation;
pub use plan::{Cards, Plan, Readers, Shape, Stage};
pub use report::Report;
pub use run::{LoadError, run};
