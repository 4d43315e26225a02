//! What a stream of an ordered source keeps in CockroachDB or PostgreSQL: values in the documented table `memo`, under
//! the number of the newest run, and which transactions are in the target beyond its position.
use std::sync::Arc;
use std::time::Duration;

use replicator_core::Failure;
use replicator_core::dialect::Product;
use replicator_core::model::position::Position;
use tokio_postgres::Client;

use super::schema::StagingName;
use crate::net::Dial;
use crate::pg::pool::Pool;
use crate::pg::sessions::{Sessions, check_fence, take_fence};
use crate::port::Fence;

/// The tables of one stream. Clones share sessions.
#[derive(Debug)]
pub(super) struct Memo<D: Dial> {
    sessions: Sessions<D>,
    names: Arc<Names>,
}

#[derive(Debug)]
struct Names {
    product: Product,
    memo: String,
    fences: String,
    records: RecordTable,
    stream: String,
}

/// Where target transactions record which source transactions they hold.
#[derive(Clone, Debug)]
pub(super) struct RecordTable {
    /// Its name, qualified and quoted.
    pub(super) name: String,
    /// The column that says, together with `through_position`, which ones.
    pub(super) column: &'static str,
}

/// What a run begins with.
pub(super) struct Begun<const N: usize> {
    pub(super) fence: Fence,
    /// The values that were asked for.
    pub(super) values: [Option<Vec<u8>>; N],
    /// Of each record its column, and where its transactions end.
    pub(super) records: Vec<(Option<String>, String)>,
}

/// Records that say nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spent {
    /// All at or before this position.
    Through(Position),
    /// Those of this run at or before this position.
    OwnThrough(Position),
    /// All of earlier runs.
    Earlier,
}

impl<D: Dial> Clone for Memo<D> {
    fn clone(&self) -> Self {
        Self { sessions: self.sessions.clone(), names: Arc::clone(&self.names) }
    }
}

impl<D: Dial> Memo<D> {
    /// Of the stream of this name. `timeout` is for one request.
    pub(super) fn new(
        pool: Pool<D>,
        product: Product,
        name: &StagingName,
        records: RecordTable,
        stream: String,
        timeout: Duration,
    ) -> Self {
        let (memo, fences) = (name.table("memo"), name.table("replicator_fences"));
        let names = Names { product, memo, fences, records, stream };
        Self { sessions: Sessions::new(pool, "staging", timeout), names: Arc::new(names) }
    }

    /// What the target needs to write its records here: tables of applied runs and of fences, and the
    /// name of the stream.
    pub(super) fn record_names(&self) -> (&str, &str, &str) {
        (&self.names.records.name, &self.names.fences, &self.names.stream)
    }

    /// One value, if it is there.
    pub(super) async fn value(&self, key: &str) -> Result<Option<String>, Failure> {
        let names = &self.names;
        let read = async |client: &Client| {
            let sql = format!("SELECT value FROM {} WHERE key = $1", names.memo);
            let row = client.query_opt(&sql, &[&key]).await?;
            Ok(row.map(|row| row.get::<_, Vec<u8>>(0)))
        };
        let value = self.sessions.ask(read).await?;
        Ok(value.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Replaces one value.
    pub(super) async fn put(&self, key: &str, value: &str) -> Result<(), Failure> {
        let names = &self.names;
        self.sessions
            .ask(async |client: &Client| {
                client.execute(&names.put(), &[&key, &value.as_bytes()]).await?;
                Ok(())
            })
            .await
    }

    /// Begins a run: fences off every earlier one, and reads these values and all records.
    pub(super) async fn begin<const N: usize>(&self, keys: [&str; N]) -> Result<Begun<N>, Failure> {
        let names = &self.names;
        let take = take_fence(&names.fences);
        let memo = format!("SELECT value FROM {} WHERE key = $1", names.memo);
        let RecordTable { name, column } = &names.records;
        let records = format!(
            "SELECT {column}, through_position FROM {name} WHERE stream = $1 \
             ORDER BY through_position"
        );
        let (fence, values, rows) = self
            .sessions
            .ask(async |client: &Client| {
                let fence: i64 = client.query_one(&take, &[&names.stream]).await?.get(0);
                let mut values = [const { None }; N];
                for (key, value) in keys.iter().zip(&mut values) {
                    let row = client.query_opt(&memo, &[key]).await?;
                    *value = row.map(|row| row.get::<_, Vec<u8>>(0));
                }
                let rows = client.query(&records, &[&names.stream]).await?;
                Ok((fence, values, rows))
            })
            .await?;
        let records = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        Ok(Begun { fence: Fence(u64::try_from(fence).unwrap_or(0)), values, records })
    }

    /// Replaces values and forgets records, if no later run has begun.
    pub(super) async fn save(
        &self,
        fence: Fence,
        values: &[(&str, String)],
        spent: Spent,
    ) -> Result<(), Failure> {
        let names = &self.names;
        let fence = i64::try_from(fence.0).unwrap_or(i64::MAX);
        let forget = format!("DELETE FROM {} WHERE stream = $1", names.records.name);
        self.sessions
            .ask(async |client: &Client| {
                let (check, put) = (check_fence(&names.fences, names.product), names.put());
                let stream = &names.stream;
                client.batch_execute("BEGIN").await?;
                client.query_one(&check, &[stream, &fence]).await?;
                for (key, value) in values {
                    client.execute(&put, &[key, &value.as_bytes()]).await?;
                }
                match spent {
                    Spent::Through(through) => {
                        let sql = format!("{forget} AND through_position <= $2");
                        client.execute(&sql, &[stream, &through.to_sortable()]).await?;
                    }
                    Spent::OwnThrough(through) => {
                        let sql = format!("{forget} AND fence = $2 AND through_position <= $3");
                        client.execute(&sql, &[stream, &fence, &through.to_sortable()]).await?;
                    }
                    Spent::Earlier => {
                        let sql = format!("{forget} AND fence < $2");
                        client.execute(&sql, &[stream, &fence]).await?;
                    }
                }
                client.batch_execute("COMMIT").await
            })
            .await
    }

    /// The SQL by which an operator forgets these values and all records.
    pub(super) fn forget_sql(&self, keys: &[&str]) -> String {
        let Names { memo, records, stream, .. } = &*self.names;
        let text = |value: &str| format!("'{}'", value.replace('\'', "''"));
        let keys: Vec<String> = keys.iter().map(|key| text(key)).collect();
        format!(
            "DELETE FROM {memo} WHERE key IN ({}); DELETE FROM {} WHERE stream = {};",
            keys.join(", "),
            records.name,
            text(stream)
        )
    }

    /// The table holds something that is none of ours.
    pub(super) fn broken(&self, what: &str) -> Failure {
        let detail = format!("{} holds a {what} that cannot be read", self.names.memo);
        Failure::Rejected { detail, at: None }
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
