//! Transactions in progress: what the source sends before it knows whether they commit.
//!
//! A large transaction comes in blocks, between those of others. Its messages are kept as they came
//! and put in order when it commits. Each says which sub-transaction (savepoint) it belongs to, so
//! that a rollback drops exactly its own.
use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;
use alloc::vec::Vec;

use bytes::Bytes;

use super::pg_assemble_error::AssembleError;
use super::pg_message::Xid;

/// What holding one message costs besides its bytes.
const FIXED: usize = 64;

/// The streamed transactions in progress.
#[derive(Debug)]
pub(super) struct Streams {
    open: BTreeMap<Xid, Stream>,
    // Invariant: what all of `open` hold.
    held_bytes: usize,
    bytes_max: usize,
}

/// One streamed transaction.
#[derive(Debug, Default)]
struct Stream {
    // The transaction itself and its sub-transactions.
    parts: BTreeMap<Xid, Part>,
    messages: u64,
}

/// The messages of one sub-transaction.
#[derive(Debug, Default)]
struct Part {
    // Each with its place in the whole transaction.
    messages: Vec<(u64, Bytes)>,
    held_bytes: usize,
}

impl Streams {
    pub(super) const fn new(bytes_max: usize) -> Self {
        Self { open: BTreeMap::new(), held_bytes: 0, bytes_max }
    }

    /// A block of changes begins.
    pub(super) fn start(&mut self, xid: Xid, first: bool) -> Result<(), AssembleError> {
        match self.open.entry(xid) {
            Entry::Occupied(_) if first => Err(AssembleError::StreamBegunTwice { xid }),
            Entry::Vacant(_) if !first => Err(AssembleError::StreamNotBegun { xid }),
            Entry::Occupied(_) => Ok(()),
            Entry::Vacant(vacant) => {
                // A part of its own from the start, so that it counts against the limit.
                let part = Part { messages: Vec::new(), held_bytes: FIXED };
                vacant.insert(Stream { parts: BTreeMap::from([(xid, part)]), messages: 0 });
                self.held_bytes = self.held_bytes.saturating_add(FIXED);
                self.check_limit()
            }
        }
    }

    /// Keeps a message of a block.
    pub(super) fn hold(
        &mut self,
        xid: Xid,
        subxid: Xid,
        message: Bytes,
    ) -> Result<(), AssembleError> {
        let Some(stream) = self.open.get_mut(&xid) else {
            return Err(AssembleError::StreamNotBegun { xid });
        };
        let bytes = message.len().saturating_add(FIXED);
        let part = stream.parts.entry(subxid).or_default();
        part.messages.push((stream.messages, message));
        part.held_bytes = part.held_bytes.saturating_add(bytes);
        stream.messages = stream.messages.saturating_add(1);
        self.held_bytes = self.held_bytes.saturating_add(bytes);
        self.check_limit()
    }

    /// Drops a transaction, or one sub-transaction of it. Dropping what is not there is fine: the
    /// source also tells about rolled back savepoints that have sent nothing.
    pub(super) fn abort(&mut self, xid: Xid, subxid: Xid) {
        let dropped: usize = if xid == subxid {
            let stream = self.open.remove(&xid).unwrap_or_default();
            stream.parts.values().map(|part| part.held_bytes).sum()
        } else {
            let part = self.open.get_mut(&xid).and_then(|stream| stream.parts.remove(&subxid));
            part.map_or(0, |part| part.held_bytes)
        };
        self.held_bytes = self.held_bytes.saturating_sub(dropped);
    }

    /// Takes the messages of a transaction out, in the order in which they came.
    pub(super) fn commit(&mut self, xid: Xid) -> Result<Vec<(u64, Bytes)>, AssembleError> {
        let Some(stream) = self.open.remove(&xid) else {
            return Err(AssembleError::StreamNotBegun { xid });
        };
        let mut messages = Vec::new();
        for part in stream.parts.into_values() {
            self.held_bytes = self.held_bytes.saturating_sub(part.held_bytes);
            messages.extend(part.messages);
        }
        messages.sort_unstable_by_key(|(place, _)| *place);
        Ok(messages)
    }

