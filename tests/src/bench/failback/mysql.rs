//! The same rows into MySQL and MariaDB.
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use replicator_io::mysql::session::{MySqlOptions, MySqlSession};
use replicator_tests::mysql::{Kind, Server};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::feed::{Entry, Feed};
use super::{DATABASE, Ours, POLL_INTERVAL, STEP_MAX, Step, Workload};
use crate::report::middle;

/// A schema of MySQL is one segment of the path.
const PATH: &str = "/bench";

const TABLE_SQL: &str = "CREATE TABLE entry (id BIGINT PRIMARY KEY, k INT, amount DECIMAL(12, 2), \
     note VARCHAR(100), at TIMESTAMP NULL)";

const UPSERT_SQL: &str = " ON DUPLICATE KEY UPDATE k = VALUES(k), amount = VALUES(amount), \
     note = VALUES(note), at = VALUES(at)";

/// Sessions of ours that write by hand.
const OPTIONS: MySqlOptions =
    MySqlOptions { lock_wait: Duration::from_secs(50), idle: Duration::from_secs(600) };

/// Rows of a statement, sessions at the same time, and whether rows may be there already.
const WAYS: [(u64, usize, bool); 5] =
    [(1_000, 2, false), (1_000, 8, false), (10_000, 2, false), (1_000, 2, true), (1_000, 8, true)];

/// Medians of its runs.
#[derive(Debug)]
pub(super) struct IntoMySql {
    kind: Kind,
    /// Rows a second, in the order of [`WAYS`].
    hand: Vec<f64>,
    ingest: f64,
    apply: f64,
    both: f64,
    /// The apply to the fastest way by hand.
    ratio: f64,
    /// Microseconds of a processor that our process took to apply a row.
    apply_cpu: f64,
}

struct Run {
    hand: Vec<f64>,
    ingest: Step,
    apply: Step,
    both: Step,
}

/// Measures one product.
pub(super) async fn bench(
    folder: &Path,
    kind: Kind,
    workload: &Workload,
    feed: &Feed,
    runs: usize,
) -> Result<IntoMySql> {
    let server = Server::start(kind)?;
    server.run(&format!("CREATE DATABASE {DATABASE}"))?;
    let stage = Stage { server, folder };
    let mut done = Vec::new();
    for _ in 0..runs {
        done.push(stage.run(workload, feed).await?);
    }
    let rows = workload.rows as f64;
    let of = |field: &dyn Fn(&Run) -> f64| {
        middle(done.iter().map(field).collect()).context("nothing was run")
    };
    let hand = (0..WAYS.len()).map(|way| of(&|run| rows / run.hand[way]));
    let hand: Vec<f64> = hand.collect::<Result<_>>()?;
    let apply = of(&|run| rows / run.apply.seconds)?;
    Ok(IntoMySql {
        kind,
        ratio: apply / hand.iter().copied().fold(0.0, f64::max),
        hand,
        ingest: of(&|run| rows / run.ingest.seconds)?,
        apply,
        both: of(&|run| rows / run.both.seconds)?,
        apply_cpu: of(&|run| run.apply.cpu * 1e6 / rows)?,
    })
}

struct Stage<'a> {
    server: Server,
    folder: &'a Path,
}

