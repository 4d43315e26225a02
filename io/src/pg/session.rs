//! What holds for every session of ours: how values are written, and who we are.
use std::time::Duration;

use replicator_core::dialect::Product;

use super::conninfo::ConnInfo;
use super::run_lock::RunLocks;

/// Values must be written in one way, whatever a server's defaults: dates in ISO form, the exact digits
/// of floating-point numbers, times in UTC, amounts of money without a country's signs.
const SETTINGS: [(&str, &str); 6] = [
    ("bytea_output", "hex"),
    ("datestyle", "ISO"),
    ("extra_float_digits", "3"),
    ("intervalstyle", "postgres"),
    ("lc_monetary", "C"),
    ("timezone", "UTC"),
];

/// How PostgreSQL finds out that we are gone, in seconds and questions: after a minute. Otherwise, when our
/// machine dies between BEGIN and COMMIT, it waits for the kernel's usual two hours, and the limit on idle
/// transactions does not help: it does not count while messages of a pipeline are awaited (seen on 15).
const KEEPALIVES: [(&str, &str); 3] = [
    ("tcp_keepalives_idle", "30"),
    ("tcp_keepalives_interval", "10"),
    ("tcp_keepalives_count", "3"),
];

/// What a connection string does not say about a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionOptions {
    /// The session's name at the server, unless the connection string gives one.
    pub application_name: String,
    /// The longest that connecting to one host may take, unless the connection string says so.
    pub connect_timeout: Duration,
    /// After this long without a statement the server ends a transaction, and the session with it.
    pub idle_in_transaction_timeout: Option<Duration>,
    /// The run for which a session of our own messages writes; see [`run_lock`](super::run_lock).
    pub run: Option<RunLocks>,
    /// More settings, as name and value. They win over those of the connection string.
    pub settings: Vec<(String, String)>,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            application_name: "replicator".to_owned(),
            connect_timeout: Duration::from_secs(10),
            idle_in_transaction_timeout: None,
            run: None,
            settings: Vec::new(),
        }
    }
}

impl SessionOptions {
    /// For sessions that hold locks: the server must notice soon that we are gone, because they stand in
    /// the way of the next run. A transaction may be idle for `idle`.
    #[must_use]
    pub fn writing(product: Product, idle: Duration) -> Self {
        let settings: &[(&str, &str)] = match product {
            Product::Postgres => &KEEPALIVES,
            // It has no such settings, and closes connections that do not answer by itself.
            Product::Cockroach => &[],
        };
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self {
            idle_in_transaction_timeout: Some(idle),
            settings: settings.iter().map(owned).collect(),
            ..Self::default()
        }
    }

    pub(super) fn application_name<'a>(&'a self, conninfo: &'a ConnInfo) -> &'a str {
        conninfo.application_name.as_ref().unwrap_or(&self.application_name)
    }

    pub(super) fn connect_timeout(&self, conninfo: &ConnInfo) -> Duration {
        conninfo.connect_timeout.unwrap_or(self.connect_timeout)
    }

    /// The startup parameter `options`. Of two values for one setting the server takes the last, so ours
    /// come last.
    pub(super) fn startup_options(&self, conninfo: &ConnInfo) -> String {
        let idle = self.idle_in_transaction_timeout.map(|limit| {
            // Zero would mean no limit.
            ("idle_in_transaction_session_timeout", limit.as_millis().max(1).to_string())
        });
        let given = conninfo.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let ours = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let idle = idle.as_ref().map(|(name, value)| (*name, value.as_str()));
        let mut text = conninfo.options.clone().unwrap_or_default();
        for (name, value) in given.chain(SETTINGS).chain(idle).chain(ours) {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str("-c ");
            text.push_str(name);
            text.push('=');
            push_escaped(&mut text, value);
        }
        text
    }
}

/// The server splits options at white space that no backslash precedes (PostgreSQL documentation,
/// "Parameter Key Words", options).
fn push_escaped(text: &mut String, value: &str) {
    for c in value.chars() {
        if c.is_ascii_whitespace() || c == '\\' {
            text.push('\\');
        }
        text.push(c);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use replicator_core::dialect::Product;

    use super::SessionOptions;

    #[test]
    fn postgres_looks_whether_a_session_that_writes_is_still_there() {
        let conninfo = "postgres://u@h".parse().unwrap();
        let options = |product| {
            SessionOptions::writing(product, Duration::from_secs(60)).startup_options(&conninfo)
        };
        let postgres = options(Product::Postgres);
        assert!(postgres.contains("idle_in_transaction_session_timeout=60000"), "{postgres}");
        assert!(postgres.contains("-c tcp_keepalives_idle=30 "), "{postgres}");
        assert!(!options(Product::Cockroach).contains("keepalives"));
    }

    #[test]
    fn our_settings_come_after_those_of_the_connection_string() {
        let conninfo = "postgres://u@h?options=-c%20work_mem=1MB&search_path=a,%20b&datestyle=SQL";
        let options = SessionOptions {
            idle_in_transaction_timeout: Some(Duration::from_secs(60)),
            settings: vec![("lock_timeout".to_owned(), "1s".to_owned())],
            ..SessionOptions::default()
        };
        assert_eq!(
            options.startup_options(&conninfo.parse().unwrap()),
            r"-c work_mem=1MB -c datestyle=SQL -c search_path=a,\ b -c bytea_output=hex -c datestyle=ISO -c extra_float_digits=3 -c intervalstyle=postgres -c lc_monetary=C -c timezone=UTC -c idle_in_transaction_session_timeout=60000 -c lock_timeout=1s"
        );
    }
}
