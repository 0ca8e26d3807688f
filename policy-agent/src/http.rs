//! `/metrics`, `/healthz` and `/readyz`.

use std::net::SocketAddr;
use std::sync::mpsc::Sender;

use anyhow::{Context, Result};
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use policy_agent::agent::{Event, Question};
use tokio::net::TcpListener;

use crate::local::ask;

/// Serves until the process ends.
pub(crate) async fn serve(address: SocketAddr, events: Sender<Event>) -> Result<()> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
    let asked = move |question: Question, good: fn(&str) -> bool| {
        let events = events.clone();
        move || async move {
            // The loop answers between two transactions; other requests must not wait for it.
            let answer = tokio::task::spawn_blocking(move || ask(&events, question)).await.ok().flatten();
            match answer {
                Some(text) if good(&text) => (StatusCode::OK, text),
                Some(text) => (StatusCode::SERVICE_UNAVAILABLE, text),
                None => (StatusCode::SERVICE_UNAVAILABLE, "the agent does not answer\n".to_owned()),
            }
        }
    };
    let router = Router::new()
        .route("/metrics", get(asked(Question::Metrics, |_| true)))
        .route("/healthz", get(asked(Question::Status, |_| true)))
        .route("/readyz", get(asked(Question::Ready, |text| text.lines().next() == Some("ready"))));
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the metrics server stopped");
        }
    });
    Ok(())
}
