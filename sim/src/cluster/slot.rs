//! The replication slot of the pretend source: what it remembers, and who reads from it.
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use replicator_core::model::position::Lsn;

/// The slot as its server's catalog shows it. Clones are the same slot; it outlives the server.
#[derive(Clone, Debug)]
pub struct SlotState {
    inner: Arc<Mutex<Slot>>,
}

/// A slot at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Its name.
    pub name: String,
    /// The database that it decodes.
    pub database: String,
    /// The server process that streams from it.
    pub active_pid: Option<i32>,
    /// Transactions that ended at or before this are never sent again.
    pub confirmed_flush: Lsn,
    /// The oldest log it keeps.
    pub restart: Lsn,
    /// What of `confirmed_flush` is on the server's disk, and so survives its death (PostgreSQL
    /// documentation, "Replication Slots": the last position is written at checkpoints).
    pub saved: Lsn,
    /// The cluster's identity.
    pub system_identifier: u64,
    /// The cluster's timeline.
    pub timeline: u32,
    /// The end of the server's log.
    pub written: Lsn,
}

impl SlotState {
    /// A slot that begins at `from`.
    #[must_use]
    pub fn new(name: &str, database: &str, from: Lsn) -> Self {
        let slot = Slot {
            name: name.to_owned(),
            database: database.to_owned(),
            active_pid: None,
            confirmed_flush: from,
            restart: from,
            saved: from,
            system_identifier: 7_300_000_000_000_000_001,
            timeline: 1,
            written: from,
        };
        Self { inner: Arc::new(Mutex::new(slot)) }
    }

    /// The slot as it is now.
    #[must_use]
    pub fn now(&self) -> Slot {
        self.lock().clone()
    }

    /// Changes it.
    pub fn change<T>(&self, change: impl FnOnce(&mut Slot) -> T) -> T {
        change(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
