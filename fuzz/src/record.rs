//! The check of recordings: whatever is read of one survives being recorded again, and hiding its values
//! changes neither its sizes nor which rows are the same.
//!
//! The input is payloads of frames, each behind its length in two bytes: checksums would keep a fuzzer from
//! ever changing one.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use replicator_core::model::catalog::{Catalog, Column, Made, NamedForeignKey, Table, Wire};
use replicator_core::model::fk::Place;
use replicator_core::model::ident::TableName;
use replicator_core::model::key::{KeyKind, RowKey};
use replicator_core::model::mutation::{Change, Mutation, SourceTx, TableId};
use replicator_core::model::position::{Applied, Lsn, OpId, Position};
use replicator_core::model::row::{Layout, Row};
use replicator_core::model::time::{MonoTime, WallTime};
use replicator_core::record::{
    Ending, MAGIC, Reader, Record, Recorder, Resumed, Split, Values, split,
};
use replicator_core::{Config, Durable, Effects, Event, Failure, Machine, OnReject, Retry};

/// What values of one byte over and over may take here, in bytes.
const FILLED_BYTES_MAX: usize = 1 << 16;

const SECRET: Values = Values::Hashed(*b"known to no one!");

/// Reads a recording and records it again; returns how many records it has.
///
/// # Panics
///
/// Something else is read from what was recorded again.
pub(crate) fn record(input: &[u8]) -> usize {
    // Any bytes are frames, a broken frame, or too few.
    let _split = split(input);
    let mut reader = Reader::new(FILLED_BYTES_MAX);
    let (mut plain, mut hidden) = (Again::new(Values::Plain), Again::new(SECRET));
    let mut catalog = Arc::default();
    let mut rest = input;
    let mut count = 0;
    while let Some((len, after)) = rest.split_first_chunk::<2>()
        && let Some((payload, after)) = after.split_at_checked(u16::from_be_bytes(*len).into())
        && let Ok(record) = reader.read(payload)
    {
        rest = after;
        count += 1;
        match record {
            Record::Resumed(resumed) => {
                catalog = Arc::clone(&resumed.catalog);
                assert_eq!(plain.resumed(&resumed), *resumed);
                assert_eq!(hidden.resumed(&resumed), *resumed);
            }
            Record::Told { now, event } => {
                assert_eq!(plain.told(now, &event), event);
                alike(&catalog, &event, &hidden.told(now, &event));
            }
            Record::Beginning { .. } | Record::Answered(_) | Record::Ended(_) => (),
        }
    }
    count
}

/// Records something and reads it.
struct Again {
    values: Values,
    recorder: Recorder,
    reader: Reader,
    out: Vec<u8>,
    // To have an answer between two events.
    machine: Machine,
}

impl Again {
    fn new(values: Values) -> Self {
        let mut out = Vec::new();
        let recorder = Recorder::begin(values, &mut out);
        out.drain(..MAGIC.len());
        let (catalog, durable) = (Arc::default(), Durable::default());
        let machine = Machine::resume(config(), catalog, durable, MonoTime::START);
        let reader = Reader::new(FILLED_BYTES_MAX);
        let mut again = Self { values, recorder, reader, out, machine };
        again.read();
        again
    }

    fn read(&mut self) -> Record {
        let Ok(Split::Frame { payload, used }) = split(&self.out) else {
            panic!("{:?}: a frame is not whole", self.values)
        };
        let record = self.reader.read(payload).expect("what was recorded can be read");
        assert_eq!(used, self.out.len(), "one frame for each record");
        self.out.clear();
        record
    }

    fn resumed(&mut self, resumed: &Resumed) -> Resumed {
        let Resumed { config, catalog, durable, now } = resumed;
        let made = self.recorder.resumed(config, catalog, durable, *now, &mut self.out);
        made.expect("it came in a frame");
        let Record::Resumed(resumed) = self.read() else {
            panic!("a machine became another thing")
        };
        *resumed
    }

    fn told(&mut self, now: MonoTime, event: &Event) -> Event {
        self.recorder.told(now, event, &mut self.out).expect("it came in a frame");
        let Record::Told { now: then, event } = self.read() else {
            panic!("an event became another thing")
        };
        assert_eq!(now, then);
        self.recorder.answered(Ok(&[]), &self.machine, &mut self.out).expect("it is short");
        self.read();
        event
    }
}

