//! Positions of PostgreSQL sources, in CockroachDB or PostgreSQL.
use std::collections::BTreeMap;
use std::time::Duration;

use replicator_core::dialect::Product;
use replicator_core::model::position::{Applied, Lsn, Position};
use replicator_core::{Durable, Failure};

use super::memo::{Begun, Memo, RecordTable, Spent};
use super::schema::StagingName;
use crate::net::Dial;
use crate::pg::pool::Pool;
use crate::port::{Fence, Staging};

/// The staging store of one stream. Clones share sessions.
#[derive(Debug)]
pub struct PgStore<D: Dial> {
    memo: Memo<D>,
    position_key: String,
    identity_key: String,
}

impl<D: Dial> Clone for PgStore<D> {
    fn clone(&self) -> Self {
        let (position_key, identity_key) = (self.position_key.clone(), self.identity_key.clone());
        Self { memo: self.memo.clone(), position_key, identity_key }
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
        let table = name.table("replicator_applied");
        let records = RecordTable { name: table, column: "after_position" };
        let stream = format!("pglogical-{target_schema}");
        Self {
            memo: Memo::new(pool, product, name, records, stream, timeout),
            position_key: format!("pglogical-wal-offset-{target_schema}"),
            identity_key: format!("pglogical-source-{target_schema}"),
        }
    }

    /// What the target needs to write its records here: tables of applied runs and of fences, and the
    /// name of the stream.
    #[must_use]
    pub fn record_names(&self) -> (&str, &str, &str) {
        self.memo.record_names()
    }

    /// The identity of the source that the saved position belongs to, as [`save_identity`] wrote it.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    ///
    /// [`save_identity`]: Self::save_identity
    pub async fn identity(&self) -> Result<Option<String>, Failure> {
        self.memo.value(&self.identity_key).await
    }

    /// The SQL by which an operator forgets the saved position and all that belongs to it.
    #[must_use]
    pub fn forget_sql(&self) -> String {
        self.memo.forget_sql(&[&self.position_key, &self.identity_key])
    }

    /// Ties the saved position to its source. Replaces what was there.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub async fn save_identity(&self, identity: &str) -> Result<(), Failure> {
        self.memo.put(&self.identity_key, identity).await
    }
}

impl<D: Dial> Staging for PgStore<D> {
    async fn begin(&self) -> Result<(Fence, Durable), Failure> {
        let Begun { fence, values: [position], records } =
            self.memo.begin([&self.position_key]).await?;
        let checkpoint = match position {
            None => None,
            Some(text) => {
                let lsn = std::str::from_utf8(&text).ok().and_then(|text| text.parse::<Lsn>().ok());
                Some(Position::Lsn(lsn.ok_or_else(|| self.memo.broken("saved position"))?))
            }
        };
        let applied = records
            .iter()
            .map(|(after, through)| Applied::from_sortable(after.as_deref(), through))
            .collect::<Option<Vec<Applied>>>()
            .ok_or_else(|| self.memo.broken("applied record"))?;
        Ok((fence, Durable { checkpoint, applied, resolved: BTreeMap::new() }))
    }

    async fn save_checkpoint(&self, fence: Fence, position: Position) -> Result<(), Failure> {
        let Position::Lsn(lsn) = position else {
            panic!("a PostgreSQL source has no position such as {position}")
        };
        // Records at or before it say nothing any more.
        let values = [(self.position_key.as_str(), lsn.to_string())];
        self.memo.save(fence, &values, Spent::Through(position)).await
    }
}
