//! Times of changefeeds.
use replicator_core::model::position::Position;
use replicator_core::model::time::Hlc;

use crate::model::Commit;
use crate::os::wall_micros;

/// The calendar's time.
pub(super) fn wall(nanos: usize) -> Hlc {
    let micros = u64::try_from(wall_micros()).expect("after 1970");
    let nanos = u64::try_from(nanos).expect("few nanoseconds");
    Hlc { nanos: micros * 1_000 + nanos, logical: 0 }
}

/// The greatest time before this one.
pub(super) fn before(time: Hlc) -> Hlc {
    match time.logical.checked_sub(1) {
        Some(logical) => Hlc { logical, ..time },
        None => Hlc { nanos: time.nanos - 1, logical: i32::MAX.unsigned_abs() },
    }
}

/// When a transaction was committed.
pub(super) fn time_of(commit: &Commit) -> Hlc {
    match commit.position {
        Position::Hlc(time) => time,
        Position::Lsn(_) | Position::Ordinal(_) => unreachable!("a changefeed has times"),
    }
}
