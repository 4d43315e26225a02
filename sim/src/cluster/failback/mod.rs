//! A world of changefeeds: the program's own `start`, with its HTTP server, its machine for each schema and
//! its staging file on a pretend disk or its tables in a staging database, between those who bring rows and a pretend target.
//!
//! ```text
//! feeder ── POST ──► replicator ──► target        hosts of a simulated network
//!   │  Feeds: history, lanes  │ SimDisk │  SqlServer: tables
//!   └───────────────► Checker ◄─────────┘         after every step
//! ```
//!
//! With a staging database there is a host `staging` with another pretend server, and perhaps a host `other`, on which the
//! program runs as well. Whoever brings rows goes to the next program when one sends it away.
//!
//! A feed brings rows on several lanes at once, all changes of one row on the same lane. So it keeps the order
//! of each row's changes and no other. It promises a time when all rows up to it were answered with 200.
//! It brings rows again whenever it likes, and goes on from an older time when it has died.
//!
//! # What is left out
//!
//! Without a table of progress the target does not know which run is the newest. On PostgreSQL a run waits for the
//! sessions of the one before, as `tests/failback.rs` shows. With the manners of CockroachDB it cannot, so there
//! no server is so slow that it does what a dead run had asked for after the next one has begun, and no two programs
//! share one. Nothing passes to and from a program that stands still, but its timers go on. Where two feeds share
//! the schema, tables have no constraints: a child may be promised whose parent is still to come.
mod caller;
mod checker;
mod drawn;
mod feed;
mod feeder;
mod inject;
mod json;
mod program;
pub mod steps;
mod times;
mod world;

pub use self::drawn::Drawn;
pub(super) use self::world::run;

/// Where the program listens.
const PORT: u16 = 26_258;
