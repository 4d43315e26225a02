//! Real PostgreSQL servers on loopback, each with its own data folder.
//!
//! `tests/dbs/postgres.sh` gets and runs them; this module gives each a port and a folder, and ends it.
//! A lock per port, held as long as the server's owner lives, keeps test programs that run side by
//! side apart. What a killed test program left behind is removed by the next one that gets its port.
use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr as _;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio_postgres::{Client, NoTls};

/// Ports for servers: below the range that Linux takes for outgoing connections, so that none of
/// those is in the way.
const PORTS: RangeInclusive<u16> = 22_000..=22_999;

/// The longest that a server may take to be fetched, unpacked and started.
const SCRIPT_SECONDS_MAX: &str = "300";

/// The superuser's password. The servers listen on loopback and live for minutes.
const PASSWORD: &str = "secret";

/// How to run a server.
#[derive(Clone, Debug, Default)]
pub struct Options {
    settings: Vec<(String, String)>,
    durable: bool,
    require_tls: bool,
}

impl Options {
    /// With one more setting of postgresql.conf.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With fsync, for measurements. Killing the server loses nothing without it either.
    #[must_use]
    pub const fn durable(mut self) -> Self {
        self.durable = true;
        self
    }

    /// Refusing connections without TLS. Needs the program openssl, for certificates.
    #[must_use]
    pub const fn require_tls(mut self) -> Self {
        self.require_tls = true;
        self
    }

    fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["--password".to_owned(), PASSWORD.to_owned()];
        for (name, value) in &self.settings {
            arguments.extend(["--set".to_owned(), format!("{name}={value}")]);
        }
        if self.durable {
            arguments.push("--durable".to_owned());
        }
        if self.require_tls {
            arguments.push("--require-tls".to_owned());
        }
        arguments
    }
}

/// The major version to test with: `$PG_MAJOR`, or else the one that costs least on this machine.
///
/// # Errors
///
/// `$PG_MAJOR` is not a number, or no PostgreSQL can be had; the error says why.
pub fn major() -> Result<u16> {
    match std::env::var("PG_MAJOR") {
        Ok(text) => text.parse().with_context(|| format!("PG_MAJOR is \"{text}\", not a number")),
        Err(_) => Ok(script(["pick"])?.trim().parse()?),
    }
}

/// The folder that servers and their programs are kept in, below `target` where possible.
///
/// # Errors
///
/// The script failed.
pub fn home() -> Result<PathBuf> {
    Ok(PathBuf::from(script(["home"])?.trim_end()))
}

/// A running server. Dropping it ends it and removes its data.
#[derive(Debug)]
pub struct Server {
    major: u16,
    port: u16,
    folder: PathBuf,
    options: Options,
    // Held so that no other program takes the port or clears the folder.
    _claim: File,
}

impl Server {
    /// Starts a server of this major version, fetching it first if need be. Returns when it answers.
    ///
    /// Blocks the thread for one to three seconds.
    ///
    /// # Errors
    ///
    /// The version cannot be had here, no port is free, or the server did not come up.
    pub fn start(major: u16, options: &Options) -> Result<Self> {
        let remove = |folder: &Path| script([OsStr::new("destroy"), folder.as_os_str()]).map(drop);
        let (port, folder, claim) = claim(&home()?, "", remove)?;
        let server = Self { major, port, folder, options: options.clone(), _claim: claim };
        server.start_again()?;
        Ok(server)
    }

    /// Starts the server on its old data, after [`stop`](Self::stop) or [`crash`](Self::crash).
    ///
    /// # Errors
    ///
    /// It runs already, or did not come up.
    pub fn start_again(&self) -> Result<()> {
        let mut arguments = vec!["start".to_owned(), self.major.to_string()];
        arguments.extend([self.folder.display().to_string(), self.port.to_string()]);
        arguments.extend(self.options.arguments());
        script(&arguments).map(drop)
    }

    /// Stops the server in an orderly way, ending its connections.
    ///
    /// # Errors
    ///
    /// It did not stop within a minute.
    pub fn stop(&self) -> Result<()> {
        script([OsStr::new("stop"), self.folder.as_os_str()]).map(drop)
    }

    /// Kills the server's processes, as a power cut would.
    ///
    /// # Errors
    ///
    /// The script failed.
    pub fn crash(&self) -> Result<()> {
        script([OsStr::new("crash"), self.folder.as_os_str()]).map(drop)
    }

    /// Its major version.
    #[must_use]
    pub const fn major(&self) -> u16 {
        self.major
    }

