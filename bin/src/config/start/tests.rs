//! From the words of a command line to what `start` needs.
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use replicator_io::pool::PoolLimits;
use replicator_io::replicate::start::Consistency;

use super::{Certificate, Staged, StartConfig, UsageError, start};
use crate::cli::{Command, parse};
use crate::config::start_shown;

fn config(line: &str) -> Result<(StartConfig, Vec<String>), UsageError> {
    let words = ["replicator", "start"].into_iter().chain(line.split_whitespace());
    match parse(words.map(OsString::from)).map(|cli| cli.command) {
        Ok(Command::Start(flags)) => start(&flags, 7),
        Ok(
            Command::MakeJwt(_) | Command::MyLogical(_) | Command::PgLogical(_) | Command::Version,
        ) => {
            panic!("another command")
        }
        Err(refusal) => panic!("{line}: {}", refusal.text),
    }
}

/// The folder of the staging file.
fn folder(config: &StartConfig) -> PathBuf {
    match &config.staging {
        Staged::File(file) => file.folder.clone(),
        Staged::Database(database) => panic!("staged in {}", database.conninfo),
    }
}

/// With a target.
fn good(line: &str) -> (StartConfig, Vec<String>) {
    let line = format!("--targetConn postgresql://u:geheim@target:5432/app {line}");
    config(&line).unwrap_or_else(|error| panic!("{line}: {error}"))
}

#[test]
fn the_defaults_are_the_documented_ones() {
    let (config, _) = good("");
    let seconds = Duration::from_secs;
    let settings = &config.settings;
    assert_eq!(config.bind.to_string(), ":26258");
    assert_eq!(config.certificate, None);
    assert!(config.authenticate);
    assert_eq!(folder(&config), PathBuf::from("replicator-data"));
    assert_eq!(settings.webhook.response_timeout, seconds(120));
    assert_eq!(settings.webhook.body.line_bytes_max, 65_536);
    assert_eq!(settings.health_timeout, seconds(5));
    assert_eq!(settings.discard, None);
    assert_eq!(settings.core.read_rows_max, 10_000);
    assert_eq!((settings.core.batch_rows_max, settings.core.batch_txs_max), (1_000, 1_000));
    assert_eq!(settings.core.buffered_bytes_max + settings.webhook.bodies_bytes_max, 128 << 20);
    assert_eq!(
        settings.target_pool,
        PoolLimits {
            sessions_max: 128,
            idle_max: seconds(60),
            age_max: seconds(300),
            statements_max: 128,
            wait_max: seconds(30),
        }
    );
}

#[test]
fn values_arrive_where_they_belong() {
    let (config, warnings) = good(
        "--bindAddr 0.0.0.0:30004 --tlsCertificate c.pem --tlsPrivateKey k.pem --dataDir d \
         --httpResponseTimeout 7s --healthCheckTimeout 1s --ndjsonBufferSize 99 --scanSize 5 \
         --flushSize 6 --discardDelay 2s --memoryLimit 16MiB --targetProgressTable \"Done\" --immediate \
         --forgetFeeds app.public.orders,app.Other",
    );
    assert_eq!(config.bind.to_string(), "0.0.0.0:30004");
    let (chain, key) = (PathBuf::from("c.pem"), PathBuf::from("k.pem"));
    assert_eq!(config.certificate, Some(Certificate::Files { chain, key }));
    assert_eq!(folder(&config), PathBuf::from("d"));
    let settings = &config.settings;
    assert_eq!(settings.webhook.response_timeout, Duration::from_secs(7));
    assert_eq!(settings.health_timeout, Duration::from_secs(1));
    assert_eq!(settings.webhook.body.line_bytes_max, 99);
    assert_eq!(settings.webhook.body.body_bytes_max, 8 << 20);
    assert_eq!((settings.core.read_rows_max, settings.core.batch_rows_max), (5, 6));
    assert_eq!(settings.consistency, Consistency::Immediate);
    assert_eq!(settings.progress_table.as_deref(), Some("Done"));
    let forgotten =
        ["app.public.orders", "app.other"].map(|name| name.split('.').map(str::to_owned));
    assert_eq!(settings.forget_feeds, forgotten.map(Iterator::collect::<Vec<String>>));
    assert_eq!(settings.discard, None, "the delay alone discards nothing");
    assert_eq!(warnings, [""; 0]);
}

#[test]
fn rows_wait_for_their_transactions_unless_told_otherwise() {
    let of = |line: &str| good(line).0.settings.consistency;
    assert_eq!(of(""), Consistency::Consistent { window: Duration::ZERO });
    let window = Duration::from_secs(60);
    assert_eq!(of("--bestEffortWindow 1m"), Consistency::Consistent { window });
    assert_eq!(of("--bestEffortOnly --bestEffortWindow 1m"), Consistency::BestEffort);
}

