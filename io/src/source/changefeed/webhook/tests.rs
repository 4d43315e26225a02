//! What is refused before anybody looks at rows, over real HTTP.
use std::sync::Arc;
use std::time::Duration;

use replicator_core::decode::changefeed::{Limits, TargetKind};
use replicator_core::model::ident::SchemaName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::{Absent, Gate, HeaderMap, Live, Open, Runs, WebhookLimits, router};
use crate::http::{HttpLimits, serve};

/// There is no run, for this reason.
#[derive(Clone, Debug)]
struct Without(Absent);

impl Runs for Without {
    async fn live(&self, _: &SchemaName) -> Result<Arc<Live>, Absent> {
        Err(self.0.clone())
    }
}

/// There will never be one.
#[derive(Clone, Debug)]
struct Never;

impl Runs for Never {
    async fn live(&self, _: &SchemaName) -> Result<Arc<Live>, Absent> {
        std::future::pending().await
    }
}

struct Closed;

impl Gate for Closed {
    fn admits(&self, _: &HeaderMap, query: Option<&str>, schema: &SchemaName) -> bool {
        query == Some("access_token=x") && schema.schema == "public"
    }
}

fn limits() -> WebhookLimits {
    WebhookLimits {
        body: Limits::default(),
        bodies_bytes_max: 1 << 20,
        response_timeout: Duration::from_millis(200),
    }
}

/// Sends one request and returns the whole answer.
async fn ask(runs: impl Runs, gate: impl Gate, request: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    let router = router(TargetKind::Postgres, limits(), runs, gate);
    let served = serve(listener, None, router, HttpLimits::default(), stopped);
    let asked = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        stop.send_replace(true);
        answer
    };
    let ((), answer) = tokio::join!(served, asked);
    answer
}

fn post(path: &str, head: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{head}Content-Length: 2\r\n\r\n{{}}"
    )
}

fn check(answer: &str, status: u16, text: &str) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    assert!(answer.contains(text), "{answer}");
}

#[tokio::test]
async fn a11_who_may_not_bring_rows_learns_nothing_else() {
    let unknown = || Without(Absent::Unknown);
    let answer = ask(unknown(), Closed, &post("/app/public", "")).await;
    check(&answer, 401, "missing or invalid access token");
    // Not even whether the schema is there.
    let answer = ask(unknown(), Closed, &post("/app/other?access_token=x", "")).await;
    check(&answer, 401, "missing or invalid access token");
    let answer = ask(unknown(), Closed, &post("/app/public?access_token=x", "")).await;
    check(&answer, 400, "unknown schema");
}

#[tokio::test]
async fn a11_a_path_that_leads_nowhere_is_not_found_whoever_asks() {
    for path in ["/", "/app", "/app/public/t/u", "/app/%zz", "/_/healthz"] {
        check(&ask(Never, Closed, &post(path, "")).await, 404, "(incident 1)");
    }
}

#[tokio::test]
async fn a11_a_run_that_is_not_there_yet_is_asked_for_again() {
    let answer = ask(Without(Absent::NotYet), Open, &post("/app/public", "")).await;
    check(&answer, 503, "not ready, try again");
    assert!(answer.to_lowercase().contains("retry-after: 1"), "{answer}");
    let answer = ask(Never, Open, &post("/app/public", "")).await;
    check(&answer, 503, "not ready, try again");
}

#[tokio::test]
async fn whose_run_gave_up_is_told_so_and_where_to_read_why() {
    let gave_up = || Without(Absent::GaveUp("table secret is odd".into()));
    let answer = ask(gave_up(), Open, &post("/app/public", "")).await;
    check(&answer, 503, "replication of this schema has stopped; the log of replicator says why");
    check(&answer, 503, "(incident 1)");
    assert!(answer.to_lowercase().contains("retry-after: 1"), "{answer}");
    assert!(!answer.contains("secret"), "{answer}");
}

#[tokio::test]
async fn a11_a_body_that_cannot_be_read_is_refused_by_its_head() {
    let answer = ask(Never, Open, &post("/app/public", "Content-Encoding: br\r\n")).await;
    check(&answer, 415, "encoded");
    let large = "POST /app/public HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
                 Content-Length: 99999999999\r\n\r\n";
    let answer = ask(Never, Open, large).await;
    check(&answer, 413, "");
    let answer = ask(Never, Open, &post("/app/public", "").replace("POST", "DELETE")).await;
    check(&answer, 405, "allow: POST, PUT");
}
