//! A shop that has moved, and whose changes go back to where it came from.
//!
//! ```text
//! source ──► feeder ── HTTP ──► replicator start ──► target
//! ```
//!
//! A real PostgreSQL stands in for CockroachDB; see [`feeder`](crate::feeder). The target begins empty: the
//! feed brings the first rows, too.
mod mysql;

pub(crate) use self::mysql::{TABLES as MYSQL_TABLES, compare_from as compare_from_mysql};

use std::fmt;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

use crate::compare::{self, Comparison};
use crate::feeder::{FeedOptions, Feeder, Where};
use crate::http::get;
use crate::mysql as servers;
use crate::pair::{DATABASE, publish};
use crate::postgres::{self, Options, Server};
use crate::product::Replicator;
use crate::workload::{HEARTBEAT, TABLES};
use crate::{wait_until, workload};

/// Where changes go back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// PostgreSQL.
    Postgres,
    /// MySQL.
    MySql,
    /// MariaDB.
    MariaDb,
}

impl FromStr for Kind {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        Ok(match name {
            "postgres" => Self::Postgres,
            "mysql" => Self::MySql,
            "mariadb" => Self::MariaDb,
            _ => bail!("no target \"{name}\"; there are postgres, mysql and mariadb"),
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Postgres => "PostgreSQL",
            Self::MySql => "MySQL",
            Self::MariaDb => "MariaDB",
        })
    }
}

/// What the load's heartbeat says in the target.
#[derive(Clone, Copy, Debug, Default)]
pub struct Beat {
    /// Its number.
    pub beat: i64,
    /// Rows that were committed before it.
    pub rows: u64,
    /// Its age in seconds.
    pub lag: f64,
}

/// The servers, and what the program between them needs. Dropping it ends the servers and removes what the
/// program had staged.
#[derive(Debug)]
pub struct Shop {
    /// Connected to the source.
    pub from: Client,
    /// The source.
    pub source: Server,
    target: Target,
    port: u16,
    /// Of the program's metrics.
    metrics: u16,
    folder: PathBuf,
    log: PathBuf,
}

#[derive(Debug)]
enum Target {
    Postgres(Client, Server),
    MySql(servers::Server),
}

