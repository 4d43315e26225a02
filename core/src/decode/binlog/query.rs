//! Statements: QUERY_EVENT, and what the session was like (`Query_event` in both servers' sources).
use alloc::borrow::Cow;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

use super::altered::{Altered, altered};
use super::cursor::Cursor;
use super::error::DecodeError;
use super::event::MariaGtidEvent;
use super::statement::emptied;

/// A statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query<'a> {
    /// The connection.
    pub thread: u32,
    /// How long it took, in seconds.
    pub seconds: u32,
    /// The number of the error it ended with; 0 for none.
    pub error_code: u16,
    /// What the session was like.
    pub status: Status<'a>,
    /// The default database; empty for none.
    pub database: &'a [u8],
    /// Its text, in the session's character set.
    pub statement: Cow<'a, [u8]>,
}

impl Query<'_> {
    /// Whether the statement may change something in this database: where nobody says, if it is the default or the
    /// statement has its name somewhere.
    #[must_use]
    pub fn may_change(&self, database: &str) -> bool {
        let name = database.as_bytes();
        if let Some(updated) = self.status.updated {
            return updated.split(|byte| *byte == 0).any(|updated| updated == name);
        }
        let named = |part: &[u8]| part.eq_ignore_ascii_case(name);
        self.database == name || self.statement.windows(name.len().max(1)).any(named)
    }

    /// Which tables of this database a statement that defines data leaves with other columns.
    #[must_use]
    pub fn altered(&self, database: &str) -> Altered {
        if self.may_change(database) {
            altered(&self.statement, self.database, database)
        } else {
            Altered::Tables(BTreeSet::new())
        }
    }

    /// The table that TRUNCATE empties, by its database and its name. `None` if it cannot be told.
    #[must_use]
    pub fn emptied(&self) -> Option<(String, String)> {
        let (database, table) = emptied(&self.statement)?;
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).ok();
        let database = database.unwrap_or_else(|| self.database.to_vec());
        Some((text(database)?, text(table)?))
    }
}

/// What the session of a statement was like, as far as the server says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status<'a> {
    /// All of it, as it stands there.
    pub raw: &'a [u8],
    /// `sql_mode`, a bit each.
    pub sql_mode: Option<u64>,
    /// The collations of client, connection and server.
    pub charset: Option<[u16; 3]>,
    /// The collation of the default database, if it is not the server's.
    pub database_collation: Option<u16>,
    /// The collation of utf8mb4 where none is named.
    pub utf8mb4_collation: Option<u16>,
    /// `time_zone`, if the statement depends on it.
    pub time_zone: Option<&'a [u8]>,
    /// Microseconds after the second of the header.
    pub microseconds: Option<u32>,
    /// The databases that the statement changes, each with a zero behind it, if MySQL says so.
    pub updated: Option<&'a [u8]>,
    /// The storage engine's number of the transaction, of a statement that defines data.
    pub xid: Option<u64>,
    /// A kind of field that we do not know. Its length is not known either, so all behind it is unread.
    pub unread: Option<u8>,
}

/// Reads a statement whose text is not compressed.
pub(super) fn read(post: usize, mut body: Cursor<'_>) -> Result<Query<'_>, DecodeError> {
    let (mut query, _) = read_head(post, &mut body)?;
    query.statement = Cow::Borrowed(body.rest());
    Ok(query)
}

/// Reads all but the text, and stands before that.
pub(super) fn read_head<'a>(
    post: usize,
    body: &mut Cursor<'a>,
) -> Result<(Query<'a>, Cursor<'a>), DecodeError> {
    let mut head = body.part("post-header", post)?;
    let (thread, seconds) = (head.u32("thread")?, head.u32("time it took")?);
    let database_len = head.u8("length of the database")?;
    let error_code = head.u16("error code")?;
    let status_len = head.u16("length of the status")?;
    let status = read_status(body.part("status", usize::from(status_len))?)?;
    let database = body.bytes("database", usize::from(database_len))?;
    body.bytes("end of the database", 1)?;
    let statement = Cow::Borrowed(&[][..]);
    Ok((Query { thread, seconds, error_code, status, database, statement }, *body))
}

