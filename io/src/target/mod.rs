//! Where changes go.
pub mod catalog;
pub mod dead_letter;
pub mod failure;
mod guess;
pub mod mysql;
pub mod pgwire;
pub mod product;
pub mod progress;
pub mod record;
