//! Decodes the messages of pgoutput, PostgreSQL's logical replication format, versions 1 and 2.
//!
//! ```text
//! 'I' [xid] relation 'N' columns  cells…
//! └────────── read ─────────────┘ └─ stepped over once, kept as a slice of the message
//! ```
//!
//! Every message is read to its last byte; what does not fit the format is refused. The layout of each
//! message is in chapter "Logical Replication Message Formats" of the PostgreSQL documentation, and
//! what a server really writes in `src/backend/replication/logical/proto.c`. Inside a stream block the
//! messages about tables and rows carry the number of their transaction, outside they do not, so the
//! caller says where it stands.
use alloc::vec::Vec;

use bytes::{Buf, Bytes};

use super::pg_message::{
    Begin, Commit, Logical, Message, Old, Origin, Relation, RelationColumn, RelationId,
    ReplicaIdentity, Streamed, Truncate, Tuple, TypeName, Xid,
};
use super::pg_wire::{Cursor, DecodeError, Fault, kind_of, unknown};

/// The byte that names the kind.
const KIND_BYTES: usize = 1;
/// The same and the transaction's number.
const KIND_AND_XID_BYTES: usize = 5;

/// Decodes a message from outside of a stream block.
///
/// # Errors
///
/// The bytes are not a message of protocol version 1 or 2. The stream cannot be read on.
#[inline]
pub fn decode(message: Bytes) -> Result<Message, DecodeError> {
    let kind = kind_of(&message)?;
    body(kind, message, KIND_BYTES)
}

/// Decodes a message from inside a stream block.
///
/// # Errors
///
/// The bytes are not a message of protocol version 2. The stream cannot be read on.
pub fn decode_streamed(message: Bytes) -> Result<Streamed, DecodeError> {
    let kind = kind_of(&message)?;
    let carries_xid = match kind {
        b'R' => "Relation",
        b'Y' => "Type",
        b'I' => "Insert",
        b'U' => "Update",
        b'D' => "Delete",
        b'T' => "Truncate",
        b'M' => "Message",
        _ => return Ok(Streamed { xid: None, message: body(kind, message, KIND_BYTES)? }),
    };
    let xid = Xid(Cursor::after(KIND_BYTES, carries_xid, &message).u32("xid")?);
    Ok(Streamed { xid: Some(xid), message: body(kind, message, KIND_AND_XID_BYTES)? })
}

/// Decodes what follows the first `skip` bytes.
#[inline]
fn body(kind: u8, message: Bytes, skip: usize) -> Result<Message, DecodeError> {
    match kind {
        b'I' => insert(message, skip),
        b'U' => update(message, skip),
        b'D' => delete(message, skip),
        kind => rare(kind, &message, skip),
    }
}

#[inline(never)]
fn rare(kind: u8, message: &Bytes, skip: usize) -> Result<Message, DecodeError> {
    let cursor = |kind| Cursor::after(skip, kind, message);
    match kind {
        b'B' => begin(cursor("Begin")),
        b'C' => commit(cursor("Commit")).map(Message::Commit),
        b'O' => origin(cursor("Origin")),
        b'R' => relation(cursor("Relation")),
        b'Y' => type_name(cursor("Type")),
        b'T' => truncate(cursor("Truncate")),
        b'M' => logical(message, cursor("Message")),
        b'S' => stream_start(cursor("Stream Start")),
        b'E' => stream_stop(cursor("Stream Stop")),
        b'c' => stream_commit(cursor("Stream Commit")),
        b'A' => stream_abort(cursor("Stream Abort")),
        b'b' | b'P' | b'K' | b'r' | b'p' => {
            Err(unknown(Fault::TwoPhase { found: char::from(kind) }))
        }
        found => Err(unknown(Fault::UnknownKind { found })),
    }
}

/// Where a tuple's cells are in its message.
#[derive(Clone, Copy)]
struct Span {
    columns: u16,
    unchanged: u16,
    from: usize,
    before: usize,
}

