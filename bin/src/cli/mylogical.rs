//! The flags of `mylogical`.
use clap::{ArgAction, Args, ValueEnum};

use super::flags::{
    Additions, Applying, Connections, Observing, Pools, Recording, Truncating, parse_bool,
};
use super::inert::InertFlags;
use super::inert::mylogical::MyLogical;

/// Flags of `mylogical`.
#[derive(Debug, Args)]
pub(crate) struct MyLogicalFlags {
    #[command(flatten)]
    pub(crate) connections: Connections,
    #[command(flatten)]
    pub(crate) position: GtidFlags,
    #[command(flatten)]
    pub(crate) applying: Applying,
    #[command(flatten)]
    pub(crate) pools: Pools,
    #[command(flatten)]
    pub(crate) observing: Observing,
    #[command(flatten)]
    pub(crate) additions: Additions,
    #[command(flatten)]
    pub(crate) truncating: Truncating,
    #[command(flatten)]
    pub(crate) values: ValueFlags,
    #[command(flatten)]
    pub(crate) recording: Recording,
    #[command(flatten)]
    pub(crate) inert: InertFlags<MyLogical>,
}

/// Where to start, and as whom.
#[derive(Debug, Args)]
#[command(next_help_heading = "Starting position", rename_all = "camelCase")]
pub(crate) struct GtidFlags {
    /// Which transactions the target has already: a set of GTIDs as in {uuid}:1-29, or of MariaDB a position
    /// as in 0-1-29. Needed on the first run; a saved position wins.
    #[arg(long = "defaultGTIDSet", value_name = "GTIDS")]
    pub(crate) default_gtid_set: Option<String>,
    /// Ask the source how columns are called, if its binary log does not say so (binlog_row_metadata).
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true)]
    #[arg(action = ArgAction::Set, value_parser = parse_bool)]
    #[arg(default_value = "false", default_missing_value = "true")]
    pub(crate) fetch_metadata: bool,
    /// Our number (server_id) among the servers that replicate with the source. No other may have it.
    #[arg(long = "replicationProcessID", value_name = "UINT32", default_value = "10")]
    #[arg(allow_negative_numbers = true)]
    pub(crate) replication_process_id: i64,
}

/// Values that the target cannot have.
#[derive(Debug, Args)]
#[command(next_help_heading = "Additions of this program", rename_all = "camelCase")]
pub(crate) struct ValueFlags {
    /// What becomes of dates that no calendar has, such as 0000-00-00.
    #[arg(long, value_name = "POLICY", default_value = "stop")]
    pub(crate) zero_dates: ZeroDates,
}

/// What becomes of dates that no calendar has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ZeroDates {
    /// Stop and say which column.
    Stop,
    /// They become NULL.
    Null,
    /// They stay as MySQL prints them, for columns of text.
    Keep,
}
