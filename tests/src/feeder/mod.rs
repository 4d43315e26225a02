//! A changefeed as CockroachDB would send it, told by a real PostgreSQL that stands in for it.
//!
//! ```text
//! source ── pgoutput ──► one row a key and transaction ──► workers ── POST rows ──► replicator
//!                                                            └─ all through a time ─► POST resolved
//! ```
//!
//! A row's time is the place of its commit in the source's log. A key always goes by the same worker, so
//! the first delivery of its versions is in order; nothing else is. Now and then a batch is sent again
//! later, as after a reconnect. What is not answered with 200 is sent again until it is.
mod caller;
mod json;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use replicator_core::Event;
use replicator_core::decode::pg_transaction::{PgOptions, PgTransactions, TruncatePolicy};
use replicator_core::dialect::Product;
use replicator_core::model::catalog::Catalog;
use replicator_core::model::mutation::{SourceTx, TableId};
use replicator_core::model::position::{Lsn, Position};
use replicator_io::clock::Clock;
use replicator_io::net::TcpDial;
use replicator_io::pg::connect::SessionOptions;
use replicator_io::port::Source as _;
use replicator_io::source::pg::stream::{PgSource, PgSourceOptions};
use replicator_io::target::catalog;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{interval, sleep};

pub use self::caller::{Caller, Where};
use crate::pair::{PUBLICATION, SLOT};
use crate::random::Random;
use crate::{postgres, wait_until};

/// From one promise to the next.
const RESOLVED_EVERY: Duration = Duration::from_millis(100);
/// Before a request that failed is sent again.
const RETRY: Duration = Duration::from_millis(50);
/// Rows that wait for each worker.
const QUEUE: usize = 10_000;
/// Of so many batches one is kept to be sent again.
const KEPT: usize = 4;

/// How a feed behaves.
#[derive(Clone, Debug)]
pub struct FeedOptions {
    /// Requests at the same time.
    pub workers: u64,
    /// Rows of a request, at most.
    pub rows_max: u64,
    /// So many of a hundred requests are followed by an older one, sent again.
    pub again_percent: u64,
    /// Everything is drawn from this.
    pub seed: u64,
}

/// A running feed. Dropping it ends it.
#[derive(Debug)]
pub struct Feeder {
    resolved: watch::Receiver<u64>,
    rows: Arc<AtomicU64>,
    tasks: JoinSet<Result<()>>,
}

/// What a worker is told.
enum Item {
    Row(String),
    /// All rows of transactions up to this place have been told.
    Through(u64),
}

impl Feeder {
    /// Follows the slot of `source` and brings its changes to `place`.
    ///
    /// # Errors
    ///
    /// There is no slot.
    pub async fn start(source: &str, place: &Where, options: &FeedOptions) -> Result<Self> {
        let client = postgres::connect(source).await?;
        let catalog = Arc::new(catalog::load(&client, Product::Postgres, "public").await?);
        let mut random = Random::new(options.seed);
        let (resolved_to, resolved) = watch::channel(0);
        let rows = Arc::new(AtomicU64::new(0));
        let (mut tasks, mut queues, mut marks) = (JoinSet::new(), Vec::new(), Vec::new());
        for _ in 0..options.workers {
            let (sender, items) = mpsc::channel(QUEUE);
            let through = Arc::new(AtomicU64::new(0));
            marks.push(Arc::clone(&through));
            queues.push(sender);
            let worker = Worker {
                items,
                through,
                rows: Arc::clone(&rows),
                caller: Caller::new(place.clone()),
                random: random.split(),
                options: options.clone(),
                kept: Vec::new(),
            };
            tasks.spawn(worker.run());
        }
        tasks.spawn(promise(Caller::new(place.clone()), marks, resolved_to));
        let reader = connect(source, &catalog).await?;
        tasks.spawn(read(reader, catalog, queues, resolved.clone()));
        Ok(Self { resolved, rows, tasks })
    }

    /// Rows that were sent, each once.
    ///
    /// # Errors
    ///
    /// The feed broke.
    pub fn rows(&mut self) -> Result<u64> {
        self.must_run()?;
        Ok(self.rows.load(Ordering::Relaxed))
    }

    fn must_run(&mut self) -> Result<()> {
        match self.tasks.try_join_next() {
            Some(ended) => ended?.and_then(|()| bail!("a part of the feed has ended")),
            None => Ok(()),
        }
    }

    /// Waits until everything that the source has written so far was sent and promised. Returns the time of
    /// the promise.
    ///
    /// # Errors
    ///
    /// The feed broke, or it was not within `limit`.
    pub async fn sent(&mut self, from: &tokio_postgres::Client, limit: Duration) -> Result<u64> {
        // A row of its own tells that the stream is there.
        from.batch_execute("UPDATE heartbeat SET beat = beat + 1").await?;
        let row = from.query_one("SELECT pg_current_wal_lsn()::text", &[]).await?;
        let text: String = row.get(0);
        let end: Lsn = text.parse()?;
        // The commit of the beat ends at or before what was written.
        let wanted = end.0.saturating_sub(256);
        wait_until(limit, "everything is sent and promised", async || {
            self.must_run()?;
            Ok(wanted <= *self.resolved.borrow())
        })
        .await?;
        let resolved = *self.resolved.borrow();
        Ok(resolved)
    }
}

