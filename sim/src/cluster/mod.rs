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
pub mod script;
pub mod slot;
pub mod source;
pub mod sql;
pub mod steps;
pub mod sweep;
pub mod target;
pub mod trace;
pub mod wire;

pub use self::reach::Reach;
use self::scenario::Drawn;
pub use self::script::Script;

/// What the world is called on the command line.
pub const SCENARIO: &str = "pg_forward";

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

impl Outcome {
    /// Whether both ended well, or both broke safety, or both liveness.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
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
