//! Lets those in who have a token for the schema that they bring rows for.
use std::sync::Arc;

use axum::http::HeaderMap;
use replicator_core::model::ident::SchemaName;
use replicator_core::model::time::WallTime;
use tokio::sync::watch;
use tracing::debug;

use super::keyring::Keyring;
use super::token::Token;
use crate::source::changefeed::webhook::Gate;

/// Admits by token. Clones look at the same keys.
#[derive(Clone, Debug)]
pub struct JwtGate {
    ring: watch::Receiver<Arc<Keyring>>,
    wall: fn() -> WallTime,
}

impl JwtGate {
    /// A gate that looks at the newest of these keys, and at this clock for tokens that expire.
    #[must_use]
    pub fn new(ring: watch::Receiver<Arc<Keyring>>, wall: fn() -> WallTime) -> Self {
        Self { ring, wall }
    }

    /// The keys in force.
    #[must_use]
    pub fn keyring(&self) -> Arc<Keyring> {
        Arc::clone(&self.ring.borrow())
    }
}

impl Gate for JwtGate {
    fn admits(&self, headers: &HeaderMap, query: Option<&str>, schema: &SchemaName) -> bool {
        let judged = Token::find(headers, query)
            .and_then(|token| self.keyring().judge(&token, schema, (self.wall)()));
        match judged {
            Ok(()) => true,
            Err(denied) => {
                debug!(%schema, "a request is refused: {denied}");
                false
            }
        }
    }
}

/// Who is admitted, as the operator chose.
#[derive(Clone, Debug)]
pub enum Admission {
    /// Everybody who can reach us. For tests only.
    Everybody,
    /// Those with a token.
    ByToken(JwtGate),
}

impl Gate for Admission {
    fn admits(&self, headers: &HeaderMap, query: Option<&str>, schema: &SchemaName) -> bool {
        match self {
            Self::Everybody => true,
            Self::ByToken(gate) => gate.admits(headers, query, schema),
        }
    }
}

#[cfg(test)]
mod tests;
