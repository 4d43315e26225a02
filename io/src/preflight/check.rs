//! Facts → findings. Pure, so that each can be tested without a server.
pub(super) mod keys;
pub(super) mod server;
pub(super) mod tables;
pub(super) mod target;