/// Two events differ in nothing but values that the machine cannot tell apart.
fn alike(catalog: &Catalog, event: &Event, hidden: &Event) {
    let (real, hidden) = (mutations(event), mutations(hidden));
    assert_eq!(real.len(), hidden.len());
    let mut images: BTreeMap<(TableId, &RowKey), &RowKey> = BTreeMap::new();
    let mut values: BTreeMap<(TableId, &RowKey), &RowKey> = BTreeMap::new();
    for (real, hidden) in real.into_iter().zip(hidden) {
        assert_eq!(real.len_bytes(), hidden.len_bytes(), "{real:?} and {hidden:?}");
        assert_eq!(real.table, hidden.table);
        let row = match &real.change {
            Change::Delete(row)
            | Change::Insert(row)
            | Change::Upsert(row)
            | Change::Update(row) => row,
            Change::Move { from, to: _ } => from,
            Change::Truncate => continue,
        };
        // A key that is not the row's own is hidden by itself.
        if catalog.table(real.table).key_of(row).as_ref() == Ok(&real.key) {
            let image = images.entry((real.table, &real.key)).or_insert(&hidden.key);
            assert_eq!(*image, &hidden.key, "one row became two: {real:?}");
            let value = values.entry((real.table, &hidden.key)).or_insert(&real.key);
            assert_eq!(*value, &real.key, "two rows became one: {real:?}");
        }
    }
}

fn mutations(event: &Event) -> Vec<&Mutation> {
    match event {
        Event::TransactionReceived(tx) => tx.mutations.iter().collect(),
        Event::PieceReceived { mutations, .. } => mutations.iter().collect(),
        Event::RowsReceived { rows, .. } | Event::StagedRead { rows, .. } => {
            rows.iter().map(|row| &row.mutation).collect()
        }
        Event::IdleThrough(_)
        | Event::ResolvedReceived { .. }
        | Event::Done(_)
        | Event::Failed { .. }
        | Event::DeadlineReached
        | Event::StopRequested => Vec::new(),
    }
}

/// Hand-made recordings.
pub(crate) fn record_corpus() -> Vec<(&'static str, Vec<u8>)> {
    let usual = recorded(Values::Plain, &[story(1)]);
    let mut cut_short = usual.clone();
    cut_short.truncate(cut_short.len() / 2);
    let mut without_beginning = usual.clone();
    without_beginning.drain(..2 + usize::from(usual[1]));
    let runs: Vec<Vec<Event>> = (1..=20).map(story).collect();
    vec![
        ("empty", Vec::new()),
        ("cut-short", cut_short),
        ("largest", recorded(Values::Plain, &runs)),
        ("usual", usual),
        ("hashed", recorded(SECRET, &[story(1), story(2)])),
        ("refused-without-beginning", without_beginning),
    ]
}

/// Records runs; returns the payloads of the frames.
fn recorded(values: Values, runs: &[Vec<Event>]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut recorder = Recorder::begin(values, &mut out);
    let catalog = Arc::new(catalog());
    let after = Some(Position::Lsn(Lsn(4)));
    let applied = vec![Applied { after, through: Position::Lsn(Lsn(8)) }];
    for run in runs {
        let durable = Durable { applied: applied.clone(), ..Durable::default() };
        let (config, start) = (config(), MonoTime::START);
        recorder.resumed(&config, &catalog, &durable, start, &mut out).expect("a small catalog");
        let mut machine = Machine::resume(config, Arc::clone(&catalog), durable, start);
        for event in run {
            recorder.told(start, event, &mut out).expect("a small event");
            let mut effects = Effects::default();
            let answered = machine.step(start, event.clone(), &mut effects);
            let answered = answered.as_ref().map(|()| effects.as_slice());
            recorder.answered(answered, &machine, &mut out).expect("a short answer");
        }
    }
    recorder.ended(Ending::Finished, &mut out);
    let mut rest = &out[MAGIC.len()..];
    let mut payloads = Vec::new();
    while let Ok(Split::Frame { payload, used }) = split(rest) {
        let len = u16::try_from(payload.len()).expect("a small frame");
        payloads.extend_from_slice(&len.to_be_bytes());
        payloads.extend_from_slice(payload);
        rest = &rest[used..];
    }
    payloads
}

