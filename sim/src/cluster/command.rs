//! `sim SEED --scenario pg_forward [--trace FILE]`: one world with sockets, for people and for
//! tests in other processes.
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use super::{Outcome, Report, Script};

/// A promise was broken.
const BROKEN: u8 = 10;
/// Nothing moved any more.
const NOT_LIVE: u8 = 11;
/// The same seed led to something else.
const NOT_DETERMINISTIC: u8 = 12;

/// So many lines of a trace show what led to a failure, mostly.
const LAST_LINES: usize = 60;

/// What to do besides running the world.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Write everything that happened to this file.
    pub trace: Option<PathBuf>,
    /// Run it a second time and compare.
    pub again: bool,
}

/// Runs a world and tells `out` how it went. Returns the exit code of the program.
///
/// # Errors
///
/// The trace could not be written, or what is told.
pub fn run(script: &Script, options: &Options, out: &mut impl Write) -> io::Result<u8> {
    let report = script.play();
    if let Some(file) = &options.trace {
        fs::write(file, report.trace.join("\n") + "\n")?;
    }
    let code = tell(script, &report, out)?;
    if options.again {
        let again = script.play();
        if let Some(line) = first_difference(&report.trace, &again.trace) {
            let seed = script.seed;
            writeln!(out, "# seed {seed} is not deterministic: {line}")?;
            return Ok(NOT_DETERMINISTIC);
        }
    }
    Ok(code)
}

fn tell(script: &Script, report: &Report, out: &mut impl Write) -> io::Result<u8> {
    let (text, code) = match &report.outcome {
        Outcome::Arrived => ("everything arrived", 0),
        Outcome::Broken(what) => (what.as_str(), BROKEN),
        Outcome::NotLive(what) => (what.as_str(), NOT_LIVE),
    };
    if code != 0 {
        writeln!(out, "# {}", report.drawn)?;
        let skipped = report.trace.len().saturating_sub(LAST_LINES);
        for line in &report.trace[skipped..] {
            writeln!(out, "{line}")?;
        }
        writeln!(out, "# {} --trace FILE", script.command())?;
    }
    write!(out, "{}", report.reach)?;
    let seed = script.seed;
    writeln!(out, "# seed {seed}, {} lines: {text}", report.trace.len())?;
    Ok(code)
}

/// Where two traces differ first.
#[must_use]
pub fn first_difference(one: &[String], other: &[String]) -> Option<String> {
    let number = (0..one.len().max(other.len())).find(|n| one.get(*n) != other.get(*n))?;
    Some(format!("line {number}: {:?} and {:?}", one.get(number), other.get(number)))
}
