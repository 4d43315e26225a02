//! Reads keys again and again, so that they can be added and tokens revoked while we run.
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use replicator_core::model::time::WallTime;
use thiserror::Error;
use tokio::sync::watch;
use tracing::{info, warn};

use super::gate::JwtGate;
use super::keyring::{Keyring, Material};
use crate::http::stopped;

/// Keys are read again after this long.
const INTERVAL: Duration = Duration::from_secs(60);

/// The longest that reading them may take.
const LOAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Complaints that are told. One who has more looks at these first.
const COMPLAINTS_MAX: usize = 16;

/// Where keys are kept.
pub trait KeySource: Send + 'static {
    /// What somebody does who wants to add a key.
    fn hint(&self) -> String;

    /// Reads all that is there.
    ///
    /// # Errors
    ///
    /// It cannot be told what is there; what is known stays in force.
    fn load(&mut self) -> impl Future<Output = Result<Material, KeySourceError>> + Send;
}

/// Keys could not be read.
#[derive(Debug, Error)]
pub enum KeySourceError {
    /// A file or folder cannot be read.
    #[error("could not read \"{}\"", path.display())]
    Disk {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is not text.
    #[error("\"{}\" is not UTF-8", path.display())]
    NotText {
        /// Its path.
        path: PathBuf,
    },
    /// A folder has too many files.
    #[error("\"{}\" has over {limit} files", path.display())]
    Many {
        /// Its path.
        path: PathBuf,
        /// How many it may have.
        limit: usize,
    },
    /// A database does not tell.
    #[error("could not read table {table}")]
    Table {
        /// Its name.
        table: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A table has too many rows.
    #[error("table {table} has over {limit} rows")]
    Rows {
        /// Its name.
        table: String,
        /// How many it may have.
        limit: usize,
    },
    /// It took too long.
    #[error("reading took over {} s", LOAD_TIMEOUT.as_secs())]
    Late,
    /// The thread that read died.
    #[error("the thread that read has died")]
    Died,
}

/// Keeps the keys of a gate up to date.
#[derive(Debug)]
pub struct Reloader<S> {
    source: S,
    ring: watch::Sender<Arc<Keyring>>,
    wall: fn() -> WallTime,
    // What the operator was told last, so that the same is not told every minute.
    told: Vec<String>,
}

impl<S: KeySource> Reloader<S> {
    /// Reads the keys for the first time. Where that fails, or there are none, the gate refuses
    /// everybody, and the log says what to do.
    pub async fn begin(source: S, wall: fn() -> WallTime) -> (JwtGate, Self) {
        let (ring, read) = watch::channel(Arc::default());
        let mut reloader = Self { source, ring, wall, told: Vec::new() };
        reloader.reload().await;
        (JwtGate::new(read, wall), reloader)
    }

    /// Reads them every minute, and whenever `asked` changes, until told to stop.
    pub async fn run(mut self, mut asked: watch::Receiver<()>, mut stop: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                biased;
                () = stopped(&mut stop) => return,
                () = changed(&mut asked) => {
                    self.told.clear();
                    self.reload().await;
                    let ring = Arc::clone(&self.ring.borrow());
                    let (keys, revoked) = (ring.keys(), ring.revoked());
                    info!(keys, revoked, "keys for tokens were read again");
                }
                () = tokio::time::sleep(INTERVAL) => self.reload().await,
            }
        }
    }

    /// Reads them once. What was read before stays in force if that fails.
    async fn reload(&mut self) {
        let loaded = tokio::time::timeout(LOAD_TIMEOUT, self.source.load()).await;
        let mut complaints = match loaded.unwrap_or(Err(KeySourceError::Late)) {
            Ok(material) => {
                let (ring, complaints) = Keyring::new(material, (self.wall)());
                self.ring.send_replace(Arc::new(ring));
                complaints
            }
            Err(error) => {
                let error = crate::error_chain(&error);
                vec![format!("could not read the keys for tokens again: {error}")]
            }
        };
        let more = complaints.len().saturating_sub(COMPLAINTS_MAX);
        complaints.truncate(COMPLAINTS_MAX);
        if 0 < more {
            complaints.push(format!("{more} more keys are ignored"));
        }
        if self.ring.borrow().keys() == 0 {
            let hint = self.source.hint();
            complaints
                .push(format!("there is no key for tokens: every request is refused; {hint}"));
        }
        if complaints != self.told {
            for complaint in &complaints {
                warn!("{complaint}");
            }
            self.told = complaints;
        }
    }
}

/// Returns when somebody asks. When nobody is left who could, never. Cancel safe, as `changed` is.
async fn changed(asked: &mut watch::Receiver<()>) {
    if asked.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests;
