//! A source and a target database of their own for a test, on two servers that tests share.
//!
//! Starting two servers takes seconds and creating two databases a fraction of one. The servers end
//! with the last test that has databases on them.
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use crate::compare::{self, Comparison};
use crate::postgres::{self, Options, Server};
use crate::product::Replicator;
use crate::wait_until;

/// The longest that a test's few rows may be on their way.
const ARRIVAL_MAX: Duration = Duration::from_secs(100);
/// The longest from a cause to the program's end.
const END_MAX: Duration = Duration::from_secs(40);

/// The servers, as long as somebody has databases on them.
static SERVERS: Mutex<Weak<Servers>> = Mutex::new(Weak::new());

/// Two servers.
#[derive(Debug)]
struct Servers {
    source: Server,
    target: Server,
}

impl Servers {
    fn get() -> Result<Arc<Self>> {
        // Whoever comes while they are being started waits for them.
        let mut servers = SERVERS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(servers) = servers.upgrade() {
            return Ok(servers);
        }
        let started = Arc::new(Self::start()?);
        *servers = Arc::downgrade(&started);
        Ok(started)
    }

    fn start() -> Result<Self> {
        let major = postgres::major()?;
        // Every test has a slot, and some have several programs.
        let options = Options::default()
            .set("max_replication_slots", "100")
            .set("max_wal_senders", "100")
            .set("max_connections", "400");
        let (source, target) = std::thread::scope(|scope| {
            let source = scope.spawn(|| Server::start(major, &options));
            let target = Server::start(major, &options);
            (source.join(), target)
        });
        let source = source.map_err(|_| anyhow::anyhow!("the thread of the source panicked"))?;
        Ok(Self { source: source?, target: target? })
    }
}

/// Two databases of the same name, and a superuser's connection to each.
#[derive(Debug)]
pub struct Databases {
    /// Connected to the source database.
    pub from: Client,
    /// Connected to the target database.
    pub to: Client,
    name: String,
    log: PathBuf,
    servers: Arc<Servers>,
}

impl Databases {
    /// Creates both databases, empty. The name must be a test's own, in lower case; slot and
    /// publication have it as well.
    ///
    /// # Errors
    ///
    /// No server can be had, or the name is taken.
    pub async fn create(name: &str) -> Result<Self> {
        Self::create_with(name, "", "").await
    }

    /// Creates both databases, with these clauses of CREATE DATABASE.
    ///
    /// # Errors
    ///
    /// No server can be had, the name is taken, or a clause is wrong.
    pub async fn create_with(name: &str, source: &str, target: &str) -> Result<Self> {
        let servers = Servers::get()?;
        let log = postgres::home()?.join("logs").join(format!("{name}.log"));
        if log.exists() {
            std::fs::remove_file(&log)?;
        }
        let create = async |server: &Server, clauses: &str| {
            let sql = format!("CREATE DATABASE \"{name}\" {clauses}");
            server.client("postgres").await?.batch_execute(&sql).await?;
            server.client(name).await
        };
        let from = create(&servers.source, source).await.context("source")?;
        let to = create(&servers.target, target).await.context("target")?;
        Ok(Self { from, to, name: name.to_owned(), log, servers })
    }

    /// The name of both databases, the slot and the publication.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The server of the source.
    #[must_use]
    pub fn source(&self) -> &Server {
        &self.servers.source
    }

    /// The server of the target.
    #[must_use]
    pub fn target(&self) -> &Server {
        &self.servers.target
    }

    /// The major version of both servers.
    #[must_use]
    pub fn major(&self) -> u16 {
        self.servers.source.major()
    }

    /// Runs the same statements on both sides.
    ///
    /// # Errors
    ///
    /// One side refused.
    pub async fn both(&self, sql: &str) -> Result<()> {
        self.from.batch_execute(sql).await.context("source")?;
        self.to.batch_execute(sql).await.context("target")
    }

    /// Creates a publication of all tables, and the slot.
    ///
    /// # Errors
    ///
    /// One of them exists.
    pub async fn publish(&self) -> Result<()> {
        self.publish_as("FOR ALL TABLES").await
    }

