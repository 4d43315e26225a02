//! The configuration of `start`.
use std::path::{Path, PathBuf};
use std::time::Duration;

use replicator_core::Config;
use replicator_core::decode::changefeed::Limits;
use replicator_io::replicate::start::{Consistency, StagingSettings, StartSettings};
use replicator_io::source::changefeed::webhook::WebhookLimits;
use replicator_io::staging::embedded::EmbeddedSettings;

use super::check::{UsageError, count, given, not_negative, size, time};
use super::{
    ListenAddress, POSTGRES_URL, applies_max, conninfo, core, dlq_table, names, no_userscript,
    pool_limits, refresh, staging_schema,
};
use crate::cli::{Hidden, Listening, Modes, StartFlags};

/// What `start` needs, checked.
#[derive(Clone, Debug)]
pub(crate) struct StartConfig {
    /// What the library needs.
    pub(crate) settings: StartSettings,
    /// Where rows are staged.
    pub(crate) staging: Staged,
    /// Where changefeeds find us.
    pub(crate) bind: ListenAddress,
    /// With what connections are encrypted; `None` is not at all.
    pub(crate) certificate: Option<Certificate>,
    /// Whether callers must show a token.
    pub(crate) authenticate: bool,
}

/// Where rows are staged.
#[derive(Clone, Debug)]
pub(crate) enum Staged {
    /// In a file of ours.
    File(EmbeddedSettings),
    /// In the database of `--stagingConn`.
    Database(Box<StagingSettings>),
}

/// Where the listener's certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Certificate {
    /// Made for this run.
    SelfSigned,
    /// Files that are read again on SIGHUP.
    Files {
        /// The chain.
        chain: PathBuf,
        /// Its key.
        key: PathBuf,
    },
}

/// Checks the flags of `start`. `seed` is any number that differs between processes. Also returns what the
/// user should hear about, one sentence each.
pub(crate) fn start(
    flags: &StartFlags,
    seed: u64,
) -> Result<(StartConfig, Vec<String>), UsageError> {
    let StartFlags { connections, listening, applying, staging, pools, additions, .. } = flags;
    no_userscript(applying)?;
    let mut warnings = flags.inert.warnings();
    warnings.extend(dangers(listening));
    if is_given(connections.source_conn.as_ref()) {
        warnings.push("--sourceConn has no effect on start: changefeeds call us".to_owned());
    }
    let apply_timeout = time("applyTimeout", applying.apply_timeout, Duration::from_secs(30))?;
    let [target_pool, staging_pool] = pool_limits(pools, apply_timeout)?;
    let applies_max = applies_max(applying.parallelism, &target_pool, &mut warnings)?;
    let core = core(applying, additions, applies_max, seed)?;
    // One half for what is read from requests, one for what is read from staging.
    let half = core.buffered_bytes_max / 2;
    let read_rows_max = count("scanSize", staging.scan_size, 10_000)?;
    let core = Config { buffered_bytes_max: half, read_rows_max, ..core };
    let line_bytes_max = size(count("ndjsonBufferSize", listening.ndjson_buffer_size, 65_536)?);
    let body_bytes_max = half.min(Limits::default().body_bytes_max);
    let body = Limits { body_bytes_max, line_bytes_max, ..Limits::default() };
    let two_minutes = Duration::from_secs(120);
    let target =
        conninfo("targetConn", "original", POSTGRES_URL, connections.target_conn.as_ref())?;
    let progress_table = progress_table(flags.progress.target_progress_table.as_ref())?;
    let settings = StartSettings {
        target,
        core,
        consistency: consistency(&flags.modes)?,
        wall: crate::wall,
        webhook: WebhookLimits {
            body,
            bodies_bytes_max: half,
            response_timeout: time(
                "httpResponseTimeout",
                listening.http_response_timeout,
                two_minutes,
            )?,
        },
        health_timeout: time(
            "healthCheckTimeout",
            listening.health_check_timeout,
            Duration::from_secs(5),
        )?,
        discard: discard(listening)?,
        apply_timeout,
        dlq_table: dlq_table(&applying.dlq_table_name)?,
        progress_table,
        forget_feeds: forget_feeds(&flags.progress.forget_feeds)?,
        schema_refresh: refresh(applying.schema_refresh),
        target_pool,
    };
    let schema = staging_schema(&connections.staging)?;
    let staged = match connections.staging_conn.as_ref().filter(|text| is_given(Some(text))) {
        None => Staged::File(EmbeddedSettings::new(flags.observing.data_dir.clone())),
        Some(text) => Staged::Database(Box::new(StagingSettings {
            conninfo: conninfo("stagingConn", "staging", POSTGRES_URL, Some(text))?,
            schema,
            create: connections.staging.staging_create_schema,
            reader_index: !staging.stage_disable_create_table_reader_index,
            pool: staging_pool,
            timeout: apply_timeout,
        })),
    };
    let bind = ListenAddress::parse(&listening.bind_addr)
        .ok_or_else(|| UsageError::new("bindAddr", "must be host:port or :port, such as :30004"))?;
    let config = StartConfig {
        settings,
        staging: staged,
        bind,
        certificate: certificate(listening)?,
        authenticate: !listening.disable_authentication,
    };
    Ok((config, warnings))
}

