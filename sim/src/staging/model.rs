//! The pretend store behind the product's trait, with the fence at its door.
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use replicator_core::model::mutation::TimedMutation;
use replicator_core::model::position::{PartitionId, Position};
use replicator_core::model::time::Hlc;
use replicator_core::{Durable, Failure};
use replicator_io::port::{Fence, StagedPage, Staging};

use crate::store::Store;

/// A store in memory. Clones are the same store.
#[derive(Clone, Debug)]
pub struct ModelStaging(Arc<Mutex<Store>>);

impl ModelStaging {
    /// An empty store for a source with these partitions.
    #[must_use]
    pub fn new(partitions: u32) -> Self {
        Self(Arc::new(Mutex::new(Store::new(partitions))))
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, fence: Fence, change: impl FnOnce(&mut Store)) -> Result<(), Failure> {
        let mut store = self.store();
        if !store.admits(fence.0) {
            return Err(Failure::Fenced);
        }
        change(&mut store);
        Ok(())
    }
}

impl Staging for ModelStaging {
    async fn begin(&self) -> Result<(Fence, Durable), Failure> {
        let (fence, durable) = self.store().begin();
        Ok((Fence(fence), durable))
    }

    async fn read(&self, after: Hlc, through: Hlc, rows_max: u32) -> Result<StagedPage, Failure> {
        let (rows, exhausted) = self.store().read(after, through, rows_max);
        Ok(StagedPage { rows, exhausted })
    }

    async fn retire(&self, fence: Fence, through: Hlc) -> Result<(), Failure> {
        self.change(fence, |store| store.retire(through))
    }

    async fn save_checkpoint(&self, fence: Fence, position: Position) -> Result<(), Failure> {
        self.change(fence, |store| store.save_checkpoint(position))
    }

    async fn save_resolved(
        &self,
        fence: Fence,
        partition: PartitionId,
        resolved: Hlc,
    ) -> Result<(), Failure> {
        self.change(fence, |store| store.save_resolved(partition, resolved))
    }

    async fn save_horizon(&self, fence: Fence, through: Hlc) -> Result<(), Failure> {
        self.change(fence, |store| store.save_horizon(through))
    }

    async fn horizon(&self) -> Result<Hlc, Failure> {
        Ok(self.store().horizon())
    }

    async fn stage(
        &self,
        fence: Fence,
        rows: Vec<TimedMutation>,
        floor: Hlc,
    ) -> Result<(), Failure> {
        self.change(fence, |store| store.stage(&rows, floor))
    }
}
