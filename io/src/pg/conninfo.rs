//! Connection strings: `postgresql://…` URLs and `key=value` lists, as libpq reads them (PostgreSQL
//! documentation, "Connection Strings" and "Parameter Key Words").
//!
//! ```text
//! URL        ──► (name, value) pairs ─┐
//! key=value  ──► (name, value) pairs ─┴─► Draft ──► ConnInfo
//! ```
//!
//! A parameter that libpq does not know is a setting of the session, and goes to the server. Errors
//! name the parameter and never show its value, because it may be a part of a password.
mod draft;
mod keyword;
mod url;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

use self::draft::Draft;
use super::secret::Secret;

/// Where and as whom to connect. Its `Display` shows user, database, host and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnInfo {
    /// Tried in order. Invariant: at least one.
    pub hosts: Vec<Host>,
    /// The role to log in as.
    pub user: String,
    /// Its password.
    pub password: Option<Secret>,
    /// The database.
    pub database: String,
    /// Whether and how to encrypt.
    pub tls: TlsSettings,
    /// What the server shows as the session's name.
    pub application_name: Option<String>,
    /// Command-line options for the session, such as `-c statement_timeout=5s`.
    pub options: Option<String>,
    /// The longest that connecting to one host may take.
    pub connect_timeout: Option<Duration>,
    /// Settings of the session, by name.
    pub settings: BTreeMap<String, String>,
}

/// A server to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// A name, an address, or, if it begins with a slash, the folder of a Unix socket.
    pub name: String,
    /// Connect here; the name is for the certificate only.
    pub address: Option<IpAddr>,
    /// The port, also a part of the name of a Unix socket.
    pub port: u16,
}

impl Host {
    /// What to dial.
    #[must_use]
    pub fn dialed(&self) -> String {
        self.address.map_or_else(|| self.name.clone(), |address| address.to_string())
    }

    /// Whether it is a Unix socket. Those are never encrypted, whatever the mode.
    #[must_use]
    pub fn is_socket(&self) -> bool {
        self.name.starts_with('/')
    }
}

/// Whether and how to encrypt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// `sslmode`.
    pub mode: SslMode,
    /// `sslrootcert`.
    pub roots: Roots,
    /// `sslcert`: a file with our certificate and those between it and the root.
    pub certificate: Option<PathBuf>,
    /// `sslkey`: a file with its key.
    pub key: Option<PathBuf>,
    /// `channel_binding`.
    pub channel_binding: ChannelBinding,
    /// `sslsni`: whether the server is told which name it is called by.
    pub server_name: bool,
}

/// `sslmode`, from weak to strong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SslMode {
    /// Never encrypt.
    Disable,
    /// Encrypt only if the server insists.
    Allow,
    /// Encrypt if the server can.
    Prefer,
    /// Encrypt; check the server's certificate only if there is a root certificate.
    Require,
    /// Encrypt and check who signed the server's certificate.
    VerifyCa,
    /// Encrypt and check who signed the server's certificate and whose name it bears.
    VerifyFull,
}

/// Whom to trust to sign certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Roots {
    /// `~/.postgresql/root.crt`, if it exists.
    Default,
    /// Whom the operating system trusts.
    System,
    /// Those in this file.
    File(PathBuf),
}

/// Whether logging in proves that nobody sits between the server and us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelBinding {
    /// No.
    Disable,
    /// If the server can.
    Prefer,
    /// Yes, or the connection fails.
    Require,
}

/// A connection string that cannot be used. Shows no values of parameters.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConnInfoError {
    /// The URL is of another kind.
    #[error("unknown scheme \"{scheme}\"; a connection string begins with \"postgresql://\"")]
    Scheme {
        /// What it begins with.
        scheme: String,
    },
    /// It is no URL and no list of parameters.
    #[error("{what}")]
    Syntax {
        /// What is wrong, and where.
        what: String,
    },
    /// A percent sign is not followed by two hexadecimal digits, or stands for a zero byte.
    #[error("{parameter} is not percent-encoded correctly; write a percent sign itself as \"%25\"")]
    Percent {
        /// The parameter or part.
        parameter: String,
    },
    /// A value is none of those that the parameter takes.
    #[error("parameter \"{parameter}\" must be {expected}")]
    Value {
        /// The parameter.
        parameter: &'static str,
        /// What it takes.
        expected: &'static str,
    },
    /// A parameter that libpq knows and we do not, and that would be missed.
    #[error("parameter \"{parameter}\" is not supported")]
    Unsupported {
        /// The parameter.
        parameter: &'static str,
    },
    /// Something is missing.
    #[error("parameter \"{parameter}\" is missing")]
    Missing {
        /// The parameter.
        parameter: &'static str,
    },
}

impl FromStr for ConnInfo {
    type Err = ConnInfoError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut draft = Draft::default();
        match url::split_scheme(text) {
            Some(("postgresql" | "postgres", rest)) => url::parse(rest, &mut draft)?,
            Some((scheme, _)) => return Err(ConnInfoError::Scheme { scheme: scheme.to_owned() }),
            None => keyword::parse(text, &mut draft)?,
        }
        draft.finish()
    }
}

impl fmt::Display for ConnInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, database, hosts, .. } = self;
        let join = |part: fn(&Host) -> String| hosts.iter().map(part).collect::<Vec<_>>().join(",");
        let (names, ports) = (join(|host| host.name.clone()), join(|host| host.port.to_string()));
        write!(f, "user={user} database={database} host={names} port={ports}")
    }
}

#[cfg(test)]
mod tests;
