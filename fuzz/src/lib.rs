//! Checks of every decoder as plain functions, and the fuzz targets that call them.
//!
//! A check takes any bytes, does with them what the product would do, and panics if a promise is
//! broken. `tests/replay.rs` runs every check over its corpus with the stable compiler.
mod made;
mod pgoutput;

pub use made::pgoutput_corpus;
pub use pgoutput::{frame_item, pgoutput};