#[test]
fn what_is_dangerous_is_said() {
    for (line, text) in [
        ("--disableAuthentication --tlsSelfSigned", "--disableAuthentication lets everybody write"),
        ("", "without --tlsCertificate"),
        ("--discard", "rows are LOST"),
        ("--sourceConn postgresql://h/db", "--sourceConn has no effect"),
        ("--targetSchema a.b", "the path of each request names its schema"),
    ] {
        let (_, warnings) = good(line);
        assert!(warnings.iter().any(|warning| warning.contains(text)), "{line}: {warnings:?}");
    }
    let (config, _) = good("--discard --discardDelay 2s");
    assert_eq!(config.settings.discard, Some(Duration::from_secs(2)));
}

#[test]
fn what_cannot_be_used_is_said_with_the_flag_and_the_way_out() {
    let target = "--targetConn postgresql://u:geheim@h/db";
    for (line, text) in [
        ("", "--targetConn must be set: "),
        ("--tlsCertificate c", "--tlsPrivateKey must be set"),
        ("--tlsPrivateKey k", "--tlsCertificate must be set"),
        ("--tlsCertificate c --tlsPrivateKey k --tlsSelfSigned", "--tlsSelfSigned excludes"),
        ("--bindAddr 30004", "--bindAddr must be host:port or :port"),
        ("--stagingConn mysql://u:geheim@h/s", "--stagingConn cannot be used: unknown scheme"),
        ("--stagingConn postgresql://h/s --stagingSchema a.b.c", "--stagingSchema must be"),
        ("--forgetFeeds app..t", "--forgetFeeds is no name"),
        ("--targetProgressTable a.b", "--targetProgressTable must be the name of a table alone"),
        ("--userscript x.ts", "--userscript is not built yet"),
        ("--immediate --bestEffortOnly", "--immediate excludes --bestEffortOnly"),
        ("--bestEffortWindow -1s", "--bestEffortWindow must not be negative"),
        ("--scanSize -1", "--scanSize must not be negative"),
        ("--httpResponseTimeout -1s", "--httpResponseTimeout must not be negative"),
    ] {
        let line = if line.is_empty() { String::new() } else { format!("{target} {line}") };
        let error = config(&line).unwrap_err().to_string();
        assert!(error.starts_with(text), "{line}: {error}");
        assert!(!error.contains("geheim"), "{error}");
    }
}

#[test]
fn nothing_that_is_shown_holds_a_password() {
    let (config, _) = good("--tlsSelfSigned");
    let text = serde_json::Value::Object(start_shown(&config)).to_string();
    assert!(text.contains("host=target") && text.contains("self-signed"), "{text}");
    assert!(!text.contains("geheim") && !format!("{config:?}").contains("geheim"));
}

#[test]
fn rows_may_be_staged_in_a_database() {
    let (config, warnings) = good(
        "--stagingConn postgresql://s:geheim@staging:5432/st --stagingSchema st.rep \
         --stagingCreateSchema --stagingMaxPoolSize 9 --tlsSelfSigned",
    );
    assert_eq!(warnings, [""; 0]);
    let Staged::Database(database) = &config.staging else { panic!("staged in a file") };
    assert_eq!(database.schema, ["st", "rep"]);
    assert!(database.create && database.reader_index);
    assert_eq!(database.pool.sessions_max, 9);
    let shown = start_shown(&config);
    assert_eq!(shown["stagingConn"], "user=s database=st host=staging port=5432");
    assert_eq!(shown["stagingSchema"], "st.rep");
    let (config, _) =
        good("--stagingConn postgresql://s@staging/st --stageDisableCreateTableReaderIndex");
    let Staged::Database(database) = &config.staging else { panic!("staged in a file") };
    assert!(!database.create && !database.reader_index);
}

#[test]
fn the_target_may_be_mysql() {
    let config = |target: &str| config(&format!("--targetConn {target}"));
    let (found, _) = config("mysql://u:geheim@tcp(target:33060)/app").unwrap();
    let shown = start_shown(&found);
    assert_eq!(shown["targetConn"], "user=u database=app host=target port=33060");
    assert_eq!(found.settings.target.database(), "app");
    let (found, _) = config("mysql://u@target/app --targetProgressTable p").unwrap();
    assert_eq!(found.settings.progress_table.as_deref(), Some("p"));
    let refused = config("mysql://u:geheim@target:70000/app").unwrap_err().to_string();
    assert!(refused.contains("--targetConn") && !refused.contains("geheim"), "{refused}");
}
