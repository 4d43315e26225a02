//! The commands and their flags, as the user types them. What the values mean together is checked in
//! [`config`](crate::config).
//!
//! Names, defaults and notations are those of the documented product: camelCase, Go's durations and
//! Go's booleans. A flag given twice counts as given last, as there.
mod bytes;
mod duration;
mod flags;
mod inert;
mod make_jwt;
mod mylogical;
mod redact;
mod start;

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, Parser, Subcommand};

pub(crate) use self::bytes::parse_bytes;
pub(crate) use self::duration::GoDuration;
pub(crate) use self::flags::{
    Additions, Applying, Compression, Connections, Hidden, LogFormat, Observing, PgLogicalFlags,
    Pools, ProcessFlags, Recording, Reject, StagingSchema, Truncate, Truncating,
};
pub(crate) use self::make_jwt::MakeJwtFlags;
pub(crate) use self::mylogical::{MyLogicalFlags, ZeroDates};
pub(crate) use self::start::{Listening, Modes, StartFlags};

/// Commands that the documents have and this version has not.
const NOT_BUILT: [&str; 1] = ["oraclelogminer"];

/// Replicates changes from PostgreSQL, MySQL and MariaDB to CockroachDB and back, continuously and exactly once.
#[derive(Debug, Parser)]
#[command(
    name = "replicator",
    version,
    args_override_self = true,
    after_help = "The command oraclelogminer is not built yet in this version."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) process: ProcessFlags,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Replicates from PostgreSQL logical replication to CockroachDB or PostgreSQL.
    #[command(name = "pglogical", args_override_self = true)]
    PgLogical(Box<PgLogicalFlags>),
    /// Replicates from the binary log of MySQL or MariaDB to CockroachDB or PostgreSQL.
    #[command(name = "mylogical", args_override_self = true)]
    MyLogical(Box<MyLogicalFlags>),
    /// Takes what CockroachDB changefeeds bring by HTTP back to the original database.
    #[command(name = "start", args_override_self = true)]
    Start(Box<StartFlags>),
    /// Makes a token (JWT) with which a changefeed may bring rows to `start`.
    #[command(name = "make-jwt", args_override_self = true)]
    MakeJwt(MakeJwtFlags),
    /// Prints the version of this program, and name, version and checksum of all it is built from.
    Version,
}

/// What to print where, and the exit code, when the command line does not lead to a run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Text for the user, lines complete.
    pub(crate) text: String,
    /// 0 for help that was asked for, 2 for a mistake.
    pub(crate) code: u8,
}

impl Refusal {
    /// A mistake in the use of the program.
    pub(crate) fn usage(text: &str) -> Self {
        Self { text: format!("error: {text}\n\nFor more information, try '--help'.\n"), code: 2 }
    }
}

/// Reads the command line, the program's own name included.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, Refusal> {
    Cli::try_parse_from(arguments).map_err(|error| refusal(&error))
}

fn refusal(error: &clap::Error) -> Refusal {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        Some(_) | None => None,
    };
    if error.kind() == ErrorKind::InvalidSubcommand
        && let Some(name) = text(ContextKind::InvalidSubcommand)
        && NOT_BUILT.contains(&name)
    {
        let built = Cli::command()
            .get_subcommands()
            .map(|command| command.get_name().to_owned())
            .collect::<Vec<_>>()
            .join(", ");
        return Refusal::usage(&format!(
            "the command \"{name}\" is not built yet in this version; it has: {built}"
        ));
    }
    let shown = error.render().to_string();
    if !error.use_stderr() {
        return Refusal { text: shown, code: 0 };
    }
    let mut shown = redact::secrets(&shown);
    if error.kind() == ErrorKind::UnknownArgument
        && let Some("true" | "false") = text(ContextKind::InvalidArg)
    {
        shown.push_str("\n  tip: a flag that is on or off takes its value after \"=\", as in ");
        shown.push_str("--stagingCreateSchema=false\n");
    }
    Refusal { text: shown, code: 2 }
}

#[cfg(test)]
mod tests;
