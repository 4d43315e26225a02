//! The host of the pretend target, which holds the staging schema, too.
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use replicator_core::dialect::Product;
use tokio::io::{AsyncRead, AsyncWrite};

use super::checker::DEAD_LETTERS;
use super::sql::{Knobs, Role, SqlServer};
use super::wire::Connection;

/// After this long the kernel's keepalives have told the server that a client is gone.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// The target. Clones are the same one; it outlives its host's processes.
#[derive(Clone, Debug)]
pub struct Target {
    /// What it holds.
    pub sql: SqlServer,
    /// What goes wrong there.
    pub knobs: Arc<Knobs>,
    /// Whether connections are dropped at once.
    refuses: Arc<AtomicBool>,
}

/// The table of progress, in the schema of the target.
pub const PROGRESS: &str = "progress";

/// What an operator runs to have a table of dead letters.
fn dead_letters() -> String {
    format!(
        "CREATE TABLE {DEAD_LETTERS} (event UUID DEFAULT gen_random_uuid() PRIMARY KEY, dlq_name TEXT NOT \
         NULL, source_nanos INT8 NOT NULL, source_logical INT8 NOT NULL, data_after JSONB NOT NULL, \
         data_before JSONB NOT NULL)"
    )
}

impl Target {
    /// A server with empty tables.
    #[must_use]
    pub fn new(product: Product, seed: u64) -> Self {
        let knobs = Arc::new(Knobs::default());
        knobs.set_silence_max(Some(SILENCE_MAX));
        let refuses = Arc::new(AtomicBool::new(false));
        let sql = SqlServer::new(Role::Target, product, seed);
        sql.run(&dead_letters()).expect("a statement that the server knows");
        Self { sql, knobs, refuses }
    }

    /// Makes the table of progress, as an operator does.
    pub fn keep_progress(&self) {
        let sql = format!(
            "CREATE TABLE public.{PROGRESS} (stream TEXT, fence INT8, first_tx INT8, after_position TEXT, \
             through_position TEXT NOT NULL, PRIMARY KEY (stream, first_tx, fence))"
        );
        self.sql.run(&sql).expect("a statement that the server knows");
    }

    /// Whether connections are dropped at once.
    pub fn set_refuses(&self, refuses: bool) {
        self.refuses.store(refuses, Ordering::Relaxed);
    }

    /// Serves one connection to its end.
    ///
    /// # Errors
    ///
    /// The connection broke, or the client broke the protocol.
    pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(self, stream: S) -> io::Result<()> {
        if self.refuses.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut connection = Connection::new(stream);
        let Some(startup) = connection.open().await? else { return Ok(()) };
        self.sql.serve(startup, connection.into_stream(), self.knobs).await
    }
}
