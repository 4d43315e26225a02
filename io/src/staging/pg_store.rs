//! Staging in CockroachDB or PostgreSQL.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use replicator_core::dialect::Product;
use replicator_core::model::mutation::TimedMutation;
use replicator_core::model::position::{Applied, Lsn, PartitionId, Position};
use replicator_core::model::time::Hlc;
use replicator_core::{Durable, Failure};
use tokio_postgres::Client;

use super::schema::StagingName;
use crate::net::Dial;
use crate::pg::pool::Pool;
use crate::pg::sessions::{Sessions, check_fence, take_fence};
use crate::port::{Fence, StagedPage, Staging};

/// The staging store of one stream. Clones share sessions.
#[derive(Debug)]
pub struct PgStore<D: Dial> {
    sessions: Sessions<D>,
    names: Arc<Names>,
}

#[derive(Debug)]
struct Names {
    product: Product,
    memo: String,
    fences: String,
    applied: String,
    stream: String,
    position_key: String,
    identity_key: String,
}

impl<D: Dial> Clone for PgStore<D> {
    fn clone(&self) -> Self {
        Self { sessions: self.sessions.clone(), names: Arc::clone(&self.names) }
    }
}

impl<D: Dial> PgStore<D> {
    /// The store for a PostgreSQL source that feeds `target_schema`, as the flag spells it: the memo
    /// keys of the older tool are built from that text.
    ///
    /// `timeout` is for one request.
    #[must_use]
    pub fn pglogical(
        pool: Pool<D>,
        product: Product,
        name: &StagingName,
        target_schema: &str,
        timeout: Duration,
    ) -> Self {
        let names = Names {
            product,
            memo: name.table("memo"),
            fences: name.table("replicator_fences"),
            applied: name.table("replicator_applied"),
            stream: format!("pglogical-{target_schema}"),
            position_key: format!("pglogical-wal-offset-{target_schema}"),
            identity_key: format!("pglogical-source-{target_schema}"),
        };
        Self { sessions: Sessions::new(pool, "staging", timeout), names: Arc::new(names) }
    }

    /// What the target needs to write its records here: tables of applied runs and of fences, and the
    /// name of the stream.
    #[must_use]
    pub fn record_names(&self) -> (&str, &str, &str) {
        (&self.names.applied, &self.names.fences, &self.names.stream)
    }

