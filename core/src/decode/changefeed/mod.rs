//! What a CockroachDB changefeed sends by HTTP → rows with their times, or a promise.
//!
//! ```text
//! path of the URL ─► path, file ─► Endpoint: which schema, whose rows, what kind of body
//! body ─► body ─► envelope ─► rows ─► TimedMutation
//!         json    one row     which table, which change
//!                             names    topics → tables
//!                             shape    members → columns
//!                             value    JSON → cells
//! ```
//!
//! Rows come in no order, perhaps again, and a transaction may be spread over several requests: only
//! times and promises tell what belongs together. So a request is taken or refused as a whole, and
//! whoever refuses it gets it again.
//!
//! **A member that comes twice is an error.** JSON does not say which one counts, no changefeed sends
//! one, and a gate in front of us may have looked at the other.
//!
//! Not taken: single column families. A row would come in parts of which none is the whole row.
mod body;
mod envelope;
mod error;
mod file;
mod json;
mod json_string;
mod names;
mod path;
mod rows;
mod shape;
mod value;

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

pub use error::{BodyFault, ErrorKind, FeedError, Part, RowFault, ValueFault};
pub use json::{DEPTH_MAX, JsonFault};
pub use names::TargetKind;
pub use path::{BodyKind, Endpoint, PathError, Scope};
pub use rows::Rows;

use self::body::{Lines, Webhook};
use self::json_string::Str;
use self::rows::{Destination, Input};
use self::shape::Plan;
use self::value::Room;
use crate::model::catalog::Catalog;
use crate::model::ident::TableName;
use crate::model::mutation::TableId;
use crate::model::time::Hlc;
use crate::stop::SchemaDrift;

/// How many spellings of topics are remembered.
const TOPICS_MAX: usize = 4096;

/// Longer names are told in part.
const NAME_CHARS_MAX: usize = 200;

/// How much of a request is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of a whole body, after it was unpacked, in bytes.
    pub body_bytes_max: usize,
    /// Of one line of a file, in bytes.
    pub line_bytes_max: usize,
    /// Of one row of either kind of body, in bytes.
    pub row_bytes_max: usize,
    /// Rows of one body.
    pub rows_max: usize,
}

impl Limits {
    /// No body is larger, whatever the limits say: a row must fit the format in which it is kept.
    pub const BODY_BYTES_MOST: usize = 1 << 30;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes_max: 64 << 20,
            line_bytes_max: 64 << 10,
            row_bytes_max: 64 << 20,
            rows_max: 1_000_000,
        }
    }
}

/// Reads what changefeeds send for one target schema.
///
/// It remembers what rows of each table look like, so keep one, and make a new one of a new catalog.
#[derive(Clone, Debug)]
pub struct Changefeed {
    catalog: Arc<Catalog>,
    schema: String,
    target: TargetKind,
    limits: Limits,
    plans: BTreeMap<TableId, Plan>,
    // As they stand between their quotes.
    topics: BTreeMap<Box<[u8]>, TableId>,
    // The source table whose rows a target table gets, by the parts of its name that were sent.
    owners: BTreeMap<TableId, Vec<String>>,
    // The table of the last row.
    last: Option<TableId>,
    room: Room,
}

/// What a body is.
#[derive(Debug)]
pub enum Message<'a> {
    /// Rows; perhaps none.
    Rows(Rows<'a>),
    /// A promise: no row of the feed at or before this time is still to come.
    Resolved(Hlc),
}

impl Changefeed {
    /// Knows the tables of `schema`, spelled as in the catalog.
    #[must_use]
    pub fn new(catalog: Arc<Catalog>, schema: String, target: TargetKind, limits: Limits) -> Self {
        Self {
            catalog,
            schema,
            target,
            limits,
            plans: BTreeMap::new(),
            topics: BTreeMap::new(),
            owners: BTreeMap::new(),
            last: None,
            room: Room::default(),
        }
    }

