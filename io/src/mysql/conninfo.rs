//! Connection strings of MySQL and MariaDB, in both of their forms.
//!
//! ```text
//! mysql://user:password@host:3306/database?sslmode=verify-identity&sslrootcert=ca.crt
//! mysql://user:password@tcp(host:3306)/database
//! ```
//!
//! The password ends at the *last* at-sign, so that one with an at-sign in it need not be encoded. Errors
//! name the part and never show it, because it may be a part of a password.
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

use crate::pg::secret::Secret;

/// The port of MySQL.
const PORT: u16 = 3306;

/// Where and as whom to connect. Its `Display` shows user, database, host and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MySqlConnInfo {
    /// Where.
    pub place: Place,
    /// The user.
    pub user: String,
    /// Its password.
    pub password: Option<Secret>,
    /// The database.
    pub database: String,
    /// Whether and how to encrypt.
    pub tls: MySqlTls,
    /// The longest that connecting may take.
    pub connect_timeout: Option<Duration>,
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// On a TCP port of a host.
    Tcp {
        /// A name or an address.
        host: String,
        /// The port.
        port: u16,
    },
    /// On a Unix socket.
    Socket(PathBuf),
}

/// Whether and how to encrypt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MySqlTls {
    /// `sslmode`.
    pub mode: MySqlSslMode,
    /// `sslrootcert`: a file with those whom to trust to sign certificates. Without it those that
    /// browsers trust.
    pub roots: Option<PathBuf>,
    /// `sslcert` and `sslkey`: files with our certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// `sslmode`, from weak to strong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum MySqlSslMode {
    /// Never encrypt.
    Disable,
    /// Encrypt only if the server insists.
    Allow,
    /// Encrypt if the server can.
    #[default]
    Prefer,
    /// Encrypt; check who signed the server's certificate only if there is a root certificate.
    Require,
    /// Encrypt and check who signed the server's certificate.
    VerifyCa,
    /// Encrypt and check who signed the server's certificate and whose name it bears.
    VerifyIdentity,
}

/// A connection string that cannot be used. Shows no part of it that may be secret.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MySqlConnInfoError {
    /// The URL is of another kind.
    #[error("unknown scheme; a connection string of MySQL begins with \"mysql://\"")]
    Scheme,
    /// Something is missing.
    #[error("{0} is missing in the connection string")]
    Missing(&'static str),
    /// A part cannot be read.
    #[error("{part} of the connection string must be {expected}")]
    Part {
        /// The part.
        part: &'static str,
        /// What it takes.
        expected: &'static str,
    },
    /// A percent sign is not followed by two hexadecimal digits.
    #[error("{0} is not percent-encoded correctly; write a percent sign itself as \"%25\"")]
    Percent(&'static str),
    /// A parameter that we do not know, and that would be missed.
    #[error("parameter \"{0}\" of the connection string is not supported")]
    Unsupported(String),
}

type Result<T> = std::result::Result<T, MySqlConnInfoError>;

impl FromStr for MySqlConnInfo {
    type Err = MySqlConnInfoError;

    fn from_str(text: &str) -> Result<Self> {
        let schemes = ["mysql://", "mariadb://"];
        let rest = schemes.into_iter().find_map(|scheme| text.strip_prefix(scheme));
        let rest = rest.ok_or(MySqlConnInfoError::Scheme)?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        if query.contains('@') {
            // Most likely the rest of a password that contains a question mark: not shown.
            let expected =
                "percent-encoded: \"%3F\" for a question mark and \"%40\" for an @ in it";
            return Err(MySqlConnInfoError::Part { part: "each part", expected });
        }
        let (user_info, rest) =
            rest.rsplit_once('@').ok_or(MySqlConnInfoError::Missing("the user"))?;
        let (user, password) = match user_info.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (user_info, None),
        };
        let user = decoded("the user name", user)?;
        if user.is_empty() {
            return Err(MySqlConnInfoError::Missing("the user"));
        }
        let password = password.map(|password| decoded("the password", password)).transpose()?;
        let (place, database) = place_and_database(rest)?;
        let database = decoded("the database name", database)?;
        if database.is_empty() {
            return Err(MySqlConnInfoError::Missing("the database"));
        }
        if database.contains('/') {
            // Most likely the rest of a password that contains a slash: not shown.
            let expected = "one name; write \"%2F\" for a slash in a password";
            return Err(MySqlConnInfoError::Part { part: "the database", expected });
        }
        let password = password.map(Secret::new);
        let (tls, connect_timeout) = (MySqlTls::default(), None);
        let mut conninfo = Self { place, user, password, database, tls, connect_timeout };
        conninfo.set_all(query)?;
        Ok(conninfo)
    }
}

