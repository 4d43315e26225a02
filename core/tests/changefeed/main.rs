//! What CockroachDB's changefeeds send, and what is read from it.
mod feed;
mod tables;
mod vectors;
