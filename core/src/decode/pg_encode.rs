//! Writes what a PostgreSQL server sends: pgoutput messages and the frames around them.
//!
//! For pretend servers, tests and fuzzing; replication itself only reads them. The exact reverse of
//! [`decode`](super::pgoutput::decode) and [`Frame::parse`]: writing what was read gives the same
//! bytes again.
use alloc::vec::Vec;

use bytes::{BufMut, Bytes};

use super::pg_frames::Frame;
use super::pg_message::{Commit, Message, Old, RelationColumn, Tuple, Xid};
use super::pg_wire::micros_since_2000;
use crate::model::position::Lsn;
use crate::model::row::{Cell, RowBuilder};
use crate::model::time::WallTime;

impl Tuple {
    /// Builds a tuple from cells.
    ///
    /// # Panics
    ///
    /// There are more cells than a message can count, 65,535.
    #[must_use]
    pub fn new(cells: &[Cell<'_>]) -> Self {
        let unchanged = cells.iter().filter(|cell| **cell == Cell::Unchanged).count();
        let mut builder = RowBuilder::new();
        for cell in cells {
            builder.push(*cell);
        }
        Self {
            columns: count(cells.len()),
            unchanged: count(unchanged),
            cells: builder.into_bytes(),
        }
    }
}

/// Writes a message as it stands outside of a stream block.
///
/// # Panics
///
/// A name holds a zero byte, or the message is larger than its own lengths can say.
#[must_use]
pub fn encode(message: &Message) -> Bytes {
    write(message, None)
}

/// Writes a message as it stands inside a stream block, where most kinds carry the number of their
/// transaction or sub-transaction. Kinds that do not are written without `xid`.
///
/// # Panics
///
/// See [`encode`].
#[must_use]
pub fn encode_streamed(xid: Xid, message: &Message) -> Bytes {
    write(message, Some(xid))
}

/// Writes a frame of the replication stream: the payload of one CopyData message.
#[must_use]
pub fn encode_frame(frame: &Frame) -> Bytes {
    let mut out = Vec::new();
    match frame {
        Frame::XLogData { wal_start, wal_end, sent, message } => {
            out.put_u8(b'w');
            put_lsn(&mut out, *wal_start);
            put_lsn(&mut out, *wal_end);
            put_time(&mut out, *sent);
            out.put_slice(message);
        }
        Frame::Keepalive { wal_end, sent, reply_requested } => {
            out.put_u8(b'k');
            put_lsn(&mut out, *wal_end);
            put_time(&mut out, *sent);
            out.put_u8(u8::from(*reply_requested));
        }
    }
    out.into()
}

fn write(message: &Message, xid: Option<Xid>) -> Bytes {
    let mut out = Vec::new();
    match message {
        Message::Begin(begin) => {
            out.put_u8(b'B');
            put_lsn(&mut out, begin.final_lsn);
            put_time(&mut out, begin.committed);
            out.put_u32(begin.xid.0);
        }
        Message::Commit(commit) => {
            out.put_u8(b'C');
            put_commit(&mut out, commit);
        }
        Message::Origin(origin) => {
            out.put_u8(b'O');
            put_lsn(&mut out, origin.commit_lsn);
            put_string(&mut out, &origin.name);
        }
        Message::StreamStart { xid, first } => {
            out.put_u8(b'S');
            out.put_u32(xid.0);
            out.put_u8(u8::from(*first));
        }
        Message::StreamStop => out.put_u8(b'E'),
        Message::StreamCommit { xid, commit } => {
            out.put_u8(b'c');
            out.put_u32(xid.0);
            put_commit(&mut out, commit);
        }
        Message::StreamAbort { xid, subxid } => {
            out.put_u8(b'A');
            out.put_u32(xid.0);
            out.put_u32(subxid.0);
        }
        Message::Relation(_)
        | Message::Type(_)
        | Message::Insert { .. }
        | Message::Update { .. }
        | Message::Delete { .. }
        | Message::Truncate(_)
        | Message::Logical(_) => put_with_xid(&mut out, message, xid),
    }
    out.into()
}

/// The kinds that carry the number of their transaction inside a stream block.
fn put_with_xid(out: &mut Vec<u8>, message: &Message, xid: Option<Xid>) {
    let begin = |out: &mut Vec<u8>, kind| {
        out.put_u8(kind);
        if let Some(xid) = xid {
            out.put_u32(xid.0);
        }
    };
    match message {
        Message::Relation(relation) => {
            begin(out, b'R');
            out.put_u32(relation.relation.0);
            put_string(out, &relation.namespace);
            put_string(out, &relation.name);
            out.put_u8(relation.identity.code());
            out.put_u16(count(relation.columns.len()));
            for column in &relation.columns {
                put_column(out, column);
            }
        }
        Message::Type(name) => {
            begin(out, b'Y');
            out.put_u32(name.oid);
            put_string(out, &name.namespace);
            put_string(out, &name.name);
        }
        Message::Insert { relation, new } => {
            begin(out, b'I');
            out.put_u32(relation.0);
            put_tuple(out, b'N', new);
        }
        Message::Update { relation, old, new } => {
            begin(out, b'U');
            out.put_u32(relation.0);
            if let Some(old) = old {
                put_old(out, old);
            }
            put_tuple(out, b'N', new);
        }
        Message::Delete { relation, old } => {
            begin(out, b'D');
            out.put_u32(relation.0);
            put_old(out, old);
        }
        Message::Truncate(truncate) => {
            begin(out, b'T');
            out.put_u32(count(truncate.relations.len()));
            out.put_u8(truncate.options);
            for relation in &truncate.relations {
                out.put_u32(relation.0);
            }
        }
        Message::Logical(logical) => {
            begin(out, b'M');
            out.put_u8(u8::from(logical.transactional));
            put_lsn(out, logical.lsn);
            put_string(out, &logical.prefix);
            out.put_u32(count(logical.content.len()));
            out.put_slice(&logical.content);
        }
        Message::Begin(_)
        | Message::Commit(_)
        | Message::Origin(_)
        | Message::StreamStart { .. }
        | Message::StreamStop
        | Message::StreamCommit { .. }
        | Message::StreamAbort { .. } => unreachable!("{} has no xid", message.name()),
    }
}

fn put_lsn(out: &mut Vec<u8>, lsn: Lsn) {
    out.put_u64(lsn.0);
}

fn put_time(out: &mut Vec<u8>, time: WallTime) {
    out.put_i64(micros_since_2000(time));
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    assert!(!text.contains('\0'), "a name holds a zero byte");
    out.put_slice(text.as_bytes());
    out.put_u8(0);
}

fn put_commit(out: &mut Vec<u8>, commit: &Commit) {
    out.put_u8(0);
    put_lsn(out, commit.commit_lsn);
    put_lsn(out, commit.end_lsn);
    put_time(out, commit.committed);
}

fn put_column(out: &mut Vec<u8>, column: &RelationColumn) {
    out.put_u8(column.flags);
    put_string(out, &column.name);
    out.put_u32(column.type_oid);
    out.put_u32(column.type_modifier);
}

fn put_old(out: &mut Vec<u8>, old: &Old) {
    match old {
        Old::Key(tuple) => put_tuple(out, b'K', tuple),
        Old::Full(tuple) => put_tuple(out, b'O', tuple),
    }
}

fn put_tuple(out: &mut Vec<u8>, tag: u8, tuple: &Tuple) {
    out.put_u8(tag);
    out.put_u16(tuple.columns);
    out.put_slice(&tuple.cells);
}

/// A length as the width that the message has for it.
fn count<N: TryFrom<usize>>(len: usize) -> N {
    let Ok(count) = N::try_from(len) else { panic!("{len} does not fit its field") };
    count
}
