//! Which product answers on a connection of MySQL's protocol, and its limits.
use std::collections::BTreeMap;
use std::fmt;

use replicator_core::dialect::mysql::Flavor;
use thiserror::Error;

/// The oldest versions we know, as major and minor.
const MYSQL_MIN: (u32, u32) = (5, 7);
const MARIADB_MIN: (u32, u32) = (10, 5);

/// What a server does not say it takes, in bytes: the default of MySQL 5.7.
const PACKET_BYTES_DEFAULT: usize = 4 << 20;

/// The server at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Whose SQL it speaks.
    pub flavor: Flavor,
    /// Its name and version.
    pub version: String,
    /// The largest message it takes, in bytes (`max_allowed_packet`).
    pub packet_bytes_max: usize,
    /// Whether it replicates statements and not rows, which needs stricter transactions.
    pub logs_statements: bool,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.version)
    }
}

/// The server is none of ours.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ServerError {
    /// Something that only speaks the same protocol.
    #[error("the server says it is \"{version}\"; MySQL or MariaDB is needed")]
    Unknown {
        /// What it says.
        version: String,
    },
    /// It lacks what we need.
    #[error("{version} is too old; MySQL 5.7 or MariaDB 10.5 or later is needed")]
    TooOld {
        /// Product and version.
        version: String,
    },
}

impl Server {
    /// The names of the variables that [`of`](Self::of) looks at.
    pub(super) const VARIABLES: &str =
        "'version', 'max_allowed_packet', 'binlog_format', 'log_bin'";

    /// Tells the product by its variables.
    ///
    /// # Errors
    ///
    /// See [`ServerError`].
    pub(super) fn of(variables: &BTreeMap<String, String>) -> Result<Self, ServerError> {
        let variable = |name: &str| variables.get(name).map(String::as_str).unwrap_or_default();
        let text = variable("version");
        let mariadb = text.contains("MariaDB");
        // Old ones put this in front, for the sake of old clients.
        let number = if mariadb { text.strip_prefix("5.5.5-").unwrap_or(text) } else { text };
        let number = number.split(['-', '+', ' ']).next().unwrap_or_default();
        let mut parts = number.split('.').map(|part| part.parse::<u32>().ok());
        let (Some(Some(major)), Some(Some(minor))) = (parts.next(), parts.next()) else {
            return Err(ServerError::Unknown { version: text.to_owned() });
        };
        let (name, oldest) = if mariadb { ("MariaDB", MARIADB_MIN) } else { ("MySQL", MYSQL_MIN) };
        let version = format!("{name} {number}");
        if (major, minor) < oldest {
            return Err(ServerError::TooOld { version });
        }
        let flavor = match (mariadb, major) {
            (true, _) => Flavor::MariaDb,
            (false, 5) => Flavor::MySql57,
            (false, _) => Flavor::MySql,
        };
        let packet = variable("max_allowed_packet").parse();
        let logs_statements =
            variable("log_bin") == "ON" && variable("binlog_format") == "STATEMENT";
        let packet_bytes_max = packet.unwrap_or(PACKET_BYTES_DEFAULT);
        Ok(Self { flavor, version, packet_bytes_max, logs_statements })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Flavor, Server, ServerError};

    fn of(version: &str) -> Result<Server, ServerError> {
        Server::of(&BTreeMap::from([("version".to_owned(), version.to_owned())]))
    }

    #[test]
    fn the_product_is_told_by_its_version() {
        for (text, flavor, version) in [
            ("9.7.4-2", Flavor::MySql, "MySQL 9.7.4"),
            ("8.0.36-0ubuntu0.22.04.1", Flavor::MySql, "MySQL 8.0.36"),
            ("5.7.44-log", Flavor::MySql57, "MySQL 5.7.44"),
            ("10.11.18-MariaDB-0+deb12u1-log", Flavor::MariaDb, "MariaDB 10.11.18"),
            ("5.5.5-10.5.23-MariaDB", Flavor::MariaDb, "MariaDB 10.5.23"),
        ] {
            let server = of(text).unwrap();
            assert_eq!((server.flavor, server.version.as_str()), (flavor, version), "{text}");
        }
    }

    #[test]
    fn other_servers_are_refused() {
        assert!(matches!(of("5.6.51"), Err(ServerError::TooOld { .. })));
        assert!(matches!(of("10.4.1-MariaDB"), Err(ServerError::TooOld { .. })));
        assert!(matches!(of("unknown"), Err(ServerError::Unknown { .. })));
        assert!(matches!(of(""), Err(ServerError::Unknown { .. })));
    }
}
