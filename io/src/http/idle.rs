//! Connections on which nobody asks anything are closed: each takes a place that others may wait for.
use std::future;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use tokio::sync::watch;
use tokio::time::timeout;

use super::HttpLimits;

/// What was asked on one connection.
#[derive(Clone, Copy, Debug, Default)]
struct Asked {
    ever: bool,
    under_way: usize,
}

/// A request under way, until it is dropped.
struct UnderWay(Arc<watch::Sender<Asked>>);

impl UnderWay {
    fn begin(asked: Arc<watch::Sender<Asked>>) -> Self {
        asked.send_modify(|asked| {
            asked.ever = true;
            asked.under_way += 1;
        });
        Self(asked)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.send_modify(|asked| asked.under_way -= 1);
    }
}

/// Watches the requests of one connection. The future returns when nothing was asked for too long: a
/// first request is awaited as long as a head may take, the next one for a while.
pub(super) fn watched(
    router: Router,
    limits: HttpLimits,
) -> (Router, impl Future<Output = ()> + Send) {
    let (asked, mut heard) = watch::channel(Asked::default());
    let router = router.layer(from_fn_with_state(Arc::new(asked), count));
    let silence = async move {
        loop {
            let Ok(asked) = heard.wait_for(|asked| asked.under_way == 0).await.map(|a| *a) else {
                // The connection has ended.
                return future::pending().await;
            };
            let limit = if asked.ever { limits.idle_timeout } else { limits.head_timeout };
            match timeout(limit, heard.changed()).await {
                Err(_) => return,
                Ok(_) => continue,
            }
        }
    };
    (router, silence)
}

async fn count(
    State(asked): State<Arc<watch::Sender<Asked>>>,
    request: Request,
    next: Next,
) -> Response {
    let _under_way = UnderWay::begin(asked);
    next.run(request).await
}
