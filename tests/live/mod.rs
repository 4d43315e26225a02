//! Tests on real databases, each of one promise. Run them with `make test`, or one of them with
//! `cargo test -p replicator-tests --features live NAME`; `PG_MAJOR=13` picks the server's version.
mod apply;
mod catalog;
mod connections;
mod death;
mod endpoints;
mod failback;
mod faults;
mod fixtures;
mod large;
mod mylogical;
mod mysql_source;
mod mysql_target;
mod preflight;
mod pretend;
mod recording;
mod semantics;
mod staging;
mod start;
mod torture;
mod upgrade;
mod zoo;
