//! What every staging store must do, whatever it is made of.
//!
//! [`model`] is the pretend store of the worlds behind the product's own trait: the others are compared
//! with it. [`suite`] is a list of promises, each on a store of its own.
pub mod model;
pub mod rows;
pub mod suite;
