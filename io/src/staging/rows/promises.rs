//! Positions and promises: the tables `memo` and `checkpoints`, and the fence.
use std::collections::BTreeMap;

use replicator_core::model::mode::Lane;
use replicator_core::model::position::{PartitionId, Position};
use replicator_core::model::time::Hlc;
use replicator_core::{Durable, Failure};
use tokio_postgres::types::Type;

use super::{Inner, number, time_of};
use crate::net::Dial;
use crate::pg::sessions::{Ask, Param, all, take_fence, transaction};
use crate::port::Fence;

/// So many promises are deleted by one statement at most. Only the older tool leaves that many.
const DELETED_MAX: usize = 10_000;

impl<D: Dial> Inner<D> {
    /// The value of a memo.
    pub(super) async fn memo(&self, key: &str) -> Result<Option<Vec<u8>>, Failure> {
        // `$1` = key.
        let sql = format!("SELECT value FROM {} WHERE key = $1", self.memo);
        let row = self
            .sessions
            .ask_again(async |client| client.query_typed_opt(&sql, &[(&key, Type::TEXT)]).await)
            .await?;
        Ok(row.map(|row| row.get(0)))
    }

    pub(super) async fn text(&self, key: &str) -> Result<Option<String>, Failure> {
        let value = self.memo(key).await?;
        Ok(value.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    pub(super) async fn save_identity(&self, identity: &[u8]) -> Result<(), Failure> {
        let sql = self.replace();
        let params: [Param<'_>; 2] = [(&self.identity_key, Type::TEXT), (&identity, Type::BYTEA)];
        let saved = self
            .sessions
            .ask_again(async |client| client.execute_typed(&sql, &params).await.map(drop));
        saved.await
    }

    pub(super) async fn save_text(
        &self,
        fence: Fence,
        key: &str,
        text: &str,
    ) -> Result<(), Failure> {
        let (fence, value) = (number(fence), text.as_bytes());
        let params: Vec<Param<'_>> = vec![(&key, Type::TEXT), (&value, Type::BYTEA)];
        let asks = [self.check(&fence), Ask { sql: self.replace(), params }];
        self.sessions.ask_again(async |client| transaction(client, &asks).await.map(drop)).await
    }

    /// `$1` = key, `$2` = value.
    fn replace(&self) -> String {
        format!(
            "INSERT INTO {} (key, value) VALUES ($1, $2) \
             ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            self.memo
        )
    }

    pub(super) async fn begin(&self) -> Result<(Fence, Durable), Failure> {
        let take = take_fence(&self.fences);
        let fence: i64 = self
            .sessions
            .ask_again(async |client| {
                client.query_typed_one(&take, &[(&self.stream, Type::TEXT)]).await
            })
            .await?
            .get(0);
        // From here on no older run writes.
        self.load(&mut *self.tables.lock().await).await?;
        let checkpoint = self.position(&self.position_key).await?;
        let resolved = self.promises().await?;
        let fence = Fence(u64::try_from(fence).unwrap_or(0));
        Ok((fence, Durable { checkpoint, resolved, ..Durable::default() }))
    }

    /// The last promise of each partition.
    async fn promises(&self) -> Result<BTreeMap<PartitionId, Hlc>, Failure> {
        // `$1` = group, `$2` = partition.
        let sql = format!(
            "SELECT floor(source_hlc)::INT8, \
                    ((source_hlc - floor(source_hlc)) * 10000000000)::INT8 FROM {} \
              WHERE group_name = $1 AND partition = $2 ORDER BY source_hlc DESC LIMIT 1",
            self.checkpoints
        );
        let partitions = &self.options.partitions;
        let asks: Vec<Ask<'_>> = partitions
            .iter()
            .map(|partition| Ask {
                sql: sql.clone(),
                params: vec![(&self.group, Type::TEXT), (partition, Type::TEXT)],
            })
            .collect();
        let found = self.sessions.ask_again(async |client| all(client, &asks).await).await?;
        let promise = |(id, rows): (u32, Vec<tokio_postgres::Row>)| {
            let time = rows.first().map(|row| time_of(row.get(0), row.get(1)));
            (PartitionId(id), time.unwrap_or_default())
        };
        Ok((0..).zip(found).map(promise).collect())
    }

    pub(super) async fn save_checkpoint(
        &self,
        fence: Fence,
        position: Position,
    ) -> Result<(), Failure> {
        let fence = number(fence);
        let value = position.to_sortable().into_bytes();
        let put = self.put_forward();
        let mut asks = vec![
            self.check(&fence),
            Ask { sql: put, params: vec![(&self.position_key, Type::TEXT), (&value, Type::BYTEA)] },
        ];
        let time = match position {
            Position::Hlc(time) => Some(time.to_string()),
            Position::Lsn(_) | Position::Ordinal(_) => None,
        };
        if let Some(time) = &time {
            // For whoever looks: `$1` = group, `$2` = time.
            let sql = format!(
                "UPDATE {} SET target_applied_at = now() WHERE group_name = $1 \
                 AND source_hlc <= $2::DECIMAL AND target_applied_at IS NULL",
                self.checkpoints
            );
            asks.push(Ask { sql, params: vec![(&self.group, Type::TEXT), (time, Type::TEXT)] });
        }
        self.sessions.ask_again(async |client| transaction(client, &asks).await.map(drop)).await
    }

    /// The SQL that saves a position, forward only. `$1` = key, `$2` = value. Texts of positions sort like
    /// them.
    fn put_forward(&self) -> String {
        format!(
            "INSERT INTO {memo} AS m (key, value) VALUES ($1, $2) ON CONFLICT (key) \
             DO UPDATE SET value = excluded.value WHERE m.value < excluded.value",
            memo = self.memo
        )
    }

    const fn horizon_key(&self, lane: &Lane) -> &String {
        match lane {
            Lane::Whole | Lane::Related(_) => &self.horizon_key,
            Lane::Independent(_) => &self.independent_horizon_key,
        }
    }

    pub(super) async fn save_horizon(
        &self,
        lane: &Lane,
        fence: Fence,
        through: Hlc,
    ) -> Result<(), Failure> {
        let fence = number(fence);
        let value = Position::Hlc(through).to_sortable().into_bytes();
        let key = self.horizon_key(lane);
        let params: Vec<Param<'_>> = vec![(key, Type::TEXT), (&value, Type::BYTEA)];
        let asks = [self.check(&fence), Ask { sql: self.put_forward(), params }];
        self.sessions.ask_again(async |client| transaction(client, &asks).await.map(drop)).await
    }

    pub(super) async fn horizon(&self, lane: &Lane) -> Result<Hlc, Failure> {
        match self.position(self.horizon_key(lane)).await? {
            Some(Position::Hlc(horizon)) => Ok(horizon),
            Some(Position::Lsn(_) | Position::Ordinal(_)) | None => Ok(Hlc::default()),
        }
    }

    /// A position that was saved.
    async fn position(&self, key: &str) -> Result<Option<Position>, Failure> {
        let Some(value) = self.memo(key).await? else { return Ok(None) };
        let text = std::str::from_utf8(&value).ok();
        let position = text.and_then(Position::from_sortable);
        position.map(Some).ok_or_else(|| Failure::Rejected {
            detail: format!(
                "staging: {} holds a saved position that cannot be read; delete the row with key \
                 \"{key}\", and all rows that are still staged are applied again",
                self.memo
            ),
            at: None,
        })
    }

    pub(super) async fn save_resolved(
        &self,
        fence: Fence,
        partition: PartitionId,
        resolved: Hlc,
    ) -> Result<(), Failure> {
        let index = usize::try_from(partition.0).ok();
        let Some(name) = index.and_then(|index| self.options.partitions.get(index)) else {
            let detail = format!("staging: stream \"{}\" has no {partition}", self.stream);
            return Err(Failure::Rejected { detail, at: None });
        };
        let (fence, time) = (number(fence), resolved.to_string());
        let table = &self.checkpoints;
        // In both: `$1` = group, `$2` = time, `$3` = partition.
        let put = format!(
            "INSERT INTO {table} (group_name, source_hlc, partition) \
             SELECT $1, $2::DECIMAL, $3 WHERE NOT EXISTS (SELECT 1 FROM {table} \
              WHERE group_name = $1 AND partition = $3 AND source_hlc >= $2::DECIMAL) \
             ON CONFLICT DO NOTHING"
        );
        let forget = format!(
            "DELETE FROM {table} WHERE group_name = $1 AND partition = $3 AND source_hlc <= \
             (SELECT max(x.h) FROM (SELECT source_hlc AS h FROM {table} WHERE group_name = $1 \
               AND partition = $3 AND source_hlc < $2::DECIMAL ORDER BY h LIMIT {DELETED_MAX}) AS x)"
        );
        let ask = |sql: String| {
            let params: Vec<Param<'_>> =
                vec![(&self.group, Type::TEXT), (&time, Type::TEXT), (name, Type::TEXT)];
            Ask { sql, params }
        };
        let asks = [self.check(&fence), ask(put), ask(forget)];
        self.sessions.ask_again(async |client| transaction(client, &asks).await.map(drop)).await
    }
}
