//! A thousand requests by somebody who means us no good, between those of somebody who does: the process
//! stays healthy, its memory bounded, and only rows of the second one get through.
#[path = "hostile/client.rs"]
mod client;
#[path = "hostile/requests.rs"]
mod requests;
#[path = "hostile/server.rs"]
mod server;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use self::client::{ask, row};
use self::requests::{Hostile, hostile};
use self::server::{Server, Tokens};

/// Requests that mean no good.
const HOSTILE: usize = 1_000;

/// Requests at the same time.
const AT_A_TIME: usize = 64;

/// For the bodies there is room for 8 MiB, for 256 connections 16 MiB; the rest is what an allocator does
/// not give back. One bomb that went off would be as much.
const MEMORY_BYTES_MAX: usize = 96 << 20;

/// Nobody waits longer than that for his tests.
const TIME_MAX: Duration = Duration::from_secs(30);

/// The rows that somebody may bring. No other request has one of these keys.
const GOOD: std::ops::Range<u32> = 0..100;

#[tokio::test]
async fn w31_a_thousand_hostile_requests_leave_us_healthy() {
    let story = tokio::time::timeout(TIME_MAX, ask_a_thousand_times());
    assert!(story.await.is_ok(), "it took longer than {TIME_MAX:?}");
}

async fn ask_a_thousand_times() {
    let server = Server::start().await;
    let hostile = Arc::new(hostile(&server.tokens));
    bring(server.address, &server.tokens, GOOD.end).await;
    let before = memory_bytes("VmRSS:");
    let (wrong, mut told) = mpsc::unbounded_channel();
    let room = Arc::new(Semaphore::new(AT_A_TIME));
    let mut asking = JoinSet::new();
    for number in 0..HOSTILE {
        if number % (HOSTILE / GOOD.len()) == 0 {
            let key = u32::try_from(number / (HOSTILE / GOOD.len())).expect("a few");
            bring(server.address, &server.tokens, key).await;
        }
        let permit = Arc::clone(&room).acquire_owned().await.expect("it stays open");
        let (hostile, wrong, address) = (Arc::clone(&hostile), wrong.clone(), server.address);
        asking.spawn(async move {
            let Hostile { name, request, statuses } = &hostile[number % hostile.len()];
            let status = ask(address, request).await;
            if !statuses.contains(&status) {
                wrong.send(format!("{name}: {status:?} is not in {statuses:?}")).ok();
            }
            drop(permit);
        });
    }
    while asking.join_next().await.is_some() {}
    drop(wrong);
    let mut answers = Vec::new();
    while let Some(answer) = told.recv().await {
        answers.push(answer);
    }
    answers.sort();
    answers.dedup();
    assert!(answers.is_empty(), "{answers:#?}");
    let most = memory_bytes("VmHWM:").saturating_sub(before);
    assert!(most < MEMORY_BYTES_MAX, "{} MiB", most >> 20);
    // All that may be there is, and nothing else.
    let mut staged = server.stop().await;
    staged.sort_unstable();
    staged.dedup();
    let expected: Vec<u32> = (GOOD.start..=GOOD.end).collect();
    assert_eq!(staged, expected);
}

/// Brings one row, as a changefeed does: again and again if there is no room.
async fn bring(address: SocketAddr, tokens: &Tokens, key: u32) {
    let request = client::post("/app/public", &tokens.good, &row(key));
    for _ in 0..100 {
        match ask(address, &request).await {
            Some(200) => return,
            Some(429 | 503) => tokio::time::sleep(Duration::from_millis(20)).await,
            other => panic!("a good request is refused with {other:?}"),
        }
    }
    panic!("there was never room for a good request");
}

/// How much memory this process has, as the kernel counts it.
fn memory_bytes(field: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("a field");
    line.split_whitespace().next().and_then(|kib| kib.parse::<usize>().ok()).expect("KiB") << 10
}
