//! Snapshots: all metrics in a file, again and again, for support.
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use flate2::Compression as Level;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use replicator_io::metrics::Metrics;
use tokio::sync::watch;
use tracing::{info, warn};

use super::open_metrics;
use crate::cli::GoDuration;
use crate::config::{Compression, Snapshots};

/// Writes snapshots until told to stop. A full disk costs a warning, not the replication.
pub(super) async fn run(
    settings: Snapshots,
    metrics: Arc<Metrics>,
    mut stopped: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let Snapshots { folder, period, .. } = &settings;
    fs::create_dir_all(folder)
        .with_context(|| format!("could not make the folder {}", folder.display()))?;
    info!(
        "metrics snapshotter started, writing to {} every {}, retaining {}",
        folder.display(),
        GoDuration::from(*period),
        retained(&settings)
    );
    let mut ticks = tokio::time::interval(*period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => break,
            _ = ticks.tick() => (),
        }
        let (settings, metrics) = (settings.clone(), Arc::clone(&metrics));
        let written = tokio::task::spawn_blocking(move || {
            let now = Timestamp::now();
            write(&settings, &metrics, now)?;
            prune(&settings, now)
        });
        if let Err(error) = written.await? {
            warn!("could not write a snapshot of metrics: {error:#}");
        }
    }
    info!("metrics snapshotter stopped");
    Ok(())
}

fn retained(settings: &Snapshots) -> String {
    let age = settings.age_max.map(|age| GoDuration::from(age).to_string());
    let bytes = settings.bytes_max.map(|bytes| format!("{bytes} bytes"));
    [age, bytes].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Under another name first: whoever sees the file sees all of it.
fn write(settings: &Snapshots, metrics: &Metrics, now: Timestamp) -> anyhow::Result<()> {
    let text = open_metrics::encode(&metrics.gather(), seconds(now))?;
    let (ending, bytes) = match settings.compression {
        Compression::None => ("txt", text.into_bytes()),
        Compression::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), Level::default());
            encoder.write_all(text.as_bytes())?;
            ("txt.gz", encoder.finish()?)
        }
    };
    let name = format!("{}.{ending}", now.strftime("snapshot-%Y%m%dT%H%M%S.%3fZ"));
    let path = settings.folder.join(name);
    let part = settings.folder.join(PART);
    fs::write(&part, bytes).with_context(|| format!("could not write {}", part.display()))?;
    fs::rename(&part, &path).with_context(|| format!("could not make {}", path.display()))
}

/// The file that is being written.
const PART: &str = "snapshot.part";

/// Deletes the oldest snapshots: those that are too old, and those beyond the size.
fn prune(settings: &Snapshots, now: Timestamp) -> anyhow::Result<()> {
    let mut kept = Vec::new();
    for file in snapshots(&settings.folder)? {
        let age = SystemTime::from(now).duration_since(file.modified).unwrap_or(Duration::ZERO);
        match settings.age_max {
            Some(age_max) if age_max < age => remove(&settings.folder, &file.name)?,
            Some(_) | None => kept.push(file),
        }
    }
    let Some(bytes_max) = settings.bytes_max else { return Ok(()) };
    let mut bytes = 0;
    for (index, file) in kept.iter().rev().enumerate() {
        bytes += file.bytes;
        // The newest one stays, whatever its size: a limit that small asks for one.
        if index > 0 && bytes > bytes_max {
            remove(&settings.folder, &file.name)?;
        }
    }
    Ok(())
}

struct Snapshot {
    name: String,
    modified: SystemTime,
    bytes: u64,
}

/// Oldest first: the names hold the time. Only files that we named, so that nothing else is deleted.
fn snapshots(folder: &Path) -> io::Result<Vec<Snapshot>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let ours = name.starts_with("snapshot-")
            && (name.ends_with("Z.txt") || name.ends_with("Z.txt.gz"));
        if ours && let Ok(about) = entry.metadata() {
            found.push(Snapshot { name, modified: about.modified()?, bytes: about.len() });
        }
    }
    found.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(found)
}

fn remove(folder: &Path, name: &str) -> anyhow::Result<()> {
    fs::remove_file(folder.join(name)).with_context(|| format!("could not delete {name}"))
}

fn seconds(time: Timestamp) -> f64 {
    time.as_duration().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::Read as _;
    use std::path::{Path, PathBuf};
    use std::time::{Duration, SystemTime};

    use flate2::read::GzDecoder;
    use jiff::Timestamp;
    use replicator_core::model::time::WallTime;
    use replicator_io::metrics::{Limits, Metrics};

    use super::{prune, retained, write};
    use crate::config::{Compression, Snapshots};

    /// An empty folder that is removed in the end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn names(&self) -> Vec<String> {
            let mut names: Vec<String> = fs::read_dir(&self.0)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    fn settings(folder: &Path, compression: Compression) -> Snapshots {
        Snapshots {
            folder: folder.to_owned(),
            period: Duration::from_secs(15),
            compression,
            age_max: Some(Duration::from_secs(3_600)),
            bytes_max: Some(250),
        }
    }

    #[test]
    fn a_snapshot_holds_all_metrics() {
        let folder = Folder::new("snapshot-write");
        let limits = Limits { applies_max: 1, buffered_bytes_max: 1 };
        let metrics = Metrics::new("pglogical", "db.public", limits, || WallTime { micros: 0 });
        let now: Timestamp = "2026-02-02T15:25:05.735Z".parse().unwrap();
        for compression in [Compression::None, Compression::Gzip] {
            write(&settings(&folder.0, compression), &metrics, now).unwrap();
        }
        let names = ["snapshot-20260202T152505.735Z.txt", "snapshot-20260202T152505.735Z.txt.gz"];
        assert_eq!(folder.names(), names);
        let plain = fs::read_to_string(folder.0.join(names[0])).unwrap();
        assert!(plain.contains("# TYPE mutation counter\n"), "{plain}");
        assert!(plain.contains("} 0.0 1770045905.735\n") && plain.ends_with("# EOF\n"));
        let mut unzipped = String::new();
        let file = File::open(folder.0.join(names[1])).unwrap();
        GzDecoder::new(file).read_to_string(&mut unzipped).unwrap();
        assert_eq!(unzipped, plain);
    }

    #[test]
    fn old_and_excess_snapshots_are_deleted_and_nothing_else() {
        let folder = Folder::new("snapshot-prune");
        let now = SystemTime::now();
        for (name, age) in [
            ("snapshot-20260101T000000.000Z.txt.gz", 4_000),
            ("snapshot-20260101T010000.000Z.txt.gz", 30),
            ("snapshot-20260101T020000.000Z.txt.gz", 20),
            ("snapshot-20260101T030000.000Z.txt", 10),
            ("notes.txt", 9_000),
        ] {
            let file = File::create(folder.0.join(name)).unwrap();
            file.set_len(100).unwrap();
            file.set_modified(now - Duration::from_secs(age)).unwrap();
        }
        let settings = settings(&folder.0, Compression::Gzip);
        prune(&settings, now.try_into().unwrap()).unwrap();
        let kept = [
            "notes.txt",
            "snapshot-20260101T020000.000Z.txt.gz",
            "snapshot-20260101T030000.000Z.txt",
        ];
        assert_eq!(folder.names(), kept);
        let tiny = Snapshots { bytes_max: Some(1), ..settings };
        prune(&tiny, now.try_into().unwrap()).unwrap();
        assert_eq!(folder.names(), ["notes.txt", "snapshot-20260101T030000.000Z.txt"]);
        assert_eq!(retained(&tiny), "1h0m0s, 1 bytes");
    }
}