impl MySqlConnInfo {
    fn set_all(&mut self, query: &str) -> Result<()> {
        let (mut certificate, mut key) = (None, None);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decoded("a parameter", value)?;
            if value.is_empty() {
                continue;
            }
            match name {
                "sslmode" | "ssl-mode" => self.tls.mode = ssl_mode(&value)?,
                "sslrootcert" | "ssl-ca" => self.tls.roots = Some(PathBuf::from(value)),
                "sslcert" | "ssl-cert" => certificate = Some(PathBuf::from(value)),
                "sslkey" | "ssl-key" => key = Some(PathBuf::from(value)),
                "connect_timeout" => {
                    let expected = "a number of seconds";
                    let part = "parameter \"connect_timeout\"";
                    let seconds = value.parse().ok().filter(|seconds| 0 < *seconds);
                    let seconds = seconds.ok_or(MySqlConnInfoError::Part { part, expected })?;
                    self.connect_timeout = Some(Duration::from_secs(seconds));
                }
                // What they ask for is always the case here.
                "charset" | "parseTime" | "application_name" => (),
                name => return Err(MySqlConnInfoError::Unsupported(name.to_owned())),
            }
        }
        self.tls.identity = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) => return Err(MySqlConnInfoError::Missing("parameter \"sslkey\"")),
            (None, Some(_)) => return Err(MySqlConnInfoError::Missing("parameter \"sslcert\"")),
        };
        Ok(())
    }
}

/// What follows the at-sign: `host:port/database`, `tcp(host:port)/database`, `unix(path)/database`.
fn place_and_database(text: &str) -> Result<(Place, &str)> {
    let bad_place = || {
        let expected = "host:port, tcp(host:port), or unix(path)";
        MySqlConnInfoError::Part { part: "the address", expected }
    };
    for protocol in ["tcp(", "tcp4(", "tcp6(", "unix("] {
        let Some(rest) = text.strip_prefix(protocol) else { continue };
        let (address, rest) = rest.split_once(')').ok_or_else(bad_place)?;
        let database = rest.strip_prefix('/').unwrap_or_default();
        let place = if protocol == "unix(" {
            Place::Socket(PathBuf::from(decoded("the address", address)?))
        } else {
            host_and_port(address)?
        };
        return Ok((place, database));
    }
    let (address, database) = text.split_once('/').unwrap_or((text, ""));
    if address.contains(['(', ')']) {
        return Err(bad_place());
    }
    Ok((host_and_port(address)?, database))
}

fn host_and_port(text: &str) -> Result<Place> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let part = "the address";
            let expected = "an IPv6 address in brackets, as in [::1]:3306";
            let (host, rest) =
                rest.split_once(']').ok_or(MySqlConnInfoError::Part { part, expected })?;
            (host, rest.strip_prefix(':'))
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port.filter(|port| !port.is_empty()) {
        None => PORT,
        Some(port) => {
            port.parse().ok().filter(|port| 0 < *port).ok_or(MySqlConnInfoError::Part {
                part: "the port",
                expected: "a number from 1 to 65535",
            })?
        }
    };
    let host = decoded("the host name", host)?;
    let host = if host.is_empty() { "localhost".to_owned() } else { host };
    Ok(Place::Tcp { host, port })
}

/// The words of MySQL's own programs and those of libpq, in any case.
fn ssl_mode(text: &str) -> Result<MySqlSslMode> {
    Ok(match text.to_ascii_lowercase().replace('_', "-").as_str() {
        "disable" | "disabled" => MySqlSslMode::Disable,
        "allow" => MySqlSslMode::Allow,
        "prefer" | "preferred" => MySqlSslMode::Prefer,
        "require" | "required" => MySqlSslMode::Require,
        "verify-ca" => MySqlSslMode::VerifyCa,
        "verify-identity" | "verify-full" => MySqlSslMode::VerifyIdentity,
        _ => {
            let expected = "disable, preferred, require, verify-ca or verify-identity";
            return Err(MySqlConnInfoError::Part { part: "parameter \"sslmode\"", expected });
        }
    })
}

/// Undoes percent-encoding. A plus sign is a plus sign.
fn decoded(part: &'static str, text: &str) -> Result<String> {
    let error = || MySqlConnInfoError::Percent(part);
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let mut byte = *first;
        if byte == b'%' {
            let (digits, after) = after.split_first_chunk::<2>().ok_or_else(error)?;
            rest = after;
            let digit = |digit: u8| char::from(digit).to_digit(16);
            let (high, low) = digit(digits[0]).zip(digit(digits[1])).ok_or_else(error)?;
            byte = u8::try_from(high * 16 + low).map_err(|_| error())?;
        }
        bytes.push(byte);
    }
    String::from_utf8(bytes).map_err(|_| error())
}

