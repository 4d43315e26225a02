//! The check of the parser of connection strings, both kinds.
use replicator_io::pg::conninfo::ConnInfo;
use replicator_io::pg::secret::Secret;

use crate::text::texts;

/// Reads a connection string; returns the number of its hosts.
///
/// # Panics
///
/// Something is printed that depends on the password, or there is nobody to connect to.
pub(crate) fn conninfo(input: &[u8]) -> usize {
    let Ok(text) = std::str::from_utf8(input) else { return 0 };
    let Ok(read) = text.parse::<ConnInfo>() else { return 0 };
    assert!(!read.hosts.is_empty(), "nobody to connect to");
    for host in &read.hosts {
        assert!(!host.dialed().is_empty(), "a host without a name");
        assert!(host.is_socket() == host.name.starts_with('/'), "a folder is a socket");
    }
    if read.password.is_some() {
        let other = ConnInfo { password: Some(Secret::new(*b"another")), ..read.clone() };
        assert_eq!(format!("{read} {read:?}"), format!("{other} {other:?}"), "shows its password");
    }
    assert_eq!(text.parse::<ConnInfo>().as_ref(), Ok(&read), "read twice, it is two");
    read.hosts.len()
}

/// Hand-made connection strings.
pub(crate) fn conninfo_corpus() -> Vec<(&'static str, Vec<u8>)> {
    let mut all = texts(&[
        ("empty", ""),
        ("cut-short", "postgresql://user:pass%4"),
        ("url", "postgresql://user:p%40ss@db.example:5433/shop?sslmode=verify-full&ssl=true"),
        ("url-hosts", "postgres://u@a:1,[::1]:2,%2Frun%2Fpg:3/d?connect_timeout=5"),
        ("url-at-sign", "postgresql://u:p@ss@host/db"),
        ("url-setting", "postgresql://u@h/d?statement_timeout=5s&options=-c%20a%3Db"),
        ("keyword", "host=a,b port=1,2 user=u dbname=d password='it\\'s \\\\ odd'"),
        ("keyword-address", "host=name hostaddr=10.0.0.1 user = u sslmode = require"),
        ("refused-scheme", "mysql://u@h/d"),
        ("refused-slash", "postgresql://u:p/w@h/d"),
        ("refused-open-quote", "host='a"),
        ("refused-no-value", "host"),
    ]);
    let hosts: Vec<String> = (1..=200).map(|number| format!("host{number}:{number}")).collect();
    let settings: Vec<String> = (0..200).map(|number| format!("x{number}={number}")).collect();
    let largest = format!("postgresql://u@{}/d?{}", hosts.join(","), settings.join("&"));
    all.push(("largest", largest.into_bytes()));
    all
}
