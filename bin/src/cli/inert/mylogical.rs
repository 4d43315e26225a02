//! Flags without effect on `mylogical`.
use super::forward::{COMMON, ORACLE, POSTGRES};
use super::{Inert, Inerts};

/// Of `mylogical`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MyLogical;

impl Inerts for MyLogical {
    const COMMAND: &'static str = "mylogical";
    const HEADING: &'static str = "Accepted, without effect on mylogical";
    const FLAGS: &'static [&'static [Inert]] = &[COMMON, POSTGRES, ORACLE];
}
