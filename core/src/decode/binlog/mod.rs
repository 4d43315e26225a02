//! MySQL's and MariaDB's binary log: bytes of events → transactions.
//!
//! ```text
//! event ─► decoder ─► Event ─► transactions ─► Step
//!          cursor     event    statement   which statements begin and end transactions
//!          format     query    prepared    XA transactions whose outcome is open
//!          gtid_event maria
//!          inflate    payload: the events of a compressed transaction
//! ```
//!
//! The formats are those of `libs/mysql/binlog/event` in MySQL's sources and of `sql/log_event.h` in
//! MariaDB's.
pub mod binlog_encode;
mod cursor;
pub mod decoder;
mod encode_number;
mod error;
pub mod event;
pub mod event_type;
pub mod file;
pub mod format;
mod gtid_event;
mod inflate;
mod maria;
pub mod payload;
mod prepared;
pub mod query;
mod savepoints;
mod statement;
pub mod step;
mod transaction_error;
mod transaction_flow;
pub mod transactions;

pub use error::{DecodeError, Fault, Place};
pub use statement::{StatementKind, XaName};
pub use transaction_error::TransactionError;

#[cfg(test)]
mod tests;
