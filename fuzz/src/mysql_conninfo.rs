//! The check of the parser of connection strings of MySQL.
use replicator_io::mysql::conninfo::{MySqlConnInfo, Place};
use replicator_io::pg::secret::Secret;

use crate::text::texts;

/// Reads a connection string; returns 1 if it is one.
///
/// # Panics
///
/// Something is printed that depends on the password, or there is nobody to connect to.
pub(crate) fn mysql_conninfo(input: &[u8]) -> usize {
    let Ok(text) = std::str::from_utf8(input) else { return 0 };
    let Ok(read) = text.parse::<MySqlConnInfo>() else { return 0 };
    assert!(!read.user.is_empty() && !read.database.is_empty(), "nobody, or nowhere");
    assert!(!read.database.contains('/'), "more than one name");
    if let Place::Tcp { host, port } = &read.place {
        assert!(!host.is_empty() && 0 < *port, "nobody to connect to");
    }
    if let Some(limit) = read.connect_timeout {
        assert!(!limit.is_zero(), "no time to connect");
    }
    if read.password.is_some() {
        let other = MySqlConnInfo { password: Some(Secret::new(*b"another")), ..read.clone() };
        assert_eq!(format!("{read} {read:?}"), format!("{other} {other:?}"), "shows its password");
    }
    assert_eq!(text.parse::<MySqlConnInfo>().as_ref(), Ok(&read), "read twice, it is two");
    let other = match text.strip_prefix("mysql://") {
        Some(rest) => format!("mariadb://{rest}"),
        None => text.replacen("mariadb://", "mysql://", 1),
    };
    assert_eq!(other.parse::<MySqlConnInfo>(), Ok(read), "both products are read alike");
    1
}

/// Hand-made connection strings.
pub(crate) fn mysql_conninfo_corpus() -> Vec<(&'static str, Vec<u8>)> {
    let mut all = texts(&[
        ("empty", ""),
        ("cut-short", "mysql://user:pass%4"),
        ("url", "mysql://user:p%40ss@db.example:3306/shop?sslmode=verify-identity"),
        ("protocol", "mysql://user:p@ss@tcp(db:33060)/shop?sslrootcert=ca.crt"),
        ("socket", "mariadb://user@unix(%2Frun%2Fmysqld.sock)/shop"),
        ("brackets", "mysql://user@tcp6([::1]:3307)/shop?connect_timeout=5&charset=utf8mb4"),
        ("identity", "mysql://user@[::1]/shop?ssl-cert=c.crt&ssl-key=c.key&ssl-mode=VERIFY_CA"),
        ("refused-scheme", "postgresql://user@db/shop"),
        ("refused-nobody", "mysql://db/shop"),
        ("refused-port", "mysql://user@db:0/shop"),
        ("refused-protocol", "mysql://user@udp(db)/shop"),
        ("refused-slash", "mysql://user:pw@db/shop/x"),
        ("refused-half-an-identity", "mysql://user@db/shop?sslcert=c.crt"),
    ]);
    let (user, password) = ("u".repeat(2_000), "%70".repeat(2_000));
    let parameters = "charset=x&parseTime=true&".repeat(100);
    let largest = format!("mysql://{user}:{password}@tcp(db:1)/shop?{parameters}");
    all.push(("largest", largest.into_bytes()));
    all
}
