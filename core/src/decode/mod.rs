//! Bytes → nouns. Pure, never panics, fuzzed.
//!
//! ```text
//! CopyData ─► pg_frames ─► pgoutput ─► pg_transaction ─► Event
//!             'w' 'k'      pg_message   pg_relation   which target table and columns
//!                          pg_wire      pg_row        which change
//!                                       pg_streams    transactions in progress
//!
//! binlog event ─► binlog ─► Step ─► mysql_transaction ─► Told
//!                 a folder          mysql_table   which target table and columns
//!                                   mysql_columns what the log does not say of columns
//!                                   row_change    which change, also of pg_row
//!
//! HTTP body ─► changefeed ─► Event
//!              a folder of its own
//! ```
pub mod binlog;
pub mod changefeed;
mod fit;
mod mysql_assemble_error;
pub mod mysql_columns;
mod mysql_table;
pub mod mysql_transaction;
mod pg_assemble_error;
pub mod pg_encode;
#[cfg(test)]
mod pg_fixture;
pub mod pg_frames;
pub mod pg_message;
mod pg_options;
mod pg_relation;
mod pg_row;
mod pg_streams;
pub mod pg_transaction;
mod pg_wire;
pub mod pgoutput;
mod row_change;

pub use pg_wire::{DecodeError, Fault};
