//! Properties of the node that let packets bypass the ruleset, or forge what it checks.
//!
//! Detected where the node shows it; docs/src/reference/limits.md has the rest.

use std::path::Path;

/// The dummy interface that kube-proxy makes for its IPVS mode.
const IPVS_INTERFACE: &str = "kube-ipvs0";

/// The warnings about this node.
#[must_use]
pub fn of_node() -> Vec<String> {
    let interfaces = interfaces(Path::new("/sys/class/net"));
    let system = Path::new("/proc");
    [bridges(&interfaces, system), ipvs(&interfaces, system), parents(&interfaces), source_routes(system)]
        .into_iter()
        .flatten()
        .collect()
}

/// Pods that share an interface of the node with others, or have none there.
#[must_use]
pub fn unchecked_sources(pods: usize) -> Option<String> {
    let text = format!(
        "the source addresses of {pods} pods on this node are not checked: their interfaces on the node are shared or not visible \
         (a bridge, macvlan, ipvlan, or routes to more than the addresses of the pod). A pod with raw sockets can impersonate any other pod"
    );
    (pods > 0).then_some(text)
}

/// An interface of the node.
struct Interface {
    name: String,
    is_bridge: bool,
    /// `macvlan` and the like, from `DEVTYPE`.
    kind: String,
}

fn interfaces(folder: &Path) -> Vec<Interface> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let read = |entry: std::fs::DirEntry| {
        let event = std::fs::read_to_string(entry.path().join("uevent")).unwrap_or_default();
        Interface {
            name: entry.file_name().to_string_lossy().into_owned(),
            is_bridge: entry.path().join("bridge").is_dir(),
            kind: event.lines().find_map(|line| line.strip_prefix("DEVTYPE=")).unwrap_or_default().to_owned(),
        }
    };
    let mut out: Vec<Interface> = entries.flatten().map(read).collect();
    out.sort_by(|a, b| a.name.cmp(&b.name));
    out
}

fn names<'i>(interfaces: impl Iterator<Item = &'i Interface>) -> Option<String> {
    let names: Vec<&str> = interfaces.map(|interface| interface.name.as_str()).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

fn is_on(path: &Path) -> bool {
    std::fs::read_to_string(path).is_ok_and(|value| value.trim() == "1")
}

/// Bridges pass packets between their ports without the forward hook, unless `br_netfilter` hands them over.
fn bridges(interfaces: &[Interface], system: &Path) -> Option<String> {
    let bridges = names(interfaces.iter().filter(|interface| interface.is_bridge))?;
    let is_handed_over = |name: &str| is_on(&system.join("sys/net/bridge").join(name));
    if is_handed_over("bridge-nf-call-iptables") && is_handed_over("bridge-nf-call-ip6tables") {
        return None;
    }
    Some(format!(
        "traffic between pods on one bridge ({bridges}) does not pass nftables: load the module br_netfilter and set \
         net.bridge.bridge-nf-call-iptables=1 and net.bridge.bridge-nf-call-ip6tables=1"
    ))
}

/// IPVS takes packets to Services in the input hook and sends them out again through the output hook.
fn ipvs(interfaces: &[Interface], system: &Path) -> Option<String> {
    let services = std::fs::read_to_string(system.join("net/ip_vs")).unwrap_or_default();
    let has_services = services.lines().any(|line| ["TCP", "UDP", "SCTP", "FWM"].iter().any(|word| line.starts_with(word)));
    let has_interface = interfaces.iter().any(|interface| interface.name == IPVS_INTERFACE);
    let text = "this node balances Services with IPVS (kube-proxy in ipvs mode): traffic from pods to Services does not pass the forward \
        hook, so egress rules do not apply to it, nor do ingress rules of pods on this node. Use kube-proxy in nftables or iptables \
        mode";
    (has_services || has_interface).then(|| text.to_owned())
}

/// Pods whose interfaces are made from one of the node's are joined below its network stack.
fn parents(interfaces: &[Interface]) -> Option<String> {
    let is_joined = |interface: &&Interface| ["macvlan", "macvtap", "ipvlan", "ipvtap"].contains(&interface.kind.as_str());
    let names = names(interfaces.iter().filter(is_joined))?;
    Some(format!("traffic between pods on macvlan or ipvlan interfaces does not pass nftables (this node has {names})"))
}

/// The kernel follows source routes only if both the setting for all interfaces and that of the interface enable it.
fn source_routes(system: &Path) -> Option<String> {
    let folder = system.join("sys/net/ipv4/conf");
    if !is_on(&folder.join("all/accept_source_route")) {
        return None;
    }
    let text = "this node follows IPv4 source routes, which are dropped only on nodes with isolated pods. Set \
        net.ipv4.conf.all.accept_source_route=0";
    Some(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(name: &str, is_bridge: bool, kind: &str) -> Interface {
        Interface { name: name.to_owned(), is_bridge, kind: kind.to_owned() }
    }

    fn write(folder: &Path, path: &str, text: &str) {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn bridges_are_warned_about_unless_netfilter_sees_their_packets() {
        let proc = tempfile::tempdir().unwrap();
        let list = [interface("cni0", true, "bridge"), interface("eth0", false, "")];
        assert!(bridges(&list, proc.path()).unwrap().contains("(cni0)"));
        assert_eq!(bridges(&list[1..], proc.path()), None);
        write(proc.path(), "sys/net/bridge/bridge-nf-call-iptables", "1\n");
        assert!(bridges(&list, proc.path()).is_some(), "one family is not all");
        write(proc.path(), "sys/net/bridge/bridge-nf-call-ip6tables", "1\n");
        assert_eq!(bridges(&list, proc.path()), None);
    }

    #[test]
    fn ipvs_is_known_by_its_services_or_by_its_interface() {
        let proc = tempfile::tempdir().unwrap();
        assert_eq!(ipvs(&[interface("eth0", false, "")], proc.path()), None);
        assert!(ipvs(&[interface("kube-ipvs0", false, "")], proc.path()).is_some());
        let header = "IP Virtual Server version 1.2.1 (size=4096)\nProt LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port Forward\n";
        write(proc.path(), "net/ip_vs", header);
        assert_eq!(ipvs(&[], proc.path()), None, "the module alone does nothing");
        write(proc.path(), "net/ip_vs", &format!("{header}TCP  0A60000A:0050 rr\n  -> 0AF40101:0050 Masq 1 0 0\n"));
        assert!(ipvs(&[], proc.path()).is_some());
    }

    #[test]
    fn interfaces_over_others_are_warned_about() {
        assert_eq!(parents(&[interface("eth0", false, "wlan")]), None);
        let list = [interface("mac0", false, "macvlan"), interface("tap0", false, "ipvtap")];
        assert!(parents(&list).unwrap().contains("mac0, tap0"));
    }

    #[test]
    fn source_routes_are_warned_about() {
        let proc = tempfile::tempdir().unwrap();
        assert_eq!(source_routes(proc.path()), None);
        write(proc.path(), "sys/net/ipv4/conf/all/accept_source_route", "0\n");
        assert_eq!(source_routes(proc.path()), None);
        write(proc.path(), "sys/net/ipv4/conf/all/accept_source_route", "1\n");
        assert!(source_routes(proc.path()).is_some());
    }

    #[test]
    fn only_pods_that_are_not_checked_are_warned_about() {
        assert_eq!(unchecked_sources(0), None);
        assert!(unchecked_sources(3).unwrap().contains("3 pods"));
    }
}