impl Shop {
    /// Starts the servers and fills the source with about `rows` rows. The name is one's own.
    ///
    /// # Errors
    ///
    /// A server cannot be had here or did not come up.
    pub async fn open(kind: Kind, name: &str, rows: u32) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        let log = log_path(name)?;
        if log.exists() {
            std::fs::remove_file(&log)?;
        }
        let major = postgres::major()?;
        let source = Server::start(major, &Options::default())?;
        let from = source.create_database(DATABASE).await?;
        let target = match kind {
            Kind::Postgres => {
                let server = Server::start(major, &Options::default())?;
                let client = server.create_database(DATABASE).await?;
                workload::create_tables(&client, major).await?;
                // Values that change places in one transaction went through a third one, of which a
                // changefeed does not tell.
                let sql = "ALTER TABLE account DROP CONSTRAINT account_email_key";
                client.batch_execute(sql).await?;
                Target::Postgres(client, server)
            }
            Kind::MySql => Target::MySql(mysql_server(servers::Kind::MySql)?),
            Kind::MariaDb => Target::MySql(mysql_server(servers::Kind::MariaDb)?),
        };
        workload::create_tables(&from, major).await?;
        // A changefeed brings whole rows, whatever of them has changed.
        for table in ["document", "account", "product", "orders", "order_line"] {
            let sql = format!("ALTER TABLE {table} REPLICA IDENTITY FULL");
            from.batch_execute(&sql).await?;
        }
        publish(&from).await?;
        workload::fill(&from, rows).await?;
        let free = || TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let (port, metrics) = (free()?.port(), free()?.port());
        Ok(Self { from, source, target, port, metrics, folder, log })
    }

    /// Where the program keeps its files.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Connected to the target, which is PostgreSQL.
    ///
    /// # Errors
    ///
    /// It is not.
    pub fn to(&self) -> Result<&Client> {
        self.postgres().map(|(client, _)| client)
    }

    /// The target, which is PostgreSQL.
    ///
    /// # Errors
    ///
    /// It is not.
    pub fn target(&self) -> Result<&Server> {
        self.postgres().map(|(_, server)| server)
    }

    /// The target, which is MySQL or MariaDB.
    ///
    /// # Errors
    ///
    /// It is not.
    pub fn mysql(&self) -> Result<&servers::Server> {
        match &self.target {
            Target::MySql(server) => Ok(server),
            Target::Postgres(..) => bail!("the target is PostgreSQL"),
        }
    }

    fn postgres(&self) -> Result<(&Client, &Server)> {
        match &self.target {
            Target::Postgres(client, server) => Ok((client, server)),
            Target::MySql(_) => bail!("the target is no PostgreSQL"),
        }
    }

    /// A database for staging, beside the source.
    ///
    /// # Errors
    ///
    /// There is one.
    pub async fn staging(&self) -> Result<(String, Client)> {
        let client = self.source.create_database("staging").await?;
        Ok((self.source.conninfo("staging"), client))
    }

    /// The arguments of the program.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        let target = match &self.target {
            Target::Postgres(_, server) => server.conninfo(DATABASE),
            Target::MySql(server) => server.conninfo(DATABASE),
        };
        let (bind, folder) =
            (format!("127.0.0.1:{}", self.port), self.folder.display().to_string());
        let flags = [
            ["--targetConn", &target],
            ["--bindAddr", &bind],
            ["--dataDir", &folder],
            ["--flushPeriod", "50ms"],
        ];
        let flags = flags.as_flattened().iter();
        std::iter::once(&"start").chain(flags).map(|&word| word.to_owned()).collect()
    }

    /// Starts the program, with `more` flags.
    ///
    /// # Errors
    ///
    /// There is no built program.
    pub fn replicator(&self, more: &[&str]) -> Result<Replicator> {
        let mut arguments = self.arguments();
        arguments.extend(["--metricsAddr".to_owned(), format!("127.0.0.1:{}", self.metrics)]);
        arguments.extend(more.iter().map(|&flag| flag.to_owned()));
        Replicator::start(&self.log, arguments)
    }

    /// Where the feed goes, without token and TLS.
    #[must_use]
    pub fn place(&self) -> Where {
        let path = match &self.target {
            Target::Postgres(..) => format!("/{DATABASE}/public"),
            // A schema of MySQL is one segment of the path.
            Target::MySql(_) => format!("/{DATABASE}"),
        };
        Where { port: self.port, path, token: None, tls: None }
    }

    /// Begins a feed of all that the source writes.
    ///
    /// # Errors
    ///
    /// The source does not answer.
    pub async fn feed(&self, place: &Where, seed: u64) -> Result<Feeder> {
        let options = FeedOptions { workers: 4, rows_max: 300, again_percent: 20, seed };
        Feeder::start(&self.source.conninfo(DATABASE), place, &options).await
    }

    /// Kills the target, as a power cut would.
    ///
    /// # Errors
    ///
    /// The script failed.
    pub fn crash_target(&self) -> Result<()> {
        match &self.target {
            Target::Postgres(_, server) => server.crash(),
            Target::MySql(server) => server.crash(),
        }
    }

    /// Starts the target again after a crash.
    ///
    /// # Errors
    ///
    /// It did not come up.
    pub async fn start_target(&mut self) -> Result<()> {
        match &mut self.target {
            Target::Postgres(client, server) => {
                server.start_again()?;
                *client = server.client(DATABASE).await?;
                Ok(())
            }
            Target::MySql(server) => server.start_again(),
        }
    }

    /// How far the target is.
    ///
    /// # Errors
    ///
    /// It does not answer.
    pub async fn beat(&self) -> Result<Beat> {
        match &self.target {
            Target::Postgres(client, _) => {
                let sql = "SELECT beat, rows,
                                  greatest(extract(epoch FROM clock_timestamp() - beaten_at), 0)::float8
                           FROM heartbeat";
                let Some(row) = client.query_opt(sql, &[]).await? else {
                    return Ok(Beat::default());
                };
                let rows: i64 = row.get(1);
                Ok(Beat { beat: row.get(0), rows: rows.try_into()?, lag: row.get(2) })
            }
            Target::MySql(server) => mysql::beat(server),
        }
    }

    /// Compares both sides.
    ///
    /// # Errors
    ///
    /// A side does not answer. Differences are no errors.
    pub async fn compare(&self) -> Result<Comparison> {
        match &self.target {
            Target::Postgres(to, _) => {
                let mut comparison = compare::tables(&self.from, to, "public").await?;
                // The program may keep a table there, too.
                let of_shop = |name: &str| TABLES.contains(&name) || name == HEARTBEAT;
                comparison.tables.retain(|table| of_shop(&table.table));
                Ok(comparison)
            }
            Target::MySql(server) => mysql::compare_to(&self.from, server, DATABASE).await,
        }
    }

    /// What the program says of itself, for somebody who wonders what it waits for.
    async fn findings(&self) -> String {
        let mut found = String::new();
        for path in ["/_/diag", "/_/varz"] {
            match get(self.metrics, path).await {
                Ok(answer) => found.push_str(&answer.body),
                Err(error) => found.push_str(&format!("{path}: {error:#}\n")),
            }
        }
        // Buckets are many, and their sum is there.
        let lines =
            found.lines().filter(|line| !line.contains("_bucket{") && !line.starts_with('#'));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Waits until both sides are equal.
    ///
    /// # Errors
    ///
    /// They are not within `limit`; the error says where. Or the program has ended.
    pub async fn equal(&self, replicator: &mut Replicator, limit: Duration) -> Result<Comparison> {
        let (mut last, mut took) = (Comparison::default(), Duration::ZERO);
        let waited = wait_until(limit, "both sides are equal", async || {
            // Whoever compares all the time leaves nothing of the machine to the program.
            sleep(took * 4).await;
            replicator.must_run()?;
            let began = Instant::now();
            last = self.compare().await?;
            took = began.elapsed();
            Ok(last.is_identical())
        });
        if let Err(error) = waited.await {
            let log = replicator.log()?;
            let lines: Vec<&str> = log.lines().collect();
            let end = lines[lines.len().saturating_sub(20)..].join("\n");
            let found = self.findings().await;
            return Err(error
                .context(last.to_string())
                .context(format!("its log ends with\n{end}\nand it says of itself\n{found}")));
        }
        Ok(last)
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.folder).ok();
    }
}

/// Where the program's output goes in the shop of this name. It stays there.
///
/// # Errors
///
/// The script that knows did not run.
pub fn log_path(name: &str) -> Result<PathBuf> {
    Ok(postgres::home()?.join("logs").join(format!("{name}.log")))
}

fn mysql_server(kind: servers::Kind) -> Result<servers::Server> {
    let server = servers::Server::start(kind)?;
    mysql::create(&server)?;
    Ok(server)
}