fn consistency(modes: &Modes) -> Result<Consistency, UsageError> {
    let window = not_negative("bestEffortWindow", modes.best_effort_window)?;
    match (modes.immediate, modes.best_effort_only) {
        (true, true) => {
            Err(UsageError::new("immediate", "excludes --bestEffortOnly: which one is it to be?"))
        }
        (true, false) => Ok(Consistency::Immediate),
        (false, true) => Ok(Consistency::BestEffort),
        (false, false) => Ok(Consistency::Consistent { window }),
    }
}

/// The parts of each name.
fn forget_feeds(texts: &[String]) -> Result<Vec<Vec<String>>, UsageError> {
    let texts = texts.iter().map(|text| text.trim()).filter(|text| !text.is_empty());
    texts.map(|text| names("forgetFeeds", text)).collect()
}

/// Target tables are looked up by schema and name.
fn progress_table(text: Option<&String>) -> Result<Option<String>, UsageError> {
    let Some(text) = given(text) else { return Ok(None) };
    match names("targetProgressTable", text)?.as_slice() {
        [table] => Ok(Some(table.clone())),
        _ => Err(UsageError::new(
            "targetProgressTable",
            "must be the name of a table alone; it is looked for in each target schema",
        )),
    }
}

fn is_given(text: Option<&Hidden>) -> bool {
    text.is_some_and(|Hidden(text)| !text.trim().is_empty())
}

fn discard(listening: &Listening) -> Result<Option<Duration>, UsageError> {
    let delay = not_negative("discardDelay", listening.discard_delay)?;
    Ok(listening.discard.then_some(delay))
}

fn certificate(listening: &Listening) -> Result<Option<Certificate>, UsageError> {
    let file = |path: Option<&PathBuf>| {
        path.map(PathBuf::as_path).filter(|path| !path.as_os_str().is_empty()).map(Path::to_owned)
    };
    let chain = file(listening.tls_certificate.as_ref());
    let key = file(listening.tls_private_key.as_ref());
    match (chain, key, listening.tls_self_signed) {
        (None, None, false) => Ok(None),
        (None, None, true) => Ok(Some(Certificate::SelfSigned)),
        (Some(chain), Some(key), false) => Ok(Some(Certificate::Files { chain, key })),
        (Some(_), Some(_), true) => Err(UsageError::new(
            "tlsSelfSigned",
            "excludes --tlsCertificate and --tlsPrivateKey: which certificate is it to be?",
        )),
        (Some(_), None, _) => {
            Err(UsageError::new("tlsPrivateKey", "must be set: the key of --tlsCertificate"))
        }
        (None, Some(_), _) => {
            Err(UsageError::new("tlsCertificate", "must be set: the chain of --tlsPrivateKey"))
        }
    }
}

/// What must not stay so where data matter.
fn dangers(listening: &Listening) -> Vec<String> {
    let mut dangers = Vec::new();
    let has_certificate = listening.tls_certificate.is_some() || listening.tls_self_signed;
    if !has_certificate {
        dangers.push(
            "without --tlsCertificate and --tlsPrivateKey, rows and tokens travel readable for everybody \
             on the way, and changefeeds, which know only webhook-https, need a proxy"
                .to_owned(),
        );
    }
    if listening.disable_authentication {
        dangers.push(
            "--disableAuthentication lets everybody write to the target who can reach --bindAddr"
                .to_owned(),
        );
    }
    if listening.discard {
        dangers.push(
            "--discard answers all requests and throws away what they bring: rows are LOST"
                .to_owned(),
        );
    }
    dangers
}

#[cfg(test)]
mod tests;
