//! What is recorded replays identically, tells no values, and a machine that answers otherwise is found.
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use replicator_core::Event;
use replicator_core::model::mutation::{Change, Mutation};
use replicator_core::model::row::{Cell, Row};
use replicator_core::record::{FILLED_BYTES_MAX, MAGIC, Reader, Record, Split, Values, split};
use sim::action::Action;
use sim::fault::Kind;
use sim::play::Script;
use sim::replay::{Outcome, Report, replay};
use sim::world::World;

/// Worlds per kind of source.
const WORLDS: u64 = 300;

/// A key from a seed; only tests have such keys.
fn hashed(seed: u64) -> Values {
    let [low, high] = [seed, !seed].map(u64::to_le_bytes);
    let mut key = [0; 16];
    key.iter_mut().zip(low.iter().chain(&high)).for_each(|(slot, byte)| *slot = *byte);
    Values::Hashed(key)
}

/// Plays the world of a seed to its end and records it.
fn recording(kind: Kind, seed: u64, values: Values) -> Arc<[u8]> {
    let script = Script::draw(kind, seed);
    let setup = script.setup();
    let mut world = World::new(setup.clone());
    world.record(values);
    for word in &script.words {
        world.act(&Action::draw(&setup, *word));
    }
    world.settle().expect("everything arrives");
    world.take_recording().expect("it was recorded")
}

fn played(recording: &[u8]) -> Report {
    replay(recording).expect("a recording")
}

#[test]
fn random_worlds_replay_identically() {
    let (mut runs, mut steps, mut effects) = (0, 0, 0);
    for kind in [Kind::Ordered, Kind::Changefeed] {
        for seed in 0..WORLDS {
            let values = if seed % 4 == 3 { Values::Plain } else { hashed(seed) };
            let report = played(&recording(kind, seed, values));
            assert!(matches!(report.outcome, Outcome::Identical), "{kind:?} {seed}: {report}");
            assert_eq!((report.cut_at, report.played.unanswered), (None, false), "{report}");
            runs += report.played.runs;
            steps += report.played.steps;
            effects += report.played.effects;
        }
    }
    assert!(2 * WORLDS < runs && 20_000 < steps && 20_000 < effects, "{runs} {steps} {effects}");
}

#[test]
fn a_hashed_recording_tells_no_values() {
    let mut same = 0;
    let mut others = 0;
    for seed in 0..20 {
        let plain = values(&recording(Kind::Ordered, seed, Values::Plain));
        let recordings =
            [seed, seed + 1_000].map(|key| recording(Kind::Ordered, seed, hashed(key)));
        for recording in &recordings {
            // Each row has this value, for a column that is not applied.
            assert!(!recording.windows(4).any(|bytes| bytes == b"made"), "seed {seed}");
        }
        let [one, two] = recordings.map(|recording| values(&recording));
        assert_eq!(one.len(), plain.len());
        let mut images = BTreeMap::new();
        for ((value, one), two) in plain.iter().zip(&one).zip(&two) {
            assert_eq!(value.len(), one.len(), "a value keeps its size");
            if value.len() > 1 {
                if value == one || one == two {
                    same += 1;
                } else {
                    others += 1;
                }
            }
            // One as a whole number of a key, one as a key whose equality nobody knows, one elsewhere.
            let known: &mut Vec<Vec<u8>> = images.entry(value.clone()).or_default();
            if !known.contains(one) {
                known.push(one.clone());
            }
            assert!(known.len() <= 3, "equal values have equal images");
        }
    }
    // A number of two digits has itself as its image now and then.
    assert!(1_000 < others && same * 20 < others, "{same} are the same, {others} are not");
}

