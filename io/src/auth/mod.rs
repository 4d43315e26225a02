//! Who may bring rows: tokens that somebody signed whose public key we were given.
//!
//! ```text
//! request ─► token ─► gate ─► keyring: which keys, which tokens are revoked
//!                      │         ▲
//!                      ▼         └── reload ◄── source: files below --dataDir, or tables of staging
//!                    claims: which schemas
//! ```
//!
//! A token is a JWT (RFC 7519) with a signature by RSA or ECDSA. Whatever its header says, there is no
//! key for any other kind, so one without a signature or with a shared secret opens nothing. Whoever is
//! refused learns one sentence, always the same.
mod claims;
mod files;
mod gate;
mod keyring;
mod keys;
mod metrics;
mod reload;
mod sign;
mod tables;
mod token;

#[cfg(test)]
mod fixtures;

pub use claims::{Claims, Grant, ScopeError, scope};
pub use files::{FileKeys, KEYS_FOLDER, REVOKED_FILE};
pub use gate::{Admission, JwtGate};
pub use keyring::{Keyring, Material, PublicKeyText};
pub use metrics::KeyMetrics;
pub use reload::{KeySource, KeySourceError, Reloader};
pub use sign::{SignError, SigningKey};
pub use tables::TableKeys;
