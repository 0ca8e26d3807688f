//! Makes the cluster in a control plane hold what a test wants: the part of kubelets and controllers.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::mpsc::channel;

use futures::StreamExt;
use http::{Method, Request};
use kube::{Client, Config, config::KubeConfigOptions, config::Kubeconfig};
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedSender;

use super::Namespace;

type Work = Box<dyn FnOnce(Client) -> Pin<Box<dyn Future<Output = ()>>> + Send>;

/// Kinds in the order in which they must be made.
const KINDS: [&str; 4] = ["Namespace", "Node", "Pod", "NetworkPolicy"];
/// Requests under way at once.
const AT_ONCE: usize = 32;

/// Somebody who may do everything, in a network namespace.
pub struct Api {
    work: UnboundedSender<Work>,
    /// What is there, by kind, namespace and name.
    there: BTreeMap<(usize, String, String), Value>,
}

/// What the API server says about a request that it refuses.
pub type Refusal = String;

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

fn namespace(object: &Value) -> &str {
    object["metadata"]["namespace"].as_str().unwrap_or_default()
}

fn folder(kind: &str, namespace: &str) -> String {
    match kind {
        "Namespace" => "/api/v1/namespaces".to_owned(),
        "Node" => "/api/v1/nodes".to_owned(),
        "Pod" => format!("/api/v1/namespaces/{namespace}/pods"),
        "NetworkPolicy" => format!("/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies"),
        other => panic!("{other} is not for tests"),
    }
}

fn path(object: &Value) -> String {
    format!("{}/{}", folder(object["kind"].as_str().unwrap_or_default(), namespace(object)), name(object))
}

async fn send(client: &Client, method: Method, path: &str, body: &Value) -> Result<Value, Refusal> {
    let kind = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
    let request = Request::builder().method(method.clone()).uri(path).header("content-type", kind);
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let request = request.body(body).expect("a request");
    client.request::<Value>(request).await.map_err(|error| format!("{method} {path}: {error}"))
}

/// An object as somebody would create it: whole, and without a status where that is somebody else's.
fn as_created(object: &Value) -> Value {
    let mut object = object.clone();
    if object["kind"] == "Pod" {
        let spec = &mut object["spec"];
        if spec["containers"].as_array().is_none_or(Vec::is_empty) {
            spec["containers"] = json!([{}]);
        }
        spec["terminationGracePeriodSeconds"] = json!(0);
        for (list, letter) in [("containers", 'c'), ("initContainers", 'i')] {
            for (number, container) in spec[list].as_array_mut().into_iter().flatten().enumerate() {
                container["name"] = json!(format!("{letter}{number}"));
                container["image"] = json!("none");
            }
        }
        object.as_object_mut().expect("an object").remove("status");
    }
    object
}

/// The labels that make those of `before` those of `after`.
fn label_patch(before: &Value, after: &Value) -> Value {
    let empty = serde_json::Map::new();
    let labels = |object: &Value| object["metadata"]["labels"].as_object().unwrap_or(&empty).clone();
    let mut out: serde_json::Map<String, Value> = labels(before).keys().map(|key| (key.clone(), Value::Null)).collect();
    out.extend(labels(after));
    json!({"metadata": {"labels": out}})
}

async fn create(client: &Client, object: &Value) -> Result<(), Refusal> {
    let kind = object["kind"].as_str().unwrap_or_default();
    send(client, Method::POST, &folder(kind, namespace(object)), &as_created(object)).await?;
    match object.get("status") {
        Some(status) if kind == "Pod" => {
            let result = set_status(client, object, status).await;
            if result.is_err() {
                delete(client, object).await?;
            }
            result
        }
        _ => Ok(()),
    }
}

async fn set_status(client: &Client, object: &Value, status: &Value) -> Result<(), Refusal> {
    let mut status = status.clone();
    if object["kind"] == "Pod" {
        // A kubelet always says both.
        if status["podIPs"].is_null() && !status["podIP"].is_null() {
            status["podIPs"] = json!([{"ip": status["podIP"]}]);
        } else if status["podIP"].is_null() && !status["podIPs"].is_null() {
            status["podIP"] = status["podIPs"][0]["ip"].clone();
        }
    }
    send(client, Method::PATCH, &format!("{}/status", path(object)), &json!({"status": status})).await.map(drop)
}

async fn delete(client: &Client, object: &Value) -> Result<(), Refusal> {
    match object["kind"].as_str() {
        Some("Namespace") => {
            send(client, Method::DELETE, &path(object), &Value::Null).await?;
            // What the namespace controller does when nothing is left in it.
            let end =
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name(object)}, "spec": {"finalizers": []}});
            send(client, Method::PUT, &format!("{}/finalize", path(object)), &end).await.map(drop)
        }
        _ => send(client, Method::DELETE, &format!("{}?gracePeriodSeconds=0", path(object)), &Value::Null).await.map(drop),
    }
}

