//! What the pretend SQL server promises: the product's own adapters run against it unchanged, and it
//! refuses, waits and forgets as PostgreSQL does.
#![expect(unreachable_pub, reason = "a test is no library")]
#![expect(clippy::unwrap_used, reason = "a test ends where something fails")]
mod sql {
    pub mod adapters;
    pub mod fixture;
    pub mod rows;
    pub mod sessions;
    pub mod waiting;
}
