//! Simulated worlds over the shipped machine.
