//! The flags of `start`.
use std::path::PathBuf;

use clap::{ArgAction, Args};

use super::duration::{GoDuration, parse_duration};
use super::flags::{
    Additions, Applying, Hidden, Observing, Pools, StagingSchema, hidden, parse_bool,
};
use super::inert::InertFlags;
use super::inert::start::Start;

/// Flags of `start`.
#[derive(Debug, Args)]
pub(crate) struct StartFlags {
    #[command(flatten)]
    pub(crate) connections: StartConnections,
    #[command(flatten)]
    pub(crate) listening: Listening,
    #[command(flatten)]
    pub(crate) applying: Applying,
    #[command(flatten)]
    pub(crate) staging: StagingFlags,
    #[command(flatten)]
    pub(crate) modes: Modes,
    #[command(flatten)]
    pub(crate) pools: Pools,
    #[command(flatten)]
    pub(crate) observing: Observing,
    #[command(flatten)]
    pub(crate) additions: Additions,
    #[command(flatten)]
    pub(crate) progress: ProgressFlags,
    #[command(flatten)]
    pub(crate) inert: InertFlags<Start>,
}

/// Exactly once, and feeds.
#[derive(Debug, Args)]
#[command(next_help_heading = "Additions of this program", rename_all = "camelCase")]
pub(crate) struct ProgressFlags {
    /// A table in each target schema in which the program writes down what the target has, so that all rows
    /// are applied exactly once. It must exist; if it does not, the log has the SQL.
    #[arg(long, value_name = "NAME")]
    pub(crate) target_progress_table: Option<String>,
    /// Changefeeds that are gone for good, by the tables that their URLs name, or by a schema for the one whose
    /// URL names no table: nothing waits for their resolved timestamps any more. Needed for one start only.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) forget_feeds: Vec<String>,
}

/// Connections.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connections and schemas", rename_all = "camelCase")]
pub(crate) struct StartConnections {
    /// The original database, to which changes go back:
    /// postgresql://{user}:{password}@{host}:{port}/{database}, or the same with mysql://
    #[arg(long, value_name = "URL", value_parser = hidden)]
    pub(crate) target_conn: Option<Hidden>,
    /// The staging database, CockroachDB or PostgreSQL. Without it rows are staged in a file below
    /// --dataDir.
    #[arg(long, value_name = "URL", value_parser = hidden)]
    pub(crate) staging_conn: Option<Hidden>,
    #[command(flatten)]
    pub(crate) staging: StagingSchema,
    /// No effect: changefeeds call us. Some documents name the staging database so.
    #[arg(long, value_name = "URL", value_parser = hidden)]
    pub(crate) source_conn: Option<Hidden>,
}

/// The webhook.
#[derive(Debug, Args)]
#[command(next_help_heading = "Listener", rename_all = "camelCase")]
pub(crate) struct Listening {
    /// Where to listen for changefeeds, as host:port or :port.
    #[arg(long, value_name = "ADDRESS", default_value = ":26258")]
    pub(crate) bind_addr: String,
    /// The certificate chain of the listener, PEM. Read again on SIGHUP.
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_certificate: Option<PathBuf>,
    /// The private key of the certificate, PEM. Read again on SIGHUP.
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_private_key: Option<PathBuf>,
    /// Make a throw-away certificate for localhost. For tests only.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true)]
    #[arg(action = ArgAction::Set, value_parser = parse_bool)]
    #[arg(default_value = "false", default_missing_value = "true")]
    pub(crate) tls_self_signed: bool,
    /// Let everybody bring rows who can reach the listener. For tests only.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true)]
    #[arg(action = ArgAction::Set, value_parser = parse_bool)]
    #[arg(default_value = "false", default_missing_value = "true")]
    pub(crate) disable_authentication: bool,
    /// Longest time for one request.
    #[arg(long, value_name = "DURATION", default_value = "2m0s")]
    #[arg(value_parser = parse_duration, allow_hyphen_values = true)]
    pub(crate) http_response_timeout: GoDuration,
    /// Longest time for an answer about our health.
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    #[arg(value_parser = parse_duration, allow_hyphen_values = true)]
    pub(crate) health_check_timeout: GoDuration,
    /// Longest line of a body of lines, in bytes.
    #[arg(long, value_name = "INT", default_value = "65536", allow_negative_numbers = true)]
    pub(crate) ndjson_buffer_size: i64,
    /// DANGER: answer all requests and throw away what they bring. For measuring the way here.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true)]
    #[arg(action = ArgAction::Set, value_parser = parse_bool)]
    #[arg(default_value = "false", default_missing_value = "true")]
    pub(crate) discard: bool,
    /// With --discard: how much longer each request takes.
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    #[arg(value_parser = parse_duration, allow_hyphen_values = true)]
    pub(crate) discard_delay: GoDuration,
}

/// How whole and how late.
#[derive(Debug, Args)]
#[command(next_help_heading = "Consistency", rename_all = "camelCase")]
pub(crate) struct Modes {
    /// Apply rows as soon as they are staged, each request as one transaction, without waiting until the
    /// source says that its transactions are complete. Only for schemas without foreign keys.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true)]
    #[arg(action = ArgAction::Set, value_parser = parse_bool)]
    #[arg(default_value = "false", default_missing_value = "true")]
    pub(crate) immediate: bool,
    /// Apply rows of tables that have no foreign keys, in either direction, as soon as they are staged. Those
    /// of the other tables wait for the rest of their source transactions.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true)]
    #[arg(action = ArgAction::Set, value_parser = parse_bool)]
    #[arg(default_value = "false", default_missing_value = "true")]
    pub(crate) best_effort_only: bool,
    /// Do so while the target is this far behind the source, until a quarter of that is left; 0 is never.
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    #[arg(value_parser = parse_duration, allow_hyphen_values = true)]
    pub(crate) best_effort_window: GoDuration,
}

/// Staging.
#[derive(Debug, Args)]
#[command(next_help_heading = "Staging", rename_all = "camelCase")]
pub(crate) struct StagingFlags {
    /// Rows that one read takes from staging.
    #[arg(long, value_name = "INT", default_value = "10000", allow_negative_numbers = true)]
    pub(crate) scan_size: i64,
    /// Make no index of the staged rows that are not applied yet, which helps where an older version has
    /// left many applied ones.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true)]
    #[arg(action = ArgAction::Set, value_parser = parse_bool)]
    #[arg(default_value = "false", default_missing_value = "true")]
    pub(crate) stage_disable_create_table_reader_index: bool,
}