    /// Creates a publication with these clauses, and the slot.
    ///
    /// # Errors
    ///
    /// One of them exists, or the clauses are wrong.
    pub async fn publish_as(&self, clauses: &str) -> Result<()> {
        let publication = format!("CREATE PUBLICATION \"{}\" {clauses}", self.name);
        self.from.batch_execute(&publication).await?;
        self.create_slot().await
    }

    /// Creates the slot.
    ///
    /// # Errors
    ///
    /// It exists.
    pub async fn create_slot(&self) -> Result<()> {
        let sql = format!("SELECT pg_create_logical_replication_slot('{}', 'pgoutput')", self.name);
        Ok(self.from.batch_execute(&sql).await?)
    }

    /// The documented arguments of the product.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        let name = &self.name;
        let mut arguments = vec!["pglogical".to_owned(), "--stagingCreateSchema".to_owned()];
        let mut flag = |flag: &str, value: String| arguments.extend([flag.to_owned(), value]);
        flag("--sourceConn", self.source().conninfo(name));
        flag("--targetConn", self.target().conninfo(name));
        flag("--targetSchema", format!("{name}.public"));
        flag("--slotName", name.clone());
        flag("--publicationName", name.clone());
        flag("--stagingSchema", "_replicator".to_owned());
        // What has arrived shows at the slot, so the shorter this is, the shorter is the test.
        flag("--standbyTimeout", "100ms".to_owned());
        arguments
    }

    /// Starts the product, with these flags in addition to the usual ones, or in their place.
    ///
    /// # Errors
    ///
    /// There is no built program.
    pub fn replicate(&self, flags: &[&str]) -> Result<Replicator> {
        let mut arguments = self.arguments();
        arguments.extend(flags.iter().map(|&flag| flag.to_owned()));
        Replicator::start(&self.log, arguments)
    }

    /// Waits until the product has confirmed to the source everything written so far. Then it is in
    /// the target for good.
    ///
    /// # Errors
    ///
    /// It has not in time, or has ended.
    pub async fn confirmed(&self, replicator: &mut Replicator) -> Result<()> {
        let row = self.from.query_one("SELECT pg_current_wal_lsn()::text", &[]).await?;
        let end: String = row.get(0);
        // $1 = the slot, $2 = the end of the source's log. A new slot confirms all of it before the
        // program has even opened its log; `active` says that it got as far as the slot.
        let sql = "SELECT 1 FROM pg_replication_slots
                   WHERE slot_name = $1 AND active AND confirmed_flush_lsn >= $2::text::pg_lsn";
        let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
            [(&self.name, Type::TEXT), (&end, Type::TEXT)];
        wait_until(ARRIVAL_MAX, "the slot confirms all that was written", async || {
            replicator.must_run()?;
            Ok(!self.from.query_typed(sql, &parameters).await?.is_empty())
        })
        .await
        .with_context(|| format!("its log is {}", self.log.display()))
    }

    /// Compares all tables of schema `public`.
    ///
    /// # Errors
    ///
    /// They differ; the error says where.
    pub async fn identical(&self) -> Result<Comparison> {
        let comparison = compare::tables(&self.from, &self.to, "public").await?;
        ensure!(comparison.is_identical(), "{comparison}");
        Ok(comparison)
    }

    /// Waits until everything has arrived, and compares.
    ///
    /// # Errors
    ///
    /// It has not arrived in time, or the tables differ.
    pub async fn arrived(&self, replicator: &mut Replicator) -> Result<Comparison> {
        self.confirmed(replicator).await?;
        self.identical().await
    }

    /// Waits until the product ends by itself, with the status that says so. Returns what it printed.
    ///
    /// # Errors
    ///
    /// It does not end in time, or with another status.
    pub async fn refused(&self, replicator: &mut Replicator) -> Result<String> {
        let status = replicator.wait(END_MAX).await?;
        let log = replicator.log()?;
        ensure!(status.code() == Some(1), "it ended with {status}:\n{log}");
        Ok(log)
    }

    /// One number of the target.
    ///
    /// # Errors
    ///
    /// The query failed, or its answer is not one number.
    pub async fn number(&self, sql: &str) -> Result<i64> {
        Ok(self.to.query_one(sql, &[]).await?.try_get(0)?)
    }
}
