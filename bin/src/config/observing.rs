//! Where logs and metrics go.
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use replicator_io::recorder::RecorderSettings;

use super::check::{UsageError, given, not_negative};
pub(crate) use crate::cli::{Compression, LogFormat};
use crate::cli::{Observing, ProcessFlags, Recording, parse_bytes};

/// Snapshots more often than this would be mostly file names.
const PERIOD_MIN: Duration = Duration::from_secs(15);

/// Where logs go, how they look and how much there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogSettings {
    /// How a line looks.
    pub(crate) format: LogFormat,
    /// Append to this file; `None` is standard output.
    pub(crate) destination: Option<PathBuf>,
    /// 0 is info, 1 debug, 2 and more trace.
    pub(crate) verbosity: u8,
}

impl LogSettings {
    pub(super) fn new(flags: &ProcessFlags) -> Self {
        let destination = given(flags.log_destination.as_ref()).map(PathBuf::from);
        Self { format: flags.log_format, destination, verbosity: flags.verbose }
    }
}

/// What a replication command shows of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ObservingConfig {
    /// Where metrics and health are served; `None` is nowhere.
    pub(crate) metrics: Option<ListenAddress>,
    /// Files with all metrics; `None` is none.
    pub(crate) snapshots: Option<Snapshots>,
}

/// `host:port` or `:port`, which is every address of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListenAddress {
    /// A name or an address, an IPv6 one without brackets; `None` is every address.
    pub(crate) host: Option<String>,
    /// The port; 0 lets the system choose.
    pub(crate) port: u16,
}

impl ListenAddress {
    /// Reads such a text.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.trim().rsplit_once(':')?;
        let host = match host.strip_prefix('[') {
            Some(host) => host.strip_suffix(']')?,
            // A second colon would be an IPv6 address, whose end nobody can tell.
            None if host.contains(':') => return None,
            None => host,
        };
        let host = if host.is_empty() { None } else { Some(host.to_owned()) };
        Some(Self { host, port: port.parse().ok()? })
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Some(host) if host.contains(':') => write!(f, "[{host}]:{}", self.port),
            Some(host) => write!(f, "{host}:{}", self.port),
            None => write!(f, ":{}", self.port),
        }
    }
}

/// Files with all metrics, written again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Snapshots {
    /// Where they go.
    pub(crate) folder: PathBuf,
    /// How often one is written.
    pub(crate) period: Duration,
    /// How they are compressed.
    pub(crate) compression: Compression,
    /// Older ones are deleted.
    pub(crate) age_max: Option<Duration>,
    /// The oldest ones beyond this, in bytes, are deleted.
    pub(crate) bytes_max: Option<u64>,
}

impl ObservingConfig {
    /// Checks the flags.
    pub(crate) fn new(flags: &Observing) -> Result<Self, UsageError> {
        let metrics = match given(flags.metrics_addr.as_ref()) {
            None => None,
            Some(text) => Some(ListenAddress::parse(text).ok_or_else(|| {
                UsageError::new("metricsAddr", "must be host:port or :port, such as :30005")
            })?),
        };
        let snapshots = snapshots(flags)?;
        if snapshots.is_some() && metrics.is_none() {
            return Err(UsageError::new(
                "metricsSnapshotPeriod",
                "needs --metricsAddr, such as --metricsAddr :30005",
            ));
        }
        Ok(Self { metrics, snapshots })
    }
}

/// Checks the flags of a recording; `None` is none.
pub(crate) fn recording(flags: &Recording) -> Result<Option<RecorderSettings>, UsageError> {
    let bytes_max = parse_bytes(&flags.record_trace_max)
        .map_err(|error| UsageError::new("recordTraceMax", format!("is {error}")))?;
    if bytes_max == 0 {
        return Err(UsageError::new("recordTraceMax", "must be more than 0"));
    }
    let file = flags.record_trace.as_ref().filter(|file| !file.as_os_str().is_empty());
    let plain_values = flags.record_trace_values;
    if plain_values && file.is_none() {
        return Err(UsageError::new("recordTraceValues", "needs --recordTrace FILE"));
    }
    Ok(file.map(|file| RecorderSettings { file: file.clone(), plain_values, bytes_max }))
}

fn snapshots(flags: &Observing) -> Result<Option<Snapshots>, UsageError> {
    let period = not_negative("metricsSnapshotPeriod", flags.metrics_snapshot_period)?;
    let age_max =
        not_negative("metricsSnapshotRetentionTime", flags.metrics_snapshot_retention_time)?;
    let bytes_max = match flags.metrics_snapshot_retention_size.as_str() {
        "" => 0,
        text => parse_bytes(text).map_err(|error| {
            UsageError::new("metricsSnapshotRetentionSize", format!("is {error}"))
        })?,
    };
    if period.is_zero() {
        return Ok(None);
    }
    if period < PERIOD_MIN {
        let seconds = PERIOD_MIN.as_secs();
        return Err(UsageError::new(
            "metricsSnapshotPeriod",
            format!("must be 0, which is off, or at least {seconds}s"),
        ));
    }
    if age_max.is_zero() && bytes_max == 0 {
        return Err(UsageError::new(
            "metricsSnapshotRetentionTime",
            "and --metricsSnapshotRetentionSize are both off; set one of them, or snapshots would fill \
             the disk",
        ));
    }
    Ok(Some(Snapshots {
        folder: flags.data_dir.join("metrics-snapshots"),
        period,
        compression: flags.metrics_snapshot_compression,
        age_max: Some(age_max).filter(|age| !age.is_zero()),
        bytes_max: Some(bytes_max).filter(|bytes| *bytes > 0),
    }))
}
