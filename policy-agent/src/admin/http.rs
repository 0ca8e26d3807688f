//! `/healthz` and `/readyz` for anybody who reaches the port, and `/metrics`, where tokens are set, for those who send one.
//!
//! Answers come from the registry and from what the loop shows, so no request reaches the loop. One thread with a low priority
//! serves all of them, one request a connection, within bounds of time, size, connections and rate; the node's own probes have
//! connections of their own, so that other clients cannot block the kubelet.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};

use crate::admin::metrics::Metrics;
use crate::admin::tokens::{Admission, Tokens};
use crate::agent::{Published, SILENCE};

/// Connections of others at a time.
const MOST_CONNECTIONS: usize = 64;
/// Connections of one other address at a time.
const MOST_OF_ONE: usize = 8;
/// Connections of this node at a time.
const MOST_OWN: usize = 32;
/// A connection must have asked in this time.
const ASKING: Duration = Duration::from_secs(5);
/// A connection is over after this time.
const LONGEST: Duration = Duration::from_secs(15);
/// Bytes of a request at the most.
const LARGEST: usize = 16 << 10;
/// Others get an answer this often, each in its turn, once they have had so many at once: a connection costs the kernel more than the
/// answer costs the agent, and clients that wait cost nothing.
const PACE: Duration = Duration::from_millis(20);
const AT_ONCE: u32 = 64;
/// Metrics are put into words at the most this often.
const FRESH: Duration = Duration::from_secs(1);
/// After an error of the listener, such as no file descriptor left.
const PAUSE: Duration = Duration::from_millis(100);
/// The thread's nice value: what reports loses against what enforces.
const NICE: i32 = 10;

/// The text of the metrics, and when it was made.
type Cached = Mutex<Option<(Instant, Bytes)>>;

struct Server {
    published: Arc<Published>,
    metrics: Metrics,
    /// Of which clients of the metrics must send one; without them, anybody can read the metrics.
    tokens: Option<Tokens>,
    cached: Cached,
    connections: Arc<Mutex<Connections>>,
    turns: Mutex<Turns>,
}

/// When others get their answers.
struct Turns {
    /// The next one, or a moment in the past.
    next: Instant,
}

impl Turns {
    fn new(now: Instant) -> Self {
        Self { next: now }
    }

    /// How long an answer has to wait for its turn.
    fn take(&mut self, now: Instant) -> Duration {
        let earliest = now.checked_sub(PACE * (AT_ONCE - 1)).unwrap_or(now);
        let turn = self.next.max(earliest);
        self.next = turn + PACE;
        turn.saturating_duration_since(now)
    }
}

/// Connections that are open.
#[derive(Default)]
struct Connections {
    own: usize,
    others: BTreeMap<IpAddr, usize>,
}

/// Who is at the other end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Peer {
    /// This node: its kubelet.
    Own,
    Other(IpAddr),
}

impl Peer {
    /// A connection within the node has the same address at both ends, or a loopback address. From outside, neither can be had:
    /// replies would not leave the node.
    fn new(peer: SocketAddr, local: SocketAddr) -> Self {
        let (peer, local) = (peer.ip().to_canonical(), local.ip().to_canonical());
        if peer == local || peer.is_loopback() { Self::Own } else { Self::Other(peer) }
    }
}

impl Connections {
    fn open(&mut self, peer: Peer) -> bool {
        match peer {
            Peer::Own if self.own < MOST_OWN => self.own += 1,
            Peer::Own => return false,
            Peer::Other(_) if self.others.values().sum::<usize>() >= MOST_CONNECTIONS => return false,
            Peer::Other(address) => {
                let open = self.others.entry(address).or_default();
                if *open >= MOST_OF_ONE {
                    return false;
                }
                *open += 1;
            }
        }
        true
    }

    fn close(&mut self, peer: Peer) {
        match peer {
            Peer::Own => self.own = self.own.saturating_sub(1),
            Peer::Other(address) => {
                if let Some(open) = self.others.get_mut(&address) {
                    *open = open.saturating_sub(1);
                    if *open == 0 {
                        self.others.remove(&address);
                    }
                }
            }
        }
    }
}

/// A place for a connection; given back when it is dropped.
struct Place {
    connections: Arc<Mutex<Connections>>,
    peer: Peer,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).close(self.peer);
    }
}

impl Server {
    fn place(&self, peer: Peer) -> Option<Place> {
        let is_open = self.connections.lock().unwrap_or_else(PoisonError::into_inner).open(peer);
        is_open.then(|| Place { connections: self.connections.clone(), peer })
    }

    fn metrics(&self) -> Bytes {
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        match &*cached {
            Some((at, text)) if at.elapsed() < FRESH => text.clone(),
            _ => {
                let text = Bytes::from(self.metrics.text().unwrap_or_else(|error| format!("# {error}\n")));
                *cached = Some((Instant::now(), text.clone()));
                text
            }
        }
    }

