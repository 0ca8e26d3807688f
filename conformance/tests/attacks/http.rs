//! Scrapers, and descriptors that run out.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};

use conformance::lab::{Clients, Manner, Namespace};

use super::{Cluster, LISTEN, OUTSIDE, PATIENCE, address, alone, becomes, deny, ip, is_available};

fn listen() -> SocketAddr {
    LISTEN.parse().expect("an address and a port")
}

/// Clients of `/metrics` in a pod.
fn clients(cluster: &Cluster, count: usize, manner: Manner) -> Clients {
    Clients::start(cluster.at("a"), listen(), "/metrics", count, manner)
}

#[test]
fn a_flood_of_scrapes_delays_no_policy_and_no_pod() {
    if !is_available() {
        return;
    }
    let _alone = alone();
    let cluster = Cluster::start(&[]);
    cluster.crowd(50);
    assert!(cluster.get("/metrics").is_some_and(|text| text.contains("netpol_in_sync 1")), "metrics are served");
    let before = cluster.descriptors();

    let floods = [("b", 8, Manner::Busy(4)), ("c", 64, Manner::Busy(4)), ("d", 600, Manner::Busy(4)), ("e", 300, Manner::Slow)];
    for (pod, count, manner) in floods {
        let flood = clients(&cluster, count, manner);
        // Whoever is not answered is refused or cut off; nothing of all that would be no flood.
        let is_there = flood.wait(PATIENCE, |tally| tally.good + tally.other + tally.closed > 0 || tally.open == count);
        assert!(is_there, "{:?}", flood.tally());
        cluster.works(pod, &format!("{count} clients, {manner:?}"));
        println!("{:?}", flood.tally());
    }

    // Then all is as before.
    assert!(becomes(PATIENCE, || cluster.get("/metrics").is_some()), "metrics are served again");
    let is_back = becomes(Duration::from_secs(60), || cluster.descriptors() <= before + 8);
    assert!(is_back, "{before} descriptors before the flood, {} after", cluster.descriptors());
    cluster.works("f", "after the flood");
}

#[test]
fn connections_that_ask_nothing_are_closed() {
    if !is_available() {
        return;
    }
    let cluster = Cluster::start(&[]);
    for manner in [Manner::Idle, Manner::Slow, Manner::Kept] {
        let idle = clients(&cluster, 60, manner);
        let is_closed = idle.wait(Duration::from_secs(60), |tally| tally.closed > 0 && tally.open == 0);
        assert!(is_closed, "{manner:?} for a minute: {:?}", idle.tally());
        println!("{manner:?}: {:?}", idle.tally());
    }
    assert!(cluster.get("/metrics").is_some(), "{}", cluster.end_of_log());
}

/// Echoes what comes.
fn serve(namespace: &Namespace, to: SocketAddr) {
    let listener = namespace.run(move || TcpListener::bind(to).expect("a free port"));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut buffer = [0; 64];
                while let Ok(length) = stream.read(&mut buffer) {
                    if length == 0 || stream.write_all(buffer.get(..length).unwrap_or_default()).is_err() {
                        break;
                    }
                }
            });
        }
    });
}

/// A connection over which something has been said.
fn converse(namespace: &Namespace, from: SocketAddr, to: SocketAddr) -> TcpStream {
    namespace.run(move || {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        socket.bind(&from.into()).expect("an address of the namespace");
        socket.connect_timeout(&to.into(), PATIENCE).expect("nobody is isolated yet");
        let mut stream = TcpStream::from(socket);
        stream.write_all(b"hello").expect("it is open");
        stream.read_exact(&mut [0; 5]).expect("it is echoed");
        stream
    })
}

/// The kernel's number of a tracked connection from this source to a pod; `None` when there is none.
fn number(cluster: &Cluster, source: &str, pod: &str) -> Option<String> {
    let to = address(pod).to_string();
    let list = cluster.node().command("conntrack", &["-L", "-p", "tcp", "-s", source, "-d", &to, "-o", "id"]);
    list.split_whitespace().find_map(|word| word.strip_prefix("id=").map(str::to_owned))
}

