//! Thin adapters between the machine and the world.
pub mod clock;
pub mod port;
