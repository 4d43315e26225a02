//! The stations a row passes, in this order. None knows another; the machine connects them.
//!
//! ```text
//! ordered source ──► admit ─────────────────────────────► batch ─► schedule ─► apply ─► checkpoint
//! changefeed ──► stage ──► frontier ──► sweep ──► admit ──► horizon ──┘                     └─► retire
//! ```
//!
//! No row passes `pace`; it says how many batches may be on their way.
pub(crate) mod admit;
pub(crate) mod apply;
pub(crate) mod batch;
pub(crate) mod breaker;
pub(crate) mod checkpoint;
pub(crate) mod frontier;
pub(crate) mod horizon;
pub(crate) mod pace;
pub(crate) mod retire;
pub(crate) mod schedule;
pub(crate) mod stage;
pub(crate) mod sweep;