/// Ticks of CPU that the agent has used.
fn ticks(process: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("it runs");
    let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).map(|field| field.parse::<u64>().expect("a number")).sum()
}

/// Sets the soft limit of the agent's descriptors.
fn limit(cluster: &Cluster, descriptors: usize) {
    let (process, limit) = (cluster.agent.id().to_string(), format!("--nofile={descriptors}:"));
    let status = Command::new("prlimit").args(["--pid", &process, &limit]).status();
    assert!(status.is_ok_and(|status| status.success()), "prlimit sets a limit");
}

#[test]
fn without_descriptors_policies_come_in_force_and_the_node_keeps_its_connections() {
    if !is_available() {
        return;
    }
    let _alone = alone();
    let cluster = Cluster::start(&[]);
    // A node has addresses that its Node object does not say, such as those of pods' gateways.
    cluster.node().command("ip", &["address", "add", "10.244.1.254/32", "dev", "lo"]);
    let outside = SocketAddr::from((ip(OUTSIDE), 0));
    let server = |pod: &str| SocketAddr::from((address(pod), 80));
    ["b", "c"].iter().for_each(|pod| serve(cluster.at(pod), server(pod)));
    let is_cut = |pod: &str| becomes(PATIENCE, || number(&cluster, OUTSIDE, pod).is_none());
    let mut own = converse(cluster.node(), "10.244.1.254:0".parse().expect("an address"), server("b"));
    let _foreign = ["b", "c"].map(|pod| converse(cluster.network.outside(), outside, server(pod)));
    let own_number = number(&cluster, "10.244.1.254", "b").expect("the node's connection is tracked");
    assert!(number(&cluster, OUTSIDE, "b").is_some(), "the other connection is tracked");
    cluster.isolate("c");
    assert!(is_cut("c"), "a connection is cut\n{}", cluster.end_of_log());

    let before = cluster.descriptors();
    limit(&cluster, 3);
    let took = cluster.isolate("b");
    assert!(took < super::BOUND, "a policy is in force after {took:?}");
    assert!(is_cut("b"), "a connection is cut without descriptors\n{}", cluster.end_of_log());
    // Whatever comes after the first look.
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(
        number(&cluster, "10.244.1.254", "b"),
        Some(own_number),
        "the node's own connection was cut\n{}",
        cluster.end_of_log()
    );
    own.write_all(b"still").expect("it is open");
    own.read_exact(&mut [0; 5]).expect("the node reaches its pods");

    // Somebody who cannot be answered costs nothing either.
    let waiting: Vec<UnixStream> = (0..3).map(|_| UnixStream::connect(cluster.agent.socket()).expect("it listens")).collect();
    let (start, used) = (Instant::now(), ticks(cluster.agent.id()));
    std::thread::sleep(Duration::from_secs(1));
    let share = (ticks(cluster.agent.id()) - used) as f64 / 100.0 / start.elapsed().as_secs_f64();
    assert!(share < 0.25, "{share:.2} cores are spent on questions that cannot be taken");
    drop(waiting);

    limit(&cluster, 4096);
    cluster.works("d", "with descriptors again");
    assert!(becomes(PATIENCE, || cluster.descriptors() <= before + 8), "{before} before, {} after", cluster.descriptors());
}

#[test]
fn idle_connections_take_no_descriptors_from_enforcement() {
    if !is_available() {
        return;
    }
    let _alone = alone();
    let cluster = Cluster::start(&[]);
    limit(&cluster, cluster.descriptors() + 24);
    let idle = clients(&cluster, 400, Manner::Idle);
    assert!(idle.wait(PATIENCE, |tally| tally.open + tally.closed > 50), "{:?}", idle.tally());
    std::thread::sleep(Duration::from_millis(500));
    cluster.works("b", "with 400 idle connections and few descriptors");
    cluster.api.set(deny("c"));
    cluster.agent.wait_in_sync();
}
