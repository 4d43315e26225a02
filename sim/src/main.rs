//! The simulator's command line: one seed, a sweep over many, or a check that it still bites.
//!
//! Exit codes: 10 a promise was broken, 11 nothing moved any more, 12 one seed or recording led to two
//! different stories, 2 wrong arguments, 1 everything else.
use std::error::Error;
use std::fs;
use std::io::{self, Write as _};
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::PossibleValue;
use clap::{Parser, Subcommand, ValueEnum};
use sim::cluster;
use sim::cluster::command::{self, Options};
use sim::cluster::script::Numbers;
use sim::cluster::sweep::Failed;
use sim::exhaustive::{Bounds, Found, worlds};
use sim::fault::{FaultKind, Kind};
use sim::mutants;
use sim::play::{Outcome, Script};
use sim::replay::{self, replay};
use sim::sweep::sweep;

const BROKEN: u8 = 10;
const NOT_LIVE: u8 = 11;
const NOT_DETERMINISTIC: u8 = 12;
const FAILED: u8 = 1;
const WRONG_ARGUMENTS: u8 = 2;

/// How many of the last lines of a story are printed when it fails.
const LINES_MAX: usize = 60;

/// Simulated worlds over the shipped machine.
#[derive(Debug, Parser)]
#[command(name = "sim", args_conflicts_with_subcommands = true, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    seed: SeedArguments,
}

/// One seed.
#[derive(Debug, clap::Args)]
struct SeedArguments {
    /// Everything that happens follows from this number.
    #[arg(value_name = "SEED")]
    seed: Option<u64>,
    /// The world to play; without it one of each kind.
    #[arg(long, requires = "seed")]
    scenario: Option<Scenario>,
    /// The only faults that exist, separated by commas; without it those that the seed draws.
    #[arg(long, value_name = "LIST", value_delimiter = ',', requires = "seed")]
    faults: Option<Vec<String>>,
    /// The numbers that the actions are drawn from; without it those that the seed draws.
    #[arg(long, value_name = "LIST", value_delimiter = ',', requires = "scenario")]
    words: Option<Vec<u64>>,
    /// Faults that do not happen, by their numbers in the trace, such as 3,7-12; with sockets only.
    #[arg(long, value_name = "LIST", requires = "scenario")]
    omit_faults: Option<Numbers>,
    /// Transactions that are not committed, by their numbers in the trace; with sockets only.
    #[arg(long, value_name = "LIST", requires = "scenario")]
    omit_commits: Option<Numbers>,
    /// Write all that happens to this file, instead of its last lines to the output.
    #[arg(long, value_name = "FILE", requires = "seed")]
    trace: Option<PathBuf>,
    /// Leave actions out while it still fails.
    #[arg(long, requires = "seed")]
    shrink: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Play as many seeds as fit on all cores, and say what they reached.
    Sweep {
        /// For how long.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// The first seed; the others follow.
        #[arg(long, default_value_t = 1)]
        first: u64,
        /// Threads; without it as many as there are cores.
        #[arg(long)]
        threads: Option<NonZero<usize>>,
        /// Which worlds; without it a third of the time for each.
        #[arg(long)]
        only: Option<Worlds>,
    },
    /// Play every story of some tiny worlds, with more faults than the tests have time for.
    Exhaustive {
        /// How many transactions the source commits.
        #[arg(long, default_value_t = 3)]
        transactions: usize,
        /// How many effects of dead runs may arrive late.
        #[arg(long, default_value_t = 1)]
        late: usize,
        /// How often the process may die.
        #[arg(long, default_value_t = 1)]
        crashes: usize,
    },
    /// Play what replicator recorded with --recordTrace, and compare what the machine answers.
    Replay {
        /// The recordings.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Plant faults and expect the model test to notice.
    Mutants {
        /// Which; without it all.
        names: Vec<String>,
    },
}

/// A world that can be played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scenario {
    /// Without sockets.
    World(Kind),
    /// Over a simulated network.
    Sockets(cluster::Scenario),
}

impl ValueEnum for Scenario {
    fn value_variants<'a>() -> &'a [Self] {
        &[
            Self::World(Kind::Ordered),
            Self::World(Kind::Changefeed),
            Self::Sockets(cluster::Scenario::PgForward),
            Self::Sockets(cluster::Scenario::MyForward),
            Self::Sockets(cluster::Scenario::Failback),
        ]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(match self {
            Self::World(kind) => kind.name(),
            Self::Sockets(scenario) => scenario.name(),
        }))
    }
}

/// A kind of world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Worlds {
    /// Those without sockets.
    Memory,
    /// Those with sockets.
    Sockets,
    /// Of those with sockets the ones of MySQL and MariaDB.
    Mysql,
    /// Of those with sockets the ones of changefeeds.
    Failback,
}

