//! The check of everything that a PostgreSQL server can say to a session of ours: logging in, answers to
//! queries, a stream of frames, answers to a pipeline, errors.
//!
//! The first byte says which session it is and in what portions the rest arrives. The rest is what the
//! server sends, and then it hangs up.
use std::io;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll};

use bytes::Bytes;
use replicator_core::decode::pg_encode::encode_frame;
use replicator_core::decode::pg_frames::Frame;
use replicator_core::model::position::Lsn;
use replicator_core::model::time::WallTime;
use replicator_io::net::Dial;
use replicator_io::pg::conninfo::ConnInfo;
use replicator_io::pg::pipeline::{Call, Pipeline};
use replicator_io::pg::pool::Pooled as _;
use replicator_io::pg::replication::{ReplicationClient, StartOptions};
use replicator_io::pg::session::SessionOptions;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::{Builder, Runtime};

/// The session is a pipeline, not a replication connection.
const PIPELINE: u8 = 0x80;

/// Reads what a server says; returns how many steps of the session came to a good end.
///
/// # Panics
///
/// A frame does not survive reading and writing, or an answer has more parts than questions.
pub(crate) fn server(input: &[u8]) -> usize {
    let Some((first, said)) = input.split_first() else { return 0 };
    let portion = usize::from(first & !PIPELINE).max(1);
    let dial = Said { portion, rest: Bytes::copy_from_slice(said) };
    if first & PIPELINE == 0 {
        RUNTIME.with(|runtime| runtime.block_on(replication(&dial)))
    } else {
        RUNTIME.with(|runtime| runtime.block_on(pipeline(&dial)))
    }
}

async fn replication(dial: &Said) -> usize {
    let options = SessionOptions::default();
    let Ok(mut client) = ReplicationClient::connect(dial, &CONNINFO, &options).await else {
        return 0;
    };
    let Ok(_) = client.identify_system().await else { return 1 };
    let Ok(_) = client.sender_timeout().await else { return 2 };
    let start = StartOptions { slot: "slot", from: Lsn(1), plugin: &[("proto_version", "1")] };
    let Ok((mut reader, _writer)) = client.start(&start).await else { return 3 };
    let mut steps = 4;
    loop {
        match reader.next_frame() {
            Ok(Some(frame)) => {
                steps += 1;
                if let Ok(parsed) = Frame::parse(frame.clone()) {
                    assert_eq!(encode_frame(&parsed), frame, "a frame is read as another one");
                }
            }
            Ok(None) if reader.fill().await.is_ok() => (),
            Ok(None) | Err(_) => return steps,
        }
    }
}

async fn pipeline(dial: &Said) -> usize {
    let options = SessionOptions::default();
    let Ok(mut pipeline) = Pipeline::open(dial, &CONNINFO, &options, 2).await else { return 0 };
    let params = vec![(25, Some(&b"x"[..])), (20, None)];
    let copied = Call { sql: "COPY t FROM STDIN", params: Vec::new(), rows: Some(b"1\n2\n") };
    let bound = Call { sql: "SELECT $1, $2", params, rows: None };
    let calls = [Call::plain("BEGIN"), bound, copied, Call::plain("COMMIT")];
    let mut steps = 1;
    loop {
        match pipeline.run(&calls).await {
            Ok(rows) => {
                assert_eq!(rows.len(), calls.len(), "each call has one answer");
                steps += rows.len();
            }
            Err(error) => {
                assert!(error.at <= calls.len(), "an error of a call that was not made");
                assert!(error.sent <= calls.len(), "more calls were sent than made");
                if pipeline.roll_back("ROLLBACK").await.is_err() {
                    return steps;
                }
                steps += 1;
            }
        }
    }
}

// Building one takes longer than most inputs.
thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime without sockets needs nothing");
}

static CONNINFO: LazyLock<ConnInfo> = LazyLock::new(|| {
    "postgresql://user:password@host/db?sslmode=disable".parse().expect("a connection string")
});

/// A server that says this, whatever it hears.
#[derive(Clone, Debug)]
struct Said {
    portion: usize,
    rest: Bytes,
}

impl Dial for Said {
    type Stream = Self;

    async fn dial(&self, _host: &str, _port: u16) -> io::Result<Self> {
        Ok(self.clone())
    }
}