impl Span {
    #[inline]
    fn read(cursor: &mut Cursor<'_>, field: &'static str) -> Result<Self, DecodeError> {
        let columns = cursor.u16("number of columns")?;
        let from = cursor.offset();
        let unchanged = cursor.cells(field, columns)?;
        Ok(Self { columns, unchanged, from, before: cursor.offset() })
    }

    /// The tuple, if it is the last thing in the message.
    #[inline]
    fn take_last(self, mut message: Bytes) -> Tuple {
        message.advance(self.from);
        Tuple { columns: self.columns, unchanged: self.unchanged, cells: message }
    }

    fn slice(self, message: &Bytes) -> Tuple {
        let cells = message.slice(self.from..self.before);
        Tuple { columns: self.columns, unchanged: self.unchanged, cells }
    }
}

fn old(tag: u8, tuple: Tuple) -> Old {
    if tag == b'K' { Old::Key(tuple) } else { Old::Full(tuple) }
}

#[inline]
fn insert(message: Bytes, skip: usize) -> Result<Message, DecodeError> {
    let mut cursor = Cursor::after(skip, "Insert", &message);
    let relation = RelationId(cursor.u32("relation")?);
    cursor.one_of("tag of the new tuple", b"N")?;
    let new = Span::read(&mut cursor, "new tuple")?;
    cursor.end()?;
    Ok(Message::Insert { relation, new: new.take_last(message) })
}

#[inline]
fn update(message: Bytes, skip: usize) -> Result<Message, DecodeError> {
    let mut cursor = Cursor::after(skip, "Update", &message);
    let relation = RelationId(cursor.u32("relation")?);
    let tag = cursor.one_of("tag of a tuple", b"KON")?;
    let mut before = None;
    if tag != b'N' {
        before = Some(Span::read(&mut cursor, "old tuple")?);
        cursor.one_of("tag of the new tuple", b"N")?;
    }
    let new = Span::read(&mut cursor, "new tuple")?;
    cursor.end()?;
    let old = before.map(|span| old(tag, span.slice(&message)));
    Ok(Message::Update { relation, old, new: new.take_last(message) })
}

fn delete(message: Bytes, skip: usize) -> Result<Message, DecodeError> {
    let mut cursor = Cursor::after(skip, "Delete", &message);
    let relation = RelationId(cursor.u32("relation")?);
    let tag = cursor.one_of("tag of the old tuple", b"KO")?;
    let before = Span::read(&mut cursor, "old tuple")?;
    cursor.end()?;
    Ok(Message::Delete { relation, old: old(tag, before.take_last(message)) })
}

fn begin(mut cursor: Cursor<'_>) -> Result<Message, DecodeError> {
    let final_lsn = cursor.lsn("final lsn")?;
    let committed = cursor.time("commit timestamp")?;
    let xid = Xid(cursor.u32("xid")?);
    cursor.end()?;
    Ok(Message::Begin(Begin { final_lsn, committed, xid }))
}

fn commit(mut cursor: Cursor<'_>) -> Result<Commit, DecodeError> {
    cursor.one_of("flags", &[0])?;
    let commit_lsn = cursor.lsn("commit lsn")?;
    let end_lsn = cursor.lsn("end lsn")?;
    let committed = cursor.time("commit timestamp")?;
    cursor.end()?;
    Ok(Commit { commit_lsn, end_lsn, committed })
}

fn origin(mut cursor: Cursor<'_>) -> Result<Message, DecodeError> {
    let commit_lsn = cursor.lsn("commit lsn")?;
    let name = cursor.string("name")?;
    cursor.end()?;
    Ok(Message::Origin(Origin { commit_lsn, name }))
}

