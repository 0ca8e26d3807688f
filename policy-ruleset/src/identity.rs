//! What a set or a chain stands for, as bytes of which its name is a hash.
//!
//! Only contents count: selectors, namespaces, blocks and ports. Words for people (descriptions, comments, how a selector is spelled
//! in them) do not, so that no other wording renames anything. The form below is a contract: an agent that hashes in another way
//! makes every set of a node anew when it takes over from an earlier one.
//!
//! A number is four bytes, big endian. A text is its length in bytes, and the bytes. A list is its length, and its items. A variant
//! is a number, and its parts. Each identity begins with the word for its kind. What has no order of its own is sorted by its
//! bytes.

use std::net::IpAddr;

use ipnet::IpNet;
use policy_core::model::{Labels, Operator, Selector};
use policy_core::plan::{GroupPlan, NamedPlan, NamespaceSelection, PeersPlan, PodSelection};
use policy_core::sets::{AddressSet, Transport};
use sha2::{Digest, Sha256};

use crate::rule::{IpProtocol, PortRange};

/// Letters and digits that cannot be mistaken for each other.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// A protocol with ports.
pub(crate) type Ports = (Transport, PortRange);

/// The pods of a group: their namespace, the labels that its policies select them by, and their named ports.
pub(crate) fn of_group(group: &GroupPlan) -> String {
    let mut out = Identity::of("group");
    out.text(&group.namespace);
    out.labels(&group.labels);
    out.list(group.ports.iter(), |out, port| {
        out.text(&port.name);
        out.transport(port.protocol);
        out.number(u32::from(port.number));
    });
    out.hash()
}

/// A set of peers.
pub(crate) fn of_peers(peers: &PeersPlan) -> String {
    let mut out = Identity::of("peers");
    out.peers(&peers.pods, &peers.blocks);
    out.hash()
}

/// Peers that are blocks alone.
pub(crate) fn of_blocks(blocks: &AddressSet) -> String {
    let mut out = Identity::of("peers");
    out.peers(&[], blocks);
    out.hash()
}

/// Where a port name leads.
pub(crate) fn of_named(named: &NamedPlan) -> String {
    let mut out = Identity::of("named port");
    out.named(named);
    out.hash()
}

/// Pods with the ports that they get: those of each of `listed` get its ports, unless they are of `any`.
pub(crate) fn of_port_peers(any: &[PodSelection], listed: &[(Ports, &[PodSelection])], named: &[&NamedPlan]) -> String {
    let mut out = Identity::of("port peers");
    out.pods(any);
    out.list(listed.iter(), |out, (ports, pods)| {
        out.ports(*ports);
        out.pods(pods);
    });
    out.sorted(named, |out, named| out.named(named));
    out.hash()
}

/// Blocks with the ports that they get.
pub(crate) fn of_port_blocks(blocks: &[(Ports, IpNet)]) -> String {
    let mut out = Identity::of("port blocks");
    out.list(blocks.iter(), |out, (ports, block)| {
        out.ports(*ports);
        out.address(block.network());
        out.number(u32::from(block.prefix_len()));
    });
    out.hash()
}

/// What a chain of a crowded side compares.
pub(crate) fn of_tail(pods: &[PodSelection], blocks: &AddressSet) -> String {
    let mut out = Identity::of("tail");
    out.peers(pods, blocks);
    out.hash()
}

#[derive(Default)]
struct Identity(Vec<u8>);

impl Identity {
    fn of(kind: &str) -> Self {
        let mut out = Self::default();
        out.text(kind);
        out
    }

    fn number(&mut self, number: u32) {
        self.0.extend(number.to_be_bytes());
    }

    fn length(&mut self, length: usize) {
        // INVARIANT: no text or list of a cluster has four thousand million bytes or items.
        self.number(u32::try_from(length).unwrap_or(u32::MAX));
    }

    fn text(&mut self, text: &str) {
        self.length(text.len());
        self.0.extend(text.as_bytes());
    }

    fn list<T>(&mut self, items: impl ExactSizeIterator<Item = T>, item: impl Fn(&mut Self, T)) {
        self.length(items.len());
        items.for_each(|one| item(self, one));
    }

