//! Recordings that are made, read and played.
use alloc::boxed::Box;
use alloc::string::{String, ToString as _};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use super::{
    Difference, Ending, FILLED_BYTES_MAX, MAGIC, Played, Player, Reader, Record, RecordError,
    Recorder, Split, Values, split,
};
use crate::fixture::{catalog, mutations};
use crate::model::mutation::{Mutation, SourceTx, TimedMutation};
use crate::model::position::{Applied, Lsn, OpId, PartitionId, Position, RequestId};
use crate::model::time::{Hlc, MonoTime, WallTime};
use crate::{Config, Durable, Effects, Event, Failure, Machine, OnReject, Retry};

const SECRET: Values = Values::Hashed(*b"sixteen secrets!");

fn config() -> Config {
    Config {
        batch_rows_max: 4,
        batch_txs_max: 4,
        batch_growth_max: 1,
        batch_age_max: Duration::from_millis(20),
        buffered_bytes_max: 10_000,
        stages_max: 2,
        applies_max: 2,
        retry: Retry {
            tries_max: 3,
            delay_first: Duration::from_millis(5),
            delay_max: Duration::from_millis(50),
            factor: 2,
        },
        read_rows_max: 8,
        save_interval: Duration::from_millis(10),
        on_reject: OnReject::DeadLetter { percent_max: 100 },
        collapse: true,
        seed: 7,
    }
}

fn durable() -> Durable {
    let position = |bytes| Position::Lsn(Lsn(bytes));
    let applied = vec![
        Applied { after: None, through: position(0x12) },
        Applied { after: Some(position(0x14)), through: position(0x16) },
    ];
    let resolved = [(PartitionId(3), Hlc { nanos: u64::MAX, logical: 9 })].into();
    Durable { checkpoint: Some(position(0x10)), applied, resolved }
}

fn rows(texts: &[&str]) -> Vec<Mutation> {
    mutations(&catalog(), texts)
}

fn tx(lsn: u64, texts: &[&str]) -> Event {
    Event::TransactionReceived(SourceTx {
        position: Position::Lsn(Lsn(lsn)),
        committed: WallTime { micros: -5 },
        mutations: rows(texts),
    })
}

fn failed(op: u64, failure: Failure) -> Event {
    Event::Failed { op: OpId(op), failure }
}

/// A run with a row that is refused, and a second one that ends at once.
fn story() -> Vec<Vec<Event>> {
    let detail = String::from("Key (address)=(bob@example.org) is there");
    let at = Some(1..2);
    vec![
        vec![
            tx(0x20, &["+parent 1 Alexandra", "+child 1 1 a-note-of-more-than-sixteen-letters"]),
            tx(0x30, &["=mail 77 bob@example.org", "~child 1 1 ?", "-parent 1"]),
            Event::PieceReceived { before: Position::Lsn(Lsn(0x40)), mutations: rows(&["!odd"]) },
            failed(2, Failure::Constraint { detail: detail.clone(), at: None }),
            failed(1, Failure::Rejected { detail: detail.clone(), at }),
            Event::Done(OpId(3)),
            Event::DeadlineReached,
            Event::StopRequested,
            tx(0x50, &[">child 1 2 5 moved", "+odd Key", "+nokey 17"]),
        ],
        vec![tx(0x60, &["+tree 12345 -99"]), failed(1, Failure::OutcomeUnknown { detail })],
    ]
}

/// Plays a story on a machine and records it.
fn recording(values: Values, story: &[Vec<Event>]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut recorder = Recorder::begin(values, &mut out);
    let catalog = Arc::new(catalog());
    let mut now = MonoTime::from_millis(3);
    for run in story {
        recorder.resumed(&config(), &catalog, &durable(), now, &mut out).unwrap();
        let mut machine = Machine::resume(config(), Arc::clone(&catalog), durable(), now);
        for event in run {
            now = now.after(Duration::from_millis(1));
            recorder.told(now, event, &mut out).unwrap();
            let mut effects = Effects::default();
            let answered = machine.step(now, event.clone(), &mut effects);
            let answered = answered.as_ref().map(|()| effects.as_slice());
            recorder.answered(answered, &machine, &mut out).unwrap();
        }
    }
    recorder.ended(Ending::Finished, &mut out);
    out
}

/// All that is in a recording, up to where it is cut off.
fn records(recording: &[u8]) -> Result<Vec<Record>, RecordError> {
    let mut rest = recording.strip_prefix(MAGIC).ok_or(RecordError::Magic)?;
    let mut reader = Reader::new(FILLED_BYTES_MAX);
    let mut records = Vec::new();
    while let Split::Frame { payload, used } = split(rest)? {
        records.push(reader.read(payload)?);
        rest = &rest[used..];
    }
    Ok(records)
}

fn play(records: Vec<Record>) -> Result<Played, Box<Difference>> {
    let mut player = Player::default();
    for record in records {
        player.play(record)?;
    }
    Ok(player.played())
}

#[test]
fn a_recording_is_read_as_it_was_written() {
    let records = records(&recording(Values::Plain, &story())).unwrap();
    let hashed = |record: &Record| matches!(record, Record::Beginning { hashed: true, .. });
    assert!(!records.iter().any(hashed));
    let told = |record: &Record| match record {
        Record::Told { event, .. } => Some(event.clone()),
        Record::Beginning { .. } | Record::Resumed(_) | Record::Answered(_) | Record::Ended(_) => {
            None
        }
    };
    let events: Vec<Event> = records.iter().filter_map(told).collect();
    assert_eq!(events, story().concat());
    let Some(Record::Resumed(resumed)) = records.get(1) else { panic!("{:?}", records.get(1)) };
    assert_eq!(*resumed.catalog, catalog());
    assert_eq!((resumed.config, resumed.now), (config(), MonoTime::from_millis(3)));
    assert_eq!(resumed.durable, durable());
    assert_eq!(records.last(), Some(&Record::Ended(Ending::Finished)));
}

