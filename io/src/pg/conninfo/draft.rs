//! Parameters as they come in, and what follows from all of them together.
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::{ChannelBinding, ConnInfo, ConnInfoError, Host, Roots, SslMode, TlsSettings};
use crate::pg::secret::Secret;

/// The port of PostgreSQL.
const PORT: u16 = 5432;

/// Parameters of libpq that change nothing for us: what they ask for is always or never the case here.
const WITHOUT_EFFECT: [&str; 20] = [
    "client_encoding",
    "fallback_application_name",
    "gssdelegation",
    "gssencmode",
    "gsslib",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "krbsrvname",
    "load_balance_hosts",
    "max_protocol_version",
    "min_protocol_version",
    "passfile",
    "replication",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
    "sslcompression",
    "sslpassword",
    "tcp_user_timeout",
];

/// Parameters of libpq that we cannot honour and that somebody relies on who sets them.
const UNSUPPORTED: [&str; 10] = [
    "require_auth",
    "requirepeer",
    "scram_client_key",
    "scram_server_key",
    "service",
    "servicefile",
    "sslcertmode",
    "sslcrl",
    "sslcrldir",
    "sslnegotiation",
];

/// What a connection string says, parameter by parameter. A later value replaces an earlier one.
#[derive(Default)]
pub(super) struct Draft {
    hosts: Option<String>,
    addresses: Option<String>,
    ports: Option<String>,
    user: Option<String>,
    password: Option<Secret>,
    database: Option<String>,
    mode: Option<SslMode>,
    roots: Option<Roots>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    channel_binding: Option<ChannelBinding>,
    server_name: Option<bool>,
    application_name: Option<String>,
    options: Option<String>,
    connect_timeout: Option<Duration>,
    settings: BTreeMap<String, String>,
}

impl Draft {
    /// Takes one parameter. An empty value is as good as none, but for an empty password.
    pub(super) fn set(&mut self, name: &str, value: Vec<u8>) -> Result<(), ConnInfoError> {
        if name == "password" {
            self.password = Some(Secret::new(value));
            return Ok(());
        }
        let value = String::from_utf8(value).map_err(|_| ConnInfoError::Syntax {
            what: "the connection string contains text, besides the password, that is not UTF-8"
                .to_owned(),
        })?;
        let given = Some(value.clone()).filter(|value| !value.is_empty());
        match name {
            "host" => self.hosts = given,
            "hostaddr" => self.addresses = given,
            "port" => self.ports = given,
            "user" => self.user = given,
            "dbname" => self.database = given,
            "sslmode" => self.mode = given.map(|value| ssl_mode(&value)).transpose()?,
            "sslrootcert" => self.roots = given.map(roots),
            "sslcert" => self.certificate = given.map(PathBuf::from),
            "sslkey" => self.key = given.map(PathBuf::from),
            "channel_binding" => {
                self.channel_binding = given.map(|value| channel_binding(&value)).transpose()?;
            }
            "sslsni" => self.server_name = given.map(|value| value != "0"),
            "application_name" => self.application_name = given,
            "options" => self.options = given,
            "connect_timeout" => {
                self.connect_timeout = given.map(|v| seconds(&v)).transpose()?.flatten();
            }
            "target_session_attrs" if value != "any" && !value.is_empty() => {
                let (parameter, expected) = ("target_session_attrs", "\"any\"");
                return Err(ConnInfoError::Value { parameter, expected });
            }
            // The usual way to negotiate.
            "sslnegotiation" if value == "postgres" => (),
            "target_session_attrs" => (),
            name if WITHOUT_EFFECT.contains(&name) => (),
            name => {
                if let Some(parameter) = UNSUPPORTED.into_iter().find(|known| *known == name) {
                    return Err(ConnInfoError::Unsupported { parameter });
                }
                self.set_other(name, value)?;
            }
        }
        Ok(())
    }

    /// A setting of the session.
    fn set_other(&mut self, name: &str, value: String) -> Result<(), ConnInfoError> {
        let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
        if !starts || !name.chars().all(is_name) {
            // It may be a piece of a password that should have been encoded or quoted: not shown.
            let what = "the connection string contains a parameter whose name is not a name; \
                        is a value not encoded or not quoted?"
                .to_owned();
            return Err(ConnInfoError::Syntax { what });
        }
        self.settings.insert(name.to_ascii_lowercase(), value);
        Ok(())
    }