    /// Reads a body that came for this schema. An empty one has no rows.
    ///
    /// # Errors
    ///
    /// See [`FeedError`]. Rows are read one by one from what is returned, and each may bring an error.
    pub fn read<'a>(
        &'a mut self,
        scope: &Scope,
        kind: BodyKind,
        body: &'a [u8],
    ) -> Result<Message<'a>, FeedError> {
        if let BodyKind::Resolved(time) = kind {
            return Ok(Message::Resolved(time));
        }
        let limit = self.limits.body_bytes_max.min(Limits::BODY_BYTES_MOST);
        if limit < body.len() {
            return Err(FeedError::TooLarge { what: Part::Body, limit });
        }
        if let Err(error) = core::str::from_utf8(body) {
            return Err(FeedError::NotUtf8 { offset: error.valid_up_to() });
        }
        let input = match kind {
            _ if body.trim_ascii().is_empty() => Input::Nothing,
            BodyKind::Webhook => match Webhook::read(body)? {
                Webhook::Rows(payload) => Input::Payload(payload),
                Webhook::Resolved(time) => return Ok(Message::Resolved(time)),
            },
            BodyKind::Lines => Input::Lines(Lines::new(body, self.limits.line_bytes_max)),
            BodyKind::Resolved(_) => Input::Nothing,
        };
        let destination = match (&input, scope) {
            (Input::Nothing, _) | (_, Scope::Topics) => Destination::Topics,
            (_, Scope::Topic(topic)) => Destination::Table(self.find(topic, 0)?),
            (_, Scope::Query(table)) => Destination::Query(self.find_query(table)?),
        };
        Ok(Message::Rows(Rows { feed: self, input, destination, count: 0 }))
    }

    /// The table that the URL of a query's feed names.
    ///
    /// # Errors
    ///
    /// There is none of this name.
    pub fn query_table(&self, name: &str) -> Result<&TableName, FeedError> {
        self.find_query(name).map(|id| &self.catalog.table(id).name)
    }

    fn find_query(&self, name: &str) -> Result<TableId, FeedError> {
        let id = self.target.find_table(&self.catalog, &self.schema, name);
        id.ok_or_else(|| self.no_table(name, 0))
    }

    /// The table of a topic that a row has.
    fn table_of(&mut self, topic: Str<'_>, row: usize) -> Result<TableId, FeedError> {
        if let Some(id) = self.topics.get(topic.raw) {
            return Ok(*id);
        }
        let wanted = "a string";
        let wrong = FeedError::Row { row, fault: RowFault::Member { member: "topic", wanted } };
        let Ok(text) = topic.text() else { return Err(wrong) };
        let Ok(text) = core::str::from_utf8(&text) else { return Err(wrong) };
        let id = self.find(text, row)?;
        if self.topics.len() < TOPICS_MAX {
            self.topics.insert(topic.raw.into(), id);
        }
        Ok(id)
    }

    /// The table of a topic. Rows of two source tables must not meet in one target table (W-42).
    fn find(&mut self, topic: &str, row: usize) -> Result<TableId, FeedError> {
        let found = self.target.find_topic(&self.catalog, &self.schema, topic);
        let Some((id, source)) = found else { return Err(self.no_table(topic, row)) };
        let owner = self.owners.entry(id).or_insert_with(|| source.clone());
        // A bare name says nothing about where the table is.
        let other = match (owner.as_slice(), source.as_slice()) {
            ([.., one], [.., two]) if owner.len() != source.len() => one != two,
            (one, two) => one != two,
        };
        if other {
            let table = self.catalog.table(id).name.clone();
            return Err(FeedError::Row { row, fault: RowFault::SameTarget { table } });
        }
        if owner.len() < source.len() {
            *owner = source;
        }
        Ok(id)
    }

    fn no_table(&self, name: &str, row: usize) -> FeedError {
        // Nobody has checked how long it is.
        let name: String = name.chars().take(NAME_CHARS_MAX).collect();
        let table = TableName::new(&self.schema, &name);
        FeedError::Drift { row, drift: SchemaDrift::NoTable { table } }
    }
}
