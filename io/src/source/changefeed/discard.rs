//! Answers all requests and throws away what they bring, to measure the way here.
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use futures_util::StreamExt as _;

/// Reads bodies, whatever their path, and keeps nothing. Half of `delay` passes before a body is read, the
/// other half after it.
pub fn router(delay: Duration, response_timeout: Duration) -> Router {
    let answer = async move |request: Request<Body>| {
        let work = async {
            tokio::time::sleep(delay / 2).await;
            let mut frames = request.into_body().into_data_stream();
            while let Some(frame) = frames.next().await {
                if frame.is_err() {
                    return (StatusCode::BAD_REQUEST, "the body ended too early\n");
                }
            }
            tokio::time::sleep(delay / 2).await;
            (StatusCode::OK, "OK")
        };
        let late = (StatusCode::SERVICE_UNAVAILABLE, "it took too long\n");
        tokio::time::timeout(response_timeout, work).await.unwrap_or(late)
    };
    Router::new().fallback(answer)
}
