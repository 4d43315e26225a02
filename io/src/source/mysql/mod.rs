//! Changes from MySQL and MariaDB.
mod replay;
pub mod stream;