fn relation(mut cursor: Cursor<'_>) -> Result<Message, DecodeError> {
    let relation = RelationId(cursor.u32("relation")?);
    let namespace = cursor.string("namespace")?;
    let name = cursor.string("name")?;
    let identity = match cursor.one_of("replica identity", b"dnfi")? {
        b'd' => ReplicaIdentity::Default,
        b'n' => ReplicaIdentity::Nothing,
        b'f' => ReplicaIdentity::Full,
        _ => ReplicaIdentity::Index,
    };
    // Grows with what is really there, whatever the number says.
    let mut columns = Vec::new();
    for _ in 0..cursor.u16("number of columns")? {
        columns.push(RelationColumn {
            flags: cursor.u8("column flags")?,
            name: cursor.string("column name")?,
            type_oid: cursor.u32("column type")?,
            type_modifier: cursor.u32("column type modifier")?,
        });
    }
    cursor.end()?;
    Ok(Message::Relation(Relation { relation, namespace, name, identity, columns }))
}

fn type_name(mut cursor: Cursor<'_>) -> Result<Message, DecodeError> {
    let oid = cursor.u32("type")?;
    let namespace = cursor.string("namespace")?;
    let name = cursor.string("name")?;
    cursor.end()?;
    Ok(Message::Type(TypeName { oid, namespace, name }))
}

fn truncate(mut cursor: Cursor<'_>) -> Result<Message, DecodeError> {
    let count = cursor.u32("number of relations")?;
    let options = cursor.u8("options")?;
    let mut relations = Vec::new();
    for _ in 0..count {
        relations.push(RelationId(cursor.u32("relation")?));
    }
    cursor.end()?;
    Ok(Message::Truncate(Truncate { options, relations }))
}

fn logical(message: &Bytes, mut cursor: Cursor<'_>) -> Result<Message, DecodeError> {
    let transactional = cursor.flag("flags")?;
    let lsn = cursor.lsn("lsn")?;
    let prefix = cursor.string("prefix")?;
    let content = message.slice_ref(cursor.bytes("content")?);
    cursor.end()?;
    Ok(Message::Logical(Logical { transactional, lsn, prefix, content }))
}

fn stream_start(mut cursor: Cursor<'_>) -> Result<Message, DecodeError> {
    let xid = Xid(cursor.u32("xid")?);
    let first = cursor.flag("first segment")?;
    cursor.end()?;
    Ok(Message::StreamStart { xid, first })
}

fn stream_stop(cursor: Cursor<'_>) -> Result<Message, DecodeError> {
    cursor.end()?;
    Ok(Message::StreamStop)
}

fn stream_commit(mut cursor: Cursor<'_>) -> Result<Message, DecodeError> {
    let xid = Xid(cursor.u32("xid")?);
    Ok(Message::StreamCommit { xid, commit: commit(cursor)? })
}