/// The kinds of fields.
mod field {
    pub(super) const FLAGS2: u8 = 0;
    pub(super) const SQL_MODE: u8 = 1;
    pub(super) const CATALOG: u8 = 2;
    pub(super) const AUTO_INCREMENT: u8 = 3;
    pub(super) const CHARSET: u8 = 4;
    pub(super) const TIME_ZONE: u8 = 5;
    pub(super) const CATALOG_NZ: u8 = 6;
    pub(super) const LC_TIME_NAMES: u8 = 7;
    pub(super) const CHARSET_DATABASE: u8 = 8;
    pub(super) const TABLE_MAP_FOR_UPDATE: u8 = 9;
    pub(super) const MASTER_DATA_WRITTEN: u8 = 10;
    pub(super) const INVOKER: u8 = 11;
    pub(super) const UPDATED_DB_NAMES: u8 = 12;
    pub(super) const MICROSECONDS: u8 = 13;
    pub(super) const EXPLICIT_DEFAULTS: u8 = 16;
    pub(super) const DDL_XID: u8 = 17;
    pub(super) const UTF8MB4_COLLATION: u8 = 18;
    pub(super) const REQUIRE_PRIMARY_KEY: u8 = 19;
    pub(super) const TABLE_ENCRYPTION: u8 = 20;
    pub(super) const MARIA_MICROSECONDS: u8 = 128;
    pub(super) const MARIA_XID: u8 = 129;
    pub(super) const MARIA_GTID_FLAGS: u8 = 130;
    pub(super) const MARIA_COLLATIONS: u8 = 131;
}

/// Flags of a transaction of MariaDB that ends an ALTER TABLE which is told twice.
const MARIA_ALTER: u8 = MariaGtidEvent::COMMIT_ALTER | MariaGtidEvent::ROLLBACK_ALTER;

/// Too many databases to name them.
const DATABASES_MANY: u8 = 254;

fn read_status(mut fields: Cursor<'_>) -> Result<Status<'_>, DecodeError> {
    let mut whole = fields;
    let mut status = Status { raw: whole.rest(), ..Status::default() };
    while fields.left() > 0 {
        let kind = fields.u8("kind of a field")?;
        match kind {
            field::SQL_MODE => status.sql_mode = Some(fields.u64("sql_mode")?),
            field::CHARSET => {
                let mut next = || fields.u16("character sets");
                status.charset = Some([next()?, next()?, next()?]);
            }
            field::TIME_ZONE => status.time_zone = Some(short(&mut fields, "time zone")?),
            field::CHARSET_DATABASE => {
                status.database_collation = Some(fields.u16("collation of the database")?);
            }
            field::UTF8MB4_COLLATION => {
                status.utf8mb4_collation = Some(fields.u16("collation of utf8mb4")?);
            }
            field::MICROSECONDS | field::MARIA_MICROSECONDS => {
                let micros = fields.wide::<3>("microseconds")?;
                status.microseconds = u32::try_from(micros).ok();
            }
            field::UPDATED_DB_NAMES => status.updated = updated(&mut fields)?,
            field::DDL_XID | field::MARIA_XID => status.xid = Some(fields.u64("xid")?),
            _ if !step_over(kind, &mut fields)? => {
                status.unread = Some(kind);
                break;
            }
            _ => (),
        }
    }
    Ok(status)
}

/// Reads which databases a statement changes; `None` if they are too many to be named.
fn updated<'a>(fields: &mut Cursor<'a>) -> Result<Option<&'a [u8]>, DecodeError> {
    let name = "names of databases";
    let count = fields.u8(name)?;
    if count == DATABASES_MANY {
        return Ok(None);
    }
    let mut all = *fields;
    let had = fields.left();
    for _ in 0..count {
        fields.terminated(name)?;
    }
    all.bytes(name, had.saturating_sub(fields.left())).map(Some)
}

/// Steps over a field that we know and do not need. Returns whether there is one of this kind.
fn step_over(kind: u8, fields: &mut Cursor<'_>) -> Result<bool, DecodeError> {
    let name = "a field of the status";
    let len = match kind {
        field::EXPLICIT_DEFAULTS | field::REQUIRE_PRIMARY_KEY | field::TABLE_ENCRYPTION => 1,
        field::LC_TIME_NAMES => 2,
        field::FLAGS2 | field::AUTO_INCREMENT | field::MASTER_DATA_WRITTEN => 4,
        field::TABLE_MAP_FOR_UPDATE => 8,
        field::CATALOG_NZ => usize::from(fields.u8(name)?),
        field::CATALOG => usize::from(fields.u8(name)?).saturating_add(1),
        // The number of the ALTER TABLE whose outcome this is.
        field::MARIA_GTID_FLAGS => {
            if fields.u8(name)? & MARIA_ALTER == 0 {
                0
            } else {
                8
            }
        }
        field::MARIA_COLLATIONS => usize::from(fields.u8(name)?).saturating_mul(4),
        field::INVOKER => {
            short(fields, name)?;
            usize::from(fields.u8(name)?)
        }
        _ => return Ok(false),
    };
    fields.bytes(name, len)?;
    Ok(true)
}

/// A string with its length in one byte in front.
fn short<'a>(fields: &mut Cursor<'a>, name: &'static str) -> Result<&'a [u8], DecodeError> {
    let len = fields.u8(name)?;
    fields.bytes(name, usize::from(len))
}