/// The kinds of faults with these names.
fn faults<T: Copy>(
    names: &[String],
    all: &[T],
    name: impl Fn(T) -> &'static str,
) -> io::Result<Vec<T>> {
    let find = |wanted: &String| {
        let known = || all.iter().map(|kind| name(*kind)).collect::<Vec<_>>().join(" ");
        let found = all.iter().copied().find(|kind| name(*kind) == wanted.as_str());
        let unknown = || {
            let text = format!("these worlds have no fault called {wanted:?}, but {}", known());
            io::Error::new(io::ErrorKind::InvalidInput, text)
        };
        found.ok_or_else(unknown)
    };
    names.iter().map(find).collect()
}

fn main() -> ExitCode {
    let Arguments { command, seed } = Arguments::parse();
    let outcome = match command {
        Some(Command::Sweep { seconds, first, threads, only }) => {
            run_sweeps(Duration::from_secs(seconds), first, threads, only)
        }
        Some(Command::Exhaustive { transactions, late, crashes }) => {
            search(Bounds { transactions, crashes, late })
        }
        Some(Command::Mutants { names }) => plant(&names),
        Some(Command::Replay { files }) => play_recordings(&files),
        None => play_seed(&seed),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            // Where the error output is closed, too, the exit code is all that can be said.
            writeln!(io::stderr(), "{error}").ok();
            let wrong = error.kind() == io::ErrorKind::InvalidInput;
            ExitCode::from(if wrong { WRONG_ARGUMENTS } else { FAILED })
        }
    }
}

fn play_seed(arguments: &SeedArguments) -> io::Result<u8> {
    let seed = arguments.seed.unwrap_or_default();
    let kinds = match arguments.scenario {
        Some(Scenario::World(kind)) => vec![kind],
        Some(Scenario::Sockets(scenario)) => return play_cluster(scenario, seed, arguments),
        None => vec![Kind::Ordered, Kind::Changefeed],
    };
    let mut lines = Vec::new();
    let mut code = 0;
    for kind in kinds {
        let mut script = Script::draw(kind, seed);
        let names = arguments.faults.as_ref();
        script.faults =
            names.map(|names| faults(names, &FaultKind::ALL, FaultKind::name)).transpose()?;
        if let Some(words) = &arguments.words {
            script.words.clone_from(words);
        }
        if arguments.shrink {
            script = script.shrink();
        }
        let (trace, ended) = play(&script, arguments.trace.is_none())?;
        lines.extend(trace);
        code = ended;
        if code != 0 {
            break;
        }
    }
    if let Some(file) = &arguments.trace {
        lines.push(String::new());
        fs::write(file, lines.join("\n"))?;
    }
    Ok(code)
}

