//! The flags, in the groups that help shows.
use std::fmt;
use std::path::PathBuf;

use clap::{ArgAction, Args, ValueEnum};

use super::duration::{GoDuration, parse_duration};
use super::inert::InertFlags;
use super::inert::pglogical::PgLogical;

/// Flags of every command. They may stand before the command, too.
#[derive(Debug, Args)]
#[command(next_help_heading = "Process, logs, metrics", rename_all = "camelCase")]
pub(crate) struct ProcessFlags {
    /// Time that work on its way gets to finish after the program was told to stop.
    #[arg(long, global = true, value_name = "DURATION", default_value = "30s")]
    #[arg(value_parser = parse_duration, allow_hyphen_values = true)]
    pub(crate) grace_period: GoDuration,
    /// Append all logs to this file instead of writing them to standard output.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) log_destination: Option<String>,
    /// How log lines look: for people, or JSON for log collectors.
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    pub(crate) log_format: LogFormat,
    /// Log more: -v for debug, -vv for trace.
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Columns, for people.
    Text,
    /// One JSON object per line.
    Fluent,
}

/// Flags of `pglogical`.
#[derive(Debug, Args)]
pub(crate) struct PgLogicalFlags {
    #[command(flatten)]
    pub(crate) connections: Connections,
    #[command(flatten)]
    pub(crate) position: Position,
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
    pub(crate) recording: Recording,
    #[command(flatten)]
    pub(crate) inert: InertFlags<PgLogical>,
}

