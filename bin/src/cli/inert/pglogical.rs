//! Flags without effect on `pglogical`.
use super::forward::{COMMON, MYSQL, ORACLE};
use super::{Inert, Inerts};

/// Of `pglogical`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PgLogical;

impl Inerts for PgLogical {
    const COMMAND: &'static str = "pglogical";
    const HEADING: &'static str = "Accepted, without effect on pglogical";
    const FLAGS: &'static [&'static [Inert]] = &[COMMON, MYSQL, ORACLE];
}
