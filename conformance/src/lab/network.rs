//! Nodes, pods behind them, and the world outside, joined by routers.
//!
//! ```text
//! pod ── node ──┐
//! pod ── node ──┼── fabric ── outside
//! pod ── node ──┘
//! ```
//!
//! Pods have point-to-point links to their node and no subnet of their own, so that an address can be anywhere: routes say
//! where. The fabric is a bridge between nodes, and the router to the outside.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::Namespace;

/// Where an address is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Place {
    /// It is this node's own.
    Node(String),
    /// A pod on this node has it.
    Pod(String),
    /// Somebody outside of the cluster has it.
    Outside,
}

/// How pod traffic gets from node to node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Fabric {
    /// Nodes route to each other's pods.
    #[default]
    Routed,
    /// Pod packets travel inside VXLAN packets between nodes.
    Vxlan,
}

/// A network of namespaces.
pub struct Network {
    fabric: Namespace,
    outside: Namespace,
    nodes: BTreeMap<String, Node>,
    /// By address and node.
    pods: BTreeMap<(IpAddr, String), Namespace>,
    places: BTreeMap<IpAddr, Place>,
    known_outside: BTreeSet<IpAddr>,
    kind: Fabric,
}

struct Node {
    namespace: Namespace,
    number: usize,
    addresses: Vec<IpAddr>,
}

/// The router's addresses, and those of nodes in the tunnel.
const ROUTER: [&str; 2] = ["192.0.2.254", "2001:db8:2::fe"];

fn sysctl(namespace: &Namespace, settings: &[(&str, &str)]) {
    let settings: Vec<(String, String)> = settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    namespace.run(move || {
        for (name, value) in settings {
            let path = format!("/proc/sys/net/{name}");
            std::fs::write(&path, value).unwrap_or_else(|e| panic!("{path}: {e}"));
        }
    });
}

fn batch(namespace: &Namespace, commands: &str) {
    if !commands.is_empty() {
        namespace.command_with("ip", &["-batch", "-"], commands);
    }
}