    /// The identity of the source that the saved position belongs to, as [`save_identity`] wrote it.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    ///
    /// [`save_identity`]: Self::save_identity
    pub async fn identity(&self) -> Result<Option<String>, Failure> {
        let names = &self.names;
        let read = async |client: &Client| {
            let sql = format!("SELECT value FROM {} WHERE key = $1", names.memo);
            let row = client.query_opt(&sql, &[&names.identity_key]).await?;
            Ok(row.map(|row| row.get::<_, Vec<u8>>(0)))
        };
        let value = self.sessions.ask(read).await?;
        Ok(value.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// The SQL by which an operator forgets the saved position and all that belongs to it.
    #[must_use]
    pub fn forget_sql(&self) -> String {
        let Names { memo, applied, stream, position_key, identity_key, .. } = &*self.names;
        let text = |value: &str| format!("'{}'", value.replace('\'', "''"));
        format!(
            "DELETE FROM {memo} WHERE key IN ({}, {}); DELETE FROM {applied} WHERE stream = {};",
            text(position_key),
            text(identity_key),
            text(stream)
        )
    }

    /// Ties the saved position to its source. Replaces what was there.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub async fn save_identity(&self, identity: &str) -> Result<(), Failure> {
        let names = &self.names;
        self.sessions
            .ask(async |client: &Client| {
                client.execute(&names.put(), &[&names.identity_key, &identity.as_bytes()]).await?;
                Ok(())
            })
            .await
    }
}

impl Names {
    /// `$1` = key, `$2` = value.
    fn put(&self) -> String {
        format!(
            "INSERT INTO {} (key, value) VALUES ($1, $2) \
             ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            self.memo
        )
    }
}

impl<D: Dial> Staging for PgStore<D> {
    async fn begin(&self) -> Result<(Fence, Durable), Failure> {
        let names = &self.names;
        let take = take_fence(&names.fences);
        let memo = format!("SELECT value FROM {} WHERE key = $1", names.memo);
        let applied = format!(
            "SELECT after_position, through_position FROM {} WHERE stream = $1 \
             ORDER BY through_position",
            names.applied
        );
        let (fence, memo, rows) = self
            .sessions
            .ask(async |client: &Client| {
                let fence: i64 = client.query_one(&take, &[&names.stream]).await?.get(0);
                let memo = client.query_opt(&memo, &[&names.position_key]).await?;
                let rows = client.query(&applied, &[&names.stream]).await?;
                Ok((fence, memo.map(|row| row.get::<_, Vec<u8>>(0)), rows))
            })
            .await?;
        let broken = |what: &str| Failure::Rejected {
            detail: format!("{} holds a {what} that cannot be read", names.memo),
            at: None,
        };
        let checkpoint = match memo {
            None => None,
            Some(text) => {
                let lsn = std::str::from_utf8(&text).ok().and_then(|text| text.parse::<Lsn>().ok());
                Some(Position::Lsn(lsn.ok_or_else(|| broken("saved position"))?))
            }
        };
        let applied = rows
            .iter()
            .map(|row| {
                let (after, through): (Option<&str>, &str) = (row.get(0), row.get(1));
                Applied::from_sortable(after, through)
            })
            .collect::<Option<Vec<Applied>>>()
            .ok_or_else(|| broken("applied record"))?;
        let fence = Fence(u64::try_from(fence).unwrap_or(0));
        Ok((fence, Durable { checkpoint, applied, resolved: BTreeMap::new() }))
    }

    async fn save_checkpoint(&self, fence: Fence, position: Position) -> Result<(), Failure> {
        let names = &self.names;
        let text = match position {
            Position::Lsn(lsn) => lsn.to_string(),
            Position::Hlc(hlc) => hlc.to_string(),
        };
        let fence = i64::try_from(fence.0).unwrap_or(i64::MAX);
        // `$1` = stream, `$2` = the new checkpoint: records at or before it say nothing any more.
        let forget =
            format!("DELETE FROM {} WHERE stream = $1 AND through_position <= $2", names.applied);
        self.sessions
            .ask(async |client: &Client| {
                let (check, put, through) = (
                    check_fence(&names.fences, names.product),
                    names.put(),
                    position.to_sortable(),
                );
                client.batch_execute("BEGIN").await?;
                client.query_one(&check, &[&names.stream, &fence]).await?;
                client.execute(&put, &[&names.position_key, &text.as_bytes()]).await?;
                client.execute(&forget, &[&names.stream, &through]).await?;
                client.batch_execute("COMMIT").await
            })
            .await
    }

    async fn read(&self, _: Hlc, _: Hlc, _: u32) -> Result<StagedPage, Failure> {
        Err(unsupported())
    }

    async fn retire(&self, _: Fence, _: Hlc) -> Result<(), Failure> {
        Err(unsupported())
    }

    async fn save_resolved(&self, _: Fence, _: PartitionId, _: Hlc) -> Result<(), Failure> {
        Err(unsupported())
    }

    async fn save_horizon(&self, _: Fence, _: Hlc) -> Result<(), Failure> {
        Err(unsupported())
    }

    async fn horizon(&self) -> Result<Hlc, Failure> {
        Err(unsupported())
    }

    async fn stage(&self, _: Fence, _: Vec<TimedMutation>, _: Hlc) -> Result<(), Failure> {
        Err(unsupported())
    }
}

/// An ordered source stages no rows, so a machine of one never asks for it.
fn unsupported() -> Failure {
    let detail = "this store keeps positions of ordered sources, not staged rows".to_owned();
    Failure::Rejected { detail, at: None }
}
