//! Staging in a file of our own, so that failback needs no second database.
//!
//! ```text
//! tasks ── requests ──► Ledger: one commit for all that wait ──► database ──► disk
//!       ◄── answers ───  when the disk has it
//! ```
//!
//! One process has the file; streams, one for each target schema, share it. It survives a crash at any
//! moment: `sim/tests/embedded.rs` shows that.
//!
//! There are no applied records: they are of use only where the transaction that writes the rows writes
//! them too. The checkpoint follows what is applied, and the horizon goes before it.
mod backend;
mod error;
mod file;
mod group;
mod ledger;
mod marks;
mod names;
mod page;
mod request;
mod tables;
mod worker;

use std::fmt::Debug;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use replicator_core::model::catalog::Catalog;
use replicator_core::model::mode::Lane;
use replicator_core::model::mutation::TimedMutation;
use replicator_core::model::position::{PartitionId, Position};
use replicator_core::model::time::Hlc;
use replicator_core::{Durable, Failure};
use tokio::sync::{mpsc, oneshot};

pub use self::error::EmbeddedError;
pub use self::ledger::{EmbeddedSettings, Ledger};
use self::request::{Reply, Request, Span, Stream, Write};
use self::tables::memo;
use crate::disk::Disk;
use crate::port::{Fence, StagedPage, Staging};

/// What is staged, in all streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Rows.
    pub rows: u64,
    /// Bytes of their keys and values. The file is some times larger.
    pub bytes: u64,
}

impl Totals {
    /// A value was put behind a key; `old` is the length of the one that it replaced.
    fn replace(&mut self, key: usize, old: Option<usize>, value: usize) {
        if let Some(old) = old {
            self.remove(key, old);
        }
        self.rows += 1;
        self.bytes += len_of(key, value);
    }

    fn remove(&mut self, key: usize, value: usize) {
        self.rows = self.rows.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(len_of(key, value));
    }
}

fn len_of(key: usize, value: usize) -> u64 {
    u64::try_from(key + value).unwrap_or(u64::MAX)
}

/// The staging file of this process. Clones are the same file.
#[derive(Clone, Debug)]
pub struct Embedded {
    post: Post,
    timeout: Duration,
}

/// The way to the ledger.
#[derive(Clone, Debug)]
enum Post {
    Thread(mpsc::Sender<Request>),
    Inline(Arc<Mutex<dyn Perform>>),
}

trait Perform: Debug + Send {
    /// Does a request, all of it.
    fn perform(&mut self, request: Request);
}

impl<D: Disk> Perform for Ledger<D> {
    fn perform(&mut self, request: Request) {
        let mut requests = vec![request];
        while !requests.is_empty() || self.is_busy() {
            Self::perform(self, std::mem::take(&mut requests));
        }
    }
}

impl Embedded {
    /// Gives the file a thread of its own. `timeout` is for one request.
    ///
    /// # Errors
    ///
    /// The operating system has no thread for us.
    pub fn on_thread<D: Disk>(ledger: Ledger<D>, timeout: Duration) -> io::Result<Self> {
        Ok(Self { post: Post::Thread(worker::start(ledger)?), timeout })
    }

    /// Works on the file in the caller's task. For worlds without threads.
    #[must_use]
    pub fn inline<D: Disk>(ledger: Ledger<D>, timeout: Duration) -> Self {
        Self { post: Post::Inline(Arc::new(Mutex::new(ledger))), timeout }
    }

    /// The store of one stream.
    ///
    /// `name` tells streams apart; it is not empty. `partitions` are the source's, by names that mean the
    /// same in every run; a [`PartitionId`] is an index into them. `catalog` is that of the run: what is
    /// staged is mapped to it by the names of tables and columns.
    ///
    /// # Panics
    ///
    /// The name is empty: that one is the file's own.
    #[must_use]
    pub fn stream(
        &self,
        name: &str,
        partitions: Vec<String>,
        catalog: Arc<Catalog>,
    ) -> EmbeddedStore {
        assert!(!name.is_empty(), "a stream without a name");
        let stream = Stream { name: name.to_owned(), partitions, catalog, lane: Lane::Whole };
        EmbeddedStore { file: self.clone(), stream: Arc::new(stream) }
    }

    /// The names of all streams that were ever begun.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub async fn streams(&self) -> Result<Vec<String>, Failure> {
        self.ask(Request::Streams).await
    }

    /// How much is staged.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub async fn totals(&self) -> Result<Totals, Failure> {
        self.ask(Request::Totals).await
    }

    /// Closes the file, so that it can be opened again; requests after that fail. Without it the file
    /// closes when the last clone is gone, a little later.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub async fn close(self) -> Result<(), Failure> {
        self.ask(Request::Close).await
    }

    /// Returns when the thread of the file is no more: there was a panic. Nothing can be staged by this process
    /// any more; what is durable is in the file.
    pub async fn ended(&self) {
        match &self.post {
            Post::Thread(sender) => sender.closed().await,
            Post::Inline(_) => std::future::pending().await,
        }
    }

    /// Waits for the answer to a request. A request whose caller gave up may still be done.
    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, Failure> {
        let (reply, answer) = oneshot::channel();
        let request = request(reply);
        let ended = || Failure::Rejected {
            detail: "staging: the thread of the staging file has ended".to_owned(),
            at: None,
        };
        let work = async {
            match &self.post {
                Post::Thread(sender) => sender.send(request).await.map_err(|_| ended())?,
                Post::Inline(ledger) => {
                    ledger.lock().unwrap_or_else(PoisonError::into_inner).perform(request);
                }
            }
            answer.await.unwrap_or_else(|_| Err(ended()))
        };
        tokio::time::timeout(self.timeout, work).await.unwrap_or_else(|_| {
            let seconds = self.timeout.as_secs();
            let detail = format!("staging: the disk did not answer within {seconds} s");
            Err(Failure::Transient { detail })
        })
    }
}