    /// A list in the order of the bytes of its items.
    fn sorted<T>(&mut self, items: &[T], item: impl Fn(&mut Self, &T)) {
        let bytes = |one: &T| {
            let mut out = Self::default();
            item(&mut out, one);
            out.0
        };
        let mut items: Vec<Vec<u8>> = items.iter().map(bytes).collect();
        items.sort_unstable();
        self.length(items.len());
        self.0.extend(items.into_iter().flatten());
    }

    fn labels(&mut self, labels: &Labels) {
        self.list(labels.iter(), |out, (key, value)| {
            out.text(key);
            out.text(value);
        });
    }

    fn selector(&mut self, selector: &Selector) {
        self.list(selector.requirements().iter(), |out, requirement| {
            out.text(&requirement.key);
            let (variant, values) = match &requirement.operator {
                Operator::In(values) => (0, Some(values)),
                Operator::NotIn(values) => (1, Some(values)),
                Operator::Exists => (2, None),
                Operator::DoesNotExist => (3, None),
            };
            out.number(variant);
            if let Some(values) = values {
                out.list(values.iter(), |out, value| out.text(value));
            }
        });
    }

    fn pods(&mut self, pods: &[PodSelection]) {
        self.sorted(pods, |out, PodSelection { pods, namespaces }| {
            out.selector(pods);
            match namespaces {
                NamespaceSelection::Named(name) => {
                    out.number(0);
                    out.text(name);
                }
                NamespaceSelection::Matching(selector) => {
                    out.number(1);
                    out.selector(selector);
                }
            }
        });
    }

    fn peers(&mut self, pods: &[PodSelection], blocks: &AddressSet) {
        self.pods(pods);
        let ranges: Vec<(IpAddr, IpAddr)> = blocks.ranges().collect();
        self.list(ranges.iter(), |out, (first, last)| {
            out.address(*first);
            out.address(*last);
        });
    }

    fn named(&mut self, named: &NamedPlan) {
        self.text(&named.name);
        self.transport(named.transport);
        self.peers(&named.peers.pods, &named.peers.blocks);
    }

    fn transport(&mut self, transport: Transport) {
        self.number(u32::from(IpProtocol::from(transport).number()));
    }

    fn ports(&mut self, (transport, PortRange { low, high }): Ports) {
        self.transport(transport);
        self.number(u32::from(low));
        self.number(u32::from(high));
    }

