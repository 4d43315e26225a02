//! Events of all forms that we can write, read again; and what is made of them.
mod events;
mod fixture;
mod payload;
mod random;
mod transactions;
