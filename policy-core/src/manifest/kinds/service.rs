//! `v1 Service`. It is data for answers, and decides nothing (S5.1).

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;

use super::{Kind, Role};
use crate::diagnostic::ObjectRef;
use crate::manifest::cidr::parse_address;
use crate::manifest::load::Reader;
use crate::manifest::lower::{self, Report};
use crate::manifest::tree::NodeId;
use crate::manifest::wire::{IntOrString, List, ObjectMeta};
use crate::model::{ObjectKey, Service as ServiceObject, ServicePort as Port, ServiceType, TargetPort};
use crate::sets::Transport;

/// The compiler takes no Services.
pub(super) static KINDS: [Kind; 1] =
    [Kind { name: "Service", groups: &[""], role: Role::Subject, strict: &[], read, changes: None }];

/// `v1 Service`.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct Service {
    pub metadata: ObjectMeta,
    pub spec: ServiceSpec,
    pub status: ServiceStatus,
}

/// `ServiceSpec`.
#[derive(Deserialize, Default, Debug)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct ServiceSpec {
    #[serde(rename = "type")]
    pub service_type: String,
    pub selector: BTreeMap<String, String>,
    pub external_name: String,
    #[serde(rename = "clusterIP")]
    pub cluster_ip: String,
    #[serde(rename = "clusterIPs")]
    pub cluster_ips: List<String>,
    #[serde(rename = "externalIPs")]
    pub external_ips: List<String>,
    pub external_traffic_policy: String,
    #[serde(rename = "loadBalancerIP")]
    pub load_balancer_ip: String,
    pub ports: List<ServicePort>,
}

/// `ServicePort`.
#[derive(Deserialize, Default, Debug)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct ServicePort {
    pub name: String,
    pub protocol: String,
    pub port: i64,
    pub target_port: Option<IntOrString>,
    pub node_port: i64,
}

/// `ServiceStatus`.
#[derive(Deserialize, Default, Debug)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct ServiceStatus {
    pub load_balancer: LoadBalancerStatus,
}

/// `LoadBalancerStatus`.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct LoadBalancerStatus {
    pub ingress: List<LoadBalancerIngress>,
}

/// `LoadBalancerIngress`.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct LoadBalancerIngress {
    pub ip: String,
}

fn read(reader: &mut Reader<'_, '_, '_>, node: NodeId, _: &'static Kind) {
    let (wire, unread) = reader.decode::<Service>(node);
    let key = reader.key(&wire.metadata, node);
    let mut report = Report::new(&unread);
    lower::check_metadata(&wire.metadata, &mut report);
    let errors = report.errors;
    let object = ObjectRef::namespaced("Service", &key.namespace, &key.name);
    reader.tell(node, &object, unread, errors, Vec::new());
    let service = lower_service(&wire, key.clone());
    let counts = reader.counts_as_written(&object, node, &service, &as_written(service.clone()));
    let is_live = reader.is_live();
    let before = reader.assembly().services.remove(&key);
    let service = match before {
        // A file was read before the cluster that it is applied to.
        Some(file) if !counts && is_live => applied(service, file),
        Some(before) if !counts => before,
        Some(before) => applied(before, service),
        None => service,
    };
    reader.assembly().services.insert(key, service);
}

/// A Service without what the API server gives it, which a file that is applied keeps.
fn as_written(service: ServiceObject) -> ServiceObject {
    let ports = service.ports.into_iter().map(|port| Port { node_port: None, ..port }).collect();
    ServiceObject { cluster_ips: Vec::new(), load_balancer_ips: Vec::new(), ports, ..service }
}

/// A Service after another one of its name has been applied.
fn applied(before: ServiceObject, after: ServiceObject) -> ServiceObject {
    let kept = |before: Vec<IpAddr>, after: Vec<IpAddr>| if after.is_empty() { before } else { after };
    ServiceObject {
        cluster_ips: kept(before.cluster_ips, after.cluster_ips),
        load_balancer_ips: kept(before.load_balancer_ips, after.load_balancer_ips),
        ports: after
            .ports
            .into_iter()
            .map(|port| {
                let same = before.ports.iter().find(|old| (old.port, old.protocol) == (port.port, port.protocol));
                Port { node_port: port.node_port.or_else(|| same?.node_port), ..port }
            })
            .collect(),
        ..after
    }
}

/// A Service. Addresses and ports that cannot be read are left out.
fn lower_service(wire: &Service, key: ObjectKey) -> ServiceObject {
    let spec = &wire.spec;
    let kind = match spec.service_type.as_str() {
        "NodePort" => ServiceType::NodePort,
        "LoadBalancer" => ServiceType::LoadBalancer,
        "ExternalName" => ServiceType::ExternalName,
        _ => ServiceType::ClusterIP,
    };
    let balancers = wire.status.load_balancer.ingress.iter().flatten().map(|ingress| ingress.ip.as_str());
    ServiceObject {
        key,
        kind,
        selector: spec.selector.clone(),
        external_name: if kind == ServiceType::ExternalName { spec.external_name.clone() } else { String::new() },
        cluster_ips: addresses(spec.cluster_ips.iter().flatten().map(String::as_str).chain([spec.cluster_ip.as_str()])),
        is_headless: spec.cluster_ip == "None",
        external_ips: addresses(spec.external_ips.iter().flatten().map(String::as_str)),
        load_balancer_ips: addresses(balancers.chain([spec.load_balancer_ip.as_str()])),
        keeps_source: spec.external_traffic_policy == "Local",
        ports: spec.ports.iter().flatten().filter_map(lower_port).collect(),
    }
}

fn addresses<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<IpAddr> {
    let mut out: Vec<IpAddr> = texts.filter_map(|text| Some(parse_address(text)?.0)).collect();
    out.sort_unstable();
    out.dedup();
    out
}

fn lower_port(wire: &ServicePort) -> Option<Port> {
    let number = |value: i64| u16::try_from(value).ok().filter(|number| *number > 0);
    let port = number(wire.port)?;
    let target = match &wire.target_port {
        // Absent or zero means the port of the Service.
        None | Some(IntOrString::Int(0)) => TargetPort::Number(port),
        Some(IntOrString::Int(target)) => TargetPort::Number(number(*target)?),
        Some(IntOrString::String(name)) => TargetPort::Name(name.clone()),
    };
    let protocol = if wire.protocol.is_empty() { Transport::Tcp } else { Transport::from_name(&wire.protocol)? };
    Some(Port { name: wire.name.clone(), protocol, port, target, node_port: number(wire.node_port) })
}
