//! What others see of the machine.
use super::Machine;
use crate::status::Status;

impl Machine {
    /// Batches that wait or are on their way. With none, what is read next can go on at once.
    #[must_use]
    pub fn ahead(&self) -> usize {
        self.schedule.held()
    }

    /// Whether the run was asked to stop and has finished its work, but for effects that are still on their way:
    /// nothing that was read is held, and where it ended is saved.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        let Status { applies, waiting, buffered_rows, checkpoint, applied, .. } = self.status();
        let held = applies.saturating_add(waiting).saturating_add(buffered_rows);
        self.stopping && held == 0 && self.horizon.is_empty() && checkpoint == applied
    }

    /// A snapshot for operators.
    #[must_use]
    pub fn status(&self) -> Status {
        let (applied, applied_committed) = self.checkpoint.reached();
        let (rows, bytes) = self.batch.held();
        Status {
            checkpoint: self.checkpoint.durable(),
            applied,
            admitted: self.admit.last(),
            applied_committed,
            frontier: self.frontier.group(),
            applies: self.apply.len(),
            waiting: self.schedule.len(),
            buffered_rows: self.rows_scheduled.saturating_add(rows),
            buffered_bytes: self.bytes_scheduled.saturating_add(bytes),
        }
    }
}
