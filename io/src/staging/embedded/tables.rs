//! What the file holds: its tables, and how their keys are made.
use redb::TableDefinition;
use replicator_core::model::position::Position;
use replicator_core::model::time::Hlc;

/// Small facts, by stream and name. The stream of facts about the whole file is empty.
pub(super) const MEMO: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("memo");
/// Promises: the time, by stream and partition.
pub(super) const RESOLVED: TableDefinition<'_, (&str, &str), &[u8]> =
    TableDefinition::new("resolved");
/// Names of tables by their number.
pub(super) const TABLES: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("tables");
/// Layouts of rows by their number.
pub(super) const LAYOUTS: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("layouts");
/// Staged rows: behind the number of the stream as [`replicator_core::staged`] has them.
pub(super) const STAGED: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("staged");
/// The newest time that was ever staged of each row: by the key of a staged row without its time.
pub(super) const LATEST: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("latest");

/// The format of all this.
pub(super) const FORMAT: u8 = 1;

/// Names of facts.
pub(super) mod memo {
    /// Of the file: its format, one byte.
    pub(crate) const FORMAT: &str = "format";
    /// Of the file: how many rows are staged.
    pub(crate) const ROWS: &str = "rows";
    /// Of the file: the bytes of their keys and values.
    pub(crate) const BYTES: &str = "bytes";
    /// Of a stream: its number.
    pub(crate) const NUMBER: &str = "number";
    /// Of a stream: the newest fence.
    pub(crate) const FENCE: &str = "fence";
    /// Of a stream: the checkpoint as sortable text.
    pub(crate) const CHECKPOINT: &str = "checkpoint";
    /// Of a stream: how far rows may have got into the target.
    pub(crate) const HORIZON: &str = "horizon";
    /// Of a stream: the same of its independent tables, where they wait for nothing.
    pub(crate) const HORIZON_INDEPENDENT: &str = "horizon independent";
    /// Of a stream: the names of these tables, one a line.
    pub(crate) const INDEPENDENT: &str = "independent";
    /// Of a stream: up to when rows come late.
    pub(crate) const LATE: &str = "late";
    /// Of a stream: its feeds.
    pub(crate) const FEEDS: &str = "feeds";
    /// Of a stream: whose position that is.
    pub(crate) const IDENTITY: &str = "identity";
}

/// Bytes before the stream's own part of a staged row's key.
pub(super) const STREAM_BYTES: usize = 4;

/// Bytes of the time that follow.
pub(super) const TIME_BYTES: usize = 12;

/// The least key of a row of this stream whose time is after `time`.
pub(super) fn key_after(stream: u32, time: Hlc) -> [u8; 16] {
    let number = (u128::from(stream) << 96) | (u128::from(time.nanos) << 32);
    // Streams are numbered from 0, so there is always a next.
    (number | u128::from(time.logical)).saturating_add(1).to_be_bytes()
}

/// A time as bytes.
pub(super) fn time_bytes(time: Hlc) -> [u8; 12] {
    let mut bytes = [0; 12];
    let (nanos, logical) = bytes.split_at_mut(8);
    nanos.copy_from_slice(&time.nanos.to_be_bytes());
    logical.copy_from_slice(&time.logical.to_be_bytes());
    bytes
}

/// Reads what [`time_bytes`] wrote.
pub(super) fn time_of(bytes: &[u8]) -> Option<Hlc> {
    let (nanos, logical) = bytes.split_first_chunk::<8>()?;
    let logical = u32::from_be_bytes(logical.try_into().ok()?);
    Some(Hlc { nanos: u64::from_be_bytes(*nanos), logical })
}

/// Reads a number of eight bytes.
pub(super) fn number_of(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

/// Reads a checkpoint.
pub(super) fn position_of(bytes: &[u8]) -> Option<Position> {
    Position::from_sortable(std::str::from_utf8(bytes).ok()?)
}

#[cfg(test)]
mod tests {
    use super::{Hlc, key_after, time_bytes, time_of};

    #[test]
    fn the_key_after_a_time_is_after_all_rows_of_it_and_before_the_next() {
        for (nanos, logical) in [(0, 0), (7, 3), (7, u32::MAX), (u64::MAX, u32::MAX)] {
            let time = Hlc { nanos, logical };
            let mut last = 5_u32.to_be_bytes().to_vec();
            last.extend_from_slice(&time_bytes(time));
            last.extend_from_slice(&[0xFF; 20]);
            assert!(last < key_after(5, time).to_vec());
        }
        let of = |nanos, logical| key_after(5, Hlc { nanos, logical });
        assert_eq!(of(7, u32::MAX)[4..], time_bytes(Hlc { nanos: 8, logical: 0 }));
        assert_eq!(of(u64::MAX, u32::MAX)[..4], 6_u32.to_be_bytes());
    }

    #[test]
    fn a_time_comes_back() {
        let time = Hlc { nanos: u64::MAX - 1, logical: 9 };
        assert_eq!(time_of(&time_bytes(time)), Some(time));
        assert_eq!(time_of(&[0; 11]), None);
    }
}
