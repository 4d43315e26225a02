//! Fixtures for tests on real databases, the demo and the benchmark.
//!
//! A test reads like this; everything it starts ends with it:
//!
//! ```no_run
//! # async fn test() -> anyhow::Result<()> {
//! use replicator_tests::{postgres, product};
//!
//! let source = postgres::Server::start(postgres::major()?, &postgres::Options::default())?;
//! let client = source.client("postgres").await?;
//! client.batch_execute("CREATE TABLE t (id int PRIMARY KEY)").await?;
//! # Ok(())
//! # }
//! ```
pub mod churn;
pub mod compare;
pub mod databases;
pub mod failback;
pub mod feeder;
pub mod history;
pub mod http;
pub mod moving;
pub mod mysql;
pub mod onward;
pub mod pair;
pub mod postgres;
pub mod product;
pub mod proxy;
pub mod random;
pub mod recording;
mod wait;
pub mod workload;

pub use wait::wait_until;
