//! What keeps connections cut whose protocol has no opening of its own (S3.9).
//!
//! A connection that lost its verdict is deleted from the kernel's table. A TCP segment in the middle of it opens nothing, but a
//! datagram does: if the other end may open connections, its next datagram would, and the packets of the end that was cut would
//! be replies. So the tuple of that datagram is put into a set with a time-out first; packets of either end keep it there.
//!
//! The elements exist in the kernel only. They outlive an agent, and are read back, never computed.

use std::net::IpAddr;

use policy_core::sets::Family;

use crate::render::isolated_name;
use crate::ruleset::{Contents, Element, Ruleset, SetKind};
use crate::transaction::{Op, Transaction};

/// Elements of one set at most.
pub const SIZE: u32 = 1 << 16;

/// How long an element stays after the last packet of either end. Longer than a connection tracker remembers a conversation
/// without an opening: 10 minutes for protocols that it does not know, 2 minutes for UDP.
pub const SECONDS: u32 = 15 * 60;

/// The set of conversations with ports.
#[must_use]
pub fn flows_name(family: Family) -> String {
    match family {
        Family::V4 => "was-cut4".to_owned(),
        Family::V6 => "was-cut6".to_owned(),
    }
}

/// The set of conversations of protocols without ports.
#[must_use]
pub fn pairs_name(family: Family) -> String {
    match family {
        Family::V4 => "was-cut-pairs4".to_owned(),
        Family::V6 => "was-cut-pairs6".to_owned(),
    }
}

/// The sets that elements of what was cut are in.
#[must_use]
pub fn sets() -> [(String, SetKind); 4] {
    let of = |family| [(flows_name(family), SetKind::CutFlows(family)), (pairs_name(family), SetKind::CutPairs(family))];
    let [[a, b], [c, d]] = [Family::V4, Family::V6].map(of);
    [a, b, c, d]
}

/// Source, destination and protocol of an element; `None` if it is not a terminated connection.
#[must_use]
pub fn ends(element: &Element) -> Option<(IpAddr, IpAddr, u8)> {
    match element {
        Element::CutFlow { source, destination, protocol, .. } | Element::CutPair(source, destination, protocol) => {
            Some((*source, *destination, *protocol))
        }
        _ => None,
    }
}

/// The element for all conversations of a protocol between the ends of this one.
#[must_use]
pub fn pair(element: &Element) -> Option<Element> {
    ends(element).map(|(source, destination, protocol)| Element::CutPair(source, destination, protocol))
}

/// Whether packets of an address that may open a connection are compared with what was cut: those of isolated pods.
#[must_use]
pub fn is_guarded(ruleset: &Ruleset, address: IpAddr) -> bool {
    let set = ruleset.sets.get(&isolated_name(Family::of(address)));
    set.is_some_and(|set| matches!(&set.contents, Contents::Fixed(elements) if elements.contains(&Element::Address(address))))
}

fn is_in(element: &Element, kind: SetKind) -> bool {
    let is_of_kind = match element {
        Element::CutFlow { .. } => matches!(kind, SetKind::CutFlows(_)),
        Element::CutPair(..) => matches!(kind, SetKind::CutPairs(_)),
        _ => false,
    };
    is_of_kind && ends(element).is_some_and(|(source, ..)| Some(Family::of(source)) == kind.family())
}

fn by_set(elements: &[Element]) -> impl Iterator<Item = (String, SetKind, Vec<Element>)> {
    sets().into_iter().filter_map(|(set, kind)| {
        let own: Vec<Element> = elements.iter().copied().filter(|element| is_in(element, kind)).collect();
        (!own.is_empty()).then_some((set, kind, own))
    })
}

impl Transaction {
    /// Keeps cut what these elements stand for. Those that are there already stay.
    #[must_use]
    pub fn hold(elements: &[Element]) -> Self {
        Self { ops: by_set(elements).map(|(set, kind, elements)| Op::AddElements { set, kind, elements }).collect() }
    }

    /// Forgets what was cut, whether or not the elements are still there.
    #[must_use]
    pub fn release(elements: &[Element]) -> Self {
        let ops = by_set(elements).flat_map(|(set, kind, elements)| {
            // An element may have timed out, and the kernel refuses to delete what is not there.
            let add = Op::AddElements { set: set.clone(), kind, elements: elements.clone() };
            [add, Op::DeleteElements { set, kind, elements }]
        });
        Self { ops: ops.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_go_to_the_set_of_their_kind() {
        let (a, b): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let c: IpAddr = "fd00::1".parse().unwrap();
        let flow = Element::CutFlow { source: a, destination: b, protocol: 17, source_port: 53, destination_port: 1 };
        let ops = Transaction::hold(&[Element::CutPair(c, c, 253), flow]).ops;
        let sets: Vec<&str> = ops.iter().map(|op| if let Op::AddElements { set, .. } = op { set.as_str() } else { "" }).collect();
        assert_eq!(sets, ["was-cut4", "was-cut-pairs6"]);
        assert_eq!(Transaction::release(&[flow]).ops.len(), 2);
        assert!(Transaction::hold(&[Element::Address(a)]).is_empty());
    }
}
