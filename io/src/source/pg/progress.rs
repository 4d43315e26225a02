//! How far we are: what the reader writes down, the driver moves, and the feedback reports.
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use replicator_core::decode::pg_frames::StandbyStatus;
use replicator_core::decode::pg_transaction::Counters;
use replicator_core::model::position::Lsn;
use replicator_core::model::time::{MonoTime, WallTime};
use tokio::sync::Notify;

/// What an operator may want to know of a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceCounters {
    /// Bytes received since streaming began.
    pub received_bytes: u64,
    /// Reads that brought them.
    pub reads: u64,
    /// Reports sent.
    pub reports: u64,
    /// What the decoder counted.
    pub decoded: Counters,
}

/// Where a stream stands. Cheap to clone; all clones are the same.
#[derive(Clone, Debug)]
pub struct Progress {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    changed: Notify,
}

/// The state, as the feedback sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) received: Lsn,
    pub(super) durable: Lsn,
    pub(super) applied: Lsn,
    /// When the last byte came.
    pub(super) heard: MonoTime,
    /// The server's clock, and when it showed that.
    pub(super) clock: Option<(WallTime, MonoTime)>,
    pub(super) reply_requested: bool,
    pub(super) closing: bool,
    pub(super) counters: SourceCounters,
}

/// What one read brought.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heard {
    pub(super) at: MonoTime,
    pub(super) received: Option<Lsn>,
    pub(super) sent: Option<WallTime>,
    pub(super) reply_requested: bool,
    pub(super) bytes: usize,
    pub(super) decoded: Counters,
}

impl Progress {
    /// At the start of a stream: everything up to `from` was durable before.
    pub(super) fn new(from: Lsn, now: MonoTime) -> Self {
        let state = State {
            received: from,
            durable: from,
            applied: from,
            heard: now,
            clock: None,
            reply_requested: false,
            closing: false,
            counters: SourceCounters::default(),
        };
        let inner = Inner { state: Mutex::new(state), changed: Notify::new() };
        Self { inner: Arc::new(inner) }
    }

    /// Everything up to here is in the target. An older position changes nothing. Reported for the
    /// source's operators; the source forgets only what is acknowledged.
    pub fn applied(&self, lsn: Lsn) {
        let mut state = self.lock();
        state.applied = state.applied.max(lsn);
    }

    /// What was counted so far.
    #[must_use]
    pub fn counters(&self) -> SourceCounters {
        self.lock().counters
    }

    /// The last position received and the last acknowledged one.
    #[must_use]
    pub fn positions(&self) -> (Lsn, Lsn) {
        let state = self.lock();
        (state.received, state.durable)
    }

    /// The source may forget everything up to here. An older position changes nothing.
    pub(super) fn durable(&self, lsn: Lsn) {
        let mut state = self.lock();
        if state.durable < lsn {
            state.durable = lsn;
            drop(state);
            self.inner.changed.notify_one();
        }
    }

    pub(super) fn heard(&self, heard: &Heard) {
        let mut state = self.lock();
        state.heard = heard.at;
        state.received = heard.received.map_or(state.received, |lsn| state.received.max(lsn));
        if let Some(sent) = heard.sent {
            state.clock = Some((sent, heard.at));
        }
        let bytes = u64::try_from(heard.bytes).unwrap_or(u64::MAX);
        let counters = &mut state.counters;
        counters.received_bytes = counters.received_bytes.saturating_add(bytes);
        counters.reads = counters.reads.saturating_add(1);
        counters.decoded = heard.decoded;
        if heard.reply_requested {
            state.reply_requested = true;
            drop(state);
            self.inner.changed.notify_one();
        }
    }

    /// The last report is to be sent.
    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.inner.changed.notify_one();
    }

    /// Waits for something that may have to be reported early. Cancel safe.
    pub(super) async fn changed(&self) {
        self.inner.changed.notified().await;
    }

    pub(super) fn state(&self) -> State {
        *self.lock()
    }

    /// A report is on its way.
    pub(super) fn reported(&self) {
        let mut state = self.lock();
        state.reply_requested = false;
        state.counters.reports = state.counters.reports.saturating_add(1);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What to report at `now`.
    pub(super) fn status(&self, now: MonoTime, reply_requested: bool) -> StandbyStatus {
        // The server compares this with its own clock, so its own is the one to use.
        let sent = self.clock.map_or(WallTime { micros: 0 }, |(wall, at)| {
            let passed = Duration::from_nanos(now.as_nanos().saturating_sub(at.as_nanos()));
            let passed = i64::try_from(passed.as_micros()).unwrap_or(i64::MAX);
            WallTime { micros: wall.micros.saturating_add(passed) }
        });
        StandbyStatus {
            written: self.received.max(self.durable),
            flushed: self.durable,
            applied: self.applied.max(self.durable),
            sent,
            reply_requested,
        }
    }
}