    /// What all transactions in progress hold, in bytes.
    pub(super) const fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    fn check_limit(&self) -> Result<(), AssembleError> {
        let (held_bytes, bytes_max) = (self.held_bytes, self.bytes_max);
        if held_bytes <= bytes_max {
            return Ok(());
        }
        Err(AssembleError::StreamedTooLarge { open: self.open.len(), held_bytes, bytes_max })
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use bytes::Bytes;

    use super::{AssembleError, Streams, Xid};
    use crate::decode::pg_fixture::{Wire, options};
    use crate::decode::pg_message::Message;
    use crate::model::position::Lsn;

    const A: Xid = Xid(1);
    const B: Xid = Xid(2);
    const SAVEPOINT: Xid = Xid(3);

    fn hold(streams: &mut Streams, xid: Xid, subxid: Xid, text: &'static str) {
        streams.hold(xid, subxid, Bytes::from_static(text.as_bytes())).unwrap();
    }

    fn commit(streams: &mut Streams, xid: Xid) -> Vec<Bytes> {
        streams.commit(xid).unwrap().into_iter().map(|(_, message)| message).collect()
    }

    #[test]
    fn messages_come_out_in_the_order_in_which_they_came() {
        let mut streams = Streams::new(10_000);
        for xid in [A, B] {
            streams.start(xid, true).unwrap();
        }
        hold(&mut streams, A, SAVEPOINT, "a1");
        hold(&mut streams, B, B, "b1");
        streams.start(A, false).unwrap();
        hold(&mut streams, A, A, "a2");
        hold(&mut streams, A, SAVEPOINT, "a3");
        assert_eq!(commit(&mut streams, A), ["a1", "a2", "a3"]);
        assert_eq!(commit(&mut streams, B), ["b1"]);
        assert_eq!(streams.held_bytes(), 0);
    }

    #[test]
    fn a_rolled_back_savepoint_takes_its_own_messages_with_it() {
        let mut streams = Streams::new(10_000);
        streams.start(A, true).unwrap();
        hold(&mut streams, A, A, "a1");
        hold(&mut streams, A, SAVEPOINT, "a2");
        hold(&mut streams, A, A, "a3");
        streams.abort(A, SAVEPOINT);
        streams.abort(A, B);
        streams.abort(B, B);
        assert_eq!(commit(&mut streams, A), ["a1", "a3"]);
        assert_eq!(streams.held_bytes(), 0);
    }

    #[test]
    fn a_rolled_back_transaction_is_gone() {
        let mut streams = Streams::new(10_000);
        streams.start(A, true).unwrap();
        hold(&mut streams, A, SAVEPOINT, "a1");
        streams.abort(A, A);
        assert_eq!(streams.held_bytes(), 0);
        assert_eq!(streams.commit(A), Err(AssembleError::StreamNotBegun { xid: A }));
        assert_eq!(streams.start(A, false), Err(AssembleError::StreamNotBegun { xid: A }));
    }

    #[test]
    fn a_stream_that_begins_twice_is_refused() {
        let mut streams = Streams::new(10_000);
        streams.start(A, true).unwrap();
        assert_eq!(streams.start(A, true), Err(AssembleError::StreamBegunTwice { xid: A }));
    }

    #[test]
    fn transactions_in_progress_have_a_limit() {
        let mut streams = Streams::new(200);
        streams.start(A, true).unwrap();
        hold(&mut streams, A, A, "a1");
        let error = streams.hold(A, A, Bytes::from_static(b"1234567")).unwrap_err();
        let expected = AssembleError::StreamedTooLarge { open: 1, held_bytes: 201, bytes_max: 200 };
        assert!(error.hint().is_some());
        assert_eq!(error, expected);
    }

    #[test]
    fn a_streamed_transaction_comes_at_its_commit() {
        let mut wire = Wire::new(options());
        wire.block(9, true, &["9 +parent 1 a", "10 +child 7 1 x"]).unwrap();
        assert_eq!(wire.tx(&["+parent 2 b"]).unwrap()[0], "transaction 0/20 rows=1");
        wire.block(9, false, &["9 +parent 3 c"]).unwrap();
        let lines = wire.stream_commit(9).unwrap();
        let changes = ["transaction 0/30 rows=3", "+parent 1 a", "+child 7 1 x", "+parent 3 c"];
        assert_eq!(lines, changes);
        assert_eq!(wire.transactions.streamed_bytes(), 0);
    }

    #[test]
    fn what_a_streamed_transaction_rolled_back_never_happened() {
        let mut wire = Wire::new(options());
        wire.block(9, true, &["9 +parent 1 a", "10 :mail address id*", "10 +absent 1"]).unwrap();
        let (xid, subxid) = (Xid(9), Xid(10));
        wire.send(&Message::StreamAbort { xid, subxid }).unwrap();
        wire.block(9, false, &["9 +mail a 1"]).unwrap();
        wire.block(11, true, &["11 +absent 1"]).unwrap();
        wire.send(&Message::StreamAbort { xid: Xid(11), subxid: Xid(11) }).unwrap();
        let lines = wire.stream_commit(9).unwrap();
        assert_eq!(lines[1..], ["+parent 1 a", "+mail a 1"]);
    }

    #[test]
    fn a_keepalive_counts_between_blocks_but_not_inside_one() {
        let mut wire = Wire::new(options());
        wire.block(9, true, &["9 +parent 1 a"]).unwrap();
        wire.transactions.keepalive(Lsn(0x12), &mut wire.events);
        wire.send(&Message::StreamStart { xid: Xid(9), first: false }).unwrap();
        assert!(wire.transactions.in_transaction());
        wire.transactions.keepalive(Lsn(0x14), &mut wire.events);
        assert_eq!(wire.take(), ["idle 0/12"]);
    }
}
