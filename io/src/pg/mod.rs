//! Connections to PostgreSQL and CockroachDB: one parser of connection strings, one way to set up TLS,
//! SQL sessions and the replication protocol.
pub mod connect;
pub mod conninfo;
pub mod login;
pub mod pipeline;
pub mod pool;
pub mod replication;
pub mod run_lock;
pub mod secret;
pub mod server_error;
pub mod session;
pub(crate) mod sessions;
pub mod tls;
pub mod wire;
