//! MySQL's and MariaDB's binary log: bytes of events → transactions, and their row events → cells of text.
//!
//! ```text
//! event ─► decoder ─► Event ─► transactions ─► Step
//!          cursor     event    statement   which statements begin and end transactions
//!          format     query    prepared    XA transactions whose outcome is open
//!          gtid_event maria
//!          inflate    payload: the events of a compressed transaction
//!
//! TABLE_MAP ─► table_map ─► value_plan ─┐ once for each map
//! row events ─► rows ───────────────────┴─► cells of `model::row`
//!               value, json, charset: one value
//! ```
//!
//! The formats are those of `libs/mysql/binlog/event` in MySQL's sources and of `sql/log_event.h` in
//! MariaDB's.
mod altered;
pub mod binlog_encode;
mod cells;
mod cells_read;
mod charset;
mod charset_collations;
mod charset_many;
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
mod json;
mod json_change;
mod json_encode;
mod json_path;
mod maria;
pub mod payload;
mod prepared;
pub mod query;
pub mod rows;
pub mod rows_encode;
mod savepoints;
mod statement;
pub mod step;
pub mod table_map;
pub mod table_map_encode;
mod table_map_extra;
mod transaction_error;
mod transaction_flow;
pub mod transactions;
mod value;
mod value_encode;
mod value_error;
mod value_known;
mod value_number;
mod value_plan;
mod value_string;
mod value_time;

pub use altered::Altered;
pub use cells_read::{FieldError, FieldFault};
pub use charset::Charset;
pub use error::{DecodeError, Fault, Place};
pub use statement::{StatementKind, XaName};
pub use transaction_error::TransactionError;
pub use value_error::{ColumnFault, RowsError, ValueFault};
pub use value_known::KnownColumn;
pub use value_plan::RowPlan;
pub use value_time::NoDates;

#[cfg(test)]
mod rows_tests;

#[cfg(test)]
mod tests;
