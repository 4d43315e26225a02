//! Thin adapters between the machine and the world.
pub mod auth;
pub mod clock;
pub mod disk;
pub mod driver;
mod fingerprint;
pub mod http;
pub mod metrics;
pub mod mysql;
pub mod net;
pub mod ordinals;
pub mod pg;
pub mod pool;
pub mod port;
pub mod preflight;
pub mod recorder;
pub mod replicate;
pub mod source;
pub mod staging;
pub mod supervisor;
pub mod target;

/// An error with its causes, in one line: "could not connect: connection refused".
#[must_use]
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        // Some libraries print their cause as part of themselves.
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}
