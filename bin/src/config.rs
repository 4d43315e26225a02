//! Flags become checked values. After this nobody reads a flag again.
mod check;
mod mylogical;
mod observing;
mod shown;
mod start;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use replicator_core::decode::pg_transaction::TruncatePolicy;
use replicator_core::model::ident::{SchemaName, parse_parts};
use replicator_core::{Config, OnReject, Retry};
use replicator_io::pool::PoolLimits;
use replicator_io::replicate::{ForwardSettings, PIECE_BYTES_MAX, PgLogicalSettings};

pub(crate) use self::check::UsageError;
use self::check::{count, given, not_empty, not_negative, size, time};
pub(crate) use self::mylogical::mylogical;
pub(crate) use self::observing::{
    Compression, ListenAddress, LogFormat, LogSettings, ObservingConfig, Snapshots, recording,
};
pub(crate) use self::shown::{mylogical_shown, pglogical_shown, start_shown};
pub(crate) use self::start::{Certificate, Staged, StartConfig, start};
use crate::cli::{
    Additions, Applying, Connections, GoDuration, Hidden, PgLogicalFlags, Pools, ProcessFlags,
    Reject, StagingSchema, Truncate, Truncating, parse_bytes,
};

/// Less memory than this would hold the source back more than it saves.
const MEMORY_MIN_BYTES: u64 = 8 << 20;

/// The checkpoint follows the target by at most this. What lies between is recorded in the target, so
/// a short time costs writes and a long one costs log at the source.
const SAVE_INTERVAL: Duration = Duration::from_millis(500);

/// What connection strings look like.
const POSTGRES_URL: &str = "postgresql://user:password@host:5432/database";

/// Prepared statements that a staging connection keeps: more than there are.
const STAGING_STATEMENTS_MAX: usize = 16;

/// What every command needs.
#[derive(Clone, Debug)]
pub(crate) struct ProcessConfig {
    /// Time that work on its way gets to finish after the program was told to stop.
    pub(crate) grace_period: Duration,
    /// Where logs go.
    pub(crate) log: LogSettings,
}

impl ProcessConfig {
    /// Checks the flags of every command.
    pub(crate) fn new(flags: &ProcessFlags) -> Result<Self, UsageError> {
        let grace_period = not_negative("gracePeriod", flags.grace_period)?;
        Ok(Self { grace_period, log: LogSettings::new(flags) })
    }
}

/// Checks the flags of `pglogical`. `seed` is any number that differs between processes. Also returns
/// what the user should hear about, one sentence each.
pub(crate) fn pglogical(
    flags: &PgLogicalFlags,
    seed: u64,
) -> Result<(PgLogicalSettings, Vec<String>), UsageError> {
    let position = &flags.position;
    let mut warnings = flags.inert.warnings();
    let forward = Forward {
        connections: &flags.connections,
        applying: &flags.applying,
        pools: &flags.pools,
        additions: &flags.additions,
        truncating: &flags.truncating,
    };
    let source = flags.connections.source_conn.as_ref();
    let settings = PgLogicalSettings {
        source: conninfo("sourceConn", "source", POSTGRES_URL, source)?,
        slot: not_empty("slotName", &position.slot_name)?,
        publication: given(position.publication_name.as_ref()).map(str::to_owned),
        standby_timeout: time("standbyTimeout", position.standby_timeout, Duration::from_secs(5))?,
        forward: forward.settings(seed, &mut warnings)?,
    };
    Ok((settings, warnings))
}

/// The flags of all commands that read an ordered source.
struct Forward<'a> {
    connections: &'a Connections,
    applying: &'a Applying,
    pools: &'a Pools,
    additions: &'a Additions,
    truncating: &'a Truncating,
}

