//! What an agent needs of an API server, from memory: for tests and measurements in which a real one would be what takes the time.
//!
//! It answers lists, and watches that list first. It checks nothing, and remembers no history: a watch hears what changes after
//! it began.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};

use super::Namespace;

/// Bookmarks come this often, so that nobody takes a quiet watch for a dead one.
const BOOKMARK: Duration = Duration::from_secs(20);
/// What an answer to a watch begins with.
const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
/// Path, version and kind of what it serves.
const KINDS: [(&str, &str, &str); 4] = [
    ("namespaces", "v1", "Namespace"),
    ("nodes", "v1", "Node"),
    ("networkpolicies", "networking.k8s.io/v1", "NetworkPolicy"),
    ("pods", "v1", "Pod"),
];

#[derive(Default)]
struct Objects {
    version: u64,
    /// By the plural of their kind, and by namespace and name.
    by_kind: BTreeMap<&'static str, BTreeMap<String, Value>>,
    watches: Vec<(&'static str, Sender<Arc<String>>)>,
    /// The kind whose list by watching never ends.
    stuck: Option<&'static str>,
}

/// A stand-in for an API server, which belongs to a namespace.
pub struct FakeApi {
    objects: Arc<Mutex<Objects>>,
    kubeconfig: PathBuf,
}

fn lock(objects: &Mutex<Objects>) -> MutexGuard<'_, Objects> {
    objects.lock().expect("nobody panics with it")
}

fn key(object: &Value) -> String {
    let part = |name: &str| object["metadata"][name].as_str().unwrap_or_default();
    format!("{}/{}", part("namespace"), part("name"))
}

/// The kind of a path or of an object.
fn kind_of(plural: &str) -> Option<(&'static str, &'static str, &'static str)> {
    KINDS.into_iter().find(|(name, _, kind)| *name == plural || *kind == plural)
}

impl Objects {
    fn tell(&mut self, plural: &'static str, what: &str, object: &Value) {
        let line = Arc::new(format!("{}\n", json!({"type": what, "object": object})));
        self.watches.retain(|(kind, watch)| *kind != plural || watch.send(line.clone()).is_ok());
    }

    fn set(&mut self, mut object: Value) {
        let (plural, ..) = object["kind"].as_str().and_then(kind_of).expect("a kind that agents watch");
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let before = self.by_kind.entry(plural).or_default().insert(key(&object), object.clone());
        self.tell(plural, if before.is_some() { "MODIFIED" } else { "ADDED" }, &object);
    }

    fn delete(&mut self, kind: &str, key: &str) {
        let (plural, ..) = kind_of(kind).expect("a kind that agents watch");
        self.version += 1;
        if let Some(mut object) = self.by_kind.entry(plural).or_default().remove(key) {
            object["metadata"]["resourceVersion"] = json!(self.version.to_string());
            self.tell(plural, "DELETED", &object);
        }
    }

    fn bookmark(&self, version: &str, kind: &str, annotations: &Value) -> String {
        let metadata = json!({"resourceVersion": self.version.to_string(), "annotations": annotations});
        format!("{}\n", json!({"type": "BOOKMARK", "object": {"apiVersion": version, "kind": kind, "metadata": metadata}}))
    }
}

