//! Changes from MySQL and MariaDB.
mod replay;
pub mod statements;
pub mod stream;