    fn answer(&self, method: &Method, path: &str, authorization: Option<&[u8]>) -> (StatusCode, Bytes) {
        if method != Method::GET && method != Method::HEAD {
            return (StatusCode::METHOD_NOT_ALLOWED, Bytes::from_static(b"only GET and HEAD are supported\n"));
        }
        match path {
            "/metrics" => self.answer_metrics(authorization),
            "/healthz" => {
                let silence = self.published.silence(Instant::now());
                if silence < SILENCE {
                    return (StatusCode::OK, Bytes::from_static(b"ok\n"));
                }
                let text = format!("the enforcement thread has not completed a round for {} s\n", silence.as_secs());
                (StatusCode::SERVICE_UNAVAILABLE, text.into())
            }
            "/readyz" => match self.published.readiness() {
                Ok(ready) => (StatusCode::OK, format!("{ready}\n").into()),
                Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n").into()),
            },
            _ => (StatusCode::NOT_FOUND, Bytes::from_static(b"not found; use /metrics, /healthz or /readyz\n")),
        }
    }

    fn answer_metrics(&self, authorization: Option<&[u8]>) -> (StatusCode, Bytes) {
        let admit = |tokens: &Tokens| tokens.admit(authorization, Instant::now());
        match self.tokens.as_ref().map_or(Admission::Granted, admit) {
            Admission::Granted => (StatusCode::OK, self.metrics()),
            Admission::Refused => (StatusCode::UNAUTHORIZED, Bytes::from_static(b"the metrics require a token\n")),
            Admission::Unreadable => {
                let text = b"the metrics require a token, and the agent cannot read its tokens; see its log\n";
                (StatusCode::SERVICE_UNAVAILABLE, Bytes::from_static(text))
            }
        }
    }

    fn respond(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let authorization = request.headers().get(header::AUTHORIZATION).map(header::HeaderValue::as_bytes);
        let (status, body) = self.answer(request.method(), request.uri().path(), authorization);
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = status;
        let text = header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, text);
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
        }
        response
    }

    async fn serve(self: Arc<Self>, stream: TcpStream, peer: Peer) {
        let service = service_fn(move |request| {
            let server = self.clone();
            async move {
                if peer != Peer::Own {
                    let wait = server.turns.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now());
                    tokio::time::sleep(wait).await;
                }
                Ok::<_, Infallible>(server.respond(&request))
            }
        });
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(ASKING).keep_alive(false).max_buf_size(LARGEST);
        // A connection that breaks, or takes too long, is its client's business.
        let _ = tokio::time::timeout(LONGEST, builder.serve_connection(TokioIo::new(stream), service)).await;
    }

    async fn accept(self: Arc<Self>, listener: TcpListener) {
        let mut last_error = None;
        loop {
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    let text = error.to_string();
                    if last_error.as_ref() != Some(&text) {
                        tracing::warn!(error = text, "cannot serve metrics and probes");
                        last_error = Some(text);
                    }
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            last_error = None;
            let place = stream.local_addr().ok().and_then(|local| self.place(Peer::new(peer, local)));
            // Without a place the connection is closed at once.
            let Some(place) = place else {
                self.metrics.http_refused.inc();
                continue;
            };
            let server = self.clone();
            tokio::spawn(async move {
                server.serve(stream, place.peer).await;
                drop(place);
            });
        }
    }
}

