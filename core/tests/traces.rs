//! Runs every `traces/*.trace`: lines with `>` are events, lines with `<` the effects we expect.
//! `UPDATE_TRACES=1 cargo test -p replicator-core` rewrites the expectations; read the diff.
//!
//! ```text
//! > config batch_rows_max=2 on_reject=dead-letter   limits that differ from `config`, before `resume`
//! > config immediate=5                            in immediate mode, with staged rows up to time 5
//! > config horizon=9                              a target that tells nothing, and what was saved of it
//! > resume 0/10 (0/20..0/30]                        a machine from a checkpoint and applied runs
//! > tx 0/20 +parent 1 x | -child 2                  a transaction; see `mutation`
//! > piece 0/1F +parent 1 x                          a piece of one, before its commit record
//! > idle 0/28                                       an ordered source is idle
//! > rows 7 5 +parent 1 x | -child 2                 request 7: changefeed rows of time 5
//! > resolved 8 0 5                                  request 8: partition 0 promises time 5
//! > read 3 5 +parent 1 x | 6 -child 2 | end         op 3 read staged rows, each with its time
//! > done 3                                          op 3 finished
//! > fail 3 transient                                also: unknown, fenced, constraint, rejected;
//! > fail 3 rejected 0..2                            the last two with the mutations in question
//! > wait 50                                         milliseconds pass
//! ```
#[path = "stories/feeds.rs"]
mod feeds;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use replicator_core::model::catalog::{
    Catalog, Column, Made, NamedForeignKey, Table, Unique, Wire,
};
use replicator_core::model::fk::Place;
use replicator_core::model::ident::TableName;
use replicator_core::model::key::{KeyKind, RowKey};
use replicator_core::model::mutation::{
    ApplyRequest, Change, Mutation, Piece, SourceTx, TimedMutation,
};
use replicator_core::model::position::{Applied, OpId, PartitionId, Position, RequestId};
use replicator_core::model::row::{Cell, Layout, RowBuilder};
use replicator_core::model::time::{Hlc, MonoTime, WallTime};
use replicator_core::{
    Config, Demand, Durable, Effect, Effects, Event, Failure, Machine, OnReject, Retry,
};

#[test]
fn traces() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces");
    let mut stories = 0;
    for entry in fs::read_dir(folder).expect("the folder of traces is there") {
        let path = entry.expect("a folder lists its files").path();
        let expected = fs::read_to_string(&path).expect("a trace is text");
        let actual = Player::default().play(&expected);
        if std::env::var_os("UPDATE_TRACES").is_some() {
            fs::write(&path, &actual).expect("traces can be written");
        } else {
            assert_eq!(expected, actual, "{}", path.display());
        }
        assert!(!actual.contains("< panic"), "{} breaks the driver's contract", path.display());
        stories += 1;
    }
    assert!(0 < stories, "no traces found");
}

/// Plays one trace.
#[derive(Default)]
struct Player {
    options: BTreeMap<String, String>,
    now: MonoTime,
    machine: Option<Machine>,
    demand: Option<Demand>,
    output: String,
}

impl Player {
    /// Keeps comments and events, and puts the effects we got after each event.
    fn play(mut self, trace: &str) -> String {
        for line in trace.lines().filter(|line| !line.starts_with('<')) {
            self.say(line);
            if let Some(command) = line.strip_prefix("> ") {
                self.run(command);
            }
        }
        self.output
    }

    fn say(&mut self, line: &str) {
        self.output.push_str(line);
        self.output.push('\n');
    }

