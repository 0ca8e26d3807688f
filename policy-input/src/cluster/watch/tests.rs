use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::StreamBody;
use kube::client::Body;
use serde_json::json;

use super::super::kinds::{self, POD};
use super::*;

type Frames = BoxStream<'static, Result<Frame<Bytes>, Infallible>>;

fn frames(values: impl futures::Stream<Item = Value> + Send + 'static) -> Frames {
    values.map(|value| Ok(Frame::data(Bytes::from(format!("{value}\n"))))).boxed()
}

/// An API server with one object of each kind, whose list of pods by watching never ends: it says nothing, or the same pod again
/// and again after a pause.
fn answer(uri: &http::Uri, repeats: Option<Duration>) -> Frames {
    let kind = kinds::watched().find(|kind| kind.path() == uri.path()).expect("a kind that is watched");
    let (version, name) = (kind.api_version(), kind.name);
    let metadata = json!({"name": "a", "namespace": kind.is_namespaced.then_some("x"), "resourceVersion": "7"});
    let object = json!({"apiVersion": version, "kind": name, "metadata": metadata, "spec": {"podSelector": {}}, "status": {}});
    let query = uri.query().unwrap_or_default();
    if !query.contains("watch=true") {
        let list = json!({"apiVersion": version, "kind": format!("{name}List"), "metadata": {"resourceVersion": "7"}, "items": [object]});
        return frames(stream::iter([list]));
    }
    let added = json!({"type": "ADDED", "object": object});
    let end = json!({"type": "BOOKMARK", "object": {"apiVersion": version, "kind": name,
        "metadata": {"resourceVersion": "7", "annotations": {"k8s.io/initial-events-end": "true"}}}});
    match (query.contains("sendInitialEvents=true"), *kind == POD, repeats) {
        (false, ..) | (true, true, None) => frames(stream::pending()),
        (true, true, Some(pause)) => frames(stream::unfold(added, move |added| async move {
            tokio::time::sleep(pause).await;
            Some((added.clone(), added))
        })),
        (true, false, _) => frames(stream::iter([added, end]).chain(stream::pending())),
    }
}

fn is_complete(watches: &Watches) -> bool {
    watches.progress().all(|(_, _, progress)| progress == Progress::Listed)
}

/// How long it takes until everything is there.
async fn start(repeats: Option<Duration>) -> Duration {
    let service = tower::service_fn(move |request: Request<Body>| {
        let body = StreamBody::new(answer(request.uri(), repeats));
        async move { Ok::<_, Infallible>(Response::new(body)) }
    });
    let start = Instant::now();
    let wanted = kinds::watched().map(|kind| Wanted { kind, field_selector: None });
    let mut watches = Watches::new(Client::new(service, "default"), WatchHealth::new(kinds::watched()), wanted);
    let mut ended = Vec::new();
    while !is_complete(&watches) {
        assert!(start.elapsed() < Duration::from_secs(1000), "it never ends");
        let (kind, event) = watches.next().await;
        if let WatchEvent::ListEnded = event {
            ended.push(kind.plural);
        }
    }
    let took = start.elapsed();
    assert_eq!(ended, ["namespaces", "nodes", "networkpolicies", "pods"], "one after the other");
    // What has ended is not taken for a list that does not end.
    let quiet = tokio::time::timeout(10 * ENDLESS, async {
        loop {
            watches.next().await;
        }
    });
    assert!(quiet.await.is_err() && is_complete(&watches) && watches.kinds.iter().all(|kind| kind.listing.is_none()));
    took
}

#[tokio::test(start_paused = true)]
async fn a_list_by_watching_that_never_ends_is_asked_for_as_a_list() {
    let silent = start(None).await;
    assert!(silent >= STUCK && silent < 2 * STUCK, "{silent:?}");
    let endless = start(Some(Duration::from_secs(5))).await;
    assert!(endless >= ENDLESS && endless < ENDLESS + STUCK, "{endless:?}");
}