impl fmt::Display for MySqlConnInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, database, place, .. } = self;
        match place {
            Place::Tcp { host, port } => {
                write!(f, "user={user} database={database} host={host} port={port}")
            }
            Place::Socket(path) => {
                write!(f, "user={user} database={database} socket={}", path.display())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{MySqlConnInfo, MySqlConnInfoError, MySqlSslMode, Place};

    fn parse(text: &str) -> Result<MySqlConnInfo, MySqlConnInfoError> {
        text.parse()
    }

    fn tcp(text: &str) -> (String, u16) {
        match parse(text).unwrap().place {
            Place::Tcp { host, port } => (host, port),
            Place::Socket(path) => panic!("{}", path.display()),
        }
    }

    #[test]
    fn both_forms_are_read() {
        for text in ["mysql://me:pw@db:3307/app", "mysql://me:pw@tcp(db:3307)/app"] {
            let conninfo = parse(text).unwrap();
            assert_eq!(conninfo.to_string(), "user=me database=app host=db port=3307");
            assert_eq!(conninfo.password.unwrap().expose(), b"pw");
            assert_eq!(conninfo.tls.mode, MySqlSslMode::Prefer);
        }
        let socket = parse("mysql://me@unix(/run/mysqld.sock)/app").unwrap();
        assert_eq!(socket.to_string(), "user=me database=app socket=/run/mysqld.sock");
        assert_eq!(tcp("mysql://me@[::1]:3307/app"), ("::1".to_owned(), 3307));
        assert_eq!(tcp("mysql://me@tcp([::1]:3307)/app"), ("::1".to_owned(), 3307));
        assert_eq!(tcp("mysql://me@db/app"), ("db".to_owned(), 3306));
    }

    #[test]
    fn w32_ports_above_32767_and_encoded_passwords_are_read() {
        assert_eq!(tcp("mysql://me@db:65535/app").1, 65535);
        assert_eq!(tcp("mysql://me@tcp(db:33060)/app").1, 33060);
        for (text, password) in [
            ("mysql://me:a%2452%26@db/app", "a$52&"),
            ("mysql://me:a@b:%2f%25@tcp(db:1)/app", "a@b:/%"),
            ("mysql://me:@db/app", ""),
        ] {
            assert_eq!(parse(text).unwrap().password.unwrap().expose(), password.as_bytes());
        }
        for text in ["mysql://me@db:65536/app", "mysql://me@db:0/app", "mysql://me@db:x/app"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn w32_sslmode_may_be_absent_and_files_may_be_encoded() {
        let tls = |query: &str| parse(&format!("mysql://me@db/app?{query}")).unwrap().tls;
        assert_eq!(tls("").mode, MySqlSslMode::Prefer);
        for (text, mode) in [
            ("disable", MySqlSslMode::Disable),
            ("PREFERRED", MySqlSslMode::Prefer),
            ("require", MySqlSslMode::Require),
            ("VERIFY_CA", MySqlSslMode::VerifyCa),
            ("verify-full", MySqlSslMode::VerifyIdentity),
            ("verify-identity", MySqlSslMode::VerifyIdentity),
        ] {
            assert_eq!(tls(&format!("sslmode={text}")).mode, mode, "{text}");
        }
        let tls = tls("sslrootcert=.%2fcerts%2fca.crt&sslcert=c.crt&sslkey=c.key");
        assert_eq!(tls.roots.unwrap().to_str(), Some("./certs/ca.crt"));
        let (certificate, key) = tls.identity.unwrap();
        assert_eq!((certificate.to_str(), key.to_str()), (Some("c.crt"), Some("c.key")));
    }

    #[test]
    fn errors_show_no_secret() {
        for text in [
            "postgresql://me:secret@db/app",
            "mysql://me:secret",
            "mysql://me:se%cret@db/app",
            "mysql://:secret@db/app",
            "mysql://me:x@db/se/cret@x",
            "mysql://me:secret@db",
            "mysql://me:x@se?cret@db/app",
            "mysql://me:secret@udp(db)/app",
            "mysql://me:secret@db/app?sslmode=secret",
            "mysql://me:secret@db/app?sslcert=x",
            "mysql://me:secret@db/app?unknown=secret",
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(!error.contains("secret") && !error.contains("cret@"), "{text}: {error}");
        }
        let conninfo = parse("mysql://me:secret@db/app").unwrap();
        assert!(!format!("{conninfo:?} {conninfo}").contains("secret"));
    }
}
