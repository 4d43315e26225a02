//! A world of changefeeds: the program's own `start`, with its HTTP server, its machine for each schema and
//! its staging file on a pretend disk, between those who bring rows and a pretend target.
//!
//! ```text
//! feeder ── POST ──► replicator ──► target        hosts of a simulated network
//!   │  Feeds: history, lanes  │ SimDisk │  SqlServer: tables
//!   └───────────────► Checker ◄─────────┘         after every step
//! ```
//!
//! A feed brings rows on several lanes at once, all changes of one row on the same lane. So it keeps the order
//! of each row's changes and no other. It promises a time when all rows up to it were answered with 200.
//! It brings rows again whenever it likes, and goes on from an older time when it has died.
//!
//! # What is applied twice
//!
//! The target keeps no record of what it holds, so when a run ends in the middle, the next one applies again
//! what was not yet saved. Rows go back and forth for a moment then, which constraints may refuse: a child comes
//! again when its parent is gone already. So a world has either faults that end runs, or tables with
//! constraints. Nor does the target know which run is the newest, so no server here is so slow that it does
//! what a dead run had asked for after the next one has begun. `tests/failback.rs` shows what would happen.
mod caller;
mod checker;
mod feed;
mod feeder;
mod inject;
mod json;
mod program;
pub mod steps;
mod world;

pub use self::world::Drawn;
pub(super) use self::world::run;

/// Where the program listens.
const PORT: u16 = 26_258;
