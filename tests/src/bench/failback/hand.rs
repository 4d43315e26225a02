//! By hand: the same rows, by the statement that somebody would write who wants them in fast.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use replicator_tests::postgres::Server;
use tokio::time::Instant;

use super::feed::Entry;
use super::{DATABASE, Workload};

/// Arrays of columns make one statement for any number of rows.
const INSERT_SQL: &str = "INSERT INTO entry SELECT * FROM \
     unnest($1::bigint[], $2::integer[], $3::text[]::numeric[], $4::text[], $5::timestamptz[])";
const UPSERT_SQL: &str = " ON CONFLICT (id) DO UPDATE SET k = excluded.k, \
     amount = excluded.amount, note = excluded.note, at = excluded.at";

/// A way of doing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Way {
    /// Whether rows may be there already, as whoever replicates must expect.
    pub(super) upsert: bool,
    /// Rows of one transaction.
    pub(super) rows: u64,
    /// Sessions at the same time.
    pub(super) sessions: usize,
}

/// The ways that are tried; the fastest is the floor.
pub(super) const WAYS: [Way; 6] = [
    Way { upsert: false, rows: 1_000, sessions: 1 },
    Way { upsert: false, rows: 1_000, sessions: 2 },
    Way { upsert: false, rows: 1_000, sessions: 8 },
    Way { upsert: false, rows: 10_000, sessions: 2 },
    Way { upsert: true, rows: 1_000, sessions: 2 },
    Way { upsert: true, rows: 1_000, sessions: 8 },
];

impl std::fmt::Display for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let verb = if self.upsert { "upsert" } else { "insert" };
        write!(f, "{verb} {} rows x{}", self.rows, self.sessions)
    }
}

/// The columns of one transaction's rows.
#[derive(Default)]
struct Columns {
    ids: Vec<i64>,
    ks: Vec<i32>,
    amounts: Vec<String>,
    notes: Vec<String>,
    ats: Vec<SystemTime>,
}

/// Writes all rows into the empty table. Returns the seconds that it took.
pub(super) async fn write(server: &Server, workload: &Workload, way: Way) -> Result<f64> {
    // Made before, so that what is measured is the server.
    let mut waiting = Vec::new();
    for first in (0..workload.rows).step_by(usize::try_from(way.rows)?) {
        let mut columns = Columns::default();
        for number in first..(first + way.rows).min(workload.rows) {
            let entry = Entry::of(workload, number);
            columns.ats.push(entry.at());
            columns.ids.push(entry.id);
            columns.ks.push(entry.k);
            columns.amounts.push(entry.amount);
            columns.notes.push(entry.note);
        }
        waiting.push(columns);
    }
    waiting.reverse();
    let waiting = Mutex::new(waiting);
    let sql = if way.upsert { format!("{INSERT_SQL}{UPSERT_SQL}") } else { INSERT_SQL.to_owned() };
    let mut sessions = Vec::new();
    for _ in 0..way.sessions {
        let client = server.client(DATABASE).await?;
        let statement = client.prepare(&sql).await.context("could not prepare")?;
        sessions.push((client, statement));
    }
    let began = Instant::now();
    let all = sessions.iter().map(|(client, statement)| async {
        loop {
            let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(Columns { ids, ks, amounts, notes, ats }) = next else { break };
            let rows = client.execute(statement, &[&ids, &ks, &amounts, &notes, &ats]).await?;
            ensure!(rows == ids.len() as u64, "{rows} rows were written");
        }
        anyhow::Ok(())
    });
    try_join_all(all).await?;
    Ok(began.elapsed().as_secs_f64())
}