async fn update(client: &Client, before: &Value, object: &Value) -> Result<(), Refusal> {
    if object["kind"] == "NetworkPolicy" {
        return send(client, Method::PUT, &path(object), object).await.map(drop);
    }
    if object["kind"] == "Pod" && before["spec"] != object["spec"] {
        delete(client, before).await?;
        return create(client, object).await;
    }
    if before["metadata"]["labels"] != object["metadata"]["labels"] {
        send(client, Method::PATCH, &path(object), &label_patch(before, object)).await?;
    }
    match object.get("status") {
        Some(status) if before["status"] != *status => set_status(client, object, status).await,
        _ => Ok(()),
    }
}

impl Api {
    /// A client with this kubeconfig in a namespace.
    ///
    /// # Panics
    /// When the kubeconfig is not good.
    #[must_use]
    pub fn new(namespace: &Namespace, kubeconfig: PathBuf) -> Self {
        let (work, mut queue) = tokio::sync::mpsc::unbounded_channel::<Work>();
        // The thread ends with the queue.
        drop(namespace.spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let kubeconfig = Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
                let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.expect("complete");
                let client = Client::try_from(config).expect("a client");
                while let Some(job) = queue.recv().await {
                    job(client.clone()).await;
                }
            });
        }));
        Self { work, there: BTreeMap::new() }
    }

    fn run<T: Send + 'static, F: Future<Output = T> + 'static>(&self, job: impl FnOnce(Client) -> F + Send + 'static) -> T {
        let (tell, told) = channel();
        let work: Work = Box::new(move |client| {
            Box::pin(async move {
                let _ = tell.send(job(client).await);
            })
        });
        self.work.send(work).unwrap_or_else(|_| panic!("the client is gone"));
        told.recv().expect("the client answers")
    }

    /// One request.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub fn request(&self, method: Method, path: &str, body: Value) -> Result<Value, Refusal> {
        let path = path.to_owned();
        self.run(move |client| async move { send(&client, method, &path, &body).await })
    }

    /// Makes the cluster hold these objects, and none that were here before and are not among them. Returns what was refused.
    pub fn hold(&mut self, objects: &[Value]) -> Vec<(Value, Refusal)> {
        let place = |object: &Value| KINDS.iter().position(|kind| object["kind"] == *kind);
        let key = |object: &Value| Some((place(object)?, namespace(object).to_owned(), name(object).to_owned()));
        let wanted: BTreeMap<(usize, String, String), Value> =
            objects.iter().filter_map(|object| Some((key(object)?, object.clone()))).collect();
        let gone: Vec<Value> =
            self.there.iter().rev().filter(|(key, _)| !wanted.contains_key(*key)).map(|(_, v)| v.clone()).collect();
        let there = std::mem::take(&mut self.there);
        let (refused, held) = self.run(move |client| async move {
            let mut refused: Vec<(Value, Refusal)> = Vec::new();
            let client = &client;
            // What is gone goes from the contents to the namespace, what comes from the namespace to the contents.
            for kind in KINDS.iter().rev() {
                let jobs =
                    gone.iter().filter(|o| o["kind"] == **kind).map(|o| async move { (o.clone(), delete(client, o).await) });
                let results: Vec<(Value, Result<(), Refusal>)> =
                    futures::stream::iter(jobs).buffer_unordered(AT_ONCE).collect().await;
                refused.extend(results.into_iter().filter_map(|(o, result)| Some((o, result.err()?))));
            }
            let mut held = wanted.clone();
            for number in 0..KINDS.len() {
                let jobs = wanted.iter().filter(|((kind, ..), object)| {
                    *kind == number && there.get(&(*kind, namespace(object).to_owned(), name(object).to_owned())) != Some(*object)
                });
                let jobs = jobs.map(|(key, object)| {
                    let before = there.get(key);
                    async move {
                        let result = match before {
                            Some(before) => update(client, before, object).await,
                            None => create(client, object).await,
                        };
                        (key.clone(), object.clone(), before.cloned(), result)
                    }
                });
                let results: Vec<_> = futures::stream::iter(jobs).buffer_unordered(AT_ONCE).collect().await;
                for (key, object, before, result) in results {
                    if let Err(refusal) = result {
                        held.remove(&key);
                        held.extend(before.map(|before| (key, before)));
                        refused.push((object, refusal));
                    }
                }
            }
            (refused, held)
        });
        self.there = held;
        refused
    }
}
