//! Connections that hold a place and do nothing with it, in simulated time.
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::{HttpLimits, Listen, serve};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

/// Longer than a request may take.
const LONG: Duration = Duration::from_secs(1_000);

/// Connections in memory.
struct Pipes(mpsc::Receiver<DuplexStream>);

impl Listen for Pipes {
    type Stream = DuplexStream;

    async fn accept(&mut self) -> io::Result<(DuplexStream, SocketAddr)> {
        let pipe = self.0.recv().await.ok_or(io::ErrorKind::BrokenPipe)?;
        Ok((pipe, SocketAddr::from(([127, 0, 0, 1], 1))))
    }
}

/// Serves at most two connections at a time while `story` runs.
async fn while_serving(story: impl AsyncFnOnce(&mpsc::Sender<DuplexStream>)) {
    let (connect, pipes) = mpsc::channel(8);
    let (stop, stopped) = watch::channel(false);
    let slow = get(async || sleep(LONG).await);
    let router = Router::new().route("/", get(async || "hello")).route("/slow", slow);
    let limits = HttpLimits { connections_max: 2, ..HttpLimits::default() };
    let story = async {
        story(&connect).await;
        stop.send_replace(true);
    };
    tokio::join!(serve(Pipes(pipes), None, router, limits, stopped), story);
}

async fn connect(to: &mpsc::Sender<DuplexStream>) -> DuplexStream {
    let (ours, theirs) = duplex(1 << 20);
    to.send(theirs).await.unwrap();
    ours
}

/// Reads until this is there.
async fn read(pipe: &mut DuplexStream, wanted: &str) -> String {
    let mut answer = String::new();
    while !answer.contains(wanted) {
        let mut bytes = [0; 1024];
        let read = pipe.read(&mut bytes).await.unwrap();
        assert_ne!(read, 0, "closed after {answer:?}");
        answer.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
    answer
}

/// Whether it is closed within so many seconds.
async fn closed_within(pipe: &mut DuplexStream, seconds: u64) -> bool {
    let closed = async {
        // Whatever comes is no answer.
        while pipe.read(&mut [0; 1024]).await.is_ok_and(|read| 0 < read) {}
    };
    timeout(Duration::from_secs(seconds), closed).await.is_ok()
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_does_not_keep_others_out() {
    for begin in [&b""[..], b"G", b"PRI * HTTP/2.0\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        while_serving(async |to| {
            let mut silent = [connect(to).await, connect(to).await];
            for pipe in &mut silent {
                pipe.write_all(begin).await.unwrap();
            }
            let mut waiting = connect(to).await;
            waiting.write_all(REQUEST).await.unwrap();
            assert!(!closed_within(&mut silent[0], 9).await, "{begin:?}");
            let answer = timeout(Duration::from_secs(2), read(&mut waiting, "hello")).await;
            assert!(answer.unwrap().starts_with("HTTP/1.1 200 OK"));
            for pipe in &mut silent {
                assert!(closed_within(pipe, 1).await, "{begin:?}");
            }
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_by_http2_is_closed_after_a_while() {
    while_serving(async |to| {
        let mut pipe = connect(to).await;
        // Settings; then headers that end a request: GET, https, /, and the authority "x".
        let headers = [0, 0, 6, 1, 5, 0, 0, 0, 1, 0x82, 0x87, 0x84, 0x41, 0x01, b'x'];
        let begin = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        let request = [&begin[..], &[0, 0, 0, 4, 0, 0, 0, 0, 0], &headers].concat();
        pipe.write_all(&request).await.unwrap();
        read(&mut pipe, "hello").await;
        assert!(!closed_within(&mut pipe, 299).await);
        assert!(closed_within(&mut pipe, 2).await);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_takes_long_is_not_cut_off() {
    while_serving(async |to| {
        let mut pipe = connect(to).await;
        pipe.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        assert!(read(&mut pipe, "\r\n\r\n").await.starts_with("HTTP/1.1 200 OK"));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_head_has_a_limit() {
    while_serving(async |to| {
        let mut pipe = connect(to).await;
        let head = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(200_000));
        pipe.write_all(head.as_bytes()).await.unwrap();
        assert!(read(&mut pipe, "\r\n\r\n").await.starts_with("HTTP/1.1 431 "));
    })
    .await;
}
