use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;

use serde_json::{Value, json};

use super::*;
use crate::chain::install::Chain;

/// What an API server says of the agent's pod and of its DaemonSet.
#[derive(Default)]
struct Server {
    daemonset: Option<Value>,
    /// What it answers in place of the objects.
    instead: Option<(u16, String)>,
    watches: Vec<TcpStream>,
}

type Shared = Arc<Mutex<Server>>;

fn metadata(metadata: Value) -> Value {
    json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata})
}

/// Answers one request; the connection of a watch stays open.
fn serve(stream: TcpStream, server: &Shared) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    lines.find(|line| line.as_ref().is_ok_and(String::is_empty));
    let path = first.split(' ').nth(1).unwrap();
    let daemonsets = "/apis/apps/v1/namespaces/netpol/daemonsets";
    let mut server = server.lock().unwrap();
    let owner = json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "netpol", "uid": "1", "controller": true});
    let gone = json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound", "message": "not found",
        "details": {"name": "netpol", "group": "apps", "kind": "daemonsets"}});
    let (code, text) = match (&server.instead, &server.daemonset) {
        (Some(instead), _) => instead.clone(),
        _ if path.starts_with("/api/v1/namespaces/netpol/pods/netpol-a") => {
            (200, metadata(json!({"name": "netpol-a", "ownerReferences": [owner]})).to_string())
        }
        (None, Some(daemonset)) if path.starts_with(&format!("{daemonsets}/netpol")) => (200, daemonset.to_string()),
        (None, None) if path.starts_with(&format!("{daemonsets}/netpol")) => (404, gone.to_string()),
        _ => {
            assert!(path.starts_with(daemonsets) && path.contains("fieldSelector=metadata.name%3Dnetpol"), "{path}");
            (&stream).write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n").unwrap();
            server.watches.push(stream);
            return;
        }
    };
    let head =
        format!("HTTP/1.1 {code} X\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}", text.len());
    (&stream).write_all(format!("{head}\r\n\r\n{text}").as_bytes()).unwrap();
}

/// A node with the plugin in its chain, and an API server.
struct Lab {
    folder: tempfile::TempDir,
    server: Shared,
    removal: Arc<Removal>,
}

impl Lab {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server: Shared = Arc::default();
        server.lock().unwrap().daemonset = Some(metadata(json!({"name": "netpol", "uid": "1"})));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::clone(&server);
        std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| serve(stream, &shared)));
        let config = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": format!("http://{address}")}}],
            "users": [{"name": "u", "user": {}}], "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]});
        std::fs::write(folder.path().join("kubeconfig"), config.to_string()).unwrap();
        let configurations = folder.path().join("net.d");
        std::fs::create_dir(&configurations).unwrap();
        std::fs::write(configurations.join("10-x.conflist"), r#"{"name":"n","plugins":[{"type":"ptp"}]}"#).unwrap();
        let chain = Chain { configurations, socket: "/run/netpol/agent.sock".into() };
        chain.install().unwrap();
        let access = Access { kubeconfig: Some(folder.path().join("kubeconfig")), context: None };
        let mut removal = Removal::new(access, ObjectKey::new("netpol", "netpol-a"), Kept::new(chain), || {});
        Arc::get_mut(&mut removal).unwrap().successor = Duration::from_millis(100);
        Self { folder, server, removal }
    }

    fn is_chained(&self) -> bool {
        let path: PathBuf = self.folder.path().join("net.d/10-x.conflist");
        std::fs::read_to_string(path).unwrap().contains("netpol-cni")
    }

    fn answer(&self, code: u16, text: &str) {
        self.server.lock().unwrap().instead = Some((code, text.to_owned()));
    }

    /// Waits with patience that only a broken agent exhausts.
    async fn wait(&self, is_so: impl Fn(&Self) -> bool) {
        for _ in 0..6000 {
            if is_so(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it does not get there");
    }
}

fn block_on(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(test);
}

const FORBIDDEN: &str = r#"{"kind":"Status","status":"Failure","code":403,"reason":"Forbidden","message":"forbidden"}"#;

/// The order of `helm uninstall`: the DaemonSet goes, and the rights of the agent a moment later.
#[test]
fn a_deletion_that_was_seen_counts_when_the_rights_are_gone() {
    block_on(async {
        let lab = Lab::start();
        tokio::spawn(Arc::clone(&lab.removal).watch());
        lab.wait(|lab| lab.removal.is_watching.load(Ordering::Relaxed)).await;
        assert!(lab.is_chained());
        let object = lab.server.lock().unwrap().daemonset.take().unwrap();
        lab.answer(403, FORBIDDEN);
        let event = format!("{}\n", json!({"type": "DELETED", "object": object}));
        lab.server.lock().unwrap().watches.iter().for_each(|mut watch| watch.write_all(event.as_bytes()).unwrap());
        lab.wait(|lab| !lab.is_chained()).await;
        assert!(lab.removal.kept.has_left());
    });
}

/// Told to stop, the agent asks once more.
#[test]
fn the_last_look_needs_a_daemonset_that_is_certainly_deleted() {
    block_on(async {
        let lab = Lab::start();
        lab.removal.decide().await;
        assert!(lab.is_chained(), "it is there");
        let status = |code: u16, reason: &str, details: Value| {
            json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": "m", "details": details})
                .to_string()
        };
        // A proxy, an API server that has not started yet, another object.
        for (code, text) in [
            (403, FORBIDDEN.to_owned()),
            (401, status(401, "Unauthorized", json!({}))),
            (404, "<html>not here</html>".to_owned()),
            (404, status(404, "NotFound", json!({}))),
            (404, status(404, "NotFound", json!({"name": "netpol-a", "kind": "pods"}))),
            (503, status(503, "ServiceUnavailable", json!({}))),
            (200, "{}".to_owned()),
            (200, String::new()),
        ] {
            lab.answer(code, &text);
            lab.removal.decide().await;
            assert!(lab.is_chained(), "{code} {text}");
        }
        lab.server.lock().unwrap().instead = None;
        lab.server.lock().unwrap().daemonset = Some(metadata(json!({"name": "netpol", "uid": "2"})));
        lab.removal.decide().await;
        assert!(lab.is_chained(), "another one has taken its place");
        lab.server.lock().unwrap().daemonset = None;
        lab.removal.decide().await;
        assert!(!lab.is_chained());
    });
}

#[test]
fn without_an_api_server_the_plugin_stays() {
    block_on(async {
        let lab = Lab::start();
        let config = std::fs::read_to_string(lab.folder.path().join("kubeconfig")).unwrap();
        // A port that nobody listens at.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut config: Value = serde_json::from_str(&config).unwrap();
        config["clusters"][0]["cluster"]["server"] = json!(format!("http://127.0.0.1:{port}"));
        std::fs::write(lab.folder.path().join("kubeconfig"), config.to_string()).unwrap();
        lab.removal.decide().await;
        assert!(lab.is_chained());
    });
}