/// A run of two transactions.
fn story(id: u8) -> Vec<Event> {
    let position = |lsn| Position::Lsn(Lsn(lsn));
    let (id, other) = (id.to_string(), (id + 1).to_string());
    let tx = |lsn, mutations| {
        let committed = WallTime { micros: 5 };
        Event::TransactionReceived(SourceTx { position: position(lsn), committed, mutations })
    };
    let long = "0123456789abcdef".repeat(4);
    let blanks = " ".repeat(40);
    vec![
        tx(
            16,
            vec![
                change(0, Change::Insert, &[Some(&id), Some("1.50"), Some("-0")]),
                change(0, Change::Upsert, &[Some(&other), Some("1.5"), None]),
                change(1, Change::Update, &[Some("a  "), Some(&id), Some(&long)]),
                change(1, Change::Delete, &[Some("a"), Some("?"), Some(&blanks)]),
            ],
        ),
        Event::Done(OpId(1)),
        Event::IdleThrough(position(20)),
        tx(
            32,
            vec![Mutation {
                table: TableId(1),
                key: RowKey::from_bytes(b""),
                change: Change::Truncate,
            }],
        ),
        Event::DeadlineReached,
        Event::StopRequested,
        Event::Failed {
            op: OpId(2),
            failure: Failure::Rejected { detail: "no".to_owned(), at: Some(0..1) },
        },
    ]
}

/// A change of a row; `None` is NULL, `?` is unchanged.
fn change(table: u32, change: fn(Row) -> Change, cells: &[Option<&str>]) -> Mutation {
    let layout = Layout { table: TableId(table), columns: (0..3).map(Some).collect() };
    let mut bytes = Vec::new();
    for cell in cells {
        match cell {
            None => bytes.push(b'n'),
            Some("?") => bytes.push(b'u'),
            Some(text) => {
                bytes.push(b't');
                let len = u32::try_from(text.len()).expect("a short text");
                bytes.extend_from_slice(&len.to_be_bytes());
                bytes.extend_from_slice(text.as_bytes());
            }
        }
    }
    let row = Row::new(Arc::new(layout), Bytes::from(bytes)).expect("three cells");
    let key = catalog().table(TableId(table)).key_of(&row).expect("the key is known");
    Mutation { table: TableId(table), key, change: change(row) }
}

/// A parent with a key of three kinds, and a child with a padded one.
fn catalog() -> Catalog {
    let column = |(name, kind): (&str, KeyKind)| Column {
        name: name.to_owned(),
        cast: "text".to_owned(),
        kind,
        wire: Wire::Text,
        nullable: true,
        made: Made::Written,
        has_default: false,
    };
    let table = |name: &str, columns: [(&str, KeyKind); 3], key: &[u16]| Table {
        name: TableName::new("public", name),
        columns: columns.map(column).into(),
        key: key.to_vec(),
        uniques: Vec::new(),
        foreign_keys: Vec::new(),
        place: Place::default(),
        referenced: false,
        untold: false,
    };
    let (int, exact) = (KeyKind::Int, KeyKind::Exact);
    let tables = vec![
        table("p", [("i", int), ("n", KeyKind::Numeric), ("f", KeyKind::Float)], &[0, 1, 2]),
        table("q", [("c", KeyKind::Padded), ("i", int), ("t", exact)], &[0]),
    ];
    let fk = NamedForeignKey {
        child: TableName::new("public", "q"),
        name: "fk".to_owned(),
        columns: vec![1],
        parent: TableName::new("public", "p"),
        parent_columns: vec![0],
        deferrable: true,
    };
    Catalog::new(tables, &[fk])
}

fn config() -> Config {
    let millis = Duration::from_millis;
    Config {
        batch_rows_max: 2,
        batch_txs_max: 2,
        batch_growth_max: 1,
        batch_age_max: millis(20),
        buffered_bytes_max: 10_000,
        stages_max: 1,
        applies_max: 2,
        retry: Retry { tries_max: 2, delay_first: millis(1), delay_max: millis(9), factor: 2 },
        read_rows_max: 4,
        save_interval: millis(5),
        on_reject: OnReject::Stop,
        collapse: true,
        seed: 3,
    }
}
