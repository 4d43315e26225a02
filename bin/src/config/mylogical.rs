//! The configuration of `mylogical`.
use replicator_core::decode::binlog::NoDates;
use replicator_io::replicate::MyLogicalSettings;

use super::check::{UsageError, given};
use super::{Forward, conninfo};
use crate::cli::{MyLogicalFlags, ZeroDates};

/// What a connection string of the source looks like.
const MYSQL_URL: &str = "mysql://user:password@host:3306/database";

/// Checks the flags of `mylogical`. `seed` is any number that differs between processes. Also returns
/// what the user should hear about, one sentence each.
pub(crate) fn mylogical(
    flags: &MyLogicalFlags,
    seed: u64,
) -> Result<(MyLogicalSettings, Vec<String>), UsageError> {
    let position = &flags.position;
    let mut warnings = flags.inert.warnings();
    let forward = Forward {
        connections: &flags.connections,
        applying: &flags.applying,
        pools: &flags.pools,
        additions: &flags.additions,
        truncating: &flags.truncating,
    };
    let number = u32::try_from(position.replication_process_id).ok().filter(|number| *number > 0);
    let number = number.ok_or_else(|| {
        UsageError::new("replicationProcessID", format!("must be from 1 to {}", u32::MAX))
    })?;
    let source = flags.connections.source_conn.as_ref();
    let settings = MyLogicalSettings {
        source: conninfo("sourceConn", "source", MYSQL_URL, source)?,
        server_id: number,
        default_gtids: given(position.default_gtid_set.as_ref()).map(str::to_owned),
        fetch_metadata: position.fetch_metadata,
        zero_dates: match flags.values.zero_dates {
            ZeroDates::Stop => NoDates::Refuse,
            ZeroDates::Null => NoDates::Null,
            ZeroDates::Keep => NoDates::Keep,
        },
        forward: forward.settings(seed, &mut warnings)?,
    };
    Ok((settings, warnings))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use replicator_core::decode::binlog::NoDates;
    use replicator_io::replicate::MyLogicalSettings;

    use super::{UsageError, mylogical};
    use crate::cli::{Command, parse};
    use crate::config::mylogical_shown;

    /// With connection strings.
    fn config(line: &str) -> Result<(MyLogicalSettings, Vec<String>), UsageError> {
        let line = format!(
            "replicator mylogical --sourceConn mysql://u:geheim@source:3307/app \
             --targetConn postgresql://root:geheim@target:26257/defaultdb {line}"
        );
        match parse(line.split_whitespace().map(OsString::from)).map(|cli| cli.command) {
            Ok(Command::MyLogical(flags)) => mylogical(&flags, 7),
            Ok(
                Command::MakeJwt(_) | Command::PgLogical(_) | Command::Start(_) | Command::Version,
            ) => panic!("another command"),
            Err(refusal) => panic!("{line}: {}", refusal.text),
        }
    }

    #[test]
    fn values_arrive_where_they_belong() {
        let (config, warnings) = config(
            "--defaultGTIDSet 4c658ae6-e8ad-11ef-8449-0242ac140006:1-29 --fetchMetadata \
             --replicationProcessID 4294967295 --zeroDates null --slotName s --flushSize 5",
        )
        .unwrap();
        assert_eq!(config.source.to_string(), "user=u database=app host=source port=3307");
        assert_eq!(config.server_id, u32::MAX);
        assert_eq!(config.zero_dates, NoDates::Null);
        assert!(config.fetch_metadata);
        let given = config.default_gtids.as_deref();
        assert_eq!(given, Some("4c658ae6-e8ad-11ef-8449-0242ac140006:1-29"));
        assert_eq!(config.forward.core.batch_rows_max, 5);
        let wanted = "--slotName has no effect on mylogical: it is for PostgreSQL sources";
        assert_eq!(warnings, [wanted]);
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        for (line, text) in [
            ("--replicationProcessID 0", "--replicationProcessID must be from 1 to 4294967295"),
            ("--replicationProcessID -1", "--replicationProcessID must be from 1"),
            ("--sourceConn postgresql://u:geheim@h/db", "--sourceConn cannot be used: unknown"),
            ("--sourceConn=", "--sourceConn must be set: "),
            ("--targetConn mysql://u:geheim@h/db", "--targetConn cannot be used: unknown scheme"),
        ] {
            let error = config(line).unwrap_err().to_string();
            assert!(error.starts_with(text), "{line}: {error}");
            assert!(!error.contains("geheim"), "{error}");
        }
    }

    #[test]
    fn nothing_that_is_shown_holds_a_password() {
        let (config, _) = config("--defaultGTIDSet 0-1-5").unwrap();
        let text = serde_json::Value::Object(mylogical_shown(&config)).to_string();
        assert!(
            text.contains("host=source") && text.contains("\"defaultGTIDSet\":\"0-1-5\""),
            "{text}"
        );
        assert!(!text.contains("geheim") && !format!("{config:?}").contains("geheim"), "{text}");
    }
}
