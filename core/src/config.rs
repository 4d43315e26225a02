//! Limits and delays. Every queue in the machine has one.
use core::time::Duration;

/// How much, how long, how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Close a batch at this many different rows.
    pub batch_rows_max: usize,
    /// Close a batch at this many source transactions.
    pub batch_txs_max: usize,
    /// While several batches are on their way, let the next one grow to this many times these sizes, at
    /// least 1. A target that cannot keep up is then given fewer and larger transactions.
    pub batch_growth_max: usize,
    /// Close a batch this long after its first transaction came in, when the target is busy.
    pub batch_age_max: Duration,
    /// Stop reading while this many bytes of rows are held, in bytes.
    pub buffered_bytes_max: usize,
    /// Staging writes and promises under way at the same time.
    pub stages_max: usize,
    /// Batches on their way into the target at the same time, at most.
    pub applies_max: usize,
    /// How often and when to try a failed batch again.
    pub retry: Retry,
    /// Staged rows to ask for in one read.
    pub read_rows_max: u32,
    /// Save the checkpoint at most this often.
    pub save_interval: Duration,
    /// What to do with a row that the target refuses for good.
    pub on_reject: OnReject,
    /// Fold several changes of one row in a batch into one.
    pub collapse: bool,
    /// Where the jitter of retries starts from. Any number; the same number gives the same delays.
    pub seed: u64,
}

/// How often and when to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Tries of one batch before the run ends and starts over, at least 1.
    pub tries_max: u32,
    /// Delay before the second try.
    pub delay_first: Duration,
    /// The delay grows to at most this.
    pub delay_max: Duration,
    /// Factor from one delay to the next, at least 1.
    pub factor: u32,
}

/// What to do with a row that the target refuses for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnReject {
    /// End the run and say which row.
    Stop,
    /// Write it to the dead-letter table and go on.
    DeadLetter {
        /// End the run if more than this share of the last rows would go there, in percent. 100 is no
        /// limit.
        percent_max: u8,
    },
}
