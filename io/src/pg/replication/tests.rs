//! Commands and frames.
use std::time::Duration;

use bytes::{BufMut as _, BytesMut};
use replicator_core::decode::pg_frames::{Frame, StandbyStatus};
use replicator_core::model::position::Lsn;
use replicator_core::model::time::WallTime;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{StartOptions, parse_duration, pretend_stream, start_command};
use crate::pg::wire::WireError;

fn copy_data(body: &[u8]) -> BytesMut {
    let mut bytes = BytesMut::new();
    bytes.put_u8(b'd');
    bytes.put_u32(u32::try_from(body.len()).unwrap() + 4);
    bytes.put_slice(body);
    bytes
}

fn xlog_data(message: &[u8]) -> BytesMut {
    let mut body = BytesMut::new();
    body.put_u8(b'w');
    body.put_slice(&[0; 24]);
    body.put_slice(message);
    copy_data(&body)
}

#[test]
fn names_cannot_leave_their_quotes() {
    let options = StartOptions {
        slot: "a\"b",
        from: Lsn(0x1_0000_0020),
        plugin: &[("proto_version", "1"), ("publication_names", "\"It's\",\"b\"")],
    };
    assert_eq!(
        start_command(&options),
        "START_REPLICATION SLOT \"a\"\"b\" LOGICAL 1/20 (\"proto_version\" '1', \
         \"publication_names\" '\"It''s\",\"b\"')"
    );
}

#[test]
fn times_are_read_as_the_server_prints_them() {
    for (text, millis) in
        [("0", 0), ("90ms", 90), ("60s", 60_000), ("1min", 60_000), ("2h", 7_200_000)]
    {
        assert_eq!(parse_duration(text), Some(Duration::from_millis(millis)), "{text}");
    }
    for text in ["", "min", "1.5s", "5 s", "-1"] {
        assert_eq!(parse_duration(text), None, "{text}");
    }
}

#[tokio::test]
async fn frames_come_whole_however_they_are_cut() {
    let (mut reader, _writer, mut server) = pretend_stream(1 << 20);
    let mut bytes = BytesMut::new();
    bytes.extend_from_slice(&xlog_data(b"hello"));
    bytes.extend_from_slice(b"N\0\0\0\x05\0");
    bytes.extend_from_slice(&copy_data(b"k\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\x01"));
    let mut frames = Vec::new();
    for byte in &bytes {
        server.write_all(&[*byte]).await.unwrap();
        assert_eq!(reader.fill().await.unwrap(), 1);
        frames.extend(reader.next_frame().unwrap().map(|frame| Frame::parse(frame).unwrap()));
    }
    let sent = WallTime { micros: 946_684_800_000_000 };
    let (wal_start, wal_end, message) = (Lsn(0), Lsn(0), b"hello".as_slice().into());
    let data = Frame::XLogData { wal_start, wal_end, sent, message };
    let keepalive = Frame::Keepalive { wal_end: Lsn(256), sent, reply_requested: true };
    assert_eq!(frames, [data, keepalive]);
    drop(server);
    assert!(matches!(reader.fill().await, Err(WireError::Closed)));
}

#[tokio::test]
async fn a_large_frame_arrives() {
    let (mut reader, _writer, mut server) = pretend_stream(1 << 20);
    let large = vec![7; 900_000];
    server.write_all(&xlog_data(&large)).await.unwrap();
    let frame = loop {
        reader.fill().await.unwrap();
        if let Some(frame) = reader.next_frame().unwrap() {
            break frame;
        }
    };
    assert_eq!(frame[25..], large);
}

#[tokio::test]
async fn broken_frames_are_refused() {
    for bytes in [&b"d\0\0\0\x03"[..], b"d\x7F\xFF\xFF\xFF", b"?\0\0\0\x04"] {
        let (mut reader, _writer, mut server) = pretend_stream(1 << 20);
        server.write_all(bytes).await.unwrap();
        reader.fill().await.unwrap();
        let refused = reader.next_frame();
        assert!(matches!(refused, Err(WireError::Protocol { .. })), "{bytes:?} {refused:?}");
    }
    let (mut reader, _writer, mut server) = pretend_stream(1 << 20);
    server.write_all(b"E\0\0\0\x16VFATAL\0C57P01\0Mbye\0\0").await.unwrap();
    reader.fill().await.unwrap();
    assert!(matches!(reader.next_frame(), Err(WireError::Server(error)) if error.code == "57P01"));
}

#[tokio::test]
async fn a_report_has_three_positions_and_the_server_ends_the_stream() {
    let (mut reader, mut writer, mut server) = pretend_stream(1 << 20);
    let status = StandbyStatus {
        written: Lsn(3),
        flushed: Lsn(1),
        applied: Lsn(2),
        sent: WallTime { micros: 946_684_800_000_005 },
        reply_requested: true,
    };
    writer.report(&status).await.unwrap();
    writer.finish().await.unwrap();
    server.write_all(&xlog_data(b"more")).await.unwrap();
    server.write_all(b"c\0\0\0\x04").await.unwrap();
    // The answer to COPY, which nobody waits for.
    server.write_all(b"C\0\0\0\x0BCOPY 0\0").await.unwrap();
    reader.fill().await.unwrap();
    reader.drain().await;
    writer.terminate().await.unwrap();
    drop(reader);
    let mut sent = Vec::new();
    server.read_to_end(&mut sent).await.unwrap();
    let expected: Vec<u8> = [
        &b"d\0\0\0\x26r"[..],
        &3_u64.to_be_bytes(),
        &1_u64.to_be_bytes(),
        &2_u64.to_be_bytes(),
        &5_u64.to_be_bytes(),
        b"\x01",
        b"c\0\0\0\x04X\0\0\0\x04",
    ]
    .concat();
    assert_eq!(sent, expected);
}
