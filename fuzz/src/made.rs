//! The hand-made inputs of the corpus.
//!
//! `UPDATE_CORPUS=1 cargo test -p replicator-fuzz` writes them to `corpus/`. Everything else in there
//! was found, or came from a real server, and is kept for ever.
use bytes::Bytes;
use replicator_core::decode::pg_encode::{encode, encode_frame, encode_streamed};
use replicator_core::decode::pg_frames::Frame;
use replicator_core::decode::pg_message::{
    Begin, Commit, Logical, Message, Old, Origin, Relation, RelationColumn, RelationId,
    ReplicaIdentity, Truncate, Tuple, TypeName, Xid,
};
use replicator_core::model::position::Lsn;
use replicator_core::model::row::Cell;
use replicator_core::model::time::WallTime;

use crate::pgoutput::frame_item;

const NOON: WallTime = WallTime { micros: 1_700_000_000_000_000 };
const PARENT: RelationId = RelationId(16_385);
const CHILD: RelationId = RelationId(16_390);
const A: Cell<'static> = Cell::Text(b"a");
const ONE: Cell<'static> = Cell::Text(b"1");
const TWO: Cell<'static> = Cell::Text(b"2");

/// The hand-made inputs of the check `pgoutput`, each with its file name.
pub(crate) fn pgoutput_corpus() -> Vec<(&'static str, Vec<u8>)> {
    let mut all = vec![("empty", Vec::new()), ("cut-short", cut_short()), ("largest", largest())];
    all.extend(kinds().into_iter().map(|(name, message)| (name, transaction(&[message]))));
    all.extend(streams());
    all.extend(frames());
    all.extend(refused());
    all
}

/// Items for messages from outside of stream blocks.
fn plain(messages: &[Message]) -> Vec<u8> {
    messages.iter().flat_map(|message| frame_item(&encode(message))).collect()
}

/// Items for a stream block of transaction 700; each message with its sub-transaction.
fn block(first: bool, messages: &[(u32, Message)]) -> Vec<u8> {
    let streamed = |(xid, message): &(u32, Message)| encode_streamed(Xid(*xid), message);
    let mut items = plain(&[Message::StreamStart { xid: Xid(700), first }]);
    items.extend(messages.iter().flat_map(|message| frame_item(&streamed(message))));
    items.extend(plain(&[Message::StreamStop]));
    items
}

/// A transaction of described tables.
fn transaction(messages: &[Message]) -> Vec<u8> {
    let mut all = vec![begin(0x100), parent(), child()];
    all.extend_from_slice(messages);
    all.push(Message::Commit(commit(0x100)));
    plain(&all)
}

fn begin(lsn: u64) -> Message {
    Message::Begin(Begin { final_lsn: Lsn(lsn), committed: NOON, xid: Xid(700) })
}

const fn commit(lsn: u64) -> Commit {
    Commit { commit_lsn: Lsn(lsn), end_lsn: Lsn(lsn + 0x30), committed: NOON }
}

fn relation(relation: RelationId, name: &str, columns: &[&str]) -> Message {
    let column = |name: &&str| RelationColumn {
        flags: u8::from(*name == "id"),
        name: (*name).to_owned(),
        type_oid: 20,
        type_modifier: u32::MAX,
    };
    Message::Relation(Relation {
        relation,
        namespace: "public".to_owned(),
        name: name.to_owned(),
        identity: ReplicaIdentity::Default,
        columns: columns.iter().map(column).collect(),
    })
}

fn parent() -> Message {
    relation(PARENT, "parent", &["id", "name"])
}

fn child() -> Message {
    relation(CHILD, "child", &["id", "parent_id", "note"])
}

