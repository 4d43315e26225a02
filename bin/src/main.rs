//! The program `replicator`: reads the command line, runs the command, answers with an exit code:
//! 0 after an orderly end, 2 for a mistake in the command line, 1 for everything else.
mod cli;
mod config;
mod job;
mod make_jwt;
mod observe;
mod signal;
mod version;

use std::io;
use std::process::ExitCode;
use std::thread::available_parallelism;
use std::time::{SystemTime, UNIX_EPOCH};

use replicator_core::model::time::WallTime;
use tokio::runtime::{Builder, Runtime};

use crate::cli::{Command, Refusal};
use crate::config::UsageError;
use crate::job::Job;

/// Rows are many small pieces of memory that one thread makes and another frees; this allocator is made
/// for that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(refusal) => return refuse(&refusal),
    };
    match cli.command {
        Command::Version => {
            print(&mut io::stdout(), &version::report());
            ExitCode::SUCCESS
        }
        Command::MakeJwt(flags) => match make_jwt::run(&flags) {
            Ok(text) => {
                print(&mut io::stdout(), &text);
                ExitCode::SUCCESS
            }
            Err(refusal) => refuse(&refusal),
        },
        Command::PgLogical(flags) => run(Job::pglogical(&cli.process, &flags)),
        Command::MyLogical(flags) => run(Job::mylogical(&cli.process, &flags)),
        Command::Start(flags) => run(Job::start(&cli.process, &flags)),
    }
}

fn run(job: Result<Job, UsageError>) -> ExitCode {
    match job {
        Ok(job) => job.run(),
        Err(error) => refuse(&Refusal::usage(&error.to_string())),
    }
}

fn refuse(refusal: &Refusal) -> ExitCode {
    match refusal.code {
        0 => print(&mut io::stdout(), &refusal.text),
        _ => print(&mut io::stderr(), &refusal.text),
    }
    ExitCode::from(refusal.code)
}

/// Whoever closed the other end does not want to read it.
fn print(out: &mut impl io::Write, text: &str) {
    drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}

/// Two threads at least, so that one that computes for long does not hold up the other; more than four
/// would only pass rows around.
fn runtime() -> io::Result<Runtime> {
    let cores = available_parallelism().map_or(2, usize::from);
    Builder::new_multi_thread().worker_threads(cores.clamp(2, 4)).enable_all().build()
}

/// The time of day by this machine's clock.
fn wall() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime { micros: i64::try_from(since.as_micros()).unwrap_or(i64::MAX) }
}

/// Differs between processes, so that they do not retry in step. Nothing else depends on it.
fn seed() -> u64 {
    wall().micros.unsigned_abs().rotate_left(20) ^ u64::from(std::process::id())
}
