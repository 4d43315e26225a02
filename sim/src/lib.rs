//! Simulated worlds over the shipped machine.
//!
//! A world is the real `Machine` between a pretend source and a pretend target. A list of actions says
//! what happens; everything else follows from it. Start reading at [`world::World::act`].
#![expect(
    clippy::missing_panics_doc,
    reason = "a broken promise panics; that is what worlds are for"
)]

pub mod action;
pub mod cluster;
pub mod coverage;
pub mod database;
pub mod disk;
pub mod exhaustive;
pub mod fault;
pub mod model;
pub mod mutants;
pub mod os;
pub mod play;
pub mod property;
mod quiet;
pub mod random;
pub mod replay;
pub mod run;
pub mod schema;
pub mod shrink;
pub mod source;
pub mod staging;
pub mod store;
pub mod story;
pub mod sweep;
pub mod tape;
pub mod target;
pub mod workload;
pub mod world;
