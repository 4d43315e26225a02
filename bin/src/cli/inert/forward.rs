//! Flags without effect on commands that read an ordered source: those of the other sources and of `start`, and those
//! that no such command needs.
use super::{Inert, Kind, deprecated, inert};

const POSTGRES_ONLY: &str = "it is for PostgreSQL sources";
const MYSQL_ONLY: &str = "it is for MySQL sources";
const ORACLE_ONLY: &str = "it is for Oracle sources";
const START: &str = "it is for the command start";
const WHOLE: &str = "source transactions are always kept whole and in order";
const STAGED: &str = "rows of ordered sources are not staged";
const RESUMES: &str = "a run that fails is dropped at once and resumed from the checkpoint";
const SPREAD: &str = "a connection is closed when its work is done, which spreads them by itself";
const MEMORY: &str = "--memoryLimit bounds what is read ahead";

/// Of PostgreSQL sources.
pub(super) const POSTGRES: &[Inert] = &[
    inert("slotName", Kind::Text, "replicator", POSTGRES_ONLY),
    inert("publicationName", Kind::Text, "", POSTGRES_ONLY),
    inert("standbyTimeout", Kind::Duration, "5s", POSTGRES_ONLY),
];

/// Of MySQL and MariaDB sources.
pub(super) const MYSQL: &[Inert] = &[
    inert("defaultGTIDSet", Kind::Text, "", MYSQL_ONLY),
    inert("fetchMetadata", Kind::Bool, "false", MYSQL_ONLY),
    inert("replicationProcessID", Kind::Int, "10", MYSQL_ONLY),
];

/// Of Oracle sources.
pub(super) const ORACLE: &[Inert] = &[
    inert("sourcePDBConn", Kind::Text, "", ORACLE_ONLY),
    inert("sourceSchema", Kind::Text, "", ORACLE_ONLY),
    inert("scn", Kind::Int, "", ORACLE_ONLY),
    inert("backfillFromSCN", Kind::Int, "", ORACLE_ONLY),
    inert("scnWindowSize", Kind::Int, "3250", ORACLE_ONLY),
    inert("oracle-application-users", Kind::Text, "", ORACLE_ONLY),
    deprecated("checkpointQueueBufferSize", Kind::Int, ORACLE_ONLY),
    deprecated(
        "schema-filter",
        Kind::Text,
        "it is for Oracle sources, and is called --sourceSchema",
    ),
];

/// All others.
pub(super) const COMMON: &[Inert] = &[
    inert(
        "enableParallelApplies",
        Kind::Bool,
        "false",
        "independent batches always run in parallel",
    ),
    inert("targetApplyQueueSize", Kind::Int, "", MEMORY),
    inert("taskGracePeriod", Kind::Duration, "1m0s", RESUMES),
    inert("stagingJitterTime", Kind::Duration, "15s", SPREAD),
    inert("targetJitterTime", Kind::Duration, "15s", SPREAD),
    inert("quiescentPeriod", Kind::Duration, "10s", "no mutation is deferred"),
    inert("bestEffortOnly", Kind::Bool, "false", WHOLE),
    inert("bestEffortWindow", Kind::Duration, "0s", WHOLE),
    inert("immediate", Kind::Bool, "false", WHOLE),
    inert("scanSize", Kind::Int, "10000", STAGED),
    inert("retireOffset", Kind::Duration, "24h0m0s", STAGED),
    inert("stageMarkAppliedLimit", Kind::Int, "100000", STAGED),
    inert("stageSanityCheckPeriod", Kind::Duration, "10m0s", STAGED),
    inert("stageSanityCheckWindow", Kind::Duration, "1h0m0s", STAGED),
    inert("stageUnappliedPeriod", Kind::Duration, "1m0s", STAGED),
    inert("stageDisableCreateTableReaderIndex", Kind::Bool, "false", STAGED),
    inert("assumeIdempotent", Kind::Bool, "false", STAGED),
    inert("bindAddr", Kind::Text, ":26258", START),
    inert("tlsCertificate", Kind::Text, "", START),
    inert("tlsPrivateKey", Kind::Text, "", START),
    inert("tlsSelfSigned", Kind::Bool, "false", START),
    inert("disableAuthentication", Kind::Bool, "false", START),
    inert("httpResponseTimeout", Kind::Duration, "2m0s", START),
    inert("healthCheckTimeout", Kind::Duration, "5s", START),
    inert("ndjsonBufferSize", Kind::Int, "65536", START),
    inert("limitLookahead", Kind::Int, "0", START),
    inert("enableCheckpointStream", Kind::Bool, "false", START),
    inert("discard", Kind::Bool, "false", START),
    inert("discardDelay", Kind::Duration, "0s", START),
    deprecated("copierChannel", Kind::Int, MEMORY),
    deprecated("stageCopierChannelSize", Kind::Int, MEMORY),
    deprecated("disableCheckpointStream", Kind::Bool, "it is the default of the command start"),
    deprecated("stageMode", Kind::Text, STAGED),
    deprecated("enableToastedColumns", Kind::Bool, "unchanged columns are always left as they are"),
];
