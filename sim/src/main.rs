//! Runs one world from a seed: `sim SEED`, or `sim SEED ordered WORD…` for a story a test has found.
//! Prints everything that happens and how it ended. Exit code 10: a promise was broken. 11: nothing moved
//! any more.
//!
//! `sim mutants [NAME…]` plants faults and expects the model test to notice. Exit code 1: it did not.
use std::error::Error;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;

use sim::action::Action;
use sim::fault::{Kind, Setup};
use sim::mutants;
use sim::random::Random;
use sim::world::World;

const BROKEN: u8 = 10;
const NOT_LIVE: u8 = 11;
const USAGE: u8 = 2;
const FAILED: u8 = 1;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["mutants", names @ ..] => plant(names),
        [seed, rest @ ..] => match (seed.parse(), rest) {
            (Ok(seed), []) => run(Kind::Ordered, seed, &[]).and_then(|code| {
                if code == 0 { run(Kind::Changefeed, seed, &[]) } else { Ok(code) }
            }),
            (Ok(seed), ["ordered", words @ ..]) => run(Kind::Ordered, seed, words),
            (Ok(seed), ["changefeed", words @ ..]) => run(Kind::Changefeed, seed, words),
            (Ok(_) | Err(_), _) => usage(),
        },
        [] => usage(),
    };
    ExitCode::from(outcome.unwrap_or(FAILED))
}

fn usage() -> io::Result<u8> {
    let text = "usage: sim SEED [ordered|changefeed [WORD…]]\n       sim mutants [NAME…]";
    writeln!(io::stderr(), "{text}")?;
    Ok(USAGE)
}

fn plant(names: &[&str]) -> io::Result<u8> {
    let Some(workspace) = Path::new(env!("CARGO_MANIFEST_DIR")).parent() else { return usage() };
    match mutants::run(workspace, names) {
        Ok(0) => Ok(0),
        Ok(_) => Ok(FAILED),
        Err(error) => {
            let source = error.source().map(|source| format!(": {source}")).unwrap_or_default();
            writeln!(io::stderr(), "{error}{source}")?;
            Ok(FAILED)
        }
    }
}

/// Runs one world. Without words they are drawn from the seed, too.
fn run(kind: Kind, seed: u64, words: &[&str]) -> io::Result<u8> {
    let setup = Setup::draw(kind, seed);
    let mut random = Random::new(seed);
    let drawn = (0..250).map(|_| random.word());
    let given = words.iter().filter_map(|word| word.parse::<u64>().ok());
    let actions: Vec<Action> =
        if words.is_empty() { drawn.collect::<Vec<_>>() } else { given.collect() }
            .into_iter()
            .map(|word| Action::draw(&setup, word))
            .collect();
    writeln!(io::stdout(), "# seed {seed}: {setup:#?}")?;
    let mut world = World::new(setup);
    world.keep_trace();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        actions.iter().for_each(|action| world.act(action));
        world.settle()
    }));
    for line in world.take_trace() {
        writeln!(io::stdout(), "{line}")?;
    }
    let (text, code) = match outcome {
        Ok(Ok(())) => ("everything arrived".to_owned(), 0),
        Ok(Err(error)) => (error.to_string(), NOT_LIVE),
        Err(_) => ("a promise was broken; see above".to_owned(), BROKEN),
    };
    writeln!(io::stdout(), "# {kind:?} seed {seed}: {text}\n{}", world.coverage())?;
    Ok(code)
}
