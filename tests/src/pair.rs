//! A source and a target with the same tables, and everything made by hand that `replicator pglogical`
//! asks its operator for: a publication, a slot, and a copy of the first rows.
use std::time::Duration;

use anyhow::Result;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use crate::postgres::{Options, Server};
use crate::{wait_until, workload};

/// The name of both databases.
pub const DATABASE: &str = "shop";
/// The names that the product's documentation uses.
pub const SLOT: &str = "molt_slot";
/// See [`SLOT`].
pub const PUBLICATION: &str = "molt_fetch";

/// Two servers, and a superuser's connection to each. Dropping it ends the servers.
#[derive(Debug)]
pub struct Pair {
    /// Connected to the source's database.
    pub from: Client,
    /// Connected to the target's database.
    pub to: Client,
    /// The source.
    pub source: Server,
    /// The target.
    pub target: Server,
}

impl Pair {
    /// Starts two servers, each with an empty database.
    ///
    /// # Errors
    ///
    /// A server did not come up.
    pub async fn start(major: u16, options: &Options) -> Result<Self> {
        let source = Server::start(major, options)?;
        let target = Server::start(major, options)?;
        let from = source.create_database(DATABASE).await?;
        let to = target.create_database(DATABASE).await?;
        Ok(Self { from, to, source, target })
    }

    /// Makes the shop's tables on both sides, about `rows` rows, publication and slot, and copies the
    /// rows. Returns how many.
    ///
    /// # Errors
    ///
    /// Some of it was there already.
    pub async fn open_shop(&self, rows: u32) -> Result<u64> {
        workload::create_tables(&self.from, self.source.major()).await?;
        workload::create_tables(&self.to, self.target.major()).await?;
        workload::watch_for_repeats(&self.to).await?;
        workload::fill(&self.from, rows).await?;
        self.publish().await?;
        // Nobody writes between the slot and the end of this copy, so the copy is the database as it
        // was at the slot's position. Where writers cannot be held, the slot is created over a
        // replication connection, which exports a snapshot of just that moment to copy from
        // (PostgreSQL documentation, "Streaming Replication Protocol", CREATE_REPLICATION_SLOT).
        workload::copy(&self.from, &self.to).await
    }

    /// Creates the publication, of all tables, and then the slot.
    ///
    /// # Errors
    ///
    /// One of them exists.
    pub async fn publish(&self) -> Result<()> {
        publish(&self.from).await
    }

    /// The documented arguments of the product; `first` lets it create its staging schema.
    #[must_use]
    pub fn arguments(&self, first: bool) -> Vec<String> {
        let mut arguments: Vec<String> = vec!["pglogical".into()];
        let mut flag = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
        flag("--sourceConn", self.source.conninfo(DATABASE));
        flag("--targetConn", self.target.conninfo(DATABASE));
        flag("--targetSchema", format!("{DATABASE}.public"));
        flag("--slotName", SLOT.to_owned());
        flag("--publicationName", PUBLICATION.to_owned());
        flag("--stagingSchema", "_replicator".to_owned());
        if first {
            arguments.push("--stagingCreateSchema".to_owned());
        }
        arguments
    }

    /// Waits until the product has confirmed to the source everything written so far. Then it is in
    /// the target for good.
    ///
    /// That some later row has arrived would prove less: transactions that share no rows may commit
    /// in the target in another order.
    ///
    /// # Errors
    ///
    /// It has not within `limit`.
    pub async fn confirmed(&self, limit: Duration) -> Result<()> {
        let row = self.from.query_one("SELECT pg_current_wal_lsn()::text", &[]).await?;
        let end: String = row.get(0);
        // $1 = the end of the source's log.
        let sql = "SELECT 1 FROM pg_replication_slots
                   WHERE slot_type = 'logical' AND confirmed_flush_lsn >= $1::text::pg_lsn";
        wait_until(limit, "the slot confirms all that was written", async || {
            Ok(!self.from.query_typed(sql, &[(&end, Type::TEXT)]).await?.is_empty())
        })
        .await
    }
}

/// Creates the publication, of all tables, and then the slot.
///
/// # Errors
///
/// One of them exists.
pub async fn publish(source: &Client) -> Result<()> {
    let publication = format!("CREATE PUBLICATION {PUBLICATION} FOR ALL TABLES");
    source.batch_execute(&publication).await?;
    // A message of its own: a slot cannot be made in a transaction that has written.
    let slot = format!("SELECT pg_create_logical_replication_slot('{SLOT}', 'pgoutput')");
    source.batch_execute(&slot).await?;
    Ok(())
}
