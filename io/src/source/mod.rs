//! Where changes come from.
pub mod changefeed;
pub mod mysql;
pub mod pg;