/// The staging store of one stream in the staging file. Clones are the same store.
#[derive(Clone, Debug)]
pub struct EmbeddedStore {
    file: Embedded,
    stream: Arc<Stream>,
}

impl EmbeddedStore {
    /// The same store, of which only the rows of these tables are read and retired. The horizon of independent
    /// tables is one of their own.
    #[must_use]
    pub fn of(&self, lane: Lane) -> Self {
        let Stream { name, partitions, catalog, lane: _ } = &*self.stream;
        let (name, partitions) = (name.clone(), partitions.clone());
        let stream = Stream { name, partitions, catalog: Arc::clone(catalog), lane };
        Self { file: self.file.clone(), stream: Arc::new(stream) }
    }

    /// The identity of the source that the saved position belongs to, as [`save_identity`] wrote it.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    ///
    /// [`save_identity`]: Self::save_identity
    pub async fn identity(&self) -> Result<Option<String>, Failure> {
        self.text(memo::IDENTITY).await
    }

    /// Ties the saved position to its source. Replaces what was there.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub async fn save_identity(&self, identity: &str) -> Result<(), Failure> {
        self.write(Write::Identity(identity.to_owned())).await
    }

    /// The names of the tables that had a lane of their own in the newest run that had such a lane, one a
    /// line. How far they got is the horizon of that lane.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub async fn independent(&self) -> Result<Option<String>, Failure> {
        self.text(memo::INDEPENDENT).await
    }

    /// Says which tables have a lane of their own.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub async fn save_independent(&self, fence: Fence, tables: &str) -> Result<(), Failure> {
        self.write(Write::Text(fence, memo::INDEPENDENT, tables.to_owned())).await
    }

    /// Up to when rows come late, as [`save_late`](Self::save_late) wrote it.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub async fn late(&self) -> Result<Option<String>, Failure> {
        self.text(memo::LATE).await
    }

    /// Says up to when rows come late, because what was staged before did not wait for promises.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub async fn save_late(&self, fence: Fence, times: &str) -> Result<(), Failure> {
        self.write(Write::Text(fence, memo::LATE, times.to_owned())).await
    }

    /// The feeds of the stream, as [`save_feeds`](Self::save_feeds) wrote them.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub async fn feeds(&self) -> Result<Option<String>, Failure> {
        self.text(memo::FEEDS).await
    }

    /// Says which feeds the stream has.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub async fn save_feeds(&self, fence: Fence, feeds: &str) -> Result<(), Failure> {
        self.write(Write::Text(fence, memo::FEEDS, feeds.to_owned())).await
    }

    /// The time of the newest staged row; zero if there is none.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub async fn newest(&self) -> Result<Hlc, Failure> {
        self.file.ask(|reply| Request::Newest(Arc::clone(&self.stream), reply)).await
    }

    async fn text(&self, key: &'static str) -> Result<Option<String>, Failure> {
        self.file.ask(|reply| Request::Text(Arc::clone(&self.stream), key, reply)).await
    }

    async fn write(&self, write: Write) -> Result<(), Failure> {
        self.file.ask(|reply| Request::Write(Arc::clone(&self.stream), write, reply)).await
    }
}

impl Staging for EmbeddedStore {
    async fn begin(&self) -> Result<(Fence, Durable), Failure> {
        self.file.ask(|reply| Request::Begin(Arc::clone(&self.stream), reply)).await
    }

    async fn read(&self, after: Hlc, through: Hlc, rows_max: u32) -> Result<StagedPage, Failure> {
        let rows_max = usize::try_from(rows_max).unwrap_or(usize::MAX);
        let span = Span { after, through, rows_max };
        self.file.ask(|reply| Request::Read(Arc::clone(&self.stream), span, reply)).await
    }

    async fn retire(&self, fence: Fence, through: Hlc) -> Result<(), Failure> {
        self.write(Write::Retire(fence, through)).await
    }

    async fn save_checkpoint(&self, fence: Fence, position: Position) -> Result<(), Failure> {
        self.write(Write::Checkpoint(fence, position)).await
    }

    async fn save_resolved(
        &self,
        fence: Fence,
        partition: PartitionId,
        resolved: Hlc,
    ) -> Result<(), Failure> {
        self.write(Write::Resolved(fence, partition, resolved)).await
    }

    async fn save_horizon(&self, fence: Fence, through: Hlc) -> Result<(), Failure> {
        self.write(Write::Horizon(fence, through)).await
    }

    async fn horizon(&self) -> Result<Hlc, Failure> {
        self.file.ask(|reply| Request::Horizon(Arc::clone(&self.stream), reply)).await
    }

    async fn stage(
        &self,
        fence: Fence,
        rows: Vec<TimedMutation>,
        floor: Hlc,
    ) -> Result<(), Failure> {
        self.write(Write::Stage(fence, rows, floor)).await
    }
}

#[cfg(test)]
mod tests;