fn insert(cells: &[Cell<'_>]) -> Message {
    Message::Insert { relation: PARENT, new: Tuple::new(cells) }
}

fn update(old: Option<Old>, cells: &[Cell<'_>]) -> Message {
    Message::Update { relation: PARENT, old, new: Tuple::new(cells) }
}

fn delete(old: Old) -> Message {
    Message::Delete { relation: PARENT, old }
}

fn key(cells: &[Cell<'_>]) -> Old {
    Old::Key(Tuple::new(cells))
}

fn full(cells: &[Cell<'_>]) -> Old {
    Old::Full(Tuple::new(cells))
}

/// One of each kind that has its place inside a transaction.
fn kinds() -> Vec<(&'static str, Message)> {
    let logical = Logical {
        transactional: true,
        lsn: Lsn(0x90),
        prefix: "note".to_owned(),
        content: Bytes::from_static(b"\0\xff"),
    };
    let mood = TypeName { oid: 16_400, namespace: "public".to_owned(), name: "mood".to_owned() };
    let origin = Origin { commit_lsn: Lsn(9), name: "elsewhere".to_owned() };
    vec![
        ("begin-commit", parent()),
        ("relation", relation(PARENT, "parent", &["name", "id"])),
        ("origin", Message::Origin(origin)),
        ("type", Message::Type(mood)),
        ("message", Message::Logical(logical)),
        ("insert", insert(&[ONE, A])),
        ("insert-null-and-binary", insert(&[Cell::Binary(b"\0\0\0\x01"), Cell::Null])),
        ("update", update(None, &[ONE, A])),
        ("update-unchanged", update(None, &[ONE, Cell::Unchanged])),
        ("update-old-key", update(Some(key(&[ONE, Cell::Null])), &[TWO, A])),
        (
            "update-old-key-unchanged",
            update(Some(key(&[ONE, Cell::Null])), &[TWO, Cell::Unchanged]),
        ),
        ("update-old-full-unchanged", update(Some(full(&[ONE, A])), &[TWO, Cell::Unchanged])),
        ("delete-key", delete(key(&[ONE, Cell::Null]))),
        ("delete-full", delete(full(&[ONE, A]))),
        ("truncate", Message::Truncate(Truncate { options: 3, relations: vec![PARENT, CHILD] })),
    ]
}

fn streams() -> Vec<(&'static str, Vec<u8>)> {
    let first =
        || block(true, &[(700, parent()), (700, insert(&[ONE, A])), (701, insert(&[TWO, A]))]);
    let abort = |subxid| plain(&[Message::StreamAbort { xid: Xid(700), subxid: Xid(subxid) }]);
    let end = || plain(&[Message::StreamCommit { xid: Xid(700), commit: commit(0x200) }]);
    let more = || block(false, &[(700, update(None, &[ONE, Cell::Null]))]);
    let between = transaction(&[insert(&[TWO, A])]);
    let wide = vec![b'x'; 2_000];
    let many: Vec<(u32, Message)> =
        (0..9).map(|_| (700, insert(&[ONE, Cell::Text(&wide)]))).collect();
    vec![
        ("stream-commit", [first(), between, more(), end()].concat()),
        ("stream-abort-savepoint", [first(), abort(701), more(), end()].concat()),
        ("stream-abort", [first(), abort(700), end()].concat()),
        ("stream-unknown", end()),
        ("stream-too-large", block(true, &many)),
    ]
}

fn frames() -> Vec<(&'static str, Vec<u8>)> {
    let keepalive = |wal_end| {
        let (wal_end, reply_requested) = (Lsn(wal_end), true);
        frame_item(&encode_frame(&Frame::Keepalive { wal_end, sent: NOON, reply_requested }))
    };
    let data = |message: &Message| {
        let (wal_start, wal_end, message) = (Lsn(0x80), Lsn(0x80), encode(message));
        frame_item(&encode_frame(&Frame::XLogData { wal_start, wal_end, sent: NOON, message }))
    };
    let commit = Message::Commit(commit(0x100));
    let inside = [data(&begin(0x100)), keepalive(0x400), data(&commit), keepalive(0x400)].concat();
    vec![("keepalive", keepalive(0x10)), ("keepalive-inside-a-transaction", inside)]
}

/// What the source must not send.
fn refused() -> Vec<(&'static str, Vec<u8>)> {
    let unknown = Message::Insert { relation: RelationId(1), new: Tuple::new(&[ONE]) };
    let lying = b"R\0\0\x40\x01public\0parent\0d\xff\xff\x01id\0\0\0\0\x14\xff\xff\xff\xff";
    let again = [begin(0x100), Message::Commit(commit(0x100)), begin(0x100)];
    vec![
        ("refused-two-phase", frame_item(b"b")),
        ("refused-unknown-kind", frame_item(b"\xff")),
        ("refused-lying-length", frame_item(lying)),
        ("refused-unknown-relation", transaction(&[unknown])),
        ("refused-too-few-columns", transaction(&[insert(&[ONE])])),
        ("refused-begin-in-begin", transaction(&[begin(0x100)])),
        ("refused-going-back", plain(&again)),
    ]
}

/// Ends inside the last message.
fn cut_short() -> Vec<u8> {
    let mut items = transaction(&[insert(&[ONE, A])]);
    items.truncate(items.len() - 9);
    items
}

/// The widest table of a server, 1,600 columns (`MaxTupleAttributeNumber` is a little more), and a row
/// that fills an item to its last byte.
fn largest() -> Vec<u8> {
    let names: Vec<String> = (0..1_600).map(|number| format!("c{number}")).collect();
    let wide =
        relation(RelationId(3), "wide", &names.iter().map(String::as_str).collect::<Vec<_>>());
    let header = encode(&insert(&[ONE, Cell::Text(b"")])).len();
    let filler = vec![b'x'; usize::from(u16::MAX) - header];
    transaction(&[wide, insert(&[ONE, Cell::Text(&filler)])])
}
