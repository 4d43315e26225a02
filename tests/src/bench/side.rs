//! The sides of a comparison: PostgreSQL's own logical replication, and ours.
//!
//! Both read a slot of the same source and write into a database of the same target server.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use replicator_tests::postgres::Server;
use replicator_tests::product::Replicator;
use tokio_postgres::Client;

use crate::server::execute;

/// How long our process may take to stop in an orderly way.
const STOP_TIME_MAX: Duration = Duration::from_secs(30);

/// Who moves the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// A subscription, values as text. The one we compare with.
    NativeText,
    /// A subscription, values in binary.
    NativeBinary,
    /// Our process.
    Ours,
}

impl Side {
    /// The database on the target server.
    pub(crate) fn database(self, workload: &str) -> String {
        match self {
            Self::NativeText | Self::NativeBinary => format!("{workload}_native"),
            Self::Ours => format!("{workload}_ours"),
        }
    }

    /// The name in messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::NativeText => "native text",
            Self::NativeBinary => "native binary",
            Self::Ours => "ours",
        }
    }
}

/// What a subscriber reads and where it writes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Route<'a> {
    /// The source server.
    pub(crate) source: &'a Server,
    /// The target server.
    pub(crate) target: &'a Server,
    /// The workload, which names the databases.
    pub(crate) workload: &'a str,
    /// The slot.
    pub(crate) slot: &'a str,
}

/// Something that replicates, from its start to [`Subscriber::stop`].
#[derive(Debug)]
pub(crate) enum Subscriber {
    /// A subscription in the target database.
    Native,
    /// Our process. It is killed when dropped.
    Ours(Replicator),
}

/// Starts one side. Returns as soon as the statement or the process has been started.
pub(crate) async fn start(
    side: Side,
    route: Route<'_>,
    target: &Client,
    folder: &Path,
) -> Result<Subscriber> {
    let binary = match side {
        Side::NativeText => "off",
        Side::NativeBinary => "on",
        Side::Ours => return start_ours(route, folder),
    };
    let sql = format!(
        "CREATE SUBSCRIPTION bench CONNECTION '{}' PUBLICATION bench WITH (copy_data = false, \
         create_slot = false, slot_name = '{}', binary = {binary}, streaming = off)",
        route.source.conninfo(route.workload),
        route.slot
    );
    execute(target, &sql).await?;
    Ok(Subscriber::Native)
}

fn start_ours(route: Route<'_>, folder: &Path) -> Result<Subscriber> {
    let source = route.source.conninfo(route.workload);
    let target = route.target.conninfo(&Side::Ours.database(route.workload));
    let arguments = [
        ["pglogical", "--stagingCreateSchema"],
        ["--stagingSchema", "_replicator"],
        ["--sourceConn", &source],
        ["--targetConn", &target],
        ["--targetSchema", "public"],
        ["--slotName", route.slot],
        ["--publicationName", "bench"],
    ];
    let log = folder.join(format!("{}.log", route.workload));
    Ok(Subscriber::Ours(Replicator::start(&log, arguments.as_flattened())?))
}

impl Subscriber {
    /// The process id of our process.
    pub(crate) fn pid(&self) -> Option<u32> {
        match self {
            Self::Native => None,
            Self::Ours(replicator) => Some(replicator.pid()),
        }
    }

    /// Fails if our process has ended by itself.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self {
            Self::Native => Ok(()),
            Self::Ours(replicator) => replicator.must_run(),
        }
    }

    /// Stops replication and removes what it left in the target database, but for the rows.
    pub(crate) async fn stop(self, target: &Client) -> Result<()> {
        match self {
            Self::Native => {
                execute(target, "ALTER SUBSCRIPTION bench DISABLE").await?;
                execute(target, "ALTER SUBSCRIPTION bench SET (slot_name = NONE)").await?;
                execute(target, "DROP SUBSCRIPTION bench").await
            }
            Self::Ours(replicator) => {
                let status = replicator.stop(STOP_TIME_MAX).await?;
                ensure!(status.success(), "our process stopped with {status}");
                // The next run has another slot, to which a saved position would not belong.
                execute(target, "DROP SCHEMA IF EXISTS _replicator CASCADE").await
            }
        }
    }
}