/// Serves until the process ends, in a thread of its own and in the network namespace of the caller. Returns where it listens.
/// With tokens, the metrics require one of them.
///
/// # Errors
/// When the address cannot be listened on, or the thread cannot be started.
pub fn start(address: SocketAddr, published: Arc<Published>, metrics: Metrics, tokens: Option<Tokens>) -> io::Result<SocketAddr> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let server = Arc::new(Server {
        published,
        metrics,
        tokens,
        cached: Mutex::default(),
        connections: Arc::default(),
        turns: Mutex::new(Turns::new(Instant::now())),
    });
    std::thread::Builder::new().name("http".to_owned()).spawn(move || {
        if let Err(error) = rustix::process::nice(NICE) {
            tracing::debug!(%error, "cannot lower the priority of the HTTP thread");
        }
        runtime.block_on(async move {
            match TcpListener::from_std(listener) {
                Ok(listener) => server.accept(listener).await,
                Err(error) => tracing::error!(%error, "cannot serve metrics and probes"),
            }
        });
    })?;
    Ok(address)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;
    use crate::agent::Ready;

    fn server() -> (SocketAddr, Arc<Published>, Metrics) {
        let (published, metrics) = (Arc::new(Published::default()), Metrics::new().unwrap());
        (start("127.0.0.1:0".parse().unwrap(), published.clone(), metrics.clone(), None).unwrap(), published, metrics)
    }

    fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut out = Vec::new();
        // A connection that is refused may be reset.
        let _ = stream.read_to_end(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn answers_come_without_the_loop() {
        let (address, published, _) = server();
        published.beat(Instant::now());
        assert!(ask(address, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").starts_with("HTTP/1.1 200"));
        assert!(ask(address, "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n").starts_with("HTTP/1.1 503"));
        published.set_readiness(Ok(Ready::default()));
        assert!(ask(address, "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n").starts_with("HTTP/1.1 200"));
        assert!(ask(address, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").contains("netpol_in_sync 0"));
        assert!(ask(address, "GET /other HTTP/1.1\r\nHost: x\r\n\r\n").starts_with("HTTP/1.1 404"));
        assert!(ask(address, "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").starts_with("HTTP/1.1 405"));
    }

    #[test]
    fn metrics_with_tokens_are_for_those_who_send_one_and_probes_are_free() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        let published = Arc::new(Published::default());
        published.beat(Instant::now());
        published.set_readiness(Ok(Ready::default()));
        let serve = || {
            let tokens = Some(Tokens::new(path.clone()));
            start("127.0.0.1:0".parse().unwrap(), published.clone(), Metrics::new().unwrap(), tokens).unwrap()
        };
        let get = |address, path: &str, more: &str| ask(address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n{more}\r\n"));
        let token = "Authorization: Bearer a-token\r\n";

        // Nobody has made the file yet.
        let address = serve();
        for header in ["", token] {
            let answer = get(address, "/metrics", header);
            assert!(answer.starts_with("HTTP/1.1 503") && !answer.contains("netpol_"), "{answer}");
        }
        std::fs::write(&path, "a-token\n").unwrap();
        let address = serve();
        for header in ["", "Authorization: Bearer another\r\n", "Authorization: Basic YS10b2tlbg==\r\n"] {
            let answer = get(address, "/metrics", header);
            assert!(answer.starts_with("HTTP/1.1 401") && !answer.contains("netpol_"), "{answer}");
            assert!(answer.contains("www-authenticate: Bearer"), "{answer}");
        }
        assert!(get(address, "/metrics", token).contains("netpol_in_sync 0"));
        for probe in ["/healthz", "/readyz"] {
            assert!(get(address, probe, "").starts_with("HTTP/1.1 200"), "{probe}");
        }
    }

    #[test]
    fn a_loop_that_hangs_is_not_healthy() {
        let server = Server {
            published: Arc::new(Published::default()),
            metrics: Metrics::new().unwrap(),
            tokens: None,
            cached: Mutex::default(),
            connections: Arc::default(),
            turns: Mutex::new(Turns::new(Instant::now())),
        };
        assert_eq!(server.answer(&Method::GET, "/healthz", None).0, StatusCode::OK);
        assert!(server.published.silence(Instant::now() + 2 * SILENCE) > SILENCE);
    }

    #[test]
    fn a_connection_gets_one_answer_however_much_it_asks() {
        let (address, ..) = server();
        let answers = ask(address, &"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n".repeat(50));
        assert_eq!(answers.matches("HTTP/1.1").count(), 1, "{answers}");
    }

    #[test]
    fn others_are_answered_at_a_pace_and_a_place_is_never_held_long_for_it() {
        let start = Instant::now();
        let mut turns = Turns::new(start);
        // A quiet time is worth no more than so many at once.
        let later = start + Duration::from_secs(60);
        let waits: Vec<Duration> = (0..2 * AT_ONCE).map(|_| turns.take(later)).collect();
        assert_eq!(waits.iter().filter(|wait| wait.is_zero()).count(), AT_ONCE as usize);
        let longest = PACE * AT_ONCE;
        assert_eq!(waits.last(), Some(&longest));
        // All places wait for at most this long, in the order in which they asked.
        assert!(PACE * u32::try_from(MOST_CONNECTIONS).unwrap() < ASKING, "a scrape is answered in time");
        assert_eq!(turns.take(later + longest), PACE);
    }

    #[test]
    fn requests_without_end_are_ended() {
        let (address, ..) = server();
        let answer = ask(address, &format!("GET /healthz HTTP/1.1\r\nX: {}", "x".repeat(4 * LARGEST)));
        assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
        // One that asks nothing is closed.
        assert!(!ask(address, "GET /hea").starts_with("HTTP/1.1 200"));
    }

    #[test]
    fn others_cannot_take_the_places_of_this_node_nor_of_each_other() {
        let mut connections = Connections::default();
        let other = |n: u8| Peer::new(SocketAddr::from(([10, 244, 0, n], 1)), SocketAddr::from(([10, 0, 0, 1], 9180)));
        assert_eq!((0..1000).filter(|_| connections.open(other(1))).count(), MOST_OF_ONE);
        let many = (2..=255).flat_map(|n| (0..1000).map(move |_| n)).filter(|n| connections.open(other(*n))).count();
        assert_eq!(many + MOST_OF_ONE, MOST_CONNECTIONS);
        let own = [
            Peer::new(SocketAddr::from(([10, 0, 0, 1], 1)), SocketAddr::from(([10, 0, 0, 1], 9180))),
            Peer::new(SocketAddr::from(([127, 0, 0, 1], 1)), SocketAddr::from(([127, 0, 0, 1], 9180))),
        ];
        for peer in own {
            assert!(connections.open(peer));
            connections.close(peer);
        }
        connections.close(other(1));
        assert!(connections.open(other(1)), "a place that was given back is free");
    }
}
