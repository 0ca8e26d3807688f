//! Anonymous sets and verdict maps: they belong to one rule.

use std::net::IpAddr;

use netlink_packet_core::DefaultNla;
use netlink_packet_netfilter::nftables::{SetAttribute, SetDescription, SetElementList, SetFlags, SetMessage};
use policy_core::sets::Transport;

use super::super::attributes::{be32, nested, text};
use super::super::elements::{self, PORT_KEY, SERVICE_KEY};
use super::fields::{self, META_L4PROTO};
use super::{AnonymousSet, Encoder, GOTO, register, verdict};
use crate::rule::{Icmpv6Type, IpProtocol, PortRange, Side, VerdictMap};
use crate::{SetKind, TABLE};

/// `NFT_DATA_VERDICT`: what verdict maps hold.
const TYPE_VERDICT: u32 = 0xffff_ff00;
/// nft's type of an ICMPv6 type, and its length.
const ICMPV6_KEY: (u32, u32) = (29, 1);

/// What anonymous sets and maps are called; the kernel numbers them.
const SET: &str = "__set%d";
const MAP: &str = "__map%d";

impl Encoder<'_> {
    pub(super) fn of_icmpv6_types(&mut self, types: &[Icmpv6Type]) {
        self.load(&fields::ICMPV6_TYPE);
        let element = |kind: &Icmpv6Type| elements::element(&[elements::key(vec![kind.number()])]);
        let set = self.anonymous(SET, ICMPV6_KEY, SetFlags::empty(), types.iter().map(element).collect());
        self.push("lookup", vec![be32(2, 1), text(1, SET), be32(4, set)]);
    }

    pub(super) fn verdict_map(&mut self, map: &VerdictMap) {
        let (key, flags, elements) = match map {
            VerdictMap::Addresses { field, chains } => {
                self.load(&fields::address(*field));
                let element = |(address, chain): &(IpAddr, String)| element(elements::address(*address), chain);
                (elements::key_type(SetKind::Addresses(field.family)), SetFlags::Map, chains.iter().map(element).collect())
            }
            VerdictMap::Ports(chains) => {
                self.load_meta(META_L4PROTO, register(0));
                self.load_place(&fields::port(Side::Destination), register(1));
                let element = |(transport, port, chain): &(Transport, u16, String)| {
                    element(elements::port_key(IpProtocol::from(*transport).number(), *port).to_vec(), chain)
                };
                (PORT_KEY, SetFlags::Map, chains.iter().map(element).collect())
            }
            VerdictMap::PortRanges { transport, chains } => {
                self.load(&fields::destination_port(*transport));
                let (flags, elements) = port_ranges(chains);
                (SERVICE_KEY, flags, elements)
            }
        };
        let set = self.anonymous(MAP, key, flags, elements);
        self.push("lookup", vec![be32(2, 1), be32(3, 0), text(1, MAP), be32(4, set)]);
    }

    fn anonymous(&mut self, name: &str, (key_type, key_len): (u32, u32), flags: SetFlags, elements: Vec<DefaultNla>) -> u32 {
        let id = *self.next_set;
        *self.next_set += 1;
        let mut attributes = vec![
            SetAttribute::Table(TABLE.to_owned()),
            SetAttribute::Name(name.to_owned()),
            SetAttribute::Flags(SetFlags::Anonymous | SetFlags::Constant | flags),
            SetAttribute::KeyType(key_type),
            SetAttribute::KeyLen(key_len),
        ];
        if flags.contains(SetFlags::Map) {
            attributes.extend([SetAttribute::DataType(TYPE_VERDICT), SetAttribute::DataLen(0)]);
        }
        attributes.push(SetAttribute::Id(id));
        let size = SetDescription::Size(u32::try_from(elements.len()).unwrap_or(u32::MAX));
        attributes.push(SetAttribute::Description(vec![size]));
        attributes.push(SetAttribute::UserData(elements::set_userdata(key_type == PORT_KEY.0)));
        let place = [SetElementList::Table(TABLE.to_owned()), SetElementList::Set(name.to_owned()), SetElementList::SetId(id)];
        self.sets.push(AnonymousSet { set: SetMessage { attributes }, elements: elements::split(elements, &place) });
        id
    }
}

/// What an element of a map holds: `goto CHAIN`.
fn data(chain: &str) -> DefaultNla {
    nested(2, &[verdict(GOTO, Some(chain))])
}

fn element(key: Vec<u8>, chain: &str) -> DefaultNla {
    elements::element(&[elements::key(key), data(chain)])
}

/// The elements of a map of ports: one for each port, or intervals if one of them is a range.
fn port_ranges(chains: &[(PortRange, String)]) -> (SetFlags, Vec<DefaultNla>) {
    if chains.iter().all(|(range, _)| range.low == range.high) {
        let element = |(range, chain): &(PortRange, String)| element(range.low.to_be_bytes().to_vec(), chain);
        return (SetFlags::Map, chains.iter().map(element).collect());
    }
    let ranges = chains.iter().map(|(range, chain)| (range.low, range.high, data(chain)));
    (SetFlags::Map | SetFlags::Interval, elements::port_ranges(ranges.collect()))
}
