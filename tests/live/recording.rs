//! What the program records of itself can be played again, and no row value is in it.
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use replicator_core::record::Ending;
use replicator_tests::pair::Pair;
use replicator_tests::postgres::{self, Options};
use replicator_tests::product::Replicator;
use replicator_tests::recording::replay;

/// The longest that anything may take on a busy machine.
const LONG: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_replays_and_tells_no_value() -> Result<()> {
    let pair = begin().await?;
    let (hashed, plain) = (Files::new("hashed", &pair)?, Files::new("plain", &pair)?);

    // Killed half way, and started again with another file.
    let mut replicator = hashed.start(&pair, true, &[])?;
    write(&pair, 1, 40).await?;
    pair.confirmed(LONG).await?;
    replicator.must_run()?;
    replicator.kill()?;
    let mut replicator = plain.start(&pair, false, &["--recordTraceValues"])?;
    write(&pair, 41, 80).await?;
    pair.confirmed(LONG).await?;
    replicator.must_run()?;
    ensure!(replicator.stop(LONG).await?.success(), "asked to stop, it failed");

    let killed = replay(&hashed.recording)?;
    ensure!(killed.runs == 1 && 10 < killed.steps && killed.ending.is_none(), "{killed:?}");
    let stopped = replay(&plain.recording)?;
    ensure!(stopped.ending == Some(Ending::Finished) && !stopped.unanswered, "{stopped:?}");
    for (files, has_values) in [(&hashed, false), (&plain, true)] {
        let bytes = fs::read(&files.recording)?;
        for value in ["a-name-", "dear child", "987654", "wide wide"] {
            let found = bytes.windows(value.len()).any(|window| window == value.as_bytes());
            ensure!(found == has_values, "{value} in {}: {found}", files.recording.display());
        }
        let mode = fs::metadata(&files.recording)?.permissions().mode();
        ensure!(mode & 0o777 == 0o600, "mode {mode:o}");
    }

    // Nothing is overwritten.
    let before = fs::read(&plain.recording)?;
    let mut replicator = plain.start(&pair, false, &[])?;
    let status = replicator.wait(LONG).await?;
    let log = replicator.log()?;
    ensure!(status.code() == Some(1) && log.contains("it exists, and a recording"), "{log}");
    ensure!(fs::read(&plain.recording)? == before, "the recording was overwritten");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_recording_does_not_stop_replication() -> Result<()> {
    let pair = begin().await?;
    let files = Files::new("full", &pair)?;
    let replicator = files.start(&pair, true, &["--recordTraceMax", "10000"])?;
    write(&pair, 1, 200).await?;
    pair.confirmed(LONG).await?;
    let log = replicator.log()?;
    ensure!(log.matches("recording has ended").count() == 1, "{log}");
    ensure!(replicator.stop(LONG).await?.success(), "asked to stop, it failed");
    let played = replay(&files.recording)?;
    ensure!(played.ending == Some(Ending::Full) && 0 < played.steps, "{played:?}");
    ensure!(fs::metadata(&files.recording)?.len() < 10_100, "it grew beyond its limit");
    Ok(())
}

/// Two servers with the same tables.
async fn begin() -> Result<Pair> {
    let pair = Pair::start(postgres::major()?, &Options::default()).await?;
    let table = "CREATE TABLE t (id int PRIMARY KEY, name text UNIQUE, weight numeric);
                 CREATE TABLE child (name char(20) PRIMARY KEY, t int REFERENCES t, big text)";
    pair.from.batch_execute(table).await?;
    pair.to.batch_execute(table).await?;
    pair.publish().await?;
    Ok(pair)
}

/// A recording and a log of one test.
struct Files {
    recording: PathBuf,
    log: PathBuf,
}

impl Files {
    fn new(name: &str, pair: &Pair) -> Result<Self> {
        let folder = postgres::home()?.join("logs");
        fs::create_dir_all(&folder)?;
        // Ports are used again.
        let recording = folder.join(format!("recording-{name}-{}", pair.source.port()));
        if recording.exists() {
            fs::remove_file(&recording)?;
        }
        let log = folder.join(format!("recording-{name}-{}.log", pair.source.port()));
        if log.exists() {
            fs::remove_file(&log)?;
        }
        Ok(Self { recording, log })
    }

    fn start(&self, pair: &Pair, first: bool, flags: &[&str]) -> Result<Replicator> {
        let mut arguments = pair.arguments(first);
        arguments.extend(["--standbyTimeout", "500ms", "--recordTrace"].map(str::to_owned));
        arguments.push(self.recording.display().to_string());
        arguments.extend(flags.iter().map(|&flag| flag.to_owned()));
        Replicator::start(&self.log, arguments)
    }
}

/// Inserts, updates, moves and deletes rows with ids in a range.
async fn write(pair: &Pair, from: u32, through: u32) -> Result<()> {
    for id in from..=through {
        let sql = format!(
            "BEGIN;
             INSERT INTO t VALUES ({id}, 'a-name-{id}', 987654.{id});
             INSERT INTO child VALUES ('dear child {id}', {id}, repeat('wide ', 30));
             COMMIT;
             UPDATE t SET name = name || '!', weight = -weight WHERE id = {id};
             UPDATE child SET name = 'c{id}' WHERE t = {id} AND t % 3 = 0;
             DELETE FROM child WHERE t = {id} AND t % 5 = 0"
        );
        pair.from.batch_execute(&sql).await?;
    }
    Ok(())
}