async fn connect(source: &str, catalog: &Arc<Catalog>) -> Result<PgSource<TcpDial>> {
    let options = PgOptions {
        truncate: TruncatePolicy::Stop,
        target_schema: Some("public".to_owned()),
        piece_bytes_max: usize::MAX,
        streamed_bytes_max: 1 << 30,
    };
    let decoder = PgTransactions::new(Arc::clone(catalog), options);
    let options = PgSourceOptions {
        slot: SLOT.to_owned(),
        publications: vec![PUBLICATION.to_owned()],
        saved: None,
        system_identifier: None,
        standby_timeout: Duration::from_secs(1),
        silence_limit: None,
        session: SessionOptions::default(),
    };
    let conninfo = source.parse()?;
    Ok(PgSource::connect(&TcpDial, &conninfo, &options, decoder, Clock::start()).await?)
}

/// Reads the source and tells the workers.
async fn read(
    mut source: PgSource<TcpDial>,
    catalog: Arc<Catalog>,
    queues: Vec<mpsc::Sender<Item>>,
    mut resolved: watch::Receiver<u64>,
) -> Result<()> {
    loop {
        let mut events = Vec::new();
        tokio::select! {
            read = source.next(&mut events) => read?,
            changed = resolved.changed() => {
                changed.context("nobody promises any more")?;
                source.acknowledge(Position::Lsn(Lsn(*resolved.borrow_and_update())));
            }
        }
        for event in events {
            match event {
                Event::TransactionReceived(tx) => tell(&catalog, &queues, &tx).await?,
                Event::IdleThrough(Position::Lsn(lsn)) => through(&queues, lsn.0).await?,
                other @ (Event::PieceReceived { .. }
                | Event::IdleThrough(_)
                | Event::RowsReceived { .. }
                | Event::ResolvedReceived { .. }
                | Event::Done(_)
                | Event::StagedRead { .. }
                | Event::Failed { .. }
                | Event::DeadlineReached
                | Event::StopRequested) => bail!("the source says {other}"),
            }
        }
    }
}

async fn tell(catalog: &Catalog, queues: &[mpsc::Sender<Item>], tx: &SourceTx) -> Result<()> {
    let Position::Lsn(time) = tx.position else { bail!("no position of PostgreSQL") };
    // What is sent is the last version of each row, and a row that moved is another one.
    let mut rows: BTreeMap<(TableId, String), String> = BTreeMap::new();
    for mutation in &tx.mutations {
        for (key, text) in json::rows(catalog, mutation, time.0)? {
            rows.insert((mutation.table, key), text);
        }
    }
    for ((table, key), text) in rows {
        let mut hasher = DefaultHasher::new();
        (table.0, key.as_str()).hash(&mut hasher);
        let index = hasher.finish() % u64::try_from(queues.len())?;
        let queue = queues.get(usize::try_from(index)?).context("a worker is missing")?;
        queue.send(Item::Row(text)).await.ok().context("a worker has ended")?;
    }
    through(queues, time.0).await
}

async fn through(queues: &[mpsc::Sender<Item>], time: u64) -> Result<()> {
    for queue in queues {
        queue.send(Item::Through(time)).await.ok().context("a worker has ended")?;
    }
    Ok(())
}

/// One of those who send rows.
struct Worker {
    items: mpsc::Receiver<Item>,
    through: Arc<AtomicU64>,
    rows: Arc<AtomicU64>,
    caller: Caller,
    random: Random,
    options: FeedOptions,
    kept: Vec<String>,
}

impl Worker {
    async fn run(mut self) -> Result<()> {
        loop {
            let most = usize::try_from(self.random.between(1, self.options.rows_max))?;
            let mut items = Vec::new();
            if self.items.recv_many(&mut items, most).await == 0 {
                return Ok(());
            }
            let (mut rows, mut through) = (Vec::new(), None);
            for item in items {
                match item {
                    Item::Row(row) => rows.push(row),
                    Item::Through(time) => through = Some(time),
                }
            }
            if !rows.is_empty() {
                let count = u64::try_from(rows.len())?;
                let body = format!("{{\"payload\":[{}],\"length\":{count}}}", rows.join(","));
                self.send(&body).await?;
                self.rows.fetch_add(count, Ordering::Relaxed);
                self.keep(body).await?;
            }
            if let Some(through) = through {
                self.through.store(through, Ordering::Release);
            }
        }
    }

    async fn send(&mut self, body: &str) -> Result<()> {
        loop {
            match self.caller.post(body).await {
                Ok((200, _)) => return Ok(()),
                // A changefeed would go on, but what is refused once is refused for ever.
                Ok((status @ 400..=428, text)) => bail!("{status}: {text}; the body was {body}"),
                Ok(_) | Err(_) => sleep(RETRY).await,
            }
        }
    }

    /// Keeps a batch for later, and perhaps it is later for another one.
    async fn keep(&mut self, body: String) -> Result<()> {
        if self.random.between(1, 100) > self.options.again_percent {
            return Ok(());
        }
        self.kept.push(body);
        if self.kept.len() == KEPT {
            let older = self.kept.remove(0);
            self.send(&older).await?;
        }
        Ok(())
    }
}

/// Promises what all workers have sent.
async fn promise(
    mut caller: Caller,
    marks: Vec<Arc<AtomicU64>>,
    resolved: watch::Sender<u64>,
) -> Result<()> {
    let mut ticks = interval(RESOLVED_EVERY);
    loop {
        ticks.tick().await;
        let through = marks.iter().map(|mark| mark.load(Ordering::Acquire)).min().unwrap_or(0);
        if through <= *resolved.borrow() {
            continue;
        }
        let body = format!("{{\"resolved\":\"{through}.0000000000\"}}");
        if matches!(caller.post(&body).await, Ok((200, _))) {
            resolved.send_replace(through);
        }
    }
}
