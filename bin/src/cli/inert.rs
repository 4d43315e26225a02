//! Flags of the documented commands that have no effect on `pglogical`. They are read and checked, so
//! that scripts that pass one set of flags to every command work, and each one given is named in a
//! warning.
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use super::duration::parse_duration;
use super::flags::parse_bool;

/// What kind of value a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Duration,
    Int,
    Text,
}

/// One flag.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Inert {
    pub(super) name: &'static str,
    kind: Kind,
    /// As documented; empty if there is none.
    pub(super) default: &'static str,
    /// Why it has no effect.
    why: &'static str,
}

const MYSQL: &str = "it is for MySQL sources";
const ORACLE: &str = "it is for Oracle sources";
const START: &str = "it is for the command start";
const WHOLE: &str = "source transactions are always kept whole and in order";
const STAGED: &str = "rows of PostgreSQL sources are not staged";
const RESUMES: &str = "a run that fails is dropped at once and resumed from the checkpoint";
const SPREAD: &str = "a connection is closed when its work is done, which spreads them by itself";
const MEMORY: &str = "--memoryLimit bounds what is read ahead";

/// Every flag of the documents that is not in `flags.rs`.
pub(super) const INERT: &[Inert] = &[
    inert(
        "enableParallelApplies",
        Kind::Bool,
        "false",
        "independent batches always run in parallel",
    ),
    inert("targetApplyQueueSize", Kind::Int, "", MEMORY),
    inert("taskGracePeriod", Kind::Duration, "1m0s", RESUMES),
    inert("stagingJitterTime", Kind::Duration, "15s", SPREAD),
    inert("targetJitterTime", Kind::Duration, "15s", SPREAD),
    inert("quiescentPeriod", Kind::Duration, "10s", "no mutation is deferred"),
    inert("bestEffortOnly", Kind::Bool, "false", WHOLE),
    inert("bestEffortWindow", Kind::Duration, "0s", WHOLE),
    inert("immediate", Kind::Bool, "false", WHOLE),
    inert("scanSize", Kind::Int, "10000", STAGED),
    inert("retireOffset", Kind::Duration, "24h0m0s", STAGED),
    inert("stageMarkAppliedLimit", Kind::Int, "100000", STAGED),
    inert("stageSanityCheckPeriod", Kind::Duration, "10m0s", STAGED),
    inert("stageSanityCheckWindow", Kind::Duration, "1h0m0s", STAGED),
    inert("stageUnappliedPeriod", Kind::Duration, "1m0s", STAGED),
    inert("stageDisableCreateTableReaderIndex", Kind::Bool, "false", STAGED),
    inert("assumeIdempotent", Kind::Bool, "false", STAGED),
    inert("bindAddr", Kind::Text, ":26258", START),
    inert("tlsCertificate", Kind::Text, "", START),
    inert("tlsPrivateKey", Kind::Text, "", START),
    inert("tlsSelfSigned", Kind::Bool, "false", START),
    inert("disableAuthentication", Kind::Bool, "false", START),
    inert("httpResponseTimeout", Kind::Duration, "2m0s", START),
    inert("healthCheckTimeout", Kind::Duration, "5s", START),
    inert("ndjsonBufferSize", Kind::Int, "65536", START),
    inert("limitLookahead", Kind::Int, "0", START),
    inert("enableCheckpointStream", Kind::Bool, "false", START),
    inert("discard", Kind::Bool, "false", START),
    inert("discardDelay", Kind::Duration, "0s", START),
    inert("defaultGTIDSet", Kind::Text, "", MYSQL),
    inert("fetchMetadata", Kind::Bool, "false", MYSQL),
    inert("replicationProcessID", Kind::Int, "10", MYSQL),
    inert("sourcePDBConn", Kind::Text, "", ORACLE),
    inert("sourceSchema", Kind::Text, "", ORACLE),
    inert("scn", Kind::Int, "", ORACLE),
    inert("backfillFromSCN", Kind::Int, "", ORACLE),
    inert("scnWindowSize", Kind::Int, "3250", ORACLE),
    inert("oracle-application-users", Kind::Text, "", ORACLE),
    deprecated("copierChannel", Kind::Int, MEMORY),
    deprecated("stageCopierChannelSize", Kind::Int, MEMORY),
    deprecated("disableCheckpointStream", Kind::Bool, "it is the default of the command start"),
    deprecated("stageMode", Kind::Text, STAGED),
    deprecated("checkpointQueueBufferSize", Kind::Int, ORACLE),
    deprecated(
        "schema-filter",
        Kind::Text,
        "it is for Oracle sources, and is called --sourceSchema",
    ),
    deprecated("enableToastedColumns", Kind::Bool, "unchanged columns are always left as they are"),
];

const fn inert(name: &'static str, kind: Kind, default: &'static str, why: &'static str) -> Inert {
    Inert { name, kind, default, why }
}

/// A flag of older versions: help does not show it.
const fn deprecated(name: &'static str, kind: Kind, why: &'static str) -> Inert {
    Inert { name, kind, default: DEPRECATED, why }
}

/// Stands for "no default, and deprecated".
const DEPRECATED: &str = "deprecated";

impl Inert {
    fn is_deprecated(&self) -> bool {
        self.default == DEPRECATED
    }

    fn arg(&self) -> Arg {
        let arg = Arg::new(self.name)
            .long(self.name)
            .hide(self.is_deprecated())
            .help(format!("No effect: {}.", self.why))
            .help_heading("Accepted, without effect on pglogical");
        let arg = match self.kind {
            Kind::Bool => arg
                .value_name("BOOL")
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("true")
                .value_parser(parse_bool),
            Kind::Duration => {
                arg.value_name("DURATION").value_parser(parse_duration).allow_hyphen_values(true)
            }
            Kind::Int => arg
                .value_name("INT")
                .value_parser(clap::value_parser!(i64))
                .allow_negative_numbers(true),
            Kind::Text => arg.value_name("STRING"),
        };
        let arg = match self.name {
            // The documents spell it both ways.
            "targetApplyQueueSize" => arg.alias("target-apply-queue-size"),
            // It may be given once for each user.
            "oracle-application-users" => arg.action(ArgAction::Append),
            _ => arg,
        };
        match self.default {
            "" | DEPRECATED => arg,
            default => arg.default_value(default),
        }
    }
}

/// Which of them were given.
#[derive(Clone, Debug, Default)]
pub(crate) struct InertFlags {
    given: Vec<&'static Inert>,
}

impl InertFlags {
    /// One sentence for each flag that was given.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let sentence = |flag: &&Inert| {
            let Inert { name, why, .. } = flag;
            if flag.is_deprecated() {
                format!("--{name} is deprecated and has no effect: {why}")
            } else {
                format!("--{name} has no effect on pglogical: {why}")
            }
        };
        self.given.iter().map(sentence).collect()
    }
}

impl Args for InertFlags {
    fn augment_args(command: Command) -> Command {
        INERT.iter().fold(command, |command, flag| command.arg(flag.arg()))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for InertFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let is_given =
            |flag: &&Inert| matches.value_source(flag.name) == Some(ValueSource::CommandLine);
        Ok(Self { given: INERT.iter().filter(is_given).collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