impl Forward<'_> {
    fn settings(
        &self,
        seed: u64,
        warnings: &mut Vec<String>,
    ) -> Result<ForwardSettings, UsageError> {
        let Self { connections, applying, pools, additions, truncating } = self;
        no_userscript(applying)?;
        let Schemas { target_schema, staging_schema } = Schemas::new(connections)?;
        let apply_timeout = time("applyTimeout", applying.apply_timeout, Duration::from_secs(30))?;
        let [target_pool, staging_pool] = pool_limits(pools, apply_timeout)?;
        let applies_max = applies_max(applying.parallelism, &target_pool, warnings)?;
        let target = connections.target_conn.as_ref();
        let staging = connections.staging_conn.as_ref();
        let staging = staging.filter(|Hidden(text)| !text.trim().is_empty());
        let staging =
            staging.map(|text| conninfo("stagingConn", "staging", POSTGRES_URL, Some(text)));
        Ok(ForwardSettings {
            target: conninfo("targetConn", "target", POSTGRES_URL, target)?,
            staging: staging.transpose()?,
            target_schema,
            staging_schema,
            staging_create: connections.staging.staging_create_schema,
            core: core(applying, additions, applies_max, seed)?,
            piece_bytes_max: PIECE_BYTES_MAX,
            truncate: match truncating.truncate {
                Truncate::Stop => TruncatePolicy::Stop,
                Truncate::Apply => TruncatePolicy::Apply,
                Truncate::Ignore => TruncatePolicy::Ignore,
            },
            apply_timeout,
            dlq_table: dlq_table(&applying.dlq_table_name)?,
            schema_refresh: refresh(applying.schema_refresh),
            target_pool,
            staging_pool,
        })
    }
}

fn no_userscript(applying: &Applying) -> Result<(), UsageError> {
    match given(applying.userscript.as_ref()) {
        None => Ok(()),
        Some(_) => Err(UsageError::new(
            "userscript",
            "is not built yet in this version; rows would arrive unchanged by the script, so \
             leave the flag out only if that is right",
        )),
    }
}

fn conninfo<T: FromStr<Err: fmt::Display>>(
    flag: &'static str,
    side: &str,
    example: &str,
    text: Option<&Hidden>,
) -> Result<T, UsageError> {
    let text = text.map_or("", |Hidden(text)| text.trim());
    if text.is_empty() {
        return Err(UsageError::new(
            flag,
            format!("must be set: the connection string of the {side} database, such as {example}"),
        ));
    }
    text.parse().map_err(|error| UsageError::new(flag, format!("cannot be used: {error}")))
}

struct Schemas {
    target_schema: Option<SchemaName>,
    staging_schema: Vec<String>,
}

impl Schemas {
    fn new(connections: &Connections) -> Result<Self, UsageError> {
        let target_schema = match given(connections.target_schema.as_ref()) {
            None => None,
            Some(text) => Some(match names("targetSchema", text)?.as_slice() {
                [schema] => SchemaName { database: None, schema: schema.clone() },
                [database, schema] => {
                    SchemaName { database: Some(database.clone()), schema: schema.clone() }
                }
                _ => return Err(too_many_parts("targetSchema")),
            }),
        };
        let staging_schema = staging_schema(&connections.staging)?;
        Ok(Self { target_schema, staging_schema })
    }
}

fn staging_schema(flags: &StagingSchema) -> Result<Vec<String>, UsageError> {
    let parts = names("stagingSchema", &flags.staging_schema)?;
    if parts.len() > 2 { Err(too_many_parts("stagingSchema")) } else { Ok(parts) }
}

fn names(flag: &'static str, text: &str) -> Result<Vec<String>, UsageError> {
    parse_parts(text.trim()).map_err(|error| UsageError::new(flag, format!("is no name: {error}")))
}

fn too_many_parts(flag: &'static str) -> UsageError {
    UsageError::new(flag, "must be schema or database.schema; quote a name that holds a dot")
}

fn dlq_table(text: &str) -> Result<String, UsageError> {
    match names("dlqTableName", text)?.as_slice() {
        [table] => Ok(table.clone()),
        _ => Err(UsageError::new(
            "dlqTableName",
            "must be the name of a table alone; it is looked for in the target schema",
        )),
    }
}

fn refresh(period: GoDuration) -> Option<Duration> {
    if period.is_off() { None } else { period.unsigned() }
}

