//! What the product writes below `--dataDir`, on a disk that fails at every operation in turn.
use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, SystemTime};

use replicator_io::disk::{Disk, DiskFile, Open};
use replicator_io::metrics::snapshots::SnapshotFolder;
use sim::disk::{Fault, SimDisk};

const FOLDER: &str = "/data/metrics-snapshots";
/// Snapshots of one story.
const SNAPSHOTS: u64 = 8;
/// Room for two or three of them.
const BYTES_MAX: usize = 12_000;
/// Each operation fails in that many ways.
const SEEDS: u64 = 6;

/// A snapshot is its name again and again, some blocks long.
fn snapshot(number: u64) -> (String, Vec<u8>) {
    let name = format!("snapshot-20260101T00000{number}.000Z.txt");
    let bytes =
        name.bytes().cycle().take(700 * (1 + usize::try_from(number).expect("few"))).collect();
    (name, bytes)
}

fn folder(disk: &SimDisk) -> SnapshotFolder<SimDisk> {
    let (path, bytes_max) = (FOLDER.into(), u64::try_from(BYTES_MAX).ok());
    SnapshotFolder { disk: disk.clone(), path, age_max: None, bytes_max }
}

fn now(number: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(number)
}

fn content(disk: &SimDisk, name: &str) -> Vec<u8> {
    let file = disk.open(&Path::new(FOLDER).join(name), Open::Existing).expect("it is listed");
    let mut bytes = vec![0; usize::try_from(file.len().expect("open")).expect("short")];
    file.read_at(&mut bytes, 0).expect("that long");
    bytes
}

/// The names of snapshots that must be there: written, and not for deletion since.
fn play(disk: &SimDisk) -> BTreeSet<String> {
    let folder = folder(disk);
    let mut kept: Vec<(String, usize)> = Vec::new();
    let names = |kept: &[(String, usize)]| kept.iter().map(|(name, _)| name.clone()).collect();
    if folder.prepare().is_err() {
        return names(&kept);
    }
    for number in 0..SNAPSHOTS {
        disk.set_now(Duration::from_secs(number));
        let (name, bytes) = snapshot(number);
        if folder.write(&name, &bytes).is_ok() {
            kept.push((name, bytes.len()));
        } else if !disk.is_off() {
            assert_eq!(fault_of(disk, &names(&kept)), None, "while writing {number}");
            // It may be there all the same, and counts then for what is deleted.
            kept.clear();
        }
        let mut bytes = 0;
        let held = kept.iter().rev().take_while(|(_, len)| {
            bytes += len;
            bytes <= BYTES_MAX
        });
        let held = held.count().max(1).min(kept.len());
        kept.drain(..kept.len() - held);
        if folder.prune(now(number)).is_err() && disk.is_off() {
            break;
        }
    }
    names(&kept)
}

/// What is wrong with the folder, if anything is.
fn fault_of(disk: &SimDisk, kept: &BTreeSet<String>) -> Option<String> {
    let listed = match disk.list(Path::new(FOLDER)) {
        Ok(listed) => listed,
        Err(_) if kept.is_empty() => return None,
        Err(error) => return Some(error.to_string()),
    };
    let names: BTreeSet<String> = listed.into_iter().map(|entry| entry.name).collect();
    if let Some(lost) = kept.difference(&names).next() {
        return Some(format!("{lost} is lost"));
    }
    let whole: Vec<(String, Vec<u8>)> = (0..=SNAPSHOTS).map(snapshot).collect();
    let torn = |name: &&String| !whole.contains(&((**name).clone(), content(disk, name)));
    let torn = names.iter().filter(|name| !name.ends_with(".part")).find(torn);
    torn.map(|name| format!("{name} is not whole"))
}

/// How many operations a story without faults has.
fn operations() -> u64 {
    let disk = SimDisk::new(0);
    let kept = play(&disk);
    let operations = disk.operations();
    assert_eq!(kept.len(), 2, "the story deletes what is too much");
    assert_eq!(fault_of(&disk, &kept), None);
    operations
}

/// After whatever happened, the next start writes, and leaves nothing unfinished.
fn check_goes_on(disk: &SimDisk, story: &str) {
    let folder = folder(disk);
    folder.prepare().expect("all works again");
    let (name, bytes) = snapshot(SNAPSHOTS);
    folder.write(&name, &bytes).expect("all works again");
    folder.prune(now(SNAPSHOTS)).expect("all works again");
    assert!(content(disk, &name) == bytes, "{story}");
    let listed = disk.list(Path::new(FOLDER)).expect("all works again");
    let unfinished = listed.iter().find(|entry| entry.name.ends_with(".part"));
    assert_eq!(unfinished, None, "{story}");
}

#[test]
fn a_snapshot_is_whole_or_absent_whenever_the_power_goes() {
    for at in 0..operations() {
        for seed in 0..SEEDS {
            let story = format!("power loss at operation {at}, seed {seed}");
            let disk = SimDisk::new(seed);
            disk.plan(at, Fault::PowerLoss);
            let kept = play(&disk);
            assert!(disk.is_off(), "{story}");
            disk.restart();
            assert_eq!(fault_of(&disk, &kept), None, "{story}");
            check_goes_on(&disk, &story);
        }
    }
}

#[test]
fn a_snapshot_is_whole_or_absent_whatever_fails() {
    for at in 0..operations() {
        for (seed, fault) in [(1, Fault::IoError), (2, Fault::IoError), (3, Fault::Full)] {
            let story = format!("{fault:?} at operation {at}, seed {seed}");
            let disk = SimDisk::new(seed);
            disk.plan(at, fault);
            let kept = play(&disk);
            assert!(!disk.is_planned(), "{story}");
            disk.clear_space();
            assert_eq!(fault_of(&disk, &kept), None, "{story}");
            check_goes_on(&disk, &story);
            disk.restart();
            assert_eq!(fault_of(&disk, &BTreeSet::new()), None, "{story}");
        }
    }
}

#[test]
fn a_disk_that_lies_about_its_syncs_is_noticed() {
    let disk = SimDisk::new(0);
    disk.lie();
    let kept = play(&disk);
    disk.restart();
    assert!(fault_of(&disk, &kept).is_some(), "nothing is durable, and nobody sees it");
}
