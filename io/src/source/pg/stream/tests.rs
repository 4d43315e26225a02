//! A source whose server is in memory.
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use replicator_core::Event;
use replicator_core::decode::pg_encode::{encode, encode_frame};
use replicator_core::decode::pg_frames::{Frame, StandbyStatus};
use replicator_core::decode::pg_message::{Begin, Commit, Message, Xid};
use replicator_core::decode::pg_transaction::{PgOptions, PgTransactions, TruncatePolicy};
use replicator_core::model::catalog::Catalog;
use replicator_core::model::position::{Lsn, Position};
use replicator_core::model::time::{MonoTime, WallTime};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::{Feedback, PgSource, PgSourceError, Rhythm, Streaming};
use crate::clock::Clock;
use crate::net::Dial;
use crate::pg::replication::{SystemIdentity, pretend_stream};
use crate::port::Source as _;

const SECOND: Duration = Duration::from_secs(1);

/// Names the type of the stream; nobody dials.
#[derive(Clone, Copy, Debug)]
struct NoDial;

impl Dial for NoDial {
    type Stream = DuplexStream;

    fn dial(&self, _: &str, _: u16) -> impl Future<Output = io::Result<DuplexStream>> + Send {
        std::future::ready(Err(io::ErrorKind::Unsupported.into()))
    }
}

fn start(buffer: usize) -> (PgSource<NoDial>, DuplexStream, Clock) {
    let (reader, writer, server) = pretend_stream(buffer);
    let clock = Clock::start();
    let options = PgOptions {
        truncate: TruncatePolicy::Stop,
        target_schema: None,
        piece_bytes_max: 1 << 20,
        streamed_bytes_max: 1 << 20,
    };
    let decoder = PgTransactions::new(Arc::new(Catalog::default()), options);
    let system =
        SystemIdentity { system_identifier: 7, timeline: 1, wal_end: Lsn(0), database: None };
    let streaming = Streaming { reader, writer, from: Lsn(10), system };
    let rhythm = Rhythm::new(5 * SECOND, Some(60 * SECOND));
    (PgSource::start(streaming, decoder, rhythm, 180 * SECOND, clock), server, clock)
}

fn copy_data(frame: &Frame) -> Bytes {
    let body = encode_frame(frame);
    let mut bytes = BytesMut::new();
    bytes.put_u8(b'd');
    bytes.put_u32(u32::try_from(body.len()).unwrap() + 4);
    bytes.put_slice(&body);
    bytes.freeze()
}

fn keepalive(wal_end: u64, reply_requested: bool) -> Bytes {
    let sent = WallTime { micros: 1_700_000_000_000_000 };
    copy_data(&Frame::Keepalive { wal_end: Lsn(wal_end), sent, reply_requested })
}

/// A transaction without rows that ends at `end`, sent `late` after it committed.
fn transaction(end: u64, late: Duration) -> Bytes {
    let committed = WallTime { micros: 1_700_000_000_000_000 };
    let late = i64::try_from(late.as_micros()).unwrap();
    let sent = WallTime { micros: committed.micros + late };
    let (commit_lsn, end_lsn) = (Lsn(end - 1), Lsn(end));
    let begin = Begin { final_lsn: commit_lsn, committed, xid: Xid(1) };
    let commit = Commit { commit_lsn, end_lsn, committed };
    let mut bytes = BytesMut::new();
    for message in [Message::Begin(begin), Message::Commit(commit)] {
        let message = encode(&message);
        let (wal_start, wal_end) = (commit_lsn, commit_lsn);
        bytes.put_slice(&copy_data(&Frame::XLogData { wal_start, wal_end, sent, message }));
    }
    bytes.freeze()
}

fn idle(lsn: u64) -> Event {
    Event::IdleThrough(Position::Lsn(Lsn(lsn)))
}

