//! Where changes go.
pub mod catalog;
pub mod dead_letter;
pub mod failure;
pub mod mysql;
pub mod pgwire;
pub mod product;
pub mod progress;
pub mod record;