/// Plays a world with sockets, twice unless its trace is asked for.
fn play_cluster(
    scenario: cluster::Scenario,
    seed: u64,
    arguments: &SeedArguments,
) -> io::Result<u8> {
    let SeedArguments { faults: names, omit_faults, omit_commits, words, shrink, .. } = arguments;
    if words.is_some() {
        let text = "--words is for the worlds without sockets";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let kinds = cluster::fault::Kind::of(scenario);
    let mut script = cluster::Script {
        scenario,
        seed,
        faults: names
            .as_ref()
            .map(|names| faults(names, kinds, cluster::fault::Kind::name))
            .transpose()?,
        omit_faults: omit_faults.clone().unwrap_or_default(),
        omit_commits: omit_commits.clone().unwrap_or_default(),
    };
    if *shrink {
        script = script.shrink();
    }
    let trace = arguments.trace.clone();
    let options = Options { again: trace.is_none(), trace };
    command::run(&script, &options, &mut io::stdout())
}

/// Plays a script twice and says how it ended. Returns all that happened, and the exit code.
fn play(script: &Script, with_lines: bool) -> io::Result<(Vec<String>, u8)> {
    let (first, second) = (script.play(true), script.play(true));
    let (kind, seed, mut out) = (script.kind.name(), script.seed, io::stdout());
    let (text, code) = match &first.outcome {
        _ if first.trace != second.trace || first.outcome != second.outcome => {
            ("not deterministic: played twice, it is two stories".to_owned(), NOT_DETERMINISTIC)
        }
        Outcome::Arrived => ("everything arrived".to_owned(), 0),
        Outcome::NotLive(what) => (what.clone(), NOT_LIVE),
        Outcome::Broken(promise) => (format!("a promise was broken: {promise}"), BROKEN),
    };
    writeln!(out, "# {kind} seed {seed}: {:#?}", script.setup())?;
    if with_lines {
        let skipped = if code == 0 { 0 } else { first.trace.len().saturating_sub(LINES_MAX) };
        if 0 < skipped {
            writeln!(out, "# {skipped} lines before; see --trace")?;
        }
        for line in first.trace.iter().skip(skipped) {
            writeln!(out, "{line}")?;
        }
    }
    let steps = script.words.len();
    writeln!(out, "{}# {kind} seed {seed}, {steps} actions: {text}", first.coverage)?;
    writeln!(out, "# {}", script.command())?;
    Ok((first.trace, code))
}

/// Plays recordings up to the first that does not replay.
fn play_recordings(files: &[PathBuf]) -> io::Result<u8> {
    let mut out = io::stdout();
    for file in files {
        let failed = |error: &dyn Error| io::Error::other(format!("{}: {error}", file.display()));
        let opened = fs::File::open(file).map_err(|error| failed(&error))?;
        let report = replay(opened).map_err(|error| failed(&error))?;
        writeln!(out, "# {}\n{report}", file.display())?;
        match report.outcome {
            replay::Outcome::Identical => (),
            replay::Outcome::Differs(_) | replay::Outcome::Panicked { answered: true, .. } => {
                return Ok(NOT_DETERMINISTIC);
            }
            replay::Outcome::Panicked { answered: false, .. } => return Ok(BROKEN),
        }
    }
    Ok(0)
}

fn run_sweeps(
    time: Duration,
    first: u64,
    threads: Option<NonZero<usize>>,
    only: Option<Worlds>,
) -> io::Result<u8> {
    let threads = threads.map_or_else(std::thread::available_parallelism, Ok)?.get();
    match only {
        Some(Worlds::Memory) => run_sweep(time, first, threads),
        Some(Worlds::Sockets) => run_cluster_sweeps(time, first, threads),
        Some(Worlds::Mysql) => {
            run_cluster_sweep(cluster::Scenario::MyForward, time, first, threads)
        }
        Some(Worlds::Failback) => {
            run_cluster_sweep(cluster::Scenario::Failback, time, first, threads)
        }
        None => match run_sweep(time / 4, first, threads)? {
            0 => run_cluster_sweeps(time / 4 * 3, first, threads),
            code => Ok(code),
        },
    }
}

fn run_cluster_sweeps(time: Duration, first: u64, threads: usize) -> io::Result<u8> {
    for scenario in cluster::Scenario::ALL {
        match run_cluster_sweep(scenario, time / 3, first, threads)? {
            0 => (),
            code => return Ok(code),
        }
    }
    Ok(0)
}

fn run_cluster_sweep(
    scenario: cluster::Scenario,
    time: Duration,
    first: u64,
    threads: usize,
) -> io::Result<u8> {
    let report = cluster::sweep::sweep(scenario, first..u64::MAX, time, threads);
    let mut out = io::stdout();
    writeln!(out, "{report}")?;
    if let Some((script, failed)) = &report.failed {
        let (text, code) = match failed {
            Failed::Ended(cluster::Outcome::NotLive(what)) => (what, NOT_LIVE),
            Failed::Ended(cluster::Outcome::Broken(promise)) => (promise, BROKEN),
            Failed::NotDeterministic(line) => (line, NOT_DETERMINISTIC),
            Failed::Ended(cluster::Outcome::Arrived) => unreachable!("that is no failure"),
        };
        writeln!(out, "seed {} failed: {text}\n{} --shrink", script.seed, script.command())?;
        return Ok(code);
    }
    for reached in report.missed() {
        writeln!(out, "never reached in {}: {reached:?}", scenario.name())?;
    }
    Ok(if report.missed().is_empty() { 0 } else { FAILED })
}

fn run_sweep(time: Duration, first: u64, threads: usize) -> io::Result<u8> {
    let report = sweep(first, time, threads);
    let mut out = io::stdout();
    writeln!(out, "{report}")?;
    if let Some((script, outcome)) = &report.failed {
        let (text, code) = match outcome {
            Outcome::NotLive(what) => (what, NOT_LIVE),
            Outcome::Broken(promise) => (promise, BROKEN),
            Outcome::Arrived => unreachable!("that is no failure"),
        };
        writeln!(out, "seed {} failed: {text}\n{} --shrink", script.seed, script.command())?;
        return Ok(code);
    }
    for (kind, seen) in report.missed() {
        writeln!(out, "never reached with a source that is {}: {seen:?}", kind.name())?;
    }
    Ok(if report.missed().is_empty() { 0 } else { FAILED })
}

fn search(bounds: Bounds) -> io::Result<u8> {
    let mut out = io::stdout();
    for world in worlds() {
        let (kind, name) = (world.kind.name(), world.name);
        match catch_unwind(AssertUnwindSafe(|| world.search(bounds))) {
            Ok(Found { stories, longest, coverage: _ }) => {
                writeln!(out, "{stories:>9} stories of up to {longest} actions: {kind}, {name}")?;
            }
            Err(_) => return Ok(BROKEN),
        }
    }
    Ok(0)
}

fn plant(names: &[String]) -> io::Result<u8> {
    let Some(workspace) = Path::new(env!("CARGO_MANIFEST_DIR")).parent() else {
        return Err(io::Error::other("the sources are not in a workspace"));
    };
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    match mutants::run(workspace, &names) {
        Ok(0) => Ok(0),
        Ok(_) => Ok(FAILED),
        Err(error) => {
            let source = error.source().map(|source| format!(": {source}")).unwrap_or_default();
            Err(io::Error::other(format!("{error}{source}")))
        }
    }
}
