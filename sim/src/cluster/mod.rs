//! A world with sockets: the program's own driver, supervisor and adapters on pretend hosts, between
//! pretend databases that speak the protocols of PostgreSQL and MySQL.
//!
//! ```text
//! source ◄── replicator, rival ──► target        hosts of a simulated network
//!   │  Source: history, log           │  SqlServer: tables, staging
//!   └───────────► Checker ◄───────────┘          after every step
//! ```
//!
//! Everything follows from one number. Start reading at [`scenario`]. Changefeeds instead of the source
//! are in [`failback`].
pub mod checker;
mod claims;
pub mod command;
pub mod dial;
pub mod failback;
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
pub use self::script::Script;

/// Which world with sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scenario {
    /// PostgreSQL to PostgreSQL or CockroachDB.
    #[default]
    PgForward,
    /// MySQL or MariaDB to PostgreSQL or CockroachDB.
    MyForward,
    /// Changefeeds to PostgreSQL or CockroachDB.
    Failback,
}

impl Scenario {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::PgForward, Self::MyForward, Self::Failback];

    /// What it is called on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PgForward => "pg_forward",
            Self::MyForward => "my_forward",
            Self::Failback => "failback",
        }
    }
}

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
    /// What was drawn for it, as text.
    pub drawn: String,
    /// How many transactions the source commits, those that were left out included.
    pub commits: usize,
    /// How it ended.
    pub outcome: Outcome,
    /// Everything that happened.
    pub trace: Vec<String>,
    /// Which interesting states it reached.
    pub reach: Reach,
}