/// A connection string. Printing it, in any way, shows three stars.
#[derive(Clone)]
pub(crate) struct Hidden(pub(crate) String);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl From<&str> for Hidden {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// Connections and schemas.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connections and schemas", rename_all = "camelCase")]
pub(crate) struct Connections {
    /// The source database, the primary: postgresql://{user}:{password}@{host}:{port}/{database}, and for
    /// mylogical mysql://{user}:{password}@{host}:{port}/{database}
    #[arg(long, value_name = "URL", value_parser = hidden)]
    pub(crate) source_conn: Option<Hidden>,
    /// The target database: postgresql://{user}:{password}@{host}:{port}/{database}
    #[arg(long, value_name = "URL", value_parser = hidden)]
    pub(crate) target_conn: Option<Hidden>,
    /// The target schema, as database.schema or schema. Without it: schema public of the target
    /// database.
    #[arg(long, value_name = "SCHEMA")]
    pub(crate) target_schema: Option<String>,
    /// The staging database. Without it the target holds the staging schema, and every source
    /// transaction is applied exactly once.
    #[arg(long, value_name = "URL", value_parser = hidden)]
    pub(crate) staging_conn: Option<Hidden>,
    #[command(flatten)]
    pub(crate) staging: StagingSchema,
}

/// Where staging tables are.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connections and schemas", rename_all = "camelCase")]
pub(crate) struct StagingSchema {
    /// Where checkpoints live, as database.schema, or one name: a database on CockroachDB, a schema
    /// on PostgreSQL. Must be the same in every run.
    #[arg(long, value_name = "SCHEMA", default_value = "_replicator.public")]
    pub(crate) staging_schema: String,
    /// Make the staging schema if it does not exist.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true)]
    #[arg(action = ArgAction::Set, value_parser = parse_bool)]
    #[arg(default_value = "false", default_missing_value = "true")]
    pub(crate) staging_create_schema: bool,
}

/// Where to start.
#[derive(Debug, Args)]
#[command(next_help_heading = "Starting position", rename_all = "camelCase")]
pub(crate) struct Position {
    /// The replication slot, which must exist.
    #[arg(long, value_name = "NAME", default_value = "replicator")]
    pub(crate) slot_name: String,
    /// The publication. Without it: the only one of the source database, if there is only one.
    #[arg(long, value_name = "NAME")]
    pub(crate) publication_name: Option<String>,
    /// How often to tell the source which position is safe.
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    #[arg(value_parser = parse_duration, allow_hyphen_values = true)]
    pub(crate) standby_timeout: GoDuration,
}

/// How changes are applied.
#[derive(Debug, Args)]
#[command(next_help_heading = "Applying", rename_all = "camelCase")]
pub(crate) struct Applying {
    /// Longest time for one target transaction.
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    #[arg(value_parser = parse_duration, allow_hyphen_values = true)]
    pub(crate) apply_timeout: GoDuration,
    /// Target transactions at the same time, at most; fewer where more are not faster. At most 80 % of
    /// --targetMaxPoolSize.
    #[arg(long, value_name = "INT", default_value = "16", allow_negative_numbers = true)]
    pub(crate) parallelism: i64,
    /// Rows of a batch that close it.
    #[arg(long, value_name = "INT", default_value = "1000", allow_negative_numbers = true)]
    pub(crate) flush_size: i64,
    /// Age of a batch that closes it.
    #[arg(long, value_name = "DURATION", default_value = "1s")]
    #[arg(value_parser = parse_duration, allow_hyphen_values = true)]
    pub(crate) flush_period: GoDuration,
    /// Source transactions of a batch that close it.
    #[arg(long, value_name = "INT", default_value = "1000", allow_negative_numbers = true)]
    pub(crate) timestamp_limit: i64,
    /// Fold several changes of one row in a batch into one.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true)]
    #[arg(action = ArgAction::Set, value_parser = parse_bool)]
    #[arg(default_value = "true", default_missing_value = "true")]
    pub(crate) collapse_mutations: bool,
    /// How often a failed batch is tried again before the run ends and starts over.
    #[arg(long, value_name = "INT", default_value = "10", allow_negative_numbers = true)]
    pub(crate) max_retries: i64,
    /// Wait before the first retry.
    #[arg(long, value_name = "DURATION", default_value = "25ms")]
    #[arg(value_parser = parse_duration, allow_hyphen_values = true)]
    pub(crate) retry_initial_backoff: GoDuration,
    /// Longest wait between retries.
    #[arg(long, value_name = "DURATION", default_value = "2s")]
    #[arg(value_parser = parse_duration, allow_hyphen_values = true)]
    pub(crate) retry_max_backoff: GoDuration,
    /// Factor from one wait to the next.
    #[arg(long, value_name = "INT", default_value = "2", allow_negative_numbers = true)]
    pub(crate) retry_multiplier: i64,
    /// The table in the target schema for rows that the target refuses. See --onReject.
    #[arg(long, value_name = "IDENT", default_value = "replicator_dlq")]
    pub(crate) dlq_table_name: String,
    /// How often to read the target's tables again; 0 or less is never.
    #[arg(long, value_name = "DURATION", default_value = "1m0s")]
    #[arg(value_parser = parse_duration, allow_hyphen_values = true)]
    pub(crate) schema_refresh: GoDuration,
    /// A script that changes rows on their way. Not built yet in this version.
    #[arg(long, value_name = "FILE")]
    pub(crate) userscript: Option<String>,
}

/// Connections to the databases.
#[derive(Debug, Args)]
#[command(next_help_heading = "Pools", rename_all = "camelCase")]
pub(crate) struct Pools {
    /// Most connections to the staging database.
    #[arg(long, value_name = "INT", default_value = "128", allow_negative_numbers = true)]
    pub(crate) staging_max_pool_size: i64,
    /// Close a staging connection that was idle this long.
    #[arg(long, value_name = "DURATION", default_value = "1m0s")]
    #[arg(value_parser = parse_duration, allow_hyphen_values = true)]
    pub(crate) staging_idle_time: GoDuration,
    /// Close a staging connection that is this old.
    #[arg(long, value_name = "DURATION", default_value = "5m0s")]
    #[arg(value_parser = parse_duration, allow_hyphen_values = true)]
    pub(crate) staging_max_lifetime: GoDuration,
    /// Most connections to the target.
    #[arg(long, value_name = "INT", default_value = "128", allow_negative_numbers = true)]
    pub(crate) target_max_pool_size: i64,
    /// Close a target connection that was idle this long.
    #[arg(long, value_name = "DURATION", default_value = "1m0s")]
    #[arg(value_parser = parse_duration, allow_hyphen_values = true)]
    pub(crate) target_idle_time: GoDuration,
    /// Close a target connection that is this old.
    #[arg(long, value_name = "DURATION", default_value = "5m0s")]
    #[arg(value_parser = parse_duration, allow_hyphen_values = true)]
    pub(crate) target_max_lifetime: GoDuration,
    /// Prepared statements that each connection to the target keeps.
    #[arg(long, value_name = "INT", default_value = "128", allow_negative_numbers = true)]
    pub(crate) target_statement_cache_size: i64,
}

/// Metrics, and what else a replication command tells its operator.
#[derive(Debug, Args)]
#[command(next_help_heading = "Process, logs, metrics", rename_all = "camelCase")]
pub(crate) struct Observing {
    /// Serve metrics and health here, as host:port or :port. Off without it.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) metrics_addr: Option<String>,
    /// The folder for files that the program writes.
    #[arg(long, value_name = "FOLDER", default_value = "replicator-data")]
    pub(crate) data_dir: PathBuf,
    /// How often to write all metrics to a file below --dataDir: 0 is never, otherwise at least 15s.
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    #[arg(value_parser = parse_duration, allow_hyphen_values = true)]
    pub(crate) metrics_snapshot_period: GoDuration,
    /// How those files are compressed.
    #[arg(long, value_name = "NAME", default_value = "gzip")]
    pub(crate) metrics_snapshot_compression: Compression,
    /// Delete such files when they are this old; 0 is never.
    #[arg(long, value_name = "DURATION", default_value = "168h")]
    #[arg(value_parser = parse_duration, allow_hyphen_values = true)]
    pub(crate) metrics_snapshot_retention_time: GoDuration,
    /// Delete the oldest such files when all of them are larger, as 100MB or 1GiB.
    #[arg(long, value_name = "SIZE", default_value = "", hide_default_value = true)]
    pub(crate) metrics_snapshot_retention_size: String,
}

/// How snapshots of metrics are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Compression {
    /// With gzip.
    Gzip,
    /// Not at all.
    None,
}

