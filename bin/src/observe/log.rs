//! The log: `tracing` events become lines on standard output or in a file.
use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use jiff::Zoned;
use prometheus::{IntCounter, IntCounterVec, Opts};
use replicator_io::error_chain;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use super::line::{Line, level_name};
use crate::config::{LogFormat, LogSettings};

/// The log of this process.
#[derive(Debug)]
pub(crate) struct Log {
    format: LogFormat,
    to_file: bool,
    counts: Counts,
}

impl Log {
    /// Opens the log and sends all events of this process to it.
    pub(crate) fn start(settings: &LogSettings) -> anyhow::Result<Self> {
        let out: Box<dyn Write + Send> = match &settings.destination {
            None => Box::new(io::stdout()),
            Some(path) => Box::new(
                OpenOptions::new().create(true).append(true).mode(0o644).open(path).with_context(
                    || format!("could not open --logDestination {}", path.display()),
                )?,
            ),
        };
        let counts = Counts::new();
        let format = settings.format;
        let layer = LogLayer { format, out: Mutex::new(out), counts: counts.clone() };
        tracing_subscriber::registry()
            .with(layer.with_filter(filter(settings.verbosity)))
            .try_init()
            .context("could not start the log")?;
        Ok(Self { format, to_file: settings.destination.is_some(), counts })
    }

    /// How many lines there were, by level.
    pub(crate) fn counts(&self) -> IntCounterVec {
        self.counts.family.clone()
    }

    /// Says on standard error why the process ends, and in the log if that is a file.
    pub(crate) fn final_error(&self, error: &anyhow::Error) {
        let message = error_chain(error.as_ref());
        if self.to_file {
            tracing::error!("{message}");
        }
        let time = Zoned::now();
        let line = Line { level: Level::ERROR, time, message, fields: Map::new() };
        write(&mut io::stderr(), &rendered(&line, self.format));
    }
}

/// More detail is for our own code: what libraries say at that level is for their developers.
fn filter(verbosity: u8) -> Targets {
    let ours = match verbosity {
        0 => LevelFilter::INFO,
        1 => LevelFilter::DEBUG,
        2.. => LevelFilter::TRACE,
    };
    let crates = ["replicator", "replicator_io", "replicator_core"];
    Targets::new().with_default(LevelFilter::INFO).with_targets(crates.map(|name| (name, ours)))
}

/// How many lines there were.
#[derive(Clone, Debug)]
struct Counts {
    family: IntCounterVec,
    by_level: [(Level, IntCounter); 5],
}

impl Counts {
    fn new() -> Self {
        let opts = Opts::new("log_message_count", "Log lines written.");
        let family = IntCounterVec::new(opts, &["level"]).expect("the name and label are valid");
        let levels = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];
        let by_level = levels.map(|level| {
            let name = level_name(level).to_lowercase();
            (level, family.with_label_values(&[name.as_str()]))
        });
        Self { family, by_level }
    }

    fn count(&self, level: Level) {
        if let Some((_, counter)) = self.by_level.iter().find(|(had, _)| *had == level) {
            counter.inc();
        }
    }
}

struct LogLayer<W> {
    format: LogFormat,
    out: Mutex<W>,
    counts: Counts,
}

impl<S: Subscriber, W: Write + Send + 'static> Layer<S> for LogLayer<W> {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let level = *event.metadata().level();
        let mut fields = Fields::default();
        event.record(&mut fields);
        let Fields { message, fields } = fields;
        let line = rendered(&Line { level, time: Zoned::now(), message, fields }, self.format);
        self.counts.count(level);
        write(&mut *self.out.lock().unwrap_or_else(PoisonError::into_inner), &line);
    }
}

fn rendered(line: &Line, format: LogFormat) -> String {
    match format {
        LogFormat::Text => line.to_text(),
        LogFormat::Fluent => line.to_fluent(),
    }
}

/// If the log cannot be written there is nobody left to tell, and replication goes on.
fn write(out: &mut impl Write, line: &str) {
    drop(out.write_all(line.as_bytes()).and_then(|()| out.flush()));
}

#[derive(Default)]
struct Fields {
    message: String,
    fields: Map<String, Value>,
}

impl Fields {
    fn insert(&mut self, field: &Field, value: Value) {
        self.fields.insert(field.name().to_owned(), value);
    }
}

impl Visit for Fields {
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.insert(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.insert(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.insert(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.insert(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message = value.to_owned(),
            _ => self.insert(field, value.into()),
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.insert(field, error_chain(value).into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let value = format!("{value:?}");
        match field.name() {
            "message" => self.message = value,
            _ => self.insert(field, value.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use serde_json::Value;
    use tracing_subscriber::Layer as _;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::{Counts, LogFormat, LogLayer, filter};

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, verbosity: u8, work: impl FnOnce()) -> (String, Counts) {
        let (written, counts) = (Written::default(), Counts::new());
        let out = Mutex::new(written.clone());
        let layer = LogLayer { format, out, counts: counts.clone() };
        let subscriber = tracing_subscriber::registry().with(layer.with_filter(filter(verbosity)));
        tracing::subscriber::with_default(subscriber, work);
        let bytes = written.0.lock().unwrap().clone();
        (String::from_utf8(bytes).unwrap(), counts)
    }

    #[test]
    fn events_become_lines_with_typed_fields() {
        let (text, counts) = logged(LogFormat::Fluent, 0, || {
            let error = io::Error::other("broken");
            let error: &(dyn std::error::Error + 'static) = &error;
            tracing::warn!(rows = 5_u64, ok = true, at = %"0/20", error, "lost {}", "it");
        });
        let line: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["message"], "lost it");
        assert_eq!(line["severity"], "WARNING");
        assert_eq!((&line["rows"], &line["ok"]), (&5.into(), &true.into()));
        assert_eq!((&line["at"], &line["error"]), (&"0/20".into(), &"broken".into()));
        assert_eq!(counts.family.with_label_values(&["warning"]).get(), 1);
    }

    #[test]
    fn verbosity_is_for_our_own_code() {
        for (verbosity, lines) in [(0, 2), (1, 3), (2, 4), (3, 4)] {
            let (text, _) = logged(LogFormat::Text, verbosity, || {
                tracing::info!("ours");
                tracing::debug!("ours");
                tracing::trace!("ours");
                tracing::info!(target: "library", "theirs");
                tracing::debug!(target: "library", "theirs");
            });
            assert_eq!(text.lines().count(), lines, "{verbosity}: {text}");
        }
    }
}
