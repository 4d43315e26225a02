//! Flags without effect on `start`.
use super::{Inert, Inerts, Kind, deprecated, inert};

const FORWARD: &str = "it is for the commands that read a source";
const PATH: &str = "the path of each request names its schema";
const RESUMES: &str = "a run that fails is dropped at once and resumed from the checkpoint";
const SPREAD: &str = "a connection is closed when its work is done, which spreads them by itself";
const MEMORY: &str = "--memoryLimit bounds what is held";
const RETIRED: &str = "staged rows are removed as soon as the checkpoint is behind them";
const CHECKED: &str = "the order is checked whenever rows are applied";
const POLLED: &str =
    "the process that takes promises is the one that applies, so nothing is polled";

/// Of `start`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start;

impl Inerts for Start {
    const COMMAND: &'static str = "start";
    const HEADING: &'static str = "Accepted, without effect on start";
    const FLAGS: &'static [&'static [Inert]] = &[FLAGS];
}

/// Every flag of the documents that has no effect on `start`.
const FLAGS: &[Inert] = &[
    inert("targetSchema", Kind::Text, "", PATH),
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
    inert("retireOffset", Kind::Duration, "24h0m0s", RETIRED),
    inert("stageMarkAppliedLimit", Kind::Int, "100000", RETIRED),
    inert("stageSanityCheckPeriod", Kind::Duration, "10m0s", CHECKED),
    inert("stageSanityCheckWindow", Kind::Duration, "1h0m0s", CHECKED),
    inert(
        "stageUnappliedPeriod",
        Kind::Duration,
        "1m0s",
        "unapplied rows are not reported in this version",
    ),
    inert("assumeIdempotent", Kind::Bool, "false", "only rows that come late are looked up"),
    inert(
        "limitLookahead",
        Kind::Int,
        "0",
        "--memoryLimit and --scanSize bound what is read ahead",
    ),
    inert("enableCheckpointStream", Kind::Bool, "false", POLLED),
    inert("slotName", Kind::Text, "replicator", FORWARD),
    inert("publicationName", Kind::Text, "", FORWARD),
    inert("standbyTimeout", Kind::Duration, "5s", FORWARD),
    inert("defaultGTIDSet", Kind::Text, "", FORWARD),
    inert("fetchMetadata", Kind::Bool, "false", FORWARD),
    inert("replicationProcessID", Kind::Int, "10", FORWARD),
    inert("sourcePDBConn", Kind::Text, "", FORWARD),
    inert("sourceSchema", Kind::Text, "", FORWARD),
    inert("scn", Kind::Int, "", FORWARD),
    inert("backfillFromSCN", Kind::Int, "", FORWARD),
    inert("scnWindowSize", Kind::Int, "3250", FORWARD),
    inert("oracle-application-users", Kind::Text, "", FORWARD),
    deprecated("copierChannel", Kind::Int, MEMORY),
    deprecated("stageCopierChannelSize", Kind::Int, MEMORY),
    deprecated("disableCheckpointStream", Kind::Bool, POLLED),
    deprecated("stageMode", Kind::Text, "how rows are staged is not a choice"),
    deprecated("checkpointQueueBufferSize", Kind::Int, FORWARD),
    deprecated("schema-filter", Kind::Text, FORWARD),
    deprecated("enableToastedColumns", Kind::Bool, FORWARD),
];
