//! The flags of `make-jwt`.
use std::path::PathBuf;

use clap::{ArgAction, Args};

use super::flags::parse_bool;

/// Flags of `make-jwt`.
#[derive(Debug, Args)]
pub(crate) struct MakeJwtFlags {
    /// A schema that the token allows to bring rows for: "database.schema", or one name where the target
    /// is MySQL or Oracle. "*" stands for every name in its place. May be given again.
    #[arg(short, long, value_name = "IDENT", action = ArgAction::Append)]
    pub(crate) allow: Vec<String>,
    /// Print only the claim, for a token that somebody else signs. Needs no key.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true)]
    #[arg(action = ArgAction::Set, value_parser = parse_bool)]
    #[arg(default_value = "false", default_missing_value = "true")]
    pub(crate) claim: bool,
    /// The private key to sign with, RSA or elliptic curve, PEM.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// Where to write the token, readable for you alone; without it: standard output.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}
