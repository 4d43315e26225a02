//! Why a request of a changefeed is refused. Names of tables and columns are told, values never.
use alloc::string::String;

use super::json::JsonFault;
use crate::model::ident::TableName;
use crate::stop::SchemaDrift;

/// What a refusal is to the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ErrorKind {
    /// The path of the URL is not one of ours.
    NotFound,
    /// The body is not what a changefeed sends, or the changefeed lacks an option.
    Malformed,
    /// Source and target do not agree on what a table looks like. The same request may work after
    /// somebody has changed one of them.
    Drift,
    /// The body, or a part of it, is larger than we take.
    TooLarge,
}

impl ErrorKind {
    /// The status code of the HTTP answer.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::NotFound => 404,
            Self::Malformed => 400,
            Self::Drift => 409,
            Self::TooLarge => 413,
        }
    }
}

/// A body is refused, as a whole: nothing that was read from it before may be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FeedError {
    /// The body is in another encoding.
    #[error("the body is not UTF-8 from byte {offset} on")]
    NotUtf8 {
        /// Where, in bytes from the start of the body.
        offset: usize,
    },
    /// The body is no JSON.
    #[error("cannot read the body as JSON at byte {offset}: {fault}")]
    Json {
        /// Where, in bytes from the start of the body.
        offset: usize,
        /// Why.
        fault: JsonFault,
    },
    /// Something is larger than we take.
    #[error("{what} is larger than the limit of {limit}")]
    TooLarge {
        /// What.
        what: Part,
        /// How much of it we take, in bytes or rows.
        limit: usize,
    },
    /// The body is JSON, but not of a webhook.
    #[error("not a message of a changefeed: {0}")]
    Body(BodyFault),
    /// A row is JSON, but not of a changefeed.
    #[error("row {row} of the request {fault}")]
    Row {
        /// Which, from 1.
        row: usize,
        /// Why.
        fault: RowFault,
    },
    /// The source and the target do not agree on a table.
    #[error("row {row} of the request: {drift}")]
    Drift {
        /// Which row, from 1; 0 if it is the whole request.
        row: usize,
        /// On what.
        drift: SchemaDrift,
    },
    /// A value cannot be what its column holds.
    #[error("row {row} of the request: column \"{column}\" of {table} {fault}")]
    Value {
        /// Which row, from 1.
        row: usize,
        /// The target table.
        table: TableName,
        /// The target column.
        column: String,
        /// Why.
        fault: ValueFault,
    },
}

/// What can be too large.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Part {
    /// The body.
    #[error("the body")]
    Body,
    /// One line of a file.
    #[error("a line")]
    Line,
    /// One row.
    #[error("a row")]
    Row,
    /// How many rows there are.
    #[error("the number of rows")]
    Rows,
}

/// What is wrong with the outer object of a webhook's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyFault {
    /// It is no object.
    #[error("it is not an object")]
    NotObject,
    /// It has neither rows nor a promise.
    #[error("it has neither \"payload\" nor \"resolved\"")]
    Nothing,
    /// It has both.
    #[error("it has both \"payload\" and \"resolved\"")]
    Both,
    /// A member came twice. Nobody can tell which one is meant.
    #[error("it has \"{0}\" twice")]
    Repeated(&'static str),
    /// The rows are no array.
    #[error("\"payload\" is not an array")]
    Payload,
    /// The promise is no time.
    #[error("\"resolved\" is not an HLC time")]
    Resolved,
    /// Something follows the end of the object.
    #[error("something follows its end")]
    Extra,
    /// A row that is not in a payload.
    #[error("it is a row in the envelope \"bare\"")]
    Bare,
}

