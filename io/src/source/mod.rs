//! Where changes come from.
pub mod changefeed;
pub mod pg;
