//! Where we keep what must survive us.
pub mod embedded;
pub mod gtid_store;
pub mod lease;
mod memo;
pub mod pg_store;
pub mod rows;
pub mod schema;
