//! Flags of the documented commands that have no effect on one of them. They are read and checked, so
//! that scripts that pass one set of flags to every command work, and each one given is named in a
//! warning.
mod forward;
pub(super) mod mylogical;
pub(super) mod pglogical;
pub(super) mod start;

use std::marker::PhantomData;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use super::duration::parse_duration;
use super::flags::parse_bool;

/// The flags without effect on a command.
pub(crate) trait Inerts {
    /// The command.
    const COMMAND: &'static str;
    /// What help says above them.
    const HEADING: &'static str;
    /// The flags, in groups.
    const FLAGS: &'static [&'static [Inert]];
}

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
pub(crate) struct Inert {
    pub(super) name: &'static str,
    kind: Kind,
    /// As documented; empty if there is none.
    pub(super) default: &'static str,
    /// Why it has no effect.
    why: &'static str,
}

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

    fn arg(&self, heading: &'static str) -> Arg {
        let arg = Arg::new(self.name)
            .long(self.name)
            .hide(self.is_deprecated())
            .help(format!("No effect: {}.", self.why))
            .help_heading(heading);
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
#[derive(Clone, Debug)]
pub(crate) struct InertFlags<C> {
    given: Vec<&'static Inert>,
    command: PhantomData<C>,
}

impl<C: Inerts> InertFlags<C> {
    /// One sentence for each flag that was given.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let sentence = |flag: &&Inert| {
            let Inert { name, why, .. } = flag;
            if flag.is_deprecated() {
                format!("--{name} is deprecated and has no effect: {why}")
            } else {
                format!("--{name} has no effect on {}: {why}", C::COMMAND)
            }
        };
        self.given.iter().map(sentence).collect()
    }
}

impl<C: Inerts> Args for InertFlags<C> {
    fn augment_args(command: Command) -> Command {
        C::FLAGS
            .iter()
            .copied()
            .flatten()
            .fold(command, |command, flag| command.arg(flag.arg(C::HEADING)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<C: Inerts> FromArgMatches for InertFlags<C> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let is_given =
            |flag: &&Inert| matches.value_source(flag.name) == Some(ValueSource::CommandLine);
        let given = C::FLAGS.iter().copied().flatten().filter(is_given).collect();
        Ok(Self { given, command: PhantomData })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