/// Target, then staging.
fn pool_limits(flags: &Pools, wait_max: Duration) -> Result<[PoolLimits; 2], UsageError> {
    let (minute, five_minutes) = (Duration::from_secs(60), Duration::from_secs(300));
    let statements = count("targetStatementCacheSize", flags.target_statement_cache_size, 128)?;
    let target = PoolLimits {
        sessions_max: size(count("targetMaxPoolSize", flags.target_max_pool_size, 128)?),
        idle_max: time("targetIdleTime", flags.target_idle_time, minute)?,
        age_max: time("targetMaxLifetime", flags.target_max_lifetime, five_minutes)?,
        statements_max: size(statements),
        wait_max,
    };
    let staging = PoolLimits {
        sessions_max: size(count("stagingMaxPoolSize", flags.staging_max_pool_size, 128)?),
        idle_max: time("stagingIdleTime", flags.staging_idle_time, minute)?,
        age_max: time("stagingMaxLifetime", flags.staging_max_lifetime, five_minutes)?,
        statements_max: STAGING_STATEMENTS_MAX,
        wait_max,
    };
    Ok([target, staging])
}

/// Parallelism is held to 80 % of the pool, so that there is always a connection for the rest.
fn applies_max(
    parallelism: i64,
    pool: &PoolLimits,
    warnings: &mut Vec<String>,
) -> Result<usize, UsageError> {
    let wanted = size(count("parallelism", parallelism, 16)?);
    let held = (pool.sessions_max.saturating_mul(4) / 5).max(1);
    if wanted > held {
        warnings.push(format!(
            "--parallelism {wanted} is held to {held}, 80 % of --targetMaxPoolSize {}",
            pool.sessions_max
        ));
    }
    Ok(wanted.min(held))
}

fn core(
    applying: &Applying,
    additions: &Additions,
    applies_max: usize,
    seed: u64,
) -> Result<Config, UsageError> {
    let seconds = Duration::from_secs;
    Ok(Config {
        batch_rows_max: size(count("flushSize", applying.flush_size, 1_000)?),
        batch_txs_max: size(count("timestampLimit", applying.timestamp_limit, 1_000)?),
        // Until it is known what the target gains by it.
        batch_growth_max: 1,
        batch_age_max: time("flushPeriod", applying.flush_period, seconds(1))?,
        buffered_bytes_max: memory(&additions.memory_limit)?,
        stages_max: applies_max,
        applies_max,
        retry: Retry {
            tries_max: count("maxRetries", applying.max_retries, 10)?,
            delay_first: time(
                "retryInitialBackoff",
                applying.retry_initial_backoff,
                Duration::from_millis(25),
            )?,
            delay_max: time("retryMaxBackoff", applying.retry_max_backoff, seconds(2))?,
            factor: count("retryMultiplier", applying.retry_multiplier, 2)?,
        },
        read_rows_max: 10_000,
        save_interval: SAVE_INTERVAL,
        on_reject: match additions.on_reject {
            Reject::Stop => OnReject::Stop,
            Reject::Dlq => OnReject::DeadLetter {
                percent_max: percent("dlqMaxPercent", additions.dlq_max_percent)?,
            },
        },
        collapse: applying.collapse_mutations,
        seed,
    })
}

fn percent(flag: &'static str, given: i64) -> Result<u8, UsageError> {
    let percent = u8::try_from(given).ok().filter(|percent| *percent <= 100);
    percent.ok_or_else(|| UsageError::new(flag, "must be from 0 to 100"))
}

fn memory(text: &str) -> Result<usize, UsageError> {
    let wrong = |what: &str| UsageError::new("memoryLimit", what);
    let bytes = match parse_bytes(text).map_err(|error| wrong(&format!("is {error}")))? {
        0 => 128 << 20,
        bytes if bytes < MEMORY_MIN_BYTES => {
            return Err(wrong(&format!("must be at least {}MiB", MEMORY_MIN_BYTES >> 20)));
        }
        bytes => bytes,
    };
    usize::try_from(bytes).map_err(|_| wrong("is more than this system can address"))
}

#[cfg(test)]
mod tests;