#[test]
fn events_of_changefeeds_are_read_as_they_were_written() {
    let timed = |texts: &[&str]| -> Vec<TimedMutation> {
        let time = Hlc { nanos: 5, logical: u32::MAX };
        rows(texts).into_iter().map(|mutation| TimedMutation { time, mutation }).collect()
    };
    let events = [
        Event::RowsReceived { request: RequestId(u64::MAX), rows: timed(&["+parent 1 x"]) },
        Event::ResolvedReceived {
            request: RequestId(1),
            partition: PartitionId(3),
            resolved: Hlc { nanos: 6, logical: 0 },
        },
        Event::IdleThrough(Position::Hlc(Hlc { nanos: 7, logical: 1 })),
        Event::StagedRead { op: OpId(9), rows: timed(&["-child 1", "=odd A"]), exhausted: true },
        failed(4, Failure::Transient { detail: String::from("gone") }),
        failed(5, Failure::Fenced),
    ];
    let mut out = Vec::new();
    let mut recorder = Recorder::begin(Values::Plain, &mut out);
    let catalog = Arc::new(catalog());
    let machine = Machine::resume(config(), Arc::clone(&catalog), durable(), MonoTime::START);
    recorder.resumed(&config(), &catalog, &durable(), MonoTime::START, &mut out).unwrap();
    for event in &events {
        recorder.told(MonoTime::START, event, &mut out).unwrap();
        recorder.answered(Ok(&[]), &machine, &mut out).unwrap();
    }
    let mut read = Vec::new();
    for record in records(&out).unwrap() {
        if let Record::Told { event, .. } = record {
            read.push(event);
        }
    }
    assert_eq!(read, events);
}

#[test]
fn a_recording_replays_identically() {
    let steps = story().iter().map(|run| u64::try_from(run.len()).unwrap()).sum();
    for values in [Values::Plain, SECRET] {
        let played = play(records(&recording(values, &story())).unwrap());
        let played = played.unwrap_or_else(|difference| panic!("{values:?}: {difference}"));
        assert_eq!((played.runs, played.steps), (2, steps), "{values:?}");
        assert_eq!((played.unanswered, played.ending), (false, Some(Ending::Finished)));
        assert!(6 < played.effects, "{played:?}");
    }
}

#[test]
fn a_hashed_recording_holds_no_value() {
    let holds = |recording: &[u8], text: &str| {
        recording.windows(text.len()).any(|window| window == text.as_bytes())
    };
    let (plain, hashed) = (recording(Values::Plain, &story()), recording(SECRET, &story()));
    for value in ["Alexandra", "bob@example.org", "sixteen", "12345", "moved", "Key", "-99"] {
        assert!(holds(&plain, value), "{value}");
        assert!(!holds(&hashed, value), "{value}");
    }
    // Names are no values.
    assert!(holds(&hashed, "address"));
}

#[test]
fn a_recording_can_be_cut_off_anywhere() {
    let whole = recording(SECRET, &story());
    let all = records(&whole).unwrap();
    for len in MAGIC.len()..whole.len() {
        let cut = records(&whole[..len]).unwrap();
        assert_eq!(cut, all[..cut.len()], "{len} bytes");
        assert!(play(cut).is_ok(), "{len} bytes");
    }
}

#[test]
fn a_machine_that_answers_otherwise_is_found() {
    let all = records(&recording(SECRET, &story())).unwrap();
    let with = |change: &dyn Fn(&mut Record)| {
        let mut changed = all.clone();
        changed.iter_mut().for_each(change);
        play(changed).unwrap_err()
    };
    let smaller = with(&|record| {
        if let Record::Resumed(resumed) = record {
            resumed.config.batch_rows_max = 1;
        }
    });
    assert_eq!((smaller.run, smaller.step), (1, 2), "{smaller}");
    let text = smaller.to_string();
    assert!(
        text.starts_with("run 1, step 2, 5000000 ns after the start: > transaction 0/30"),
        "{text}"
    );
    assert!(text.contains("recorded:") && text.contains("replayed:"), "{text}");
    let other_row = with(&|record| {
        if let Record::Told { event: Event::TransactionReceived(tx), .. } = record {
            tx.mutations.reverse();
        }
    });
    assert_eq!((other_row.run, other_row.step), (1, 1), "{other_row}");
    assert!(other_row.to_string().contains("(with other contents)"), "{other_row}");
}

#[test]
fn records_have_their_places() {
    let mut out = Vec::new();
    let mut recorder = Recorder::begin(SECRET, &mut out);
    let beginning = out.clone();
    recorder.ended(Ending::Full, &mut out);
    assert!(records(&out).is_ok());
    let twice = [&beginning[..], &beginning[MAGIC.len()..]].concat();
    assert_eq!(records(&twice), Err(RecordError::Order { what: "a beginning" }));
    let after_the_end = [&out[..], &out[beginning.len()..]].concat();
    assert_eq!(records(&after_the_end), Err(RecordError::Order { what: "an end" }));
    assert_eq!(records(b"something else"), Err(RecordError::Magic));
}
