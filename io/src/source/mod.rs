//! Where changes come from.
pub mod pg;