    fn run(&mut self, command: &str) {
        let (verb, rest) = command.split_once(' ').unwrap_or((command, ""));
        match verb {
            "config" => {
                let pairs = rest.split(' ').map(|pair| pair.split_once('=').expect("name=value"));
                self.options.extend(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
            }
            "resume" => self.resume(rest),
            "wait" => {
                self.now = self.now.after(Duration::from_millis(number(rest)));
                self.step(Event::DeadlineReached);
            }
            verb => self.step(event(verb, rest)),
        }
    }

    fn resume(&mut self, text: &str) {
        let mut durable = Durable::default();
        for word in text.split_whitespace() {
            if let Some(run) = word.strip_prefix('(') {
                let run = run.strip_suffix(']').expect("(after..through]");
                let (after, through) = run.split_once("..").expect("after..through");
                let after = (!after.is_empty()).then(|| position(after));
                durable.applied.push(Applied { after, through: position(through) });
            } else if let Some((id, resolved)) = word.split_once('@') {
                durable.resolved.insert(partition(id), hlc(resolved));
            } else {
                durable.checkpoint = Some(position(word));
            }
        }
        let config = config(&self.options);
        let machine = Machine::resume(config, Arc::new(catalog()), durable, self.now);
        let machine = match self.options.get("horizon") {
            Some(horizon) => machine.at_least_once(hlc(horizon)),
            None => machine,
        };
        self.machine = Some(match self.options.get("immediate") {
            Some(newest) => machine.immediate(hlc(newest)),
            None => machine,
        });
        self.demand = Some(Demand::Read);
    }

    fn step(&mut self, event: Event) {
        if self.machine.is_none() {
            self.resume("");
        }
        let Some(mut machine) = self.machine.take() else { panic!("just resumed") };
        let mut effects = Effects::default();
        let step = || machine.step(self.now, event, &mut effects);
        // A line that does not fit its trace shows up in its place.
        let Ok(outcome) = catch_unwind(AssertUnwindSafe(step)) else {
            return self.say("< panic");
        };
        for effect in effects.drain() {
            self.say(&format!("< {}", show(&effect)));
        }
        match outcome {
            Ok(()) => {
                let demand = Some(machine.demand());
                if demand != self.demand {
                    self.say(&format!("< demand: {:?}", machine.demand()));
                }
                self.demand = demand;
                self.machine = Some(machine);
            }
            // A machine that stopped is dead; the trace goes on with `resume`.
            Err(stop) => self.say(&format!("< stop: {stop}")),
        }
    }
}

fn config(options: &BTreeMap<String, String>) -> Config {
    let get = |name: &str, default| options.get(name).map_or(default, |text| number(text));
    let count = |name, default| usize::try_from(get(name, default)).expect("a small number");
    let millis = |name, default| Duration::from_millis(get(name, default));
    let known = [
        "batch_rows_max",
        "batch_txs_max",
        "batch_growth_max",
        "batch_age_max",
        "buffered_bytes_max",
        "applies_max",
        "tries_max",
        "read_rows_max",
        "save_interval",
        "on_reject",
        "immediate",
        "horizon",
    ];
    for name in options.keys() {
        assert!(known.contains(&name.as_str()), "unknown option {name}");
    }
    Config {
        batch_rows_max: count("batch_rows_max", 2),
        batch_txs_max: count("batch_txs_max", 10),
        batch_growth_max: count("batch_growth_max", 1),
        batch_age_max: millis("batch_age_max", 100),
        buffered_bytes_max: count("buffered_bytes_max", 100_000),
        stages_max: 4,
        applies_max: count("applies_max", 2),
        retry: Retry {
            tries_max: u32::try_from(get("tries_max", 3)).expect("a small number"),
            delay_first: Duration::from_millis(50),
            delay_max: Duration::from_millis(50),
            factor: 2,
        },
        read_rows_max: u32::try_from(get("read_rows_max", 10)).expect("a small number"),
        save_interval: millis("save_interval", 0),
        on_reject: match options.get("on_reject").map(String::as_str) {
            Some("dead-letter") => OnReject::DeadLetter { percent_max: 10 },
            Some("stop") | None => OnReject::Stop,
            Some(other) => panic!("unknown policy {other}"),
        },
        collapse: true,
        seed: 1,
    }
}

fn event(verb: &str, rest: &str) -> Event {
    let (first, more) = rest.split_once(' ').unwrap_or((rest, ""));
    match verb {
        "tx" => Event::TransactionReceived(SourceTx {
            position: position(first),
            committed: WallTime { micros: 0 },
            mutations: mutations(more),
        }),
        "piece" => Event::PieceReceived { before: position(first), mutations: mutations(more) },
        "idle" => Event::IdleThrough(position(first)),
        "rows" => {
            let (time, more) = more.split_once(' ').expect("request time rows");
            let timed = |mutation| TimedMutation { time: hlc(time), mutation };
            let rows = mutations(more).into_iter().map(timed).collect();
            Event::RowsReceived { request: RequestId(number(first)), rows }
        }
        "resolved" => {
            let (id, resolved) = more.split_once(' ').expect("request partition time");
            let request = RequestId(number(first));
            Event::ResolvedReceived { request, partition: partition(id), resolved: hlc(resolved) }
        }
        "read" => {
            let exhausted = more.ends_with("end");
            let rows = more.split(" | ").filter(|text| *text != "end").map(timed).collect();
            Event::StagedRead { op: op(first), rows, exhausted }
        }
        "stop" => Event::StopRequested,
        "done" => Event::Done(op(first)),
        "fail" => Event::Failed { op: op(first), failure: failure(more) },
        other => panic!("unknown event {other}"),
    }
}

fn failure(text: &str) -> Failure {
    let (kind, at) = text.split_once(' ').unwrap_or((text, ""));
    let detail = "the target's words".to_owned();
    match kind {
        "transient" => Failure::Transient { detail },
        "unknown" => Failure::OutcomeUnknown { detail },
        "constraint" => Failure::Constraint { detail, at: range(at) },
        "rejected" => Failure::Rejected { detail, at: range(at) },
        "fenced" => Failure::Fenced,
        other => panic!("unknown failure {other}"),
    }
}

/// Nothing means that the commit was refused.
fn range(text: &str) -> Option<Range<usize>> {
    let (start, end) = text.split_once("..")?;
    Some(start.parse().expect("index")..end.parse().expect("index"))
}

fn number(text: &str) -> u64 {
    text.parse().expect("a number")
}

fn op(text: &str) -> OpId {
    OpId(number(text))
}

fn partition(text: &str) -> PartitionId {
    PartitionId(u32::try_from(number(text)).expect("a small number"))
}

fn hlc(text: &str) -> Hlc {
    Hlc { nanos: number(text), logical: 0 }
}

/// `0/20` is an LSN, `5` a time.
fn position(text: &str) -> Position {
    if text.contains('/') {
        Position::Lsn(text.parse().expect("an LSN"))
    } else {
        Position::Hlc(hlc(text))
    }
}

fn timed(text: &str) -> TimedMutation {
    let (time, change) = text.split_once(' ').expect("time change");
    TimedMutation { time: hlc(time), mutation: mutation(change) }
}

fn mutations(text: &str) -> Vec<Mutation> {
    text.split(" | ").filter(|text| !text.is_empty()).map(mutation).collect()
}

/// `+child 1 10` inserts, `=child 1 10` replaces, `~child 1 ?` updates, `-child 1` deletes, `!child`
/// truncates. `?` is unchanged, `.` is NULL.
fn mutation(text: &str) -> Mutation {
    let catalog = catalog();
    let (verb, rest) = text.split_at(1);
    let mut words = rest.split(' ');
    let name = words.next().expect("a table");
    let table = catalog.find(&TableName::new("public", name)).expect("a known table");
    let of_table = catalog.table(table);
    let mut row = RowBuilder::new();
    for index in 0..of_table.columns.len() {
        row.push(match words.next() {
            None | Some(".") => Cell::Null,
            Some("?") => Cell::Unchanged,
            Some(value) => {
                assert!(!value.is_empty(), "column {index} of {text}");
                Cell::Text(value.as_bytes())
            }
        });
    }
    let columns = (0..).map(Some).take(of_table.columns.len()).collect();
    let row = row.finish(Arc::new(Layout { table, columns })).expect("as many cells as columns");
    let key = of_table.key_of(&row);
    let change = match verb {
        "+" => Change::Insert(row),
        "=" => Change::Upsert(row),
        "~" => Change::Update(row),
        "-" => Change::Delete(row),
        "!" => {
            return Mutation { table, key: RowKey::from_bytes(b""), change: Change::Truncate };
        }
        other => panic!("unknown verb {other}"),
    };
    Mutation { table, key: key.expect("a key"), change }
}

fn table(name: &str, columns: &[&str]) -> Table {
    let columns: Vec<Column> = columns
        .iter()
        .map(|name| Column {
            name: (*name).to_owned(),
            cast: "text".to_owned(),
            kind: KeyKind::Exact,
            wire: Wire::Text,
            nullable: true,
            made: Made::Written,
            has_default: false,
        })
        .collect();
    Table {
        name: TableName::new("public", name),
        columns,
        key: vec![0],
        uniques: Vec::new(),
        foreign_keys: Vec::new(),
        place: Place::default(),
        referenced: false,
        untold: false,
    }
}

/// `plain(id, v)`, `parent(id, v)`, `child(id, parent)`, `mail(id, address unique)`.
fn catalog() -> Catalog {
    let mut mail = table("mail", &["id", "address"]);
    mail.uniques = vec![Unique { name: "address".to_owned(), columns: Some(vec![1]) }];
    let child = table("child", &["id", "parent"]);
    let fk = NamedForeignKey {
        child: TableName::new("public", "child"),
        name: "child_parent".to_owned(),
        columns: vec![1],
        parent: TableName::new("public", "parent"),
        parent_columns: vec![0],
        deferrable: false,
    };
    let plain = table("plain", &["id", "v"]);
    Catalog::new(vec![plain, table("parent", &["id", "v"]), child, mail], &[fk])
}

fn show(effect: &Effect) -> String {
    match effect {
        Effect::Apply { op, request } => format!("apply {op} {}", show_request(request)),
        Effect::Stage { op, rows, floor } => {
            let late = rows.iter().any(|row| row.time <= *floor);
            let late = if late { format!(" floor={floor}") } else { String::new() };
            let rows: Vec<&Mutation> = rows.iter().map(|row| &row.mutation).collect();
            format!("stage {op} [{}]{late}", show_rows(&rows))
        }
        other @ (Effect::Acknowledge(_)
        | Effect::Answer(_)
        | Effect::ReadStaged { .. }
        | Effect::RetireStaged { .. }
        | Effect::SaveCheckpoint { .. }
        | Effect::SaveHorizon { .. }
        | Effect::SaveResolved { .. }) => other.to_string(),
    }
}

fn show_request(request: &ApplyRequest) -> String {
    let ApplyRequest { batch, order, dead } = request;
    let rows: Vec<&Mutation> = batch.mutations.iter().collect();
    let mut text = format!("{}..={} {order}", batch.first, batch.last);
    match batch.piece {
        Piece::Whole => (),
        piece @ (Piece::First | Piece::Middle | Piece::Last) => {
            write(&mut text, &format!(" {piece:?}"));
        }
    }
    if !dead.is_empty() {
        write(&mut text, &format!(" dead={dead:?}"));
    }
    write(&mut text, &format!(" [{}]", show_rows(&rows)));
    text
}

/// Each change as its verb, its table and its key.
fn show_rows(mutations: &[&Mutation]) -> String {
    let show = |mutation: &&Mutation| {
        let verb = match mutation.change {
            Change::Insert(_) => '+',
            Change::Upsert(_) => '=',
            Change::Update(_) => '~',
            Change::Delete(_) => '-',
            Change::Move { .. } => '>',
            Change::Truncate => '!',
        };
        let name = catalog().table(mutation.table).name.table.clone();
        let key: String = mutation
            .key
            .as_bytes()
            .iter()
            .filter(|byte| byte.is_ascii_graphic())
            .map(|byte| char::from(*byte))
            .collect();
        format!("{verb}{name} {key}").trim_end().to_owned()
    };
    mutations.iter().map(show).collect::<Vec<_>>().join(" | ")
}

fn write(text: &mut String, more: &str) {
    text.write_str(more).expect("a string takes everything");
}