fn length(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

const ROUTER_SETTINGS: [(&str, &str); 7] = [
    ("ipv4/ip_forward", "1"),
    ("ipv6/conf/all/forwarding", "1"),
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv6/conf/default/accept_ra", "0"),
    ("ipv4/conf/all/accept_local", "1"),
];

impl Network {
    /// Nodes with these addresses, and nobody else.
    #[must_use]
    pub fn new(nodes: &[(&str, &[IpAddr])], kind: Fabric) -> Self {
        let fabric = Namespace::new("fabric");
        let outside = Namespace::new("outside");
        sysctl(&fabric, &ROUTER_SETTINGS);
        sysctl(&outside, &ROUTER_SETTINGS);
        batch(
            &fabric,
            &format!(
                "link add br0 type bridge\nlink set br0 up\naddress add {}/24 dev br0\naddress add {}/64 dev br0 nodad\n\
                 link add out type veth peer name eth0 netns {}\nlink set out up\naddress add 198.18.0.1/30 dev out\n\
                  address add 2001:db8:ffff::1/64 dev out nodad\n",
                ROUTER[0],
                ROUTER[1],
                outside.id()
            ),
        );
        batch(
            &outside,
            "link set eth0 up\naddress add 198.18.0.2/30 dev eth0\naddress add 2001:db8:ffff::2/64 dev eth0 nodad\n\
             route add default via 198.18.0.1\nroute add default via 2001:db8:ffff::1\n",
        );
        let mut network = Self {
            fabric,
            outside,
            nodes: BTreeMap::new(),
            pods: BTreeMap::new(),
            places: BTreeMap::new(),
            known_outside: BTreeSet::new(),
            kind,
        };
        for (number, (name, addresses)) in nodes.iter().enumerate() {
            network.add_node(name, number + 1, addresses);
        }
        network
    }

    fn add_node(&mut self, name: &str, number: usize, addresses: &[IpAddr]) {
        let namespace = Namespace::new(name);
        sysctl(&namespace, &ROUTER_SETTINGS);
        batch(
            &self.fabric,
            &format!("link add n{number} type veth peer name eth0 netns {}\nlink set n{number} master br0 up\n", namespace.id()),
        );
        let mut commands = String::from("link set eth0 up\n");
        for address in addresses {
            let subnet = if address.is_ipv4() { 24 } else { 64 };
            let nodad = if address.is_ipv4() { "" } else { " nodad" };
            commands += &format!("address add {address}/{subnet} dev eth0{nodad}\n");
            self.places.insert(*address, Place::Node(name.to_owned()));
        }
        // Every node has a tunnel address of its own in both families, so that both can be routed.
        commands += &format!("address add 2001:db8:2::{number:x}/64 dev eth0 nodad\n");
        commands += &format!("route add default via {}\nroute add default via {}\n", ROUTER[0], ROUTER[1]);
        if self.kind == Fabric::Vxlan {
            let local = addresses.iter().find(|a| a.is_ipv4()).expect("a node has an IPv4 address");
            commands += &format!(
                "link add vx type vxlan id 7 dstport 4789 local {local} nolearning\nlink set vx address 02:00:00:00:0f:{number:02x} up\n\
                 address add 198.19.0.{number}/24 dev vx\naddress add fd00:19::{number:x}/64 dev vx nodad\n"
            );
        }
        batch(&namespace, &commands);
        if self.kind == Fabric::Vxlan {
            self.join_tunnels(number, addresses, &namespace);
        }
        self.nodes.insert(name.to_owned(), Node { namespace, number, addresses: addresses.to_vec() });
    }

    /// Tells nodes where the other end of their tunnels is.
    fn join_tunnels(&self, number: usize, addresses: &[IpAddr], namespace: &Namespace) {
        let entries = |number: usize, addresses: &[IpAddr]| {
            let remote = addresses.iter().find(|a| a.is_ipv4()).expect("a node has an IPv4 address");
            let mac = format!("02:00:00:00:0f:{number:02x}");
            let neighbours = format!(
                "neighbour replace 198.19.0.{number} lladdr {mac} dev vx nud permanent\n\
                 neighbour replace fd00:19::{number:x} lladdr {mac} dev vx nud permanent\n"
            );
            (neighbours, mac, remote.to_string())
        };
        let mine = entries(number, addresses);
        for other in self.nodes.values() {
            let theirs = entries(other.number, &other.addresses);
            batch(namespace, &theirs.0);
            namespace.command("bridge", &["fdb", "append", &theirs.1, "dev", "vx", "dst", &theirs.2]);
            batch(&other.namespace, &mine.0);
            other.namespace.command("bridge", &["fdb", "append", &mine.1, "dev", "vx", "dst", &mine.2]);
        }
    }

    /// A node's namespace.
    ///
    /// # Panics
    /// When there is no such node.
    #[must_use]
    pub fn node(&self, name: &str) -> &Namespace {
        &self.nodes.get(name).unwrap_or_else(|| panic!("there is no node {name}")).namespace
    }

    /// Sends what is for a subnet to this node, which knows where in it everything is.
    ///
    /// # Panics
    /// When there is no such node.
    pub fn route(&self, subnet: &str, node: &str) {
        let family = if subnet.contains(':') { IpAddr::from([0u16; 8]) } else { IpAddr::from([0u8; 4]) };
        let gateway = self.underlay(node, family);
        let others = self.nodes.iter().filter(|(name, _)| *name != node).map(|(_, other)| &other.namespace);
        for namespace in others.chain([&self.fabric]) {
            namespace.command("ip", &["route", "replace", subnet, "via", &gateway]);
        }
    }

    /// The namespace of everybody outside.
    #[must_use]
    pub fn outside(&self) -> &Namespace {
        &self.outside
    }

    /// Makes every node forget its connections.
    pub fn forget_connections(&self) {
        for node in self.nodes.values() {
            for family in ["ipv4", "ipv6"] {
                node.namespace.command("conntrack", &["-F", "-f", family]);
            }
        }
    }

    /// The names of the nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &str> {
        self.nodes.keys().map(String::as_str)
    }

    /// Where an address is.
    #[must_use]
    pub fn place(&self, address: IpAddr) -> Option<&Place> {
        self.places.get(&address)
    }

    /// The namespace that has an address.
    #[must_use]
    pub fn at(&self, address: IpAddr) -> Option<&Namespace> {
        match self.places.get(&address)? {
            Place::Node(name) => Some(self.node(name)),
            Place::Pod(node) => self.pods.get(&(address, node.clone())),
            Place::Outside => Some(&self.outside),
        }
    }

    /// Moves addresses to where they are from now on. Those that were somewhere before and are not named stay.
    pub fn settle(&mut self, places: &BTreeMap<IpAddr, Place>) {
        for (address, place) in places {
            if let Place::Pod(node) = place {
                self.add_pod(*address, node);
            }
            let nodad = if address.is_ipv4() { "" } else { " nodad" };
            if *place == Place::Outside && self.known_outside.insert(*address) {
                batch(&self.outside, &format!("address add {address}/{} dev lo{nodad}\n", length(*address)));
            } else if *place != Place::Outside && self.known_outside.remove(address) {
                batch(&self.outside, &format!("address delete {address}/{} dev lo\n", length(*address)));
            }
        }
        let mut fabric = String::new();
        for (address, place) in places.iter().filter(|(_, place)| !matches!(place, Place::Node(_))) {
            let to = match place {
                Place::Pod(node) => format!("via {}", self.underlay(node, *address)),
                _ => format!("via {}", if address.is_ipv4() { "198.18.0.2" } else { "2001:db8:ffff::2" }),
            };
            fabric += &format!("route replace {address}/{} {to}\n", length(*address));
        }
        batch(&self.fabric, &fabric);
        for (name, node) in &self.nodes {
            let mut commands = String::new();
            for (address, place) in places.iter().filter(|(_, place)| !matches!(place, Place::Node(_))) {
                let to = match place {
                    Place::Pod(on) if on == name => format!("dev {}", link_name(*address)),
                    Place::Pod(on) => self.to_node(on, *address),
                    _ => format!("via {}", if address.is_ipv4() { ROUTER[0] } else { ROUTER[1] }),
                };
                commands += &format!("route replace {address}/{} {to}\n", length(*address));
            }
            batch(&node.namespace, &commands);
        }
        self.places.extend(places.iter().map(|(a, p)| (*a, p.clone())));
    }

    fn underlay(&self, node: &str, address: IpAddr) -> String {
        let node = &self.nodes[node];
        if address.is_ipv4() {
            node.addresses.iter().find(|a| a.is_ipv4()).expect("a node has an IPv4 address").to_string()
        } else {
            format!("2001:db8:2::{:x}", node.number)
        }
    }

    fn to_node(&self, node: &str, address: IpAddr) -> String {
        match self.kind {
            Fabric::Routed => format!("via {}", self.underlay(node, address)),
            Fabric::Vxlan if address.is_ipv4() => format!("via 198.19.0.{} dev vx onlink", self.nodes[node].number),
            Fabric::Vxlan => format!("via fd00:19::{:x} dev vx onlink", self.nodes[node].number),
        }
    }

    /// A pod's namespace with one address, linked to its node. Neighbours are written down, so that nothing is asked for.
    fn add_pod(&mut self, address: IpAddr, node: &str) {
        if self.pods.contains_key(&(address, node.to_owned())) {
            return;
        }
        let namespace = Namespace::new(&format!("{address} on {node}"));
        let link = link_name(address);
        let host = self.node(node);
        let gateway = if address.is_ipv4() { "169.254.1.1" } else { "fe80::1" };
        let pod_mac = "02:00:00:00:02:01";
        let host_mac = "02:00:00:00:01:01";
        batch(
            host,
            &format!(
                "link add {link} address {host_mac} type veth peer name eth0 address {pod_mac} netns {}\nlink set {link} up\n\
                 neighbour replace {address} lladdr {pod_mac} dev {link} nud permanent\n",
                namespace.id()
            ),
        );
        let nodad = if address.is_ipv4() { "" } else { " nodad" };
        batch(
            &namespace,
            &format!(
                "link set eth0 up\naddress add {address}/{} dev eth0{nodad}\nneighbour replace {gateway} lladdr {host_mac} dev eth0 nud permanent\n\
                 route add {gateway}/{} dev eth0\nroute add default via {gateway} dev eth0\n",
                length(address),
                length(address)
            ),
        );
        self.pods.insert((address, node.to_owned()), namespace);
    }
}

/// The name of the node's end of a pod's link: at most 15 letters.
#[must_use]
pub fn link_name(address: IpAddr) -> String {
    match address {
        IpAddr::V4(a) => format!("p{:08x}", a.to_bits()),
        IpAddr::V6(a) => {
            let bits = a.to_bits();
            format!("q{:08x}", (bits as u32) ^ ((bits >> 32) as u32) ^ ((bits >> 64) as u32))
        }
    }
}
