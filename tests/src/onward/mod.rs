//! The shop in MySQL or MariaDB, on its way to PostgreSQL.
//!
//! The target begins empty: the binary log has the first rows, too.
mod load;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};

pub use self::load::Load;
use crate::compare::Comparison;
use crate::failback::{self, Beat};
use crate::moving::Moving;
use crate::mysql::{Kind, Server};
use crate::workload;

/// Both servers, each with the shop's tables.
#[derive(Debug)]
pub struct Onward {
    /// The databases.
    pub moving: Moving,
}

impl Onward {
    /// Starts the servers and makes the tables. The name is one's own.
    ///
    /// # Errors
    ///
    /// A server cannot be had here or did not come up.
    pub async fn open(kind: Kind, name: &str) -> Result<Self> {
        let source = Arc::new(Server::start_source(kind)?);
        let mut moving = Moving::create_on(source, name).await?;
        let major = moving.databases.target().major();
        // MySQL has documents where PostgreSQL has arrays, and no REAL of four bytes that it prints whole.
        let target = workload::tables(major)
            .replace("tags text[]", "tags jsonb")
            .replace("weights double precision[]", "weights jsonb")
            .replace("weight real", "weight double precision");
        moving.tables(failback::MYSQL_TABLES, &target).await?;
        workload::watch_for_repeats(moving.to()).await?;
        Ok(Self { moving })
    }

    /// Fills the source with about `rows` rows.
    ///
    /// # Errors
    ///
    /// It is not empty.
    pub fn fill(&self, rows: u32) -> Result<()> {
        self.moving.run(&load::first_rows(rows)).map(drop)
    }

    /// The connection string of the source.
    #[must_use]
    pub fn conninfo(&self) -> String {
        self.moving.source.conninfo(self.moving.name())
    }

    /// What the load's heartbeat says in the target.
    ///
    /// # Errors
    ///
    /// It does not answer.
    pub async fn beat(&self) -> Result<Beat> {
        let sql = "SELECT beat, rows,
                          greatest(extract(epoch FROM clock_timestamp() - beaten_at), 0)::float8
                   FROM heartbeat";
        let Some(row) = self.moving.to().query_opt(sql, &[]).await? else {
            return Ok(Beat::default());
        };
        let rows: i64 = row.get(1);
        Ok(Beat { beat: row.get(0), rows: rows.try_into()?, lag: row.get(2) })
    }

    /// Waits until the position has all that was executed, whether the program runs or not.
    ///
    /// # Errors
    ///
    /// It has not within `limit`.
    pub async fn confirmed(&self, limit: Duration) -> Result<()> {
        let executed = self.moving.position(&self.moving.executed()?)?;
        crate::wait_until(limit, "the position has all that was executed", async || {
            Ok(self.moving.saved().await?.is_some_and(|saved| executed.is_subset(&saved)))
        })
        .await
    }

    /// Compares both sides, and whether a row of the journal was written twice.
    ///
    /// # Errors
    ///
    /// A side does not answer, or they differ.
    pub async fn identical(&self) -> Result<Comparison> {
        let (source, name) = (&self.moving.source, self.moving.name());
        let comparison = failback::compare_from_mysql(source, name, self.moving.to()).await?;
        ensure!(comparison.is_identical(), "the two sides differ\n{comparison}");
        let repeats = workload::repeats(self.moving.to()).await?;
        ensure!(repeats == 0, "{repeats} rows of the journal were written more than once");
        Ok(comparison)
    }
}