    /// The version of the protocol, and the address.
    fn address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => {
                self.number(4);
                self.0.extend(address.octets());
            }
            IpAddr::V6(address) => {
                self.number(6);
                self.0.extend(address.octets());
            }
        }
    }

    /// The hash, in full length: 51 letters.
    fn hash(self) -> String {
        let mut out = String::new();
        let (mut bits, mut held) = (0u32, 0u32);
        for byte in Sha256::digest(self.0) {
            bits = (bits << 8) | u32::from(byte);
            held += 8;
            while held >= 5 {
                held -= 5;
                let letter = ALPHABET.get(((bits >> held) & 31) as usize).copied().unwrap_or(b'a');
                out.push(char::from(letter));
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use policy_core::model::{NamedPort, Requirement};

    use super::*;

    fn selector(requirements: &[(&str, Operator)]) -> Selector {
        Selector::new(
            requirements.iter().map(|(key, operator)| Requirement { key: (*key).to_owned(), operator: operator.clone() }),
        )
    }

    fn values(list: &[&str]) -> BTreeSet<String> {
        list.iter().map(|value| (*value).to_owned()).collect()
    }

    fn web() -> PodSelection {
        let pods = selector(&[("app", Operator::In(values(&["web"])))]);
        PodSelection { pods, namespaces: NamespaceSelection::Named("shop".to_owned()) }
    }

    fn team() -> PodSelection {
        let team = Operator::NotIn(values(&["a", "b"]));
        let namespaces = selector(&[("team", team), ("zone", Operator::Exists), ("zoo", Operator::DoesNotExist)]);
        PodSelection { pods: Selector::everything(), namespaces: NamespaceSelection::Matching(namespaces) }
    }

    fn blocks() -> AddressSet {
        AddressSet::union_of(["10.0.0.0/8", "fd00::1/128"].map(|block| AddressSet::block(block.parse().unwrap())))
    }

    fn named() -> NamedPlan {
        let peers = PeersPlan { pods: vec![web()], blocks: AddressSet::none() };
        NamedPlan { name: "http".to_owned(), transport: Transport::Tcp, peers }
    }

    fn group() -> GroupPlan {
        GroupPlan {
            namespace: "shop".to_owned(),
            labels: BTreeMap::from([("app".to_owned(), "web".to_owned())]),
            ports: vec![NamedPort { name: "http".to_owned(), protocol: Transport::Tcp, number: 8080 }],
            pods: vec!["web-0".to_owned()],
            families: BTreeSet::new(),
            sides: [None, None],
        }
    }

    /// The hashes were computed outside of this program, from the form in the documentation of the module. When one of them has to
    /// change, every node makes its sets and chains anew at the next upgrade: that belongs into the changelog.
    #[test]
    fn identities_stay_as_they_are() {
        let peers = PeersPlan { pods: vec![web(), team()], blocks: blocks() };
        let ports = |transport, low, high| (transport, PortRange { low, high });
        let (tcp, udp, pods) = (ports(Transport::Tcp, 80, 80), ports(Transport::Udp, 53, 60), [web()]);
        let listed = [(tcp, pods.as_slice()), (udp, pods.as_slice())];
        let all = [
            (of_group(&group()), "4zzdb4my2m4e"),
            (of_peers(&peers), "62ebbb6ttm99"),
            (of_blocks(&blocks()), "r5ay53usc877"),
            (of_named(&named()), "9efry6ntf4u6"),
            (of_port_peers(&[team()], &listed, &[&named()]), "vfjy4jwxrf89"),
            (of_port_blocks(&[(tcp, "10.1.0.0/16".parse().unwrap())]), "xx9z5fnph8an"),
            (of_tail(&[web()], &blocks()), "irpx7tipbfu5"),
        ];
        for (hash, short) in all {
            assert_eq!((hash.len(), hash.get(..12)), (51, Some(short)));
        }
    }

    #[test]
    fn words_are_no_part_of_an_identity() {
        // Other words for the same: the order in which they are listed.
        let one = PeersPlan { pods: vec![web(), team()], blocks: blocks() };
        let other = PeersPlan { pods: vec![team(), web()], blocks: blocks() };
        assert_ne!(one.to_string(), other.to_string());
        assert_eq!(of_peers(&one), of_peers(&other));

        // The same words for something else.
        let named = |namespaces| PeersPlan {
            pods: vec![PodSelection { pods: Selector::everything(), namespaces }],
            blocks: AddressSet::none(),
        };
        let matching = selector(&[("team", Operator::In(values(&["a"])))]);
        let (one, other) = (NamespaceSelection::Matching(matching), NamespaceSelection::Named("namespaces team=a".to_owned()));
        let (one, other) = (named(one), named(other));
        assert_eq!(one.to_string(), other.to_string());
        assert_ne!(of_peers(&one), of_peers(&other));

        // The pods of a group come and go, and so do its policies.
        let renamed =
            GroupPlan { pods: vec!["web-1".to_owned()], families: BTreeSet::from([policy_core::sets::Family::V4]), ..group() };
        assert_eq!(of_group(&group()), of_group(&renamed));
    }

    #[test]
    fn identities_of_different_contents_are_different() {
        let peers = |pods: &[PodSelection], blocks| of_peers(&PeersPlan { pods: pods.to_vec(), blocks });
        let pods = |key, value, namespace: &str| PodSelection {
            pods: selector(&[(key, Operator::In(values(&[value])))]),
            namespaces: NamespaceSelection::Named(namespace.to_owned()),
        };
        let all = [
            peers(&[], AddressSet::none()),
            peers(&[], AddressSet::all()),
            peers(&[], blocks()),
            peers(&[web()], AddressSet::none()),
            peers(&[web()], blocks()),
            peers(&[pods("app", "we", "bshop")], AddressSet::none()),
            peers(&[pods("ap", "pweb", "shop")], AddressSet::none()),
            peers(&[pods("app", "web", "shop"), pods("app", "web", "shops")], AddressSet::none()),
        ];
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
        // Blocks alone are peers: equal blocks are one set.
        assert_eq!(of_blocks(&blocks()), peers(&[], blocks()));
    }
}
