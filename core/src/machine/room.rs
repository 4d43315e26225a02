//! How much the machine holds, and whether it takes more.
use super::{Demand, Machine};
use crate::flow::batch::Ahead;

/// So many batches may wait, if the operator allows that many to be on their way.
const WAITING_MIN: usize = 4;

impl Machine {
    /// Whether the driver should read on (I8).
    #[must_use]
    pub fn demand(&self) -> Demand {
        let staging_has_room = self.stage.len() < self.config.stages_max;
        // What a changefeed brings is staged, however full the trunk is. It is the sweep that waits.
        let goes_on = self.frontier.is_fed() || self.trunk_has_room();
        if staging_has_room && goes_on && !self.stopping { Demand::Read } else { Demand::Pause }
    }

    /// How busy the target is.
    pub(super) fn batches_ahead(&self) -> Ahead {
        Ahead::of(self.schedule.held(), self.pace.limit())
    }

    /// Whether more batches may wait. A few do in any case: where some wait for rows of others, the next ones may not.
    pub(super) fn batches_have_room(&self) -> bool {
        self.schedule.len() < self.pace.limit().max(WAITING_MIN.min(self.config.applies_max))
    }

    pub(super) fn trunk_has_room(&self) -> bool {
        let (_, open) = self.batch.held();
        let bytes = self.bytes_scheduled.saturating_add(open).saturating_add(self.horizon.bytes());
        self.batches_have_room()
            && self.horizon.has_room()
            && (bytes < self.config.buffered_bytes_max || self.batch.is_held())
    }
}
