//! A MySQL or MariaDB database of its own for a test, and the one that it moves to: on servers that tests share.
//!
//! The source's binary log has the changes of all tests, so each program also sees what is not meant for it.
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use replicator_core::model::gtid::{BinlogFlavor, GtidPosition};
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::databases::Databases;
use crate::mysql::{Kind, Server};
use crate::postgres;
use crate::product::Replicator;
use crate::wait_until;

/// The longest that a test's few rows may be on their way.
const ARRIVAL_MAX: Duration = Duration::from_secs(100);

/// See the [module docs](self).
#[derive(Debug)]
pub struct Moving {
    /// The server of the source.
    pub source: Arc<Server>,
    /// The target, and a superuser's connection to it as `to`.
    pub databases: Databases,
    name: String,
    begin: String,
    log: PathBuf,
}

impl Moving {
    /// Creates both databases, empty, on shared servers. The name must be a test's own, in lower case.
    ///
    /// # Errors
    ///
    /// No server can be had, or the name is taken.
    pub async fn create(kind: Kind, name: &str) -> Result<Self> {
        let source = Server::shared_source(kind)?;
        Self::create_on(source, name).await
    }

    /// The same with a source of one's own.
    ///
    /// # Errors
    ///
    /// See [`create`](Self::create).
    pub async fn create_on(source: Arc<Server>, name: &str) -> Result<Self> {
        let name = format!("{name}_{}", source.kind().name());
        let databases = Databases::create(&name).await?;
        let log = postgres::home()?.join("logs").join(format!("{name}.log"));
        source.run(&format!("CREATE DATABASE {name}"))?;
        let mut moving = Self { source, databases, name, begin: String::new(), log };
        moving.begin = moving.executed()?;
        Ok(moving)
    }

    /// The name of both databases.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the program's output goes. It stays there.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// A connection to the target.
    #[must_use]
    pub fn to(&self) -> &Client {
        &self.databases.to
    }

    /// The transactions that the source has executed.
    ///
    /// # Errors
    ///
    /// The server does not say.
    pub fn executed(&self) -> Result<String> {
        let variable = match self.source.kind() {
            Kind::MySql => "gtid_executed",
            Kind::MariaDb => "gtid_binlog_pos",
        };
        let text = self.source.run(&format!("SELECT @@GLOBAL.{variable}"))?;
        Ok(text.trim().replace("\\n", ""))
    }

    /// Runs statements in the source database.
    ///
    /// # Errors
    ///
    /// One of them failed.
    pub fn run(&self, sql: &str) -> Result<String> {
        self.source.run(&format!("USE {}; {sql}", self.name))
    }

    /// Makes tables on both sides, and says that the target has all until here.
    ///
    /// # Errors
    ///
    /// One side refused.
    pub async fn tables(&mut self, source: &str, target: &str) -> Result<()> {
        self.run(source)?;
        self.databases.to.batch_execute(target).await?;
        self.begin = self.executed()?;
        Ok(())
    }

    /// The arguments of the product.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        let name = &self.name;
        let mut arguments = vec!["mylogical".to_owned(), "--stagingCreateSchema".to_owned()];
        let mut flag = |flag: &str, value: String| arguments.extend([flag.to_owned(), value]);
        flag("--sourceConn", self.source.conninfo(name));
        flag("--targetConn", self.databases.target().conninfo(name));
        flag("--targetSchema", format!("{name}.public"));
        flag("--stagingSchema", "_replicator".to_owned());
        flag("--defaultGTIDSet", self.begin.clone());
        // MariaDB ends the connection of whoever has the same number.
        let number = name.bytes().fold(7_u32, |hash, byte| hash.wrapping_mul(31) ^ u32::from(byte));
        flag("--replicationProcessID", (number | 1 << 20).to_string());
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

    /// The position that is saved.
    ///
    /// # Errors
    ///
    /// It is none.
    pub async fn saved(&self) -> Result<Option<GtidPosition>> {
        // $1 = the key.
        let sql = "SELECT convert_from(value, 'UTF8') FROM _replicator.memo WHERE key = $1";
        let key = format!("mysql-wal-offset-{}.public", self.name);
        let Ok(row) = self.to().query_opt(sql, &[&key]).await else { return Ok(None) };
        let Some(row) = row else { return Ok(None) };
        Ok(Some(self.position(row.get(0))?))
    }

    /// Reads a position of the source.
    ///
    /// # Errors
    ///
    /// It is none.
    pub fn position(&self, text: &str) -> Result<GtidPosition> {
        Ok(GtidPosition::parse(self.flavor(), text)?)
    }

    /// Waits until all that the source has executed is saved as the position: then it is in the target for good.
    ///
    /// # Errors
    ///
    /// It has not in time, or the program has ended.
    pub async fn confirmed(&self, replicator: &mut Replicator) -> Result<()> {
        let executed = self.position(&self.executed()?)?;
        wait_until(ARRIVAL_MAX, "the position has all that was executed", async || {
            replicator.must_run()?;
            Ok(self.saved().await?.is_some_and(|saved| executed.is_subset(&saved)))
        })
        .await
        .with_context(|| format!("its log is {}", self.log.display()))
    }

    /// The rows of a query of the source, as the client program prints them.
    ///
    /// # Errors
    ///
    /// The query failed.
    pub fn source_rows(&self, sql: &str) -> Result<Vec<String>> {
        Ok(self.run(sql)?.lines().map(str::to_owned).collect())
    }

    /// The rows of a query of the target, in the same form.
    ///
    /// # Errors
    ///
    /// The query failed.
    pub async fn target_rows(&self, sql: &str) -> Result<Vec<String>> {
        let messages = self.to().simple_query(sql).await?;
        let row = |message| {
            let SimpleQueryMessage::Row(row) = message else { return None };
            let cells = (0..row.len()).map(|cell| {
                let text = row.get(cell).unwrap_or("NULL");
                text.replace('\\', "\\\\").replace('\n', "\\n").replace('\t', "\\t")
            });
            Some(cells.collect::<Vec<_>>().join("\t"))
        };
        Ok(messages.into_iter().filter_map(row).collect())
    }

    /// Waits until everything has arrived, and compares what this query says on both sides.
    ///
    /// # Errors
    ///
    /// It has not arrived in time, or the rows differ.
    pub async fn arrived(&self, replicator: &mut Replicator, sql: &str) -> Result<Vec<String>> {
        self.confirmed(replicator).await?;
        self.same(sql).await
    }

    /// Compares what this query says on both sides.
    ///
    /// # Errors
    ///
    /// The rows differ.
    pub async fn same(&self, sql: &str) -> Result<Vec<String>> {
        let (source, target) = (self.source_rows(sql)?, self.target_rows(sql).await?);
        ensure!(source == target, "{sql}: the source has {source:#?}, the target {target:#?}");
        Ok(target)
    }

    /// Whose binary log it is.
    #[must_use]
    pub fn flavor(&self) -> BinlogFlavor {
        match self.source.kind() {
            Kind::MySql => BinlogFlavor::MySql,
            Kind::MariaDb => BinlogFlavor::MariaDb,
        }
    }
}
