//! A CockroachDB changefeed, which calls us by HTTP.
//!
//! ```text
//! request ─► webhook: who, where, what ─► inbox ─► run
//!         ◄─ answer                     ◄────────  when it is durable
//! ```
pub mod discard;
pub mod feeds;
pub mod inbox;
pub mod webhook;