    /// Its TCP port on 127.0.0.1.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.folder.join("server.log")
    }

    /// The folder of its certificates: `ca.crt`, `client.crt`, `client.key`. There is none on a
    /// machine without openssl.
    #[must_use]
    pub fn certificates(&self) -> PathBuf {
        self.folder.join("tls")
    }

    /// The connection string of its superuser, without TLS.
    #[must_use]
    pub fn conninfo(&self, database: &str) -> String {
        let port = self.port;
        format!("postgresql://postgres:{PASSWORD}@127.0.0.1:{port}/{database}?sslmode=disable")
    }

    /// Connects as the superuser. The connection ends with the client.
    ///
    /// # Errors
    ///
    /// The server does not answer, or the database does not exist.
    pub async fn client(&self, database: &str) -> Result<Client> {
        connect(&self.conninfo(database)).await
    }

    /// Creates a database and connects to it.
    ///
    /// # Errors
    ///
    /// It exists already.
    pub async fn create_database(&self, name: &str) -> Result<Client> {
        let sql = format!("CREATE DATABASE \"{}\"", name.replace('"', "\"\""));
        self.client("postgres").await?.batch_execute(&sql).await?;
        self.client(name).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // A failed test's reader will want it; the next failure on this port replaces it.
            let kept = self.folder.with_extension("failed.log");
            complain(
                fs::copy(self.log(), kept).map(drop).context("could not keep the server's log"),
            );
        }
        complain(script([OsStr::new("destroy"), self.folder.as_os_str()]).map(drop));
    }
}

/// Connects without TLS. The connection ends with the client.
///
/// # Errors
///
/// The server does not answer or refuses.
pub async fn connect(conninfo: &str) -> Result<Client> {
    let mut config = tokio_postgres::Config::from_str(conninfo)?;
    config.connect_timeout(Duration::from_secs(10)).application_name("replicator-tests");
    // Before version 12 floating-point numbers otherwise lose digits on their way into text.
    config.options("-c extra_float_digits=3");
    let (client, connection) = config.connect(NoTls).await.context("could not connect")?;
    // Ends when the client is dropped; errors show up at the client.
    drop(tokio::spawn(connection));
    Ok(client)
}

/// Says on standard error what went wrong where nothing can be returned.
pub(crate) fn complain(result: Result<()>) {
    if let Err(error) = result {
        writeln!(io::stderr(), "{error:#}").unwrap_or_default();
    }
}

/// The ports to choose from: `$REPLICATOR_TEST_PORTS` (`FIRST-LAST`), or the usual ones.
fn ports() -> Result<RangeInclusive<u16>> {
    let Ok(text) = std::env::var("REPLICATOR_TEST_PORTS") else { return Ok(PORTS) };
    let range = text.split_once('-').and_then(|(first, last)| {
        Some(RangeInclusive::new(first.parse().ok()?, last.parse().ok()?))
    });
    range.with_context(|| format!("REPLICATOR_TEST_PORTS is \"{text}\", not FIRST-LAST"))
}

/// Takes the first free port, with a folder below `home` and the lock that makes both ours. The folder's
/// name ends with `suffix`; one that is there already goes to `remove`.
pub(crate) fn claim(
    home: &Path,
    suffix: &str,
    remove: impl Fn(&Path) -> Result<()>,
) -> Result<(u16, PathBuf, File)> {
    let ports = ports()?;
    let servers = home.join("servers");
    fs::create_dir_all(&servers)?;
    for port in ports.clone() {
        let path = servers.join(format!("{port}.lock"));
        let lock =
            File::create(&path).with_context(|| format!("could not make {}", path.display()))?;
        match lock.try_lock() {
            Ok(()) => (),
            Err(TryLockError::WouldBlock) => continue,
            Err(TryLockError::Error(error)) => return Err(error).context("could not lock a file"),
        }
        let folder = servers.join(format!("{port}{suffix}"));
        if folder.exists() {
            // We have the lock, so whoever made the folder is dead.
            remove(&folder)?;
        }
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok((port, folder, lock));
        }
    }
    bail!("no port from {} through {} is free", ports.start(), ports.end())
}

/// Runs the server script and returns what it printed.
fn script<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("dbs/postgres.sh");
    let output = Command::new("timeout")
        .arg(SCRIPT_SECONDS_MAX)
        .arg(&path)
        .args(arguments)
        .output()
        .with_context(|| format!("could not run {}", path.display()))?;
    if !output.status.success() {
        bail!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(String::from_utf8(output.stdout)?)
}