/// What is wrong with a row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowFault {
    /// It is no object.
    #[error("is not an object")]
    NotObject,
    /// A member came twice. Nobody can tell which one is meant.
    #[error("has \"{0}\" twice")]
    Repeated(&'static str),
    /// A member is of another type.
    #[error("has \"{member}\", but not as {wanted}")]
    Member {
        /// Which.
        member: &'static str,
        /// What it should be.
        wanted: &'static str,
    },
    /// A column came twice.
    #[error("has column \"{column}\" of {table} twice")]
    ColumnTwice {
        /// The target table.
        table: TableName,
        /// The target column.
        column: String,
    },
    /// It does not say when it was committed.
    #[error("has no \"updated\"")]
    NoTime,
    /// What it says about that is no time.
    #[error("has \"{0}\", but not as an HLC time")]
    Time(&'static str),
    /// It does not say to which table it belongs.
    #[error("has no \"topic\"")]
    NoTopic,
    /// It does not say what became of the row. To take that for a delete would empty tables.
    #[error("has no \"after\"")]
    NoAfter,
    /// The envelope `bare` shows a deleted row like one with NULLs.
    #[error("is in the envelope \"bare\" and does not say what happened")]
    BareWithoutEvent,
    /// It says that something happened to the row that we do not know.
    #[error("has \"{0}\" with an unknown value")]
    Event(&'static str),
    /// A deleted row does not say which row it was.
    #[error("is a delete from {table} without a key")]
    NoKey {
        /// The target table.
        table: TableName,
    },
    /// The key has more or fewer parts than that of the target.
    #[error("is a delete from {table} with {got} key values, the key there has {expected} columns")]
    KeyLength {
        /// The target table.
        table: TableName,
        /// How many there are.
        got: usize,
        /// How many there should be.
        expected: usize,
    },
    /// Rows of two source tables would be written into one target table.
    #[error("belongs to another source table than rows of {table} before it")]
    SameTarget {
        /// The target table.
        table: TableName,
    },
}

/// What is wrong with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueFault {
    /// It is of a JSON type that no value of the column's type has.
    #[error("cannot be {0}")]
    Kind(&'static str),
    /// Bytes that are not written as CockroachDB does.
    #[error("holds bytes, which are written as \\x and pairs of hexadecimal digits")]
    Bytes,
    /// An escape that stands for no character.
    #[error("has a broken escape")]
    Escape,
    /// NULL in the key of a row.
    #[error("is part of the key and cannot be null")]
    KeyNull,
}

impl FeedError {
    /// What the refusal is to the sender.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::TooLarge { .. } | Self::Json { fault: JsonFault::Deep, .. } => {
                ErrorKind::TooLarge
            }
            Self::NotUtf8 { .. } | Self::Json { .. } | Self::Body(_) => ErrorKind::Malformed,
            Self::Row { fault, .. } => fault.kind(),
            Self::Drift { .. } | Self::Value { .. } => ErrorKind::Drift,
        }
    }

    /// The target table that it is about, if it is about one.
    #[must_use]
    pub const fn table(&self) -> Option<&TableName> {
        match self {
            Self::NotUtf8 { .. } | Self::Json { .. } | Self::TooLarge { .. } | Self::Body(_) => {
                None
            }
            Self::Row { fault, .. } => fault.table(),
            Self::Drift { drift, .. } => match drift {
                SchemaDrift::NoTable { table }
                | SchemaDrift::UnexpectedColumns { table, .. }
                | SchemaDrift::MissingColumns { table, .. }
                | SchemaDrift::NoKey { table, .. } => Some(table),
            },
            Self::Value { table, .. } => Some(table),
        }
    }

    /// A short text for the sender. CockroachDB shows it to whoever looks at the changefeed, so it says
    /// what to do, and nothing that only the log may tell.
    #[must_use]
    pub const fn public(&self) -> &'static str {
        match self {
            Self::NotUtf8 { .. } | Self::Json { .. } => match self.kind() {
                ErrorKind::TooLarge => "the request is too large: JSON is nested too deep",
                ErrorKind::NotFound | ErrorKind::Malformed | ErrorKind::Drift => {
                    "the body is not JSON"
                }
            },
            Self::TooLarge { .. } => "the request is too large",
            Self::Body(BodyFault::Bare) => BARE,
            Self::Body(_) => "the body is not a message of a changefeed",
            Self::Row { fault, .. } => fault.public(),
            Self::Drift { .. } | Self::Value { .. } => DRIFT,
        }
    }
}

const BARE: &str =
    "CREATE CHANGEFEED must specify envelope='wrapped', or select event_op() AS __event__";
const DRIFT: &str = "schema drift detected; the log of replicator says in which table";

impl RowFault {
    const fn kind(&self) -> ErrorKind {
        match self {
            Self::KeyLength { .. } | Self::SameTarget { .. } => ErrorKind::Drift,
            Self::NotObject
            | Self::Repeated(_)
            | Self::Member { .. }
            | Self::ColumnTwice { .. }
            | Self::NoTime
            | Self::Time(_)
            | Self::NoTopic
            | Self::NoAfter
            | Self::BareWithoutEvent
            | Self::Event(_)
            | Self::NoKey { .. } => ErrorKind::Malformed,
        }
    }

    const fn table(&self) -> Option<&TableName> {
        match self {
            Self::ColumnTwice { table, .. }
            | Self::NoKey { table }
            | Self::KeyLength { table, .. }
            | Self::SameTarget { table } => Some(table),
            Self::NotObject
            | Self::Repeated(_)
            | Self::Member { .. }
            | Self::NoTime
            | Self::Time(_)
            | Self::NoTopic
            | Self::NoAfter
            | Self::BareWithoutEvent
            | Self::Event(_) => None,
        }
    }

    const fn public(&self) -> &'static str {
        match self {
            Self::NoTime => "CREATE CHANGEFEED must specify the 'WITH updated' option",
            Self::NoTopic => {
                "rows have no topic; put the table name in the path, or leave the default of \
                 topic_in_value on"
            }
            Self::NoAfter | Self::BareWithoutEvent => BARE,
            Self::NoKey { .. } => {
                "a delete has no key; CREATE CHANGEFEED must specify the 'WITH diff' option"
            }
            Self::KeyLength { .. } => {
                "source and target have different keys; CREATE CHANGEFEED must specify the \
                 'WITH diff' option"
            }
            Self::SameTarget { .. } => "two source tables are one table on the target",
            Self::NotObject
            | Self::Repeated(_)
            | Self::Member { .. }
            | Self::ColumnTwice { .. }
            | Self::Time(_)
            | Self::Event(_) => "the body is not a message of a changefeed",
        }
    }
}
