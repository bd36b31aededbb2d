//! `/metrics`, `/healthz` and `/readyz`, over TCP and without a login: nothing here names an identity or a statement.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;

use super::Gateway;

/// The format that Prometheus' text encoder writes.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) fn router(gateway: Arc<dyn Gateway>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .fallback(async || (StatusCode::NOT_FOUND, "only /metrics, /healthz and /readyz\n"))
        .with_state(gateway)
}

async fn metrics(State(gateway): State<Arc<dyn Gateway>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, METRICS_TYPE)], gateway.metrics())
}

async fn ready(State(gateway): State<Arc<dyn Gateway>>) -> impl IntoResponse {
    match gateway.ready() {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
    }
}
