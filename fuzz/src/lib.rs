//! Checks of every decoder as plain functions, and the fuzz targets that call them.
//!
//! A check takes any bytes, does with them what the product would do, and panics if a promise is
//! broken. It returns how much came out; 0 means that the input was refused. `tests/replay.rs` runs every
//! check over its corpus with the stable compiler.
mod binlog;
mod binlog_rows;
mod changefeed;
#[cfg(feature = "adapters")]
mod conninfo;
mod gtid;
#[cfg(feature = "adapters")]
mod jwt;
mod made;
#[cfg(feature = "adapters")]
mod mysql_conninfo;
#[cfg(feature = "adapters")]
mod mysql_session;
#[cfg(feature = "adapters")]
mod packed;
mod pgoutput;
mod record;
#[cfg(feature = "whole")]
mod server;
mod staged;
mod text;
mod values;
#[cfg(feature = "whole")]
mod world;

use std::sync::OnceLock;

pub use pgoutput::pgoutput;

/// A check with its corpus.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// What the fuzz target and the folder of its corpus are called.
    pub name: &'static str,
    /// The check.
    pub check: fn(&[u8]) -> usize,
    /// The hand-made inputs of the corpus, each with its file name.
    pub made: fn() -> Vec<(&'static str, Vec<u8>)>,
}

/// Every check there is.
#[must_use]
pub fn targets() -> Vec<Target> {
    let core = [
        Target { name: "binlog", check: binlog::binlog, made: binlog::binlog_corpus },
        Target {
            name: "binlog_rows",
            check: binlog_rows::binlog_rows,
            made: binlog_rows::binlog_rows_corpus,
        },
        Target {
            name: "changefeed",
            check: changefeed::changefeed,
            made: changefeed::changefeed_corpus,
        },
        Target { name: "duration", check: text::duration, made: text::duration_corpus },
        Target { name: "gtid", check: gtid::gtid, made: gtid::gtid_corpus },
        Target { name: "name", check: text::name, made: text::name_corpus },
        Target { name: "pgoutput", check: pgoutput, made: made::pgoutput_corpus },
        Target { name: "position", check: text::position, made: text::position_corpus },
        Target { name: "record", check: record::record, made: record::record_corpus },
        Target { name: "size", check: text::size, made: text::size_corpus },
        Target { name: "staged", check: staged::staged, made: staged::staged_corpus },
        Target { name: "values", check: values::values, made: values::values_corpus },
        Target {
            name: "webhook_path",
            check: changefeed::webhook_path,
            made: changefeed::webhook_path_corpus,
        },
    ];
    #[cfg(feature = "adapters")]
    let adapters = [
        Target { name: "conninfo", check: conninfo::conninfo, made: conninfo::conninfo_corpus },
        Target { name: "jwt", check: jwt::jwt, made: jwt::jwt_corpus },
        Target {
            name: "mysql_conninfo",
            check: mysql_conninfo::mysql_conninfo,
            made: mysql_conninfo::mysql_conninfo_corpus,
        },
        Target {
            name: "mysql_session",
            check: mysql_session::mysql_session,
            made: mysql_session::mysql_session_corpus,
        },
        Target { name: "packed", check: packed::packed, made: packed::packed_corpus },
    ];
    #[cfg(not(feature = "adapters"))]
    let adapters = [];
    #[cfg(feature = "whole")]
    let whole = [
        Target { name: "server", check: server::server, made: server::server_corpus },
        Target { name: "world", check: world::world, made: world::world_corpus },
    ];
    #[cfg(not(feature = "whole"))]
    let whole = [];
    core.into_iter().chain(adapters).chain(whole).collect()
}

static TARGETS: OnceLock<Vec<Target>> = OnceLock::new();

/// Runs the check of this name; what a fuzz target does.
///
/// # Panics
///
/// A promise is broken, or there is no such check.
pub fn check(name: &str, input: &[u8]) -> usize {
    let targets = TARGETS.get_or_init(targets);
    let target = targets.iter().find(|target| target.name == name);
    let Some(target) = target else { panic!("no check is called {name}") };
    (target.check)(input)
}
