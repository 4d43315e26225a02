//! What CockroachDB's changefeeds send, and what is read from it.
mod feed;
mod forms;
mod refused;
mod tables;
mod vectors;
