//! One test binary: checks on the code itself, and, with the feature `live`, tests on real databases.
#[cfg(feature = "live")]
mod live;
mod tidy;