    /// Checks what depends on several parameters, and fills in what was not said.
    pub(super) fn finish(self) -> Result<ConnInfo, ConnInfoError> {
        let hosts = self.hosts()?;
        let user = self.user.or_else(operating_system_user);
        let user = user.ok_or(ConnInfoError::Missing { parameter: "user" })?;
        let database = self.database.unwrap_or_else(|| user.clone());
        let roots = self.roots.unwrap_or(Roots::Default);
        // Anybody can get a certificate that the system trusts, so the name must be checked.
        let mode = match (self.mode, &roots) {
            (None | Some(SslMode::VerifyFull), Roots::System) => SslMode::VerifyFull,
            (Some(_), Roots::System) => {
                let (parameter, expected) = ("sslmode", "\"verify-full\" with sslrootcert=system");
                return Err(ConnInfoError::Value { parameter, expected });
            }
            (mode, Roots::Default | Roots::File(_)) => mode.unwrap_or(SslMode::Prefer),
        };
        if self.certificate.is_some() && self.key.is_none() {
            return Err(ConnInfoError::Missing { parameter: "sslkey" });
        }
        if self.key.is_some() && self.certificate.is_none() {
            return Err(ConnInfoError::Missing { parameter: "sslcert" });
        }
        let tls = TlsSettings {
            mode,
            roots,
            certificate: self.certificate,
            key: self.key,
            channel_binding: self.channel_binding.unwrap_or(ChannelBinding::Prefer),
            server_name: self.server_name.unwrap_or(true),
        };
        Ok(ConnInfo {
            hosts,
            user,
            password: self.password,
            database,
            tls,
            application_name: self.application_name,
            options: self.options,
            connect_timeout: self.connect_timeout,
            settings: self.settings,
        })
    }

    /// As many hosts as there are names or addresses. There may be one port for all of them.
    fn hosts(&self) -> Result<Vec<Host>, ConnInfoError> {
        let list = |text: &Option<String>| -> Vec<String> {
            text.iter().flat_map(|text| text.split(',')).map(str::to_owned).collect()
        };
        let (mut names, addresses) = (list(&self.hosts), list(&self.addresses));
        if names.is_empty() {
            let unnamed = ["localhost".to_owned()];
            names.extend(if addresses.is_empty() { &unnamed[..] } else { &addresses }.to_vec());
        }
        if !addresses.is_empty() && addresses.len() != names.len() {
            let (parameter, expected) = ("hostaddr", "a list as long as that of hosts");
            return Err(ConnInfoError::Value { parameter, expected });
        }
        let ports = list(&self.ports).iter().map(|p| port(p)).collect::<Result<Vec<_>, _>>()?;
        if 1 < ports.len() && ports.len() != names.len() {
            let (parameter, expected) = ("port", "one number, or as many as there are hosts");
            return Err(ConnInfoError::Value { parameter, expected });
        }
        let hosts = names.into_iter().enumerate().map(|(index, name)| {
            let address = addresses.get(index).filter(|address| !address.is_empty());
            let address = address.map(|address| address.parse()).transpose();
            let address = address.map_err(|_| ConnInfoError::Value {
                parameter: "hostaddr",
                expected: "an IP address",
            })?;
            let port = ports.get(index).or_else(|| ports.first().filter(|_| ports.len() == 1));
            let name = if name.is_empty() { "localhost".to_owned() } else { name };
            Ok(Host { name, address, port: port.copied().unwrap_or(PORT) })
        });
        hosts.collect()
    }
}

/// The role that libpq logs in as if nobody says otherwise.
fn operating_system_user() -> Option<String> {
    ["USER", "LOGNAME"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|u| !u.is_empty()))
}

fn port(text: &str) -> Result<u16, ConnInfoError> {
    if text.is_empty() {
        return Ok(PORT);
    }
    text.parse().ok().filter(|port| *port != 0).ok_or(ConnInfoError::Value {
        parameter: "port",
        expected: "a number from 1 through 65535",
    })
}

fn ssl_mode(text: &str) -> Result<SslMode, ConnInfoError> {
    match text {
        "disable" => Ok(SslMode::Disable),
        "allow" => Ok(SslMode::Allow),
        "prefer" => Ok(SslMode::Prefer),
        "require" => Ok(SslMode::Require),
        "verify-ca" => Ok(SslMode::VerifyCa),
        "verify-full" => Ok(SslMode::VerifyFull),
        _ => Err(ConnInfoError::Value {
            parameter: "sslmode",
            expected: "disable, allow, prefer, require, verify-ca or verify-full",
        }),
    }
}

fn roots(text: String) -> Roots {
    if text == "system" { Roots::System } else { Roots::File(PathBuf::from(text)) }
}

fn channel_binding(text: &str) -> Result<ChannelBinding, ConnInfoError> {
    match text {
        "disable" => Ok(ChannelBinding::Disable),
        "prefer" => Ok(ChannelBinding::Prefer),
        "require" => Ok(ChannelBinding::Require),
        _ => Err(ConnInfoError::Value {
            parameter: "channel_binding",
            expected: "disable, prefer or require",
        }),
    }
}

/// Zero and less ask for no limit; ours is used then.
fn seconds(text: &str) -> Result<Option<Duration>, ConnInfoError> {
    let seconds: i64 = text.trim().parse().map_err(|_| ConnInfoError::Value {
        parameter: "connect_timeout",
        expected: "a number of seconds",
    })?;
    Ok(u64::try_from(seconds).ok().filter(|seconds| *seconds != 0).map(Duration::from_secs))
}
