//! The metrics listener: `/_/varz`, `/_/healthz`, `/_/readyz` and `/_/diag`. Plain HTTP, meant for a
//! private network; nothing it says is secret.
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, StatusCode};
use axum::routing::get;
use prometheus::TextEncoder;
use replicator_core::Status;
use replicator_io::clock::Clock;
use replicator_io::metrics::{Metrics, SchemaMetrics};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::config::ListenAddress;

/// What `/_/diag` tells besides what changes.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    /// The command that runs.
    pub(crate) command: &'static str,
    /// Settings by flag, without secrets.
    pub(crate) config: Map<String, Value>,
    /// Started with the process.
    pub(crate) clock: Clock,
}

struct Endpoints {
    metrics: Arc<Metrics>,
    shown: Shown,
}

/// Binds `address`. Without a host that is every address of the machine, IPv6 and IPv4.
pub(crate) async fn listen(address: &ListenAddress) -> std::io::Result<TcpListener> {
    let ListenAddress { host, port } = address;
    match host {
        Some(host) => TcpListener::bind((host.as_str(), *port)).await,
        // On a machine without IPv6 the first one fails.
        None => match TcpListener::bind(("::", *port)).await {
            Ok(listener) => Ok(listener),
            Err(_) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).await,
        },
    }
}

/// Answers until told to stop.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    mut stopped: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let stop = async move {
        // An error means that nobody is left who could ask for more.
        drop(stopped.wait_for(|stopped| *stopped).await);
    };
    axum::serve(listener, router).with_graceful_shutdown(stop).await?;
    Ok(())
}

/// Routes the four paths.
pub(super) fn router(metrics: Arc<Metrics>, shown: Shown) -> Router {
    Router::new()
        .route("/_/varz", get(varz))
        .route("/_/healthz", get(async || "OK"))
        .route("/_/readyz", get(readyz))
        .route("/_/diag", get(diag))
        .with_state(Arc::new(Endpoints { metrics, shown }))
}

type Answer = (StatusCode, [(HeaderName, &'static str); 1], String);

fn answer(status: StatusCode, kind: &'static str, body: String) -> Answer {
    (status, [(CONTENT_TYPE, kind)], body)
}

const TEXT: &str = "text/plain; charset=utf-8";

async fn varz(State(endpoints): State<Arc<Endpoints>>) -> Answer {
    match TextEncoder::new().encode_to_string(&endpoints.metrics.gather()) {
        Ok(text) => answer(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text),
        Err(error) => answer(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n")),
    }
}

async fn readyz(State(endpoints): State<Arc<Endpoints>>) -> Answer {
    match endpoints.metrics.readiness() {
        Ok(()) => answer(StatusCode::OK, TEXT, "OK".to_owned()),
        Err(reason) => answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{reason}\n")),
    }
}

async fn diag(State(endpoints): State<Arc<Endpoints>>) -> Answer {
    let Endpoints { metrics, shown } = &*endpoints;
    let uptime = shown.clock.now().as_nanos() / 1_000_000;
    let schemas = metrics.schemas();
    let schemas = schemas.iter().map(|metrics| (metrics.label().to_owned(), schema(metrics)));
    let object = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "command": shown.command,
        "uptime_ms": uptime,
        "config": shown.config,
        "ready": metrics.readiness().is_ok(),
        "not_ready_because": metrics.readiness().err(),
        "lag_ms": metrics.lag().map(millis),
        "schemas": schemas.collect::<Map<String, Value>>(),
    });
    answer(StatusCode::OK, "application/json", format!("{object:#}\n"))
}

/// How one target schema is.
fn schema(metrics: &SchemaMetrics) -> Value {
    json!({
        "not_ready_because": metrics.readiness().err(),
        "lag_ms": metrics.lag().map(millis),
        "machine": metrics.last_status().as_ref().map(machine),
    })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn machine(status: &Status) -> Value {
    let position = |position: Option<replicator_core::model::position::Position>| {
        position.map(|position| position.to_string())
    };
    json!({
        "admitted": position(status.admitted),
        "applied": position(status.applied),
        "checkpoint": position(status.checkpoint),
        "batches_on_their_way": status.applies,
        "batches_waiting": status.waiting,
        "buffered_rows": status.buffered_rows,
        "buffered_bytes": status.buffered_bytes,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use replicator_core::model::time::WallTime;
    use replicator_io::clock::Clock;
    use replicator_io::metrics::{Command, Limits, Metrics};
    use serde_json::{Map, Value, json};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::watch;

    use super::{Shown, listen, router, serve};
    use crate::config::ListenAddress;

    async fn ask(listener: &std::net::SocketAddr, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(("localhost", listener.port())).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    #[tokio::test]
    async fn the_listener_answers_and_stops() {
        let limits = Limits { applies_max: 1, buffered_bytes_max: 1 };
        let wall = || WallTime { micros: 0 };
        let metrics = Arc::new(Metrics::new(Command::PgLogical, limits, wall));
        let config = Map::from_iter([("flushSize".to_owned(), json!(7))]);
        let shown = Shown { command: "pglogical", config, clock: Clock::start() };
        let listener: TcpListener = listen(&ListenAddress { host: None, port: 0 }).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let served = serve(listener, router(Arc::clone(&metrics), shown), stopped);
        let asked = async {
            assert_eq!(ask(&address, "/_/healthz").await, (200, "OK".to_owned()));
            assert_eq!(ask(&address, "/_/readyz").await, (503, "starting\n".to_owned()));
            let schema = metrics.schema("db.public");
            schema.run_began();
            assert_eq!(ask(&address, "/_/readyz").await, (200, "OK".to_owned()));
            schema.run_ended("the source is gone");
            let (code, body) = ask(&address, "/_/readyz").await;
            assert_eq!((code, body.as_str()), (503, "the source is gone\n"));
            let (code, body) = ask(&address, "/_/varz").await;
            assert_eq!(code, 200);
            assert!(body.contains("\n# TYPE mutation_total counter\n"), "{body}");
            let (code, body) = ask(&address, "/_/diag").await;
            assert_eq!(code, 200);
            let diag: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(diag["config"]["flushSize"], 7);
            assert_eq!(diag["version"], env!("CARGO_PKG_VERSION"));
            assert_eq!(diag["ready"], false);
            assert_eq!(diag["schemas"]["db.public"]["not_ready_because"], "the source is gone");
            assert_eq!(ask(&address, "/").await.0, 404);
            stop.send_replace(true);
        };
        let (served, ()) = tokio::join!(served, asked);
        served.unwrap();
    }
}
