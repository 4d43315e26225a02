//! Writes down everything that happens in a simulation, in order: what the pretend servers and the faults
//! do, and every line that the program logs, its steps and effects included.
//!
//! A simulation has one thread, so the trace belongs to the thread.
use std::cell::RefCell;
use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::os::elapsed_micros;

thread_local! {
    static TRACE: RefCell<Trace> = const { RefCell::new(Trace::new()) };
}

#[derive(Debug)]
struct Trace {
    lines: Vec<String>,
    broken: Option<String>,
}

impl Trace {
    const fn new() -> Self {
        Self { lines: Vec::new(), broken: None }
    }
}

/// Begins an empty trace and has the program's log written to it while `f` runs. Returns what `f` does.
pub fn keep<T>(f: impl FnOnce() -> T) -> T {
    TRACE.set(Trace::new());
    tracing::subscriber::with_default(Log, f)
}

/// Takes the lines out.
#[must_use]
pub fn take() -> Vec<String> {
    TRACE.with_borrow_mut(|trace| std::mem::take(&mut trace.lines))
}

/// Adds a line: `who` did or saw `what`.
pub fn say(who: &str, what: impl fmt::Display) {
    let now = elapsed_micros();
    let (millis, micros) = (now / 1_000, now % 1_000);
    // One thing that happens is one line.
    let what = what.to_string().replace('\n', "\\n");
    let line = format!("{millis:>6}.{micros:03} {who:<10} {what}");
    TRACE.with_borrow_mut(|trace| trace.lines.push(line));
}

/// Shows the lines after the first `known`. Returns how many there are.
pub fn look(known: usize, mut see: impl FnMut(&str)) -> usize {
    TRACE.with_borrow(|trace| {
        trace.lines.iter().skip(known).for_each(|line| see(line));
        trace.lines.len()
    })
}

/// A promise is broken, which a host saw that cannot end the simulation by itself.
pub fn broken(what: String) {
    TRACE.with_borrow_mut(|trace| trace.broken = Some(what));
}

/// Takes that out.
#[must_use]
pub fn take_broken() -> Option<String> {
    TRACE.with_borrow_mut(|trace| trace.broken.take())
}

/// Writes the program's log lines to the trace.
struct Log;

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.target().starts_with("replicator")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        let who = match *event.metadata().level() {
            Level::TRACE => "| trace",
            Level::DEBUG => "| debug",
            Level::INFO => "| info",
            Level::WARN => "| warn",
            Level::ERROR => "| error",
        };
        say(who, text.0.trim());
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The fields of a log line.
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let written = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
        written.expect("text takes more text");
    }
}

#[cfg(test)]
mod tests {
    use super::{keep, look, say, take};

    #[test]
    fn lines_of_others_and_log_lines_of_the_program_keep_their_order() {
        let lines = keep(|| {
            say("source", "commits");
            tracing::info!(target: "replicator_io::test", rows = 3, "took {}", "it");
            tracing::info!(target: "turmoil", "not ours");
            let mut seen = 0;
            assert_eq!(look(1, |line| seen += usize::from(line.contains("took"))), 2);
            assert_eq!(seen, 1);
            take()
        });
        assert_eq!(
            lines,
            ["     0.000 source     commits", "     0.000 | info     took it rows=3"]
        );
    }
}