impl AsyncRead for Said {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let count = self.portion.min(self.rest.len()).min(buf.remaining());
        buf.put_slice(&self.rest.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Said {
    fn poll_write(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Hand-made servers.
pub(crate) fn server_corpus() -> Vec<(&'static str, Vec<u8>)> {
    let replicates = |rest: &[Vec<u8>]| session(100, &[&login(), &greetings(), &rest.concat()]);
    let keepalive = Frame::Keepalive {
        wal_end: Lsn(0x16B_3748),
        sent: WallTime { micros: 1_700_000_000_000_000 },
        reply_requested: true,
    };
    let data = Frame::XLogData {
        wal_start: Lsn(1),
        wal_end: Lsn(2),
        sent: WallTime { micros: 0 },
        message: Bytes::from_static(b"B"),
    };
    let frame = |frame: &Frame| message(b'd', &encode_frame(frame));
    let refusal = message(b'E', b"SERROR\0VERROR\0C23505\0Mno\0Htry\0nkey\0cid\0\0");
    let fatal = message(b'E', b"SFATAL\0VFATAL\0C57P01\0Mterminating\0\0");
    let largest = message(b'd', &[&b"w"[..], &[0; 24], &vec![b'x'; 60_000]].concat());
    let pipeline = |rest: &[Vec<u8>]| session(PIPELINE | 7, &[&login(), &rest.concat()]);
    let scram = message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0");
    vec![
        ("empty", Vec::new()),
        ("cut-short", session(3, &[&login(), &greetings()[..40]])),
        ("largest", replicates(&[frame(&keepalive), largest])),
        ("stream", replicates(&[frame(&keepalive), frame(&data), message(b'c', b"")])),
        ("stream-refused", replicates(&[frame(&data), fatal.clone()])),
        ("stream-nonsense", replicates(&[message(b'd', b"k"), message(b'?', b"")])),
        ("login-scram", session(1, &[&scram, &message(b'R', b"\0\0\0\x0br=,s=,i=1")])),
        ("login-md5", session(9, &[&message(b'R', b"\0\0\0\x05salt"), &login()])),
        ("login-refused", session(9, &[&fatal])),
        ("pipeline", pipeline(&[answers(true), answers(false)])),
        ("pipeline-refused", pipeline(&[refusal, message(b'Z', b"E"), message(b'Z', b"I")])),
        ("refused-length", session(9, &[&login(), b"d\xff\xff\xff\xff"])),
        ("refused-long-promise", session(9, &[&login(), b"T\x3f\xff\xff\xff\0"])),
        ("refused-short-row", session(9, &[&login(), &message(b'D', b"\xff\xff\0\0\0\x09x")])),
    ]
}

fn session(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    [&[first], parts.concat().as_slice()].concat()
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len() + 4).expect("a small message").to_be_bytes();
    [&[tag][..], &len, body].concat()
}

/// Nobody is asked for a password.
fn login() -> Vec<u8> {
    let parameter = message(b'S', b"server_version\x0018.0\0");
    let key = message(b'K', &[0; 8]);
    [message(b'R', &[0; 4]), parameter, key, message(b'Z', b"I")].concat()
}

/// Who the server is, when it hangs up, and that it begins to stream.
fn greetings() -> Vec<u8> {
    let answer = |cells: &[&str]| {
        let count = u16::try_from(cells.len()).expect("few cells").to_be_bytes();
        let cell = |cell: &&str| {
            let len = u32::try_from(cell.len()).expect("a short cell").to_be_bytes();
            [&len, cell.as_bytes()].concat()
        };
        let row = [count.to_vec(), cells.iter().flat_map(cell).collect()].concat();
        [message(b'T', b"\0\0"), message(b'D', &row), message(b'C', b"x\0"), message(b'Z', b"I")]
            .concat()
    };
    let who = answer(&["7300000000000000001", "1", "0/16B3748", "db"]);
    [who, answer(&["1min"]), message(b'W', b"\0\0\0")].concat()
}

/// The answers to one round of calls: statements are prepared in the first only.
fn answers(prepares: bool) -> Vec<u8> {
    let parsed = || if prepares { message(b'1', b"") } else { Vec::new() };
    let done = |tag: &[u8]| [parsed(), message(b'2', b""), message(b'C', tag)].concat();
    let copied = [parsed(), message(b'2', b""), message(b'G', b"\0\0\0")].concat();
    let calls = [done(b"BEGIN\0"), done(b"SELECT 5\0"), copied, message(b'C', b"COPY 2\0")];
    [calls.concat(), done(b"COMMIT\0"), message(b'Z', b"I")].concat()
}