/// All values in the events of a recording.
fn values(recording: &[u8]) -> Vec<Vec<u8>> {
    let mut values = Vec::new();
    let mut take = |row: &Row| {
        values.extend(row.cells().filter_map(|cell| match cell {
            Cell::Null | Cell::Unchanged => None,
            Cell::Text(value) | Cell::Binary(value) => Some(value.to_vec()),
        }));
    };
    let mut take_all = |mutations: &[Mutation]| {
        for mutation in mutations {
            match &mutation.change {
                Change::Delete(row)
                | Change::Insert(row)
                | Change::Upsert(row)
                | Change::Update(row) => take(row),
                Change::Move { from, to } => {
                    take(from);
                    take(to);
                }
                Change::Truncate => (),
            }
        }
    };
    for record in records(recording) {
        if let Record::Told { event: Event::TransactionReceived(tx), .. } = record {
            take_all(&tx.mutations);
        }
    }
    values
}

fn records(recording: &[u8]) -> Vec<Record> {
    let mut reader = Reader::new(FILLED_BYTES_MAX);
    let mut records = Vec::new();
    let mut rest = &recording[MAGIC.len()..];
    while let Split::Frame { payload, used } = split(rest).expect("whole frames") {
        records.push(reader.read(payload).expect("a record"));
        rest = &rest[used..];
    }
    records
}

/// Where the frames of a recording begin.
fn frames(recording: &[u8]) -> Vec<usize> {
    let mut at = MAGIC.len();
    let mut frames = vec![at];
    while let Split::Frame { used, .. } = split(&recording[at..]).expect("whole frames") {
        at += used;
        frames.push(at);
    }
    frames
}

#[test]
fn a_step_that_is_missing_is_noticed() {
    let mut noticed = 0;
    for seed in 0..30 {
        let whole = recording(Kind::Ordered, seed, hashed(seed));
        let frames = frames(&whole);
        let records = records(&whole);
        // A step is two frames; the first that is not trivial is left out.
        let Some(step) = records.iter().position(|record| {
            matches!(record, Record::Told { event: Event::TransactionReceived(_), .. })
        }) else {
            continue;
        };
        let without = [&whole[..frames[step]], &whole[frames[step + 2]..]].concat();
        // What the step has named first is not known without it. Nothing shows it if the process died at
        // once.
        let replayed = replay(&without[..]);
        let is_identical =
            replayed.is_ok_and(|report| matches!(report.outcome, Outcome::Identical));
        noticed += u32::from(!is_identical);
    }
    assert!(20 < noticed, "{noticed}");
}

#[test]
fn the_program_says_what_came_of_a_recording() {
    let whole = recording(Kind::Ordered, 7, hashed(7));
    let frames = frames(&whole);
    let half = frames[frames.len() / 2];
    let mut changed = whole.to_vec();
    changed[half + 5] ^= 1;
    let second_step = [&whole[..frames[2]], &whole[frames[4]..]].concat();
    for (name, bytes, code, text) in [
        ("whole", &whole[..], 0, "replays identically: "),
        ("cut", &whole[..half + 3], 0, "cut off after"),
        ("cut-between", &whole[..half], 0, "it does not say why it ends"),
        ("changed", &changed, 1, "the checksum of a frame is wrong"),
        ("other", b"something else altogether", 1, "this is no recording"),
        ("without-a-step", &second_step, 12, "step 1: the machine breaks where it had an answer"),
    ] {
        let file = File::new(name, bytes);
        let output = sim(&["replay", file.0.to_str().expect("a plain path")]);
        let said = format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(output.status.code(), Some(code), "{name}: {said}");
        assert!(said.contains(text), "{name}: {said}");
    }
    assert_eq!(sim(&["replay", "/no/such/file"]).status.code(), Some(1));
    assert_eq!(sim(&["replay"]).status.code(), Some(2));
}

/// A file that is removed in the end.
struct File(PathBuf);

impl File {
    fn new(name: &str, bytes: &[u8]) -> Self {
        let name = format!("sim-replay-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(Path::new(&name));
        fs::write(&path, bytes).expect("a file can be written");
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        fs::remove_file(&self.0).unwrap_or_default();
    }
}

fn sim(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sim"));
    command.args(arguments).output().expect("the simulator starts")
}
