//! A world with sockets: the program's own driver, supervisor and adapters on pretend hosts, between
//! pretend databases that speak PostgreSQL's protocol.
//!
//! ```text
//! source ◄── replicator, rival ──► target        hosts of a simulated network
//!   │  Source: history, slot          │  SqlServer: tables, staging
//!   └───────────► Checker ◄───────────┘          after every step
//! ```
//!
//! Everything follows from one number. Start reading at [`scenario`].
pub mod checker;
pub mod command;
pub mod dial;
pub mod fault;
mod inject;
pub mod reach;
pub mod replicator;
pub mod scenario;
pub mod slot;
pub mod source;
pub mod sql;
pub mod target;
pub mod trace;
pub mod wire;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use self::reach::Reach;
use self::scenario::{Drawn, Verdict};
use crate::os::with_seed;

/// How a world with sockets ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything arrived.
    Arrived,
    /// A promise was broken.
    Broken(String),
    /// Nothing moved any more.
    NotLive(String),
}

/// A world from its beginning to its end.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was drawn for it.
    pub drawn: Drawn,
    /// How it ended.
    pub outcome: Outcome,
    /// Everything that happened.
    pub trace: Vec<String>,
    /// Which interesting states it reached.
    pub reach: Reach,
}

/// Runs the world of a seed: PostgreSQL to PostgreSQL.
#[must_use]
pub fn pg_forward(seed: u64) -> Report {
    with_seed(seed, move || {
        let drawn = Drawn::new(seed);
        let mut reach = Reach::default();
        let (ended, trace) = trace::keep(|| {
            let world = AssertUnwindSafe(|| scenario::run(&drawn, &mut reach));
            let ended = catch_unwind(world);
            (ended, trace::take())
        });
        let outcome = match ended {
            Ok(Verdict::Arrived) => Outcome::Arrived,
            Ok(Verdict::NotLive(what)) => Outcome::NotLive(what),
            Err(panic) => Outcome::Broken(words(panic.as_ref())),
        };
        reach.read(&trace);
        Report { drawn, outcome, trace, reach }
    })
}

/// What a panic said.
fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    text.unwrap_or_else(|| "a panic without words".to_owned())
}
