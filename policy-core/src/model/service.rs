//! Services, as far as answers mention them.

use std::net::IpAddr;

use super::{Labels, ObjectKey};
use crate::sets::Transport;

/// A Service. It decides nothing: policies see its connections with the addresses and ports of the pods behind it (S5.1).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Service {
    /// Namespace and name.
    pub key: ObjectKey,
    /// How it can be reached.
    pub kind: ServiceType,
    /// The labels of the pods behind it; empty if something else lists its endpoints, or if it has none.
    pub selector: Labels,
    /// The host name of [`ServiceType::ExternalName`]; empty for others.
    pub external_name: String,
    /// Its virtual addresses within the cluster, sorted; empty for headless Services, and for those that are not created yet.
    pub cluster_ips: Vec<IpAddr>,
    /// Whether it has no virtual address: its names lead to the pods.
    pub is_headless: bool,
    /// Addresses outside of the cluster that lead to it, sorted.
    pub external_ips: Vec<IpAddr>,
    /// Addresses of load balancers that lead to it, sorted.
    pub load_balancer_ips: Vec<IpAddr>,
    /// Whether connections from outside keep their source address: `externalTrafficPolicy` is Local.
    pub keeps_source: bool,
    /// Its ports, in the order of the object.
    pub ports: Vec<ServicePort>,
}

impl Service {
    /// All addresses that lead to it, node addresses left out.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.cluster_ips.iter().chain(&self.external_ips).chain(&self.load_balancer_ips).copied()
    }
}

/// How a Service can be reached.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub enum ServiceType {
    /// By its cluster addresses.
    #[default]
    ClusterIP,
    /// By a port of every node too.
    NodePort,
    /// By a load balancer too.
    LoadBalancer,
    /// It is an alias of a host name.
    ExternalName,
}

/// A port of a Service.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ServicePort {
    /// Its name; empty if it has none.
    pub name: String,
    /// The protocol.
    pub protocol: Transport,
    /// The port of the Service.
    pub port: u16,
    /// The port of the pods.
    pub target: TargetPort,
    /// The port of every node that leads to it.
    pub node_port: Option<u16>,
}

/// The port of the pods behind a Service.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum TargetPort {
    /// The same number in every pod.
    Number(u16),
    /// What each pod calls so.
    Name(String),
}
