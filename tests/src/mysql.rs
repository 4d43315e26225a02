//! Real MySQL and MariaDB servers on loopback, one of each kind for all tests of a program.
//!
//! `tests/dbs/mysql.sh` gets and runs them; the ports are those of [`postgres`](crate::postgres).
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use anyhow::{Context as _, Result, bail};

use crate::postgres::{claim, complain};

/// The longest that a server may take to be fetched, unpacked and started.
const SCRIPT_SECONDS_MAX: &str = "300";

/// Root's password. A percent sign, an at-sign and a slash, to see that they survive.
const PASSWORD: &str = "s%c@et/";

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// MySQL 9.7.
    MySql,
    /// MariaDB 10.11.
    MariaDb,
}

/// A version of MariaDB besides the usual one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MariaDbVersion {
    /// The oldest that we read.
    V10_5,
    /// A newer one.
    V11_8,
}

impl Kind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::MySql, Self::MariaDb];

    /// As it is part of names.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::MySql => "mysql",
            Self::MariaDb => "mariadb",
        }
    }

    const fn source_options(self) -> &'static [&'static str] {
        match self {
            Self::MySql => {
                &["--gtid-mode=ON", "--enforce-gtid-consistency=ON", "--binlog-row-metadata=FULL"]
            }
            Self::MariaDb => &["--binlog-row-metadata=FULL"],
        }
    }

    /// The servers that tests share, as long as somebody has them: one to write to, and one to read from.
    const fn shared(self, is_source: bool) -> &'static Mutex<Weak<Server>> {
        static SERVERS: [Mutex<Weak<Server>>; 4] = [const { Mutex::new(Weak::new()) }; 4];
        match (self, is_source) {
            (Self::MySql, false) => &SERVERS[0],
            (Self::MySql, true) => &SERVERS[1],
            (Self::MariaDb, false) => &SERVERS[2],
            (Self::MariaDb, true) => &SERVERS[3],
        }
    }
}

/// A running server. Dropping it ends it and removes its data.
#[derive(Debug)]
pub struct Server {
    kind: Kind,
    // What the script calls it.
    version: &'static str,
    port: u16,
    folder: PathBuf,
    options: &'static [&'static str],
    // Held so that no other program takes the port or clears the folder.
    _claim: File,
}

impl Server {
    /// The server that all tests of this program share, which is started for the first one.
    ///
    /// Blocks the thread for some seconds.
    ///
    /// # Errors
    ///
    /// It cannot be had here, no port is free, or it did not come up.
    pub fn shared(kind: Kind) -> Result<Arc<Self>> {
        Self::one_of_all(kind, false)
    }

    /// The same, for those who read the binary log; see [`start_source`](Self::start_source).
    ///
    /// # Errors
    ///
    /// See [`shared`](Self::shared).
    pub fn shared_source(kind: Kind) -> Result<Arc<Self>> {
        Self::one_of_all(kind, true)
    }

    fn one_of_all(kind: Kind, is_source: bool) -> Result<Arc<Self>> {
        // Whoever comes while it is being started waits for it.
        let mut shared = kind.shared(is_source).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = shared.upgrade() {
            return Ok(server);
        }
        let started =
            Arc::new(if is_source { Self::start_source(kind) } else { Self::start(kind) }?);
        *shared = Arc::downgrade(&started);
        Ok(started)
    }

    /// Starts a server of one's own, with certificates for localhost.
    ///
    /// Blocks the thread for some seconds.
    ///
    /// # Errors
    ///
    /// It cannot be had here, no port is free, or it did not come up.
    pub fn start(kind: Kind) -> Result<Self> {
        Self::start_with(kind, &[])
    }

    /// Starts a server that can be a source: with row events that name their columns and, on MySQL, GTIDs.
    ///
    /// Blocks the thread for some seconds.
    ///
    /// # Errors
    ///
    /// It cannot be had here, no port is free, or it did not come up.
    pub fn start_source(kind: Kind) -> Result<Self> {
        Self::start_with(kind, kind.source_options())
    }

    /// The same, with options of the server.
    ///
    /// # Errors
    ///
    /// It cannot be had here, no port is free, or it did not come up.
    pub fn start_with(kind: Kind, options: &'static [&'static str]) -> Result<Self> {
        Self::start_version(kind, kind.name(), options)
    }

    /// Starts a MariaDB whose binary log can be read as that of one of another version.
    ///
    /// # Errors
    ///
    /// See [`start_source`](Self::start_source).
    pub fn start_mariadb(version: MariaDbVersion) -> Result<Self> {
        let version = match version {
            MariaDbVersion::V10_5 => "mariadb105",
            MariaDbVersion::V11_8 => "mariadb118",
        };
        Self::start_version(Kind::MariaDb, version, Kind::MariaDb.source_options())
    }

    fn start_version(
        kind: Kind,
        version: &'static str,
        options: &'static [&'static str],
    ) -> Result<Self> {
        let home = PathBuf::from(script(["home"])?.trim_end());
        let remove = |folder: &Path| script([OsStr::new("destroy"), folder.as_os_str()]).map(drop);
        let (port, folder, claim) = claim(&home, ".my", remove)?;
        let server = Self { kind, version, port, folder, options, _claim: claim };
        server.start_again()?;
        Ok(server)
    }

    /// Starts the server on its old data, after [`crash`](Self::crash).
    ///
    /// # Errors
    ///
    /// It runs already, or did not come up.
    pub fn start_again(&self) -> Result<()> {
        let (folder, port) = (self.folder.display().to_string(), self.port.to_string());
        let arguments = ["start", self.version, &folder, &port];
        let arguments = arguments.into_iter().chain(["--password", PASSWORD, "--certs", "--"]);
        script(arguments.chain(self.options.iter().copied())).map(drop)
    }

    /// Kills the server, as a power cut would.
    ///
    /// # Errors
    ///
    /// The script failed.
    pub fn crash(&self) -> Result<()> {
        script([OsStr::new("crash"), self.folder.as_os_str()]).map(drop)
    }

    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Its TCP port on 127.0.0.1.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The folder of its certificates: `ca.crt`, `client.crt`, `client.key`.
    #[must_use]
    pub fn certificates(&self) -> PathBuf {
        self.folder.join("tls")
    }

    /// The connection string of root, without TLS.
    #[must_use]
    pub fn conninfo(&self, database: &str) -> String {
        self.conninfo_with(database, "sslmode=disable")
    }

    /// The connection string of root, with these parameters.
    #[must_use]
    pub fn conninfo_with(&self, database: &str, parameters: &str) -> String {
        let password = PASSWORD.replace('%', "%25").replace('@', "%40").replace('/', "%2f");
        format!("mysql://root:{password}@127.0.0.1:{}/{database}?{parameters}", self.port)
    }

    /// Runs statements as root. Returns what the client program prints, without headings.
    ///
    /// # Errors
    ///
    /// One of them failed.
    pub fn run(&self, sql: &str) -> Result<String> {
        let folder = self.folder.display().to_string();
        script(["client", &folder, "-N", "-B", "--default-character-set=utf8mb4", "-e", sql])
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        complain(script([OsStr::new("destroy"), self.folder.as_os_str()]).map(drop));
    }
}

/// Runs the server script and returns what it printed.
fn script<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("dbs/mysql.sh");
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
