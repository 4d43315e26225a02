//! One connection that changes the shop, one random transaction after the other.
use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement, Transaction};

use super::shop::Shop;
use crate::postgres;
use crate::random::Random;

/// A writer. Several may work side by side: each changes rows of its own, and only refers to rows that
/// nobody deletes, so they neither fail nor wait for each other.
#[derive(Debug)]
pub struct Writer {
    client: Client,
    statements: Statements,
    random: Random,
    shop: Shop,
}

/// Statements by their text, prepared once.
type Statements = BTreeMap<&'static str, Statement>;

/// What the writers are called by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// This one, from 0.
    pub number: u32,
    /// How many there are.
    pub of: u32,
}

impl Writer {
    /// Connects and looks up which rows are this writer's.
    ///
    /// # Errors
    ///
    /// The tables are not there.
    pub async fn connect(conninfo: &str, share: Share, random: Random) -> Result<Self> {
        let client = postgres::connect(conninfo).await?;
        let shop = Shop::open(&client, share).await?;
        Ok(Self { client, statements: Statements::new(), random, shop })
    }

    /// Commits one transaction. Returns the number of rows it changed, cascades included.
    ///
    /// # Errors
    ///
    /// A statement failed. The writer is of no use then: it does not know what became of its rows.
    pub async fn transaction(&mut self) -> Result<u64> {
        let tx = self.client.transaction().await?;
        let mut step = Step { tx, statements: &mut self.statements, rows: 0 };
        self.shop.change(&mut step, &mut self.random).await?;
        let rows = step.rows;
        step.tx.commit().await?;
        Ok(rows)
    }
}

/// An open transaction that counts the rows it changes.
pub(super) struct Step<'a> {
    tx: Transaction<'a>,
    statements: &'a mut Statements,
    rows: u64,
}

impl Step<'_> {
    /// Runs a statement.
    pub(super) async fn run(
        &mut self,
        sql: &'static str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<()> {
        let statement = match self.statements.get(sql) {
            Some(statement) => statement.clone(),
            None => {
                let statement = self.tx.prepare(sql).await.with_context(|| sql)?;
                self.statements.insert(sql, statement.clone());
                statement
            }
        };
        self.rows += self.tx.execute(&statement, parameters).await.with_context(|| sql)?;
        Ok(())
    }

    /// Counts rows that the server changed by itself, through a foreign key.
    pub(super) const fn count(&mut self, rows: u64) {
        self.rows += rows;
    }
}