/// What the documented product has not.
#[derive(Debug, Args)]
#[command(next_help_heading = "Additions of this program", rename_all = "camelCase")]
pub(crate) struct Additions {
    /// Most memory for rows between source and target. At this limit the source is not read further.
    #[arg(long, value_name = "SIZE", default_value = "128MiB")]
    pub(crate) memory_limit: String,
    /// What to do with a row that the target refuses for good.
    #[arg(long, value_name = "POLICY", default_value = "stop")]
    pub(crate) on_reject: Reject,
    /// With --onReject dlq: stop if more than this many percent of the last rows are refused, once it is
    /// a hundred of them; 100 is never.
    #[arg(long, value_name = "INT", default_value = "10", allow_negative_numbers = true)]
    pub(crate) dlq_max_percent: i64,
}

/// Truncates, which changefeeds do not tell of.
#[derive(Debug, Args)]
#[command(next_help_heading = "Additions of this program", rename_all = "camelCase")]
pub(crate) struct Truncating {
    /// What to do when the source truncates a table.
    #[arg(long, value_name = "POLICY", default_value = "stop")]
    pub(crate) truncate: Truncate,
}

/// For those who look for a fault in the program itself; help does not show them.
#[derive(Debug, Args)]
#[command(next_help_heading = "Recording", rename_all = "camelCase")]
pub(crate) struct Recording {
    /// Record to this new file all that the state machine is told and answers, for sim replay. Values of
    /// rows are hashed.
    #[arg(long, hide = true, value_name = "FILE")]
    pub(crate) record_trace: Option<PathBuf>,
    /// With --recordTrace: write values of rows as they are.
    #[arg(long, hide = true, value_name = "BOOL", num_args = 0..=1, require_equals = true)]
    #[arg(action = ArgAction::Set, value_parser = parse_bool)]
    #[arg(default_value = "false", default_missing_value = "true")]
    pub(crate) record_trace_values: bool,
    /// With --recordTrace: the recording ends before the file is larger than this.
    #[arg(long, hide = true, value_name = "SIZE", default_value = "1GiB")]
    pub(crate) record_trace_max: String,
}

/// What to do when the source truncates a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Truncate {
    /// Stop and say so.
    Stop,
    /// Empty the target's table as well.
    Apply,
    /// Leave the target's rows as they are.
    Ignore,
}

/// What to do with a row that the target refuses for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Reject {
    /// Stop and say which row's table.
    Stop,
    /// Write it to --dlqTableName and go on.
    Dlq,
}

#[expect(clippy::unnecessary_wraps, reason = "clap wants a function that may fail")]
pub(super) fn hidden(text: &str) -> Result<Hidden, std::convert::Infallible> {
    Ok(Hidden::from(text))
}

/// Reads a boolean as Go does.
pub(super) fn parse_bool(text: &str) -> Result<bool, &'static str> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("must be true or false"),
    }
}
