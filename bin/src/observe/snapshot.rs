//! Snapshots: all metrics in a file, again and again, for support.
use std::io::Write as _;
use std::sync::Arc;
use std::time::SystemTime;

use flate2::Compression as Level;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use replicator_io::disk::StdDisk;
use replicator_io::metrics::Metrics;
use replicator_io::metrics::snapshots::SnapshotFolder;
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
    let Snapshots { folder, period, compression, age_max, bytes_max } = settings.clone();
    let folder = SnapshotFolder { disk: StdDisk, path: folder, age_max, bytes_max };
    let made = folder.clone();
    tokio::task::spawn_blocking(move || made.prepare()).await??;
    info!(
        "metrics snapshotter started, writing to {} every {}, retaining {}",
        folder.path.display(),
        GoDuration::from(period),
        retained(&settings)
    );
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => break,
            _ = ticks.tick() => (),
        }
        let (folder, metrics) = (folder.clone(), Arc::clone(&metrics));
        let written = tokio::task::spawn_blocking(move || -> anyhow::Result<()> {
            let now = Timestamp::now();
            let (name, bytes) = encoded(compression, &metrics, now)?;
            folder.write(&name, &bytes)?;
            Ok(folder.prune(SystemTime::from(now))?)
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

/// The name of a snapshot, and all metrics.
fn encoded(
    compression: Compression,
    metrics: &Metrics,
    now: Timestamp,
) -> anyhow::Result<(String, Vec<u8>)> {
    let text = open_metrics::encode(&metrics.gather(), seconds(now))?;
    let (ending, bytes) = match compression {
        Compression::None => ("txt", text.into_bytes()),
        Compression::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), Level::default());
            encoder.write_all(text.as_bytes())?;
            ("txt.gz", encoder.finish()?)
        }
    };
    Ok((format!("{}.{ending}", now.strftime("snapshot-%Y%m%dT%H%M%S.%3fZ")), bytes))
}

fn seconds(time: Timestamp) -> f64 {
    time.as_duration().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::path::PathBuf;
    use std::time::Duration;

    use flate2::read::GzDecoder;
    use jiff::Timestamp;
    use replicator_core::model::time::WallTime;
    use replicator_io::metrics::{Command, Limits, Metrics};

    use super::{encoded, retained};
    use crate::config::{Compression, Snapshots};

    #[test]
    fn a_snapshot_holds_all_metrics() {
        let limits = Limits { applies_max: 1, buffered_bytes_max: 1 };
        let metrics = Metrics::new(Command::PgLogical, limits, || WallTime { micros: 0 });
        drop(metrics.schema("db.public"));
        let now: Timestamp = "2026-02-02T15:25:05.735Z".parse().unwrap();
        let (name, bytes) = encoded(Compression::None, &metrics, now).unwrap();
        assert_eq!(name, "snapshot-20260202T152505.735Z.txt");
        let plain = String::from_utf8(bytes).unwrap();
        assert!(plain.contains("# TYPE mutation counter\n"), "{plain}");
        assert!(plain.contains("} 0.0 1770045905.735\n") && plain.ends_with("# EOF\n"));
        let (name, bytes) = encoded(Compression::Gzip, &metrics, now).unwrap();
        assert_eq!(name, "snapshot-20260202T152505.735Z.txt.gz");
        let mut unzipped = String::new();
        GzDecoder::new(&*bytes).read_to_string(&mut unzipped).unwrap();
        assert_eq!(unzipped, plain);
    }

    #[test]
    fn the_log_says_what_is_kept() {
        let settings = Snapshots {
            folder: PathBuf::new(),
            period: Duration::from_secs(15),
            compression: Compression::Gzip,
            age_max: Some(Duration::from_secs(3_600)),
            bytes_max: Some(1),
        };
        assert_eq!(retained(&settings), "1h0m0s, 1 bytes");
    }
}
