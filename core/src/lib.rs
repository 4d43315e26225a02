//! The replication state machine.
//!
//! Pure: no clock, no sockets, no threads, no randomness, no `async`. The crate is `no_std` so the
//! compiler enforces most of that. Start reading at `Machine::step`.
#![no_std]
#![forbid(unsafe_code)]
// Stricter than the rest of the workspace: here a slip loses rows.
#![warn(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::expect_used,
    clippy::float_arithmetic,
    clippy::indexing_slicing,
    clippy::integer_division,
    clippy::string_slice
)]
#![cfg_attr(test, expect(clippy::indexing_slicing, reason = "a test may fail by a panic"))]
extern crate alloc;
#[cfg(test)]
extern crate std;

mod config;
pub mod decode;
pub mod dialect;
mod effect;
mod event;
#[cfg(test)]
mod fixture;
mod flow;
mod footprint;
mod machine;
pub mod model;
pub mod plan;
pub mod record;
pub mod staged;
mod status;
mod stop;

pub use config::{Config, OnReject, Retry};
pub use effect::{Effect, Effects};
pub use event::{Event, Failure};
pub use machine::{Demand, Durable, Machine};
pub use status::Status;
pub use stop::{SchemaDrift, Stop};
