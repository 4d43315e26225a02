//! Counts requests, for operators.
use std::sync::Arc;

use axum::Router;
use axum::body::HttpBody as _;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry};

use crate::clock::Clock;
use crate::metrics::families::{latencies, register};

/// Metrics of requests.
#[derive(Debug)]
pub struct HttpMetrics {
    codes: IntCounterVec,
    latency: Histogram,
    payload: Histogram,
    in_flight: IntGauge,
}

impl HttpMetrics {
    /// Makes them and adds them to `registry`.
    ///
    /// # Panics
    ///
    /// They are there already.
    #[must_use]
    pub fn new(registry: &Registry) -> Self {
        let histogram = |name, help, buckets| {
            let opts = HistogramOpts::new(name, help).buckets(buckets);
            register(registry, Histogram::with_opts(opts))
        };
        let codes = Opts::new("http_status_codes_total", "Answers, by status code.");
        Self {
            codes: register(registry, IntCounterVec::new(codes, &["code"])),
            latency: histogram("http_latency_seconds", "Time to answer a request.", latencies()),
            // A histogram whatever its name says: it is the documented one.
            payload: histogram(
                "http_payload_in_bytes_total",
                "Length of the body of a request, in bytes, where the request says it.",
                payloads(),
            ),
            in_flight: register(
                registry,
                IntGauge::new("http_requests_in_flight", "Requests that are not answered yet."),
            ),
        }
    }
}

/// From 1 KiB to 10 MiB.
fn payloads() -> Vec<f64> {
    let kib = [1_u32, 2, 5, 10, 20, 50, 100, 200, 500, 1_024, 2_048, 5_120, 10_240];
    kib.map(|kib| f64::from(kib) * 1_024.0).to_vec()
}

/// A request under way, until it is dropped: one whose caller has gone is never answered.
struct InFlight<'a>(&'a IntGauge);

impl<'a> InFlight<'a> {
    fn begin(gauge: &'a IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The same routes, whose requests are counted.
pub fn metered(router: Router, metrics: HttpMetrics, clock: Clock) -> Router {
    router.layer(from_fn_with_state(Arc::new((metrics, clock)), count))
}

async fn count(
    State(state): State<Arc<(HttpMetrics, Clock)>>,
    request: Request,
    next: Next,
) -> Response {
    let (metrics, clock) = &*state;
    let _in_flight = InFlight::begin(&metrics.in_flight);
    let began = clock.now();
    // Exact up to 2^53, far beyond what is taken.
    if let Some(bytes) = request.body().size_hint().exact() {
        metrics.payload.observe(bytes as f64);
    }
    let response = next.run(request).await;
    metrics.latency.observe(clock.since(began).as_secs_f64());
    metrics.codes.with_label_values(&[response.status().as_str()]).inc();
    response
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::Router;
    use axum::http::StatusCode;
    use axum::routing::{get, post};
    use prometheus::{Registry, TextEncoder};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::watch;

    use super::{HttpMetrics, metered};
    use crate::clock::Clock;
    use crate::http::{HttpLimits, serve};

    /// Asks for each of these, one after the other, and then for one that is never answered. Returns the
    /// metrics when only that is left.
    async fn metrics(requests: &[&str]) -> String {
        let registry = Registry::new();
        let router = Router::new()
            .route("/", post(async |_: String| "OK"))
            .route("/no", post(async || StatusCode::NOT_FOUND))
            .route("/never", get(std::future::pending::<()>));
        let router = metered(router, HttpMetrics::new(&registry), Clock::start());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let limits = HttpLimits { grace: Duration::from_millis(1), ..HttpLimits::default() };
        let asked = async {
            for request in requests {
                let mut stream = TcpStream::connect(address).await.unwrap();
                stream.write_all(request.as_bytes()).await.unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).await.unwrap();
            }
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET /never HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
            loop {
                let text = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
                if text.lines().any(|line| line == "http_requests_in_flight 1") {
                    stop.send_replace(true);
                    return text;
                }
                tokio::task::yield_now().await;
            }
        };
        let ((), text) = tokio::join!(serve(listener, None, router, limits, stopped), asked);
        let after = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        assert!(after.lines().any(|line| line == "http_requests_in_flight 0"), "{after}");
        text
    }

    fn post_of(path: &str, bytes: usize) -> String {
        let body = "x".repeat(bytes);
        format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {bytes}\r\n\r\n{body}"
        )
    }

    #[tokio::test]
    async fn a13_requests_are_counted_by_code_time_and_size() {
        let requests = [post_of("/", 1_000), post_of("/", 3_000), post_of("/no", 10)];
        let text = metrics(&requests.each_ref().map(String::as_str)).await;
        for line in [
            "http_status_codes_total{code=\"200\"} 2",
            "http_status_codes_total{code=\"404\"} 1",
            "http_latency_seconds_count 3",
            "http_latency_seconds_bucket{le=\"60\"} 3",
            // The one that waits has a length, too: none.
            "http_payload_in_bytes_total_count 4",
            "http_payload_in_bytes_total_sum 4010",
            "http_payload_in_bytes_total_bucket{le=\"1024\"} 3",
            "http_payload_in_bytes_total_bucket{le=\"10485760\"} 4",
            "http_requests_in_flight 1",
        ] {
            assert!(text.lines().any(|had| had == line), "{line} is not in:\n{text}");
        }
    }
}