impl Stage<'_> {
    async fn run(&self, workload: &Workload, feed: &Feed) -> Result<Run> {
        let (mut hand, mut digest) = (Vec::new(), String::new());
        for way in WAYS {
            self.clear()?;
            hand.push(self.write(workload, way).await?);
            digest = self.digest().await?;
        }
        self.clear()?;
        let ours = self.start_ours().await?;
        let (ingest, apply) = ours.one_by_one(workload, feed, self.last(workload)).await?;
        ensure!(self.digest().await? == digest, "the target has other rows than by hand");
        self.clear()?;
        let both = self.start_ours().await?.both(workload, feed, self.last(workload)).await?;
        ensure!(self.digest().await? == digest, "the target has other rows than by hand");
        Ok(Run { hand, ingest, apply, both })
    }

    async fn start_ours(&self) -> Result<Ours> {
        Ours::start(self.folder, &self.server.conninfo(DATABASE), PATH, &[]).await
    }

    async fn session(&self) -> Result<MySqlSession> {
        Ok(MySqlSession::open(&self.server.conninfo(DATABASE).parse()?, &OPTIONS).await?)
    }

    /// Writes all rows into the empty table. Returns the seconds that it took.
    async fn write(&self, workload: &Workload, way: (u64, usize, bool)) -> Result<f64> {
        let (rows, sessions, upsert) = way;
        let mut waiting = Vec::new();
        for first in (0..workload.rows).step_by(usize::try_from(rows)?) {
            let values = (first..(first + rows).min(workload.rows)).map(|number| {
                let entry = Entry::of(workload, number);
                let (id, k, amount) = (entry.id, entry.k, &entry.amount);
                let (note, at) = (entry.note.replace('\'', "''"), entry.at_text());
                format!("({id}, {k}, {amount}, '{note}', '{at}')")
            });
            let values = values.collect::<Vec<_>>().join(", ");
            let end = if upsert { UPSERT_SQL } else { "" };
            waiting.push(format!("INSERT INTO entry VALUES {values}{end}"));
        }
        waiting.reverse();
        let waiting = Mutex::new(waiting);
        let mut opened = try_join_all((0..sessions).map(|_| self.session())).await?;
        let began = Instant::now();
        let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let all = opened.iter_mut().map(|session| async {
            while let Some(sql) = next() {
                session.query(&sql).await?;
            }
            anyhow::Ok(())
        });
        try_join_all(all).await?;
        Ok(began.elapsed().as_secs_f64())
    }

    /// Makes the table anew.
    fn clear(&self) -> Result<()> {
        let sql = format!("USE {DATABASE}; DROP TABLE IF EXISTS entry; {TABLE_SQL}");
        self.server.run(&sql).map(drop)
    }

    async fn ask(&self, session: &mut MySqlSession, sql: &str) -> Result<String> {
        let rows = session.query(sql).await?;
        let cell = rows.into_iter().next().and_then(|row| row.into_iter().next());
        cell.flatten().context("an answer is empty")
    }

    /// Waits until the last row is visible, which is cheap to look for.
    async fn last(&self, workload: &Workload) -> Result<()> {
        let last = Entry::of(workload, workload.rows - 1).id;
        let (began, mut session) = (Instant::now(), self.session().await?);
        let sql = format!("SELECT COUNT(*) FROM entry WHERE id = {last}");
        while self.ask(&mut session, &sql).await? != "1" {
            ensure!(began.elapsed() < STEP_MAX, "the last row has not arrived");
            sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }

    async fn digest(&self) -> Result<String> {
        let sql = "SELECT CONCAT(COUNT(*), ' ', SUM(CRC32(CONCAT_WS('|', id, k, amount, note, at)))) \
                   FROM entry";
        self.ask(&mut self.session().await?, sql).await
    }
}

impl IntoMySql {
    pub(super) fn line(&self) -> String {
        let Self { kind, hand, ingest, apply, both, ratio, apply_cpu } = self;
        let hand = WAYS.iter().zip(hand).map(|((rows, sessions, upsert), rate)| {
            let verb = if *upsert { "upsert" } else { "insert" };
            format!("{verb} {rows} rows x{sessions}: {rate:.0}")
        });
        let hand = hand.collect::<Vec<_>>().join(", ");
        format!(
            "single into {kind:?}: ingest {ingest:.0}, apply {apply:.0} ({ratio:.2} of the floor, {apply_cpu:.2} us of CPU a \
             row), both {both:.0}; by hand {hand}"
        )
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "kind": format!("{:?}", self.kind),
            "by_hand_rows_per_s": self.hand.iter().map(|rate| rate.round()).collect::<Vec<_>>(),
            "ingest_rows_per_s": self.ingest.round(),
            "apply_rows_per_s": self.apply.round(),
            "apply_to_floor": (self.ratio * 100.0).round() / 100.0,
            "both_rows_per_s": self.both.round(),
            "apply_cpu_us": (self.apply_cpu * 10.0).round() / 10.0,
        })
    }
}