/// The next report that arrived at the server.
async fn report(server: &mut DuplexStream) -> StandbyStatus {
    let mut bytes = vec![0; 39];
    server.read_exact(&mut bytes).await.unwrap();
    StandbyStatus::parse(&bytes.split_off(5).into()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn one_call_returns_everything_that_has_arrived() {
    let (mut source, mut server, _) = start(1 << 16);
    let mut bytes = BytesMut::new();
    for end in [20, 30, 40] {
        bytes.put_slice(&transaction(end, Duration::ZERO));
    }
    let cut = bytes.len() - 1;
    server.write_all(&bytes[..cut]).await.unwrap();
    let mut events = Vec::new();
    source.next(&mut events).await.unwrap();
    assert_eq!(events, [idle(20), idle(30)]);
    events.clear();
    server.write_all(&bytes[cut..]).await.unwrap();
    source.next(&mut events).await.unwrap();
    assert_eq!(events, [idle(40)]);
    let counters = source.progress().counters();
    assert_eq!(counters.reads, 2);
    assert_eq!(counters.received_bytes, u64::try_from(bytes.len()).unwrap());
    assert_eq!(counters.decoded.transactions_empty, 3);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_call_loses_nothing() {
    let (mut source, mut server, _) = start(1 << 16);
    let mut events = Vec::new();
    for byte in &transaction(20, SECOND)[..] {
        let waited = tokio::time::timeout(Duration::from_micros(1), source.next(&mut events)).await;
        assert!(waited.is_err());
        server.write_all(&[*byte]).await.unwrap();
    }
    source.next(&mut events).await.unwrap();
    assert_eq!(events, [idle(20)]);
}

/// W-15: WAL of other databases, or of tables that are not published, can be dropped.
#[tokio::test(start_paused = true)]
async fn w15_an_idle_source_is_confirmed_as_far_as_it_has_read() {
    let (mut source, mut server, _) = start(1 << 16);
    assert_eq!(report(&mut server).await.flushed, Lsn(10));
    server.write_all(&keepalive(500, false)).await.unwrap();
    let mut events = Vec::new();
    source.next(&mut events).await.unwrap();
    assert_eq!(events, [idle(500)]);
    source.acknowledge(Position::Lsn(Lsn(500)));
    let status = report(&mut server).await;
    assert_eq!((status.written, status.flushed, status.applied), (Lsn(500), Lsn(500), Lsn(500)));
}

#[tokio::test(start_paused = true)]
async fn received_and_durable_are_reported_apart_and_at_once_when_asked() {
    let (mut source, mut server, clock) = start(1 << 16);
    report(&mut server).await;
    server.write_all(&transaction(20, Duration::ZERO)).await.unwrap();
    server.write_all(&keepalive(90, true)).await.unwrap();
    let mut events = Vec::new();
    source.next(&mut events).await.unwrap();
    source.progress().applied(Lsn(20));
    let before = clock.now();
    let status = report(&mut server).await;
    assert_eq!((status.written, status.flushed, status.applied), (Lsn(90), Lsn(10), Lsn(20)));
    assert!(clock.since(before) < Duration::from_millis(1));
}

#[tokio::test(start_paused = true)]
async fn a_silent_source_is_given_up_after_the_limit() {
    let (mut source, mut server, clock) = start(1 << 16);
    let mut events = Vec::new();
    let outcome = tokio::join!(source.next(&mut events), async {
        // It takes what we send and says nothing.
        let mut sent = [0; 4096];
        tokio::time::timeout(200 * SECOND, async {
            while server.read(&mut sent).await.unwrap() > 0 {}
        })
        .await
    });
    assert!(matches!(outcome.0, Err(PgSourceError::Silent { limit }) if limit == 180 * SECOND));
    assert!(MonoTime::START.after(180 * SECOND) <= clock.now());
    assert!(matches!(source.next(&mut events).await, Err(PgSourceError::Dead)));
}

#[tokio::test(start_paused = true)]
async fn time_in_which_nobody_read_does_not_count_as_silence() {
    let (mut source, mut server, _) = start(1 << 16);
    server.write_all(&keepalive(500, false)).await.unwrap();
    tokio::time::sleep(600 * SECOND).await;
    let mut events = Vec::new();
    source.next(&mut events).await.unwrap();
    assert_eq!(events, [idle(500)]);
}

#[tokio::test(start_paused = true)]
async fn trouble_with_reports_ends_the_stream() {
    // No room for a report, and the server does not read.
    let (mut source, server, _) = start(16);
    let error = source.next(&mut Vec::new()).await.unwrap_err();
    assert!(matches!(error, PgSourceError::Feedback(_)), "{error}");
    drop(server);
}

#[tokio::test(start_paused = true)]
async fn a_late_reader_lets_small_pieces_pile_up() {
    let (mut source, mut server, clock) = start(1 << 16);
    let mut events = Vec::new();
    server.write_all(&transaction(20, SECOND)).await.unwrap();
    source.next(&mut events).await.unwrap();
    server.write_all(&transaction(30, SECOND)).await.unwrap();
    let before = clock.now();
    // The pause goes on when the call is repeated.
    let patience = Duration::from_micros(10);
    while tokio::time::timeout(patience, source.next(&mut events)).await.is_err() {}
    let paused = clock.since(before);
    assert!(Duration::from_millis(3) <= paused && paused < Duration::from_millis(7), "{paused:?}");
    assert_eq!(events, [idle(20), idle(30)]);
}

#[tokio::test(start_paused = true)]
async fn what_would_wait_anyway_piles_up_until_it_would_not() {
    let (mut source, mut server, clock) = start(1 << 16);
    let mut events = Vec::new();
    source.ahead(4);
    server.write_all(&transaction(20, Duration::ZERO)).await.unwrap();
    source.next(&mut events).await.unwrap();
    server.write_all(&transaction(30, Duration::ZERO)).await.unwrap();
    let before = clock.now();
    let patience = Duration::from_micros(10);
    assert!(tokio::time::timeout(patience, source.next(&mut events)).await.is_err());
    source.ahead(0);
    source.next(&mut events).await.unwrap();
    assert!(clock.since(before) < Duration::from_millis(3));
    assert_eq!(events, [idle(20), idle(30)]);
}

#[tokio::test(start_paused = true)]
async fn closing_hands_in_the_last_position_and_takes_the_rest_off_the_wire() {
    let (mut source, mut server, _) = start(1 << 16);
    report(&mut server).await;
    server.write_all(&transaction(20, Duration::ZERO)).await.unwrap();
    source.next(&mut Vec::new()).await.unwrap();
    source.acknowledge(Position::Lsn(Lsn(20)));
    server.write_all(&transaction(30, Duration::ZERO)).await.unwrap();
    let answer = async {
        assert_eq!(report(&mut server).await.flushed, Lsn(20));
        let mut done = [0; 5];
        server.read_exact(&mut done).await.unwrap();
        assert_eq!(done, *b"c\0\0\0\x04");
        server.write_all(b"c\0\0\0\x04C\0\0\0\x0BCOPY 0\0").await.unwrap();
        let mut rest = Vec::new();
        server.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"X\0\0\0\x04");
    };
    let (closed, ()) = tokio::join!(source.close(SECOND), answer);
    closed.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_say_goodbye_does_not_hold_us_up() {
    let (source, server, _) = start(1 << 16);
    let closed = source.close(SECOND).await;
    assert!(matches!(closed, Err(PgSourceError::NotClosed { .. })), "{closed:?}");
    drop(server);
}

#[tokio::test]
#[should_panic(expected = "no request1 to answer")]
async fn answers_are_for_other_sources() {
    use replicator_core::model::position::RequestId;
    let (mut source, _server, _) = start(64);
    source.answer(RequestId(1));
}

#[test]
fn the_feedback_of_any_stream_can_be_sent_to_another_thread() {
    fn check<T: Send>() {}
    check::<Feedback<DuplexStream>>();
    check::<PgSource<NoDial>>();
}