impl FakeApi {
    /// Serves in a namespace until that goes. Its kubeconfig is in `folder`.
    ///
    /// # Panics
    /// When the namespace has no free port, or the folder cannot be written.
    #[must_use]
    pub fn start(namespace: &Namespace, folder: &Path) -> Self {
        let objects = Arc::new(Mutex::new(Objects::default()));
        let listener = namespace.run(|| TcpListener::bind("127.0.0.1:0").expect("a free port"));
        let address = listener.local_addr().expect("it is bound");
        let kubeconfig = folder.join("stand-in.conf");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: lab\nclusters:\n- {{name: lab, cluster: {{server: 'http://{address}'}}}}\n\
             users:\n- {{name: me, user: {{}}}}\ncontexts:\n- {{name: lab, context: {{cluster: lab, user: me}}}}\n"
        );
        std::fs::write(&kubeconfig, text).expect("writable");
        let served = objects.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let objects = served.clone();
                // A client that goes ends its thread.
                std::thread::spawn(move || drop(serve(&stream, &objects)));
            }
        });
        Self { objects, kubeconfig }
    }

    /// How to reach it.
    ///
    /// # Panics
    /// When its path is not UTF-8.
    #[must_use]
    pub fn kubeconfig(&self) -> &str {
        self.kubeconfig.to_str().expect("a path in UTF-8")
    }

    /// Lists of this kind by watching say nothing from now on, not even that they have ended.
    pub fn never_streams(&self, kind: &str) {
        let (plural, ..) = kind_of(kind).expect("a kind that agents watch");
        lock(&self.objects).stuck = Some(plural);
    }

    /// Makes an object be there as it is given.
    pub fn set(&self, object: Value) {
        lock(&self.objects).set(object);
    }

    /// Removes an object by its kind, namespace and name.
    pub fn delete(&self, kind: &str, namespace: &str, name: &str) {
        lock(&self.objects).delete(kind, &format!("{namespace}/{name}"));
    }
}

/// Answers the requests of a connection, one after the other.
fn serve(stream: &TcpStream, objects: &Mutex<Objects>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        loop {
            let mut header = String::new();
            if reader.read_line(&mut header)? == 0 || header == "\r\n" {
                break;
            }
        }
        let target = line.split(' ').nth(1).unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let Some((plural, version, kind)) = path.rsplit('/').next().and_then(kind_of) else {
            write!(&mut &*stream, "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")?;
            continue;
        };
        if query.contains("watch=true") {
            return watch(stream, objects, (plural, version, kind), query);
        }
        let list = {
            let objects = lock(objects);
            let items: Vec<&Value> = objects.by_kind.get(plural).into_iter().flat_map(BTreeMap::values).collect();
            let metadata = json!({"resourceVersion": objects.version.to_string()});
            json!({"apiVersion": version, "kind": format!("{kind}List"), "metadata": metadata, "items": items}).to_string()
        };
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", list.len());
        (&mut &*stream).write_all((head + &list).as_bytes())?;
    }
}

/// Tells what is there, if asked for, and then what changes, for as long as somebody reads it.
fn watch(
    mut stream: &TcpStream,
    objects: &Mutex<Objects>,
    (plural, version, kind): (&'static str, &str, &str),
    query: &str,
) -> std::io::Result<()> {
    let (first, changes): (String, Receiver<Arc<String>>) = {
        let mut objects = lock(objects);
        let (tell, told) = channel();
        let lists = query.contains("sendInitialEvents=true");
        if lists && objects.stuck == Some(plural) {
            drop(objects);
            stream.write_all(HEAD)?;
            // Until the client goes.
            return BufReader::new(stream).read_line(&mut String::new()).map(drop);
        }
        objects.watches.push((plural, tell));
        let mut text = String::new();
        if lists {
            for object in objects.by_kind.get(plural).into_iter().flat_map(BTreeMap::values) {
                text += &format!("{}\n", json!({"type": "ADDED", "object": object}));
            }
            text += &objects.bookmark(version, kind, &json!({"k8s.io/initial-events-end": "true"}));
        }
        (text, told)
    };
    stream.write_all(HEAD)?;
    let mut next = first;
    loop {
        if !next.is_empty() {
            stream.write_all(format!("{:x}\r\n{next}\r\n", next.len()).as_bytes())?;
        }
        next = match changes.recv_timeout(BOOKMARK) {
            // What has queued up meanwhile goes with it.
            Ok(line) => changes.try_iter().fold(line.to_string(), |text, line| text + &line),
            Err(RecvTimeoutError::Timeout) => lock(objects).bookmark(version, kind, &json!({})),
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        };
    }
}
