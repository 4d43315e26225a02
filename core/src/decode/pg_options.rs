//! How transactions are put together, and what is counted meanwhile.
use alloc::string::String;

/// What to do when the source empties a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TruncatePolicy {
    /// End the run and say which tables.
    #[default]
    Stop,
    /// Empty the target table.
    Apply,
    /// Keep the rows of the target.
    Ignore,
}

/// How to put transactions together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PgOptions {
    /// What to do when the source empties a table.
    pub truncate: TruncatePolicy,
    /// The schema of the target tables, whatever their schema is at the source; `None` if they have
    /// the same schema on both sides.
    pub target_schema: Option<String>,
    /// A transaction that holds more than this comes in pieces, in bytes.
    pub piece_bytes_max: usize,
    /// All streamed transactions in progress may hold this together, in bytes.
    pub streamed_bytes_max: usize,
}

/// What an operator may want to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Values that were not sent because an update did not touch them (TOAST).
    pub unchanged_cells: u64,
    /// Transactions without a row for us.
    pub transactions_empty: u64,
    /// Truncates that were ignored, one for each table.
    pub truncates_ignored: u64,
}