fn stream_abort(mut cursor: Cursor<'_>) -> Result<Message, DecodeError> {
    let xid = Xid(cursor.u32("xid")?);
    let subxid = Xid(cursor.u32("subxid")?);
    cursor.end()?;
    Ok(Message::StreamAbort { xid, subxid })
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::{String, ToString};
    use alloc::vec::Vec;

    use bytes::Bytes;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::{decode, decode_streamed};
    use crate::decode::pg_encode::{encode, encode_streamed};
    use crate::decode::pg_message::{
        Begin, Commit, Logical, Message, Old, Origin, Relation, RelationColumn, RelationId,
        ReplicaIdentity, Streamed, Truncate, Tuple, TypeName, Xid,
    };
    use crate::model::position::Lsn;
    use crate::model::row::Cell;
    use crate::model::time::WallTime;

    fn cell((kind, value): &(u8, Vec<u8>)) -> Cell<'_> {
        match kind {
            0 => Cell::Null,
            1 => Cell::Unchanged,
            2 => Cell::Text(value),
            _ => Cell::Binary(value),
        }
    }

    fn tuple() -> impl Strategy<Value = Tuple> {
        vec((0..4_u8, vec(any::<u8>(), 0..6)), 0..6)
            .prop_map(|cells| Tuple::new(&cells.iter().map(cell).collect::<Vec<_>>()))
    }

    fn old() -> impl Strategy<Value = Old> {
        prop_oneof![tuple().prop_map(Old::Key), tuple().prop_map(Old::Full)]
    }

    fn name() -> impl Strategy<Value = String> {
        "[^\0]{0,6}"
    }

    fn commit() -> impl Strategy<Value = Commit> {
        any::<(u64, u64, i64)>().prop_map(|(commit_lsn, end_lsn, micros)| Commit {
            commit_lsn: Lsn(commit_lsn),
            end_lsn: Lsn(end_lsn),
            committed: WallTime { micros },
        })
    }

    fn relation() -> impl Strategy<Value = Message> {
        let column = (any::<(u8, u32, u32)>(), name()).prop_map(
            |((flags, type_oid, type_modifier), name)| {
                let flags = flags & 1;
                RelationColumn { flags, name, type_oid, type_modifier }
            },
        );
        let identity = prop_oneof![
            Just(ReplicaIdentity::Default),
            Just(ReplicaIdentity::Nothing),
            Just(ReplicaIdentity::Full),
            Just(ReplicaIdentity::Index),
        ];
        (any::<u32>(), name(), name(), identity, vec(column, 0..6)).prop_map(
            |(number, namespace, name, identity, columns)| {
                let relation = RelationId(number);
                Message::Relation(Relation { relation, namespace, name, identity, columns })
            },
        )
    }

    /// The kinds that carry a transaction number inside a stream block.
    fn with_xid() -> impl Strategy<Value = Message> {
        let relation_id = || any::<u32>().prop_map(RelationId);
        prop_oneof![
            relation(),
            (any::<u32>(), name(), name()).prop_map(|(oid, namespace, name)| {
                Message::Type(TypeName { oid, namespace, name })
            }),
            (relation_id(), tuple()).prop_map(|(relation, new)| Message::Insert { relation, new }),
            (relation_id(), proptest::option::of(old()), tuple())
                .prop_map(|(relation, old, new)| Message::Update { relation, old, new }),
            (relation_id(), old()).prop_map(|(relation, old)| Message::Delete { relation, old }),
            (0..4_u8, vec(relation_id(), 0..6)).prop_map(|(options, relations)| {
                Message::Truncate(Truncate { options, relations })
            }),
            (any::<(bool, u64)>(), name(), vec(any::<u8>(), 0..9)).prop_map(
                |((transactional, lsn), prefix, content)| {
                    let (lsn, content) = (Lsn(lsn), content.into());
                    Message::Logical(Logical { transactional, lsn, prefix, content })
                }
            ),
        ]
    }

    fn without_xid() -> impl Strategy<Value = Message> {
        prop_oneof![
            any::<(u64, i64, u32)>().prop_map(|(lsn, micros, xid)| {
                let (final_lsn, committed, xid) = (Lsn(lsn), WallTime { micros }, Xid(xid));
                Message::Begin(Begin { final_lsn, committed, xid })
            }),
            commit().prop_map(Message::Commit),
            (any::<u64>(), name())
                .prop_map(|(lsn, name)| { Message::Origin(Origin { commit_lsn: Lsn(lsn), name }) }),
            any::<(u32, bool)>()
                .prop_map(|(xid, first)| Message::StreamStart { xid: Xid(xid), first }),
            Just(Message::StreamStop),
            (any::<u32>(), commit())
                .prop_map(|(xid, commit)| Message::StreamCommit { xid: Xid(xid), commit }),
            any::<(u32, u32)>().prop_map(|(xid, subxid)| {
                Message::StreamAbort { xid: Xid(xid), subxid: Xid(subxid) }
            }),
        ]
    }

    proptest! {
        #[test]
        fn messages_survive_writing_and_reading(
            message in prop_oneof![with_xid(), without_xid()],
        ) {
            prop_assert_eq!(decode(encode(&message)), Ok(message));
        }

        #[test]
        fn streamed_messages_survive_writing_and_reading(
            xid in any::<u32>().prop_map(Xid),
            message in with_xid(),
        ) {
            let bytes = encode_streamed(xid, &message);
            prop_assert_eq!(decode_streamed(bytes), Ok(Streamed { xid: Some(xid), message }));
        }

        #[test]
        fn a_message_cut_short_is_refused(message in prop_oneof![with_xid(), without_xid()]) {
            let bytes = encode(&message);
            for len in 0..bytes.len() {
                prop_assert!(decode(bytes.slice(..len)).is_err());
            }
        }

        #[test]
        fn a_broken_message_never_panics(
            message in prop_oneof![with_xid(), without_xid()],
            at in any::<proptest::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let mut bytes = encode(&message).to_vec();
            *at.get_mut(&mut bytes) = byte;
            let bytes = Bytes::from(bytes);
            if let Ok(read) = decode(bytes.clone()) {
                prop_assert_eq!(encode(&read), &bytes);
            }
            if let Ok(Streamed { xid, message }) = decode_streamed(bytes.clone()) {
                let again = xid.map_or_else(|| encode(&message), |xid| encode_streamed(xid, &message));
                prop_assert_eq!(again, bytes);
            }
        }
    }

    fn refused(bytes: &'static [u8]) -> String {
        decode(Bytes::from_static(bytes)).unwrap_err().to_string()
    }

    #[test]
    fn an_error_says_which_field_of_which_message_is_wrong_and_where_it_is() {
        let start = "cannot decode a PostgreSQL";
        for (bytes, text) in [
            (&b""[..], "unknown message: field \"kind\" at byte 0 needs 1 bytes, 0 are left"),
            (b"Z", "unknown message: field \"kind\" at byte 0 has unknown value 90"),
            (b"I\0\0\0", "Insert message: field \"relation\" at byte 1 needs 4 bytes, 3 are left"),
            (
                b"I\0\0\0\x01K",
                "Insert message: field \"tag of the new tuple\" at byte 5 has unknown value 75",
            ),
            (
                b"I\0\0\0\x01N\0\x02nt\0\0\0\x09a",
                "Insert message: field \"new tuple\" at byte 8 is broken: row ends inside cell 1",
            ),
            (
                b"D\0\0\0\x01O\0\x01nn",
                "Delete message: field \"end\" at byte 9 should be the end of the message, 1 bytes \
                 are left",
            ),
            (
                b"O\0\0\0\0\0\0\0\x01ab",
                "Origin message: field \"name\" at byte 9 is not terminated",
            ),
            (b"O\0\0\0\0\0\0\0\x01\xff\0", "Origin message: field \"name\" at byte 9 is not UTF-8"),
        ] {
            assert_eq!(refused(bytes), format!("{start} {text}"));
        }
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        for bytes in [
            &b"T\xff\xff\xff\xff\0\0\0\0\x01"[..],
            b"M\0\0\0\0\0\0\0\0\x01p\0\xff\xff\xff\xffx",
            b"R\0\0\0\x01s\0t\0d\xff\xff\x01a\0\0\0\0\x17\xff\xff\xff\xff",
            b"I\0\0\0\x01N\xff\xffn",
            b"I\0\0\0\x01N\0\x01t\xff\xff\xff\xffx",
        ] {
            assert!(decode(Bytes::from_static(bytes)).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn two_phase_commit_is_refused_with_the_way_out() {
        for kind in ["b", "P", "K", "r", "p"] {
            let error = decode(Bytes::from_static(kind.as_bytes())).unwrap_err();
            assert!(error.to_string().contains("two-phase commit"), "{error}");
            assert!(error.hint().is_some());
        }
    }

    #[test]
    fn a_tuple_is_a_slice_of_its_message() {
        let bytes = Bytes::from_static(b"I\0\0\0\x01N\0\x02t\0\0\0\x01au");
        let Ok(Message::Insert { new, .. }) = decode(bytes.clone()) else {
            panic!("not an insert")
        };
        assert_eq!(new.cells().as_ptr(), bytes.slice(8..).as_ptr());
        assert_eq!((new.columns(), new.has_unchanged()), (2, true));
    }
}
