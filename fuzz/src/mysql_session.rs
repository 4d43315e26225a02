//! The check of sessions with MySQL and MariaDB: what a server sends from its greeting to the events of its binary log,
//! packet by packet. The first byte says which of them it is to be asked as, and in pieces of how many bytes it arrives.
//! Then comes what it says before it is asked anything, after the first request, after the second, and so on, each behind
//! its length in two bytes.
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use replicator_io::error_chain;
use replicator_io::mysql::conninfo::MySqlConnInfo;
use replicator_io::mysql::replica::{Replica, ReplicaError, ReplicaSession, Since};
use replicator_io::net::Dial;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The user has a password, so that proofs are asked for. The server has no TLS: what comes then is another's affair.
const CONNINFO: &str = "mysql://me:secret@localhost:3306/shop?sslmode=disable";

/// The session is one of MariaDB.
const MARIADB: u8 = 0x80;

/// A server that says this, whatever it is asked, and goes.
#[derive(Clone, Debug)]
struct Said {
    turns: Vec<Vec<u8>>,
    piece: usize,
}

struct Speaker {
    // In the order in which they are said; what of it is left.
    turns: VecDeque<Vec<u8>>,
    now: VecDeque<u8>,
    piece: usize,
}

impl Dial for Said {
    type Stream = Speaker;

    async fn dial(&self, _: &str, _: u16) -> io::Result<Speaker> {
        let mut turns = VecDeque::from(self.turns.clone());
        let now = turns.pop_front().unwrap_or_default().into();
        Ok(Speaker { turns, now, piece: self.piece })
    }
}

impl AsyncRead for Speaker {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let length = self.now.len().min(self.piece).min(buffer.remaining());
        let said: Vec<u8> = self.now.drain(..length).collect();
        buffer.put_slice(&said);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Speaker {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let next = self.turns.pop_front().unwrap_or_default();
        self.now.extend(next);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Logs in, asks one question and reads events; returns how much of that went well: the login, each row and each event.
///
/// # Panics
///
/// More came out than was said.
pub(crate) fn mysql_session(input: &[u8]) -> usize {
    let Some((first, mut rest)) = input.split_first() else { return 0 };
    let mut turns = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_le_bytes(*length)).min(after.len());
        let (turn, others) = after.split_at(length);
        turns.push(turn.to_vec());
        rest = others;
    }
    let piece = usize::from(first & !MARIADB).max(1);
    let count = heard(&Said { turns, piece }, first & MARIADB != 0);
    assert!(count <= input.len(), "more than was said");
    count
}

/// How much went well.
fn heard(said: &Said, is_mariadb: bool) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let mut count = 0;
    let listening = async {
        let conninfo: MySqlConnInfo = CONNINFO.parse().expect("a connection string of ours");
        let mut session = ReplicaSession::open(said, &conninfo).await?;
        count += 1;
        count += session.query("SELECT 1").await?.len();
        let uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562".to_owned();
        let replica = Replica { server_id: 7, uuid };
        let since = if is_mariadb { Since::GtidPosition("0-1-1") } else { Since::GtidSet(&[0; 8]) };
        let mut events = session.stream(&replica, Duration::from_secs(1), since).await?;
        loop {
            events.next().await?;
            count += 1;
        }
    };
    let ended: Result<(), ReplicaError> = runtime.expect("a runtime").block_on(listening);
    // It says what was wrong, whatever that was.
    drop(ended.map_err(|error| error_chain(&error)));
    count
}

/// Each behind its length.
fn session(first: u8, turns: &[Vec<u8>]) -> Vec<u8> {
    let mut input = vec![first];
    for turn in turns {
        let length = u16::try_from(turn.len()).expect("a short turn");
        input.extend_from_slice(&length.to_le_bytes());
        input.extend_from_slice(turn);
    }
    input
}

/// Packets of one answer, numbered from `first`.
fn packets(first: u8, contents: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (number, content) in (first..).zip(contents) {
        let length = u32::try_from(content.len()).expect("a short packet").to_le_bytes();
        bytes.extend_from_slice(&length[..3]);
        bytes.push(number);
        bytes.extend_from_slice(content);
    }
    bytes
}

fn greeting(plugin: &str) -> Vec<u8> {
    let mut packet = b"\x0A9.7.4\0".to_vec();
    packet.extend_from_slice(&[7, 0, 0, 0]);
    packet.extend_from_slice(b"nnnnnnnn\0");
    // What it can do: protocol 4.1, transactions, secure connections, plugins; its character set and state.
    packet.extend_from_slice(&[0x05, 0xA2, 45, 2, 0, 0x08, 0x00, 21]);
    packet.extend_from_slice(&[0; 10]);
    packet.extend_from_slice(b"nnnnnnnnnnnn\0");
    packet.extend_from_slice(plugin.as_bytes());
    packet.push(0);
    packet
}

/// Hand-made sessions.
pub(crate) fn mysql_session_corpus() -> Vec<(&'static str, Vec<u8>)> {
    const OK: &[u8] = &[0, 0, 0, 2, 0, 0, 0];
    const END: &[u8] = &[0xFE, 0, 0, 2, 0];
    let refused = &b"\xFF\x15\x04#28000Access denied"[..];
    let native = greeting("mysql_native_password");
    let sha2 = greeting("caching_sha2_password");
    let (hello, welcome) = (packets(0, &[&native]), packets(2, &[OK]));
    let rows = packets(1, &[&[1], b"\x03def", END, b"\x011", b"\xFB", END]);
    let ok = packets(1, &[OK]);
    let events = packets(1, &[b"\0an event", b"\0another", END]);
    let begun = [hello.clone(), welcome, rows, ok.clone(), ok.clone()];
    let with = |turns: &[Vec<u8>]| [&begun[..], turns].concat();
    let usual = session(0x7F, &with(std::slice::from_ref(&events)));
    let mariadb = session(MARIADB | 3, &with(&[ok.clone(), ok, events]));
    let mut cut = usual.clone();
    cut.truncate(cut.len() - 20);
    let switch = packets(2, &[b"\xFEmysql_native_password\0nnnnnnnnnnnnnnnnnnnn\0"]);
    let sha2 = packets(0, &[&sha2]);
    let many: Vec<&[u8]> = std::iter::repeat_n(&b"\0event"[..], 200).collect();
    vec![
        ("empty", Vec::new()),
        ("cut-short", cut),
        ("usual", usual),
        ("mariadb", mariadb),
        ("fast-sha2", session(1, &[sha2.clone(), packets(2, &[&[1, 3], OK])])),
        ("switch", session(9, &[sha2.clone(), switch, packets(4, &[OK])])),
        ("refused", session(9, &[hello, packets(2, &[refused])])),
        ("public-key", session(9, &[sha2, packets(2, &[&[1, 4]]), packets(4, &[b"\x01no key"])])),
        ("largest", session(0x7F, &with(&[packets(1, &many)]))),
    ]
}
