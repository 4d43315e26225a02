//! Where we keep what must survive us.
pub mod embedded;
pub mod lease;
pub mod pg_store;
pub mod rows;
pub mod schema;
