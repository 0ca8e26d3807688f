//! Sets of IP addresses of both families.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv4Subnets, Ipv6Net, Ipv6Subnets};

use super::RangeSet;

/// An address family. An IPv4 block never matches an IPv6 flow, nor the reverse (S1.42).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// A set of addresses.
///
/// Shape: canonical ranges of addresses as numbers, per family; so CIDR blocks taken out of it never overlap.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct AddressSet {
    v4: RangeSet<u32>,
    v6: RangeSet<u128>,
}

impl AddressSet {
    /// No address.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Every address of both families.
    #[must_use]
    pub fn all() -> Self {
        Self { v4: RangeSet::full(), v6: RangeSet::full() }
    }

    /// Every address of one family.
    #[must_use]
    pub fn family(family: Family) -> Self {
        match family {
            Family::V4 => Self { v4: RangeSet::full(), v6: RangeSet::EMPTY },
            Family::V6 => Self { v4: RangeSet::EMPTY, v6: RangeSet::full() },
        }
    }

    /// The addresses of one block.
    #[must_use]
    pub fn block(block: IpNet) -> Self {
        match block {
            IpNet::V4(net) => {
                Self { v4: RangeSet::range(net.network().to_bits(), net.broadcast().to_bits()), v6: RangeSet::EMPTY }
            }
            IpNet::V6(net) => {
                Self { v4: RangeSet::EMPTY, v6: RangeSet::range(net.network().to_bits(), net.broadcast().to_bits()) }
            }
        }
    }

    /// One address.
    #[must_use]
    pub fn single(address: IpAddr) -> Self {
        Self::block(IpNet::from(address))
    }

    /// A block without its exceptions.
    #[must_use]
    pub fn block_except(block: IpNet, except: &[IpNet]) -> Self {
        Self::block(block).difference(&Self::union_of(except.iter().map(|net| Self::block(*net))))
    }

    /// Whether the set has no members.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Whether every address of `family` is a member.
    #[must_use]
    pub fn covers(&self, family: Family) -> bool {
        match family {
            Family::V4 => self.v4.is_full(),
            Family::V6 => self.v6.is_full(),
        }
    }

    /// Whether the set has a member in `family`.
    #[must_use]
    pub fn touches(&self, family: Family) -> bool {
        match family {
            Family::V4 => !self.v4.is_empty(),
            Family::V6 => !self.v6.is_empty(),
        }
    }

    /// Whether `address` is a member.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(a) => self.v4.contains(a.to_bits()),
            IpAddr::V6(a) => self.v6.contains(a.to_bits()),
        }
    }

    /// What is in any of the sets. Cost: that of sorting their ranges, where taking them in one by one costs the square.
    #[must_use]
    pub fn union_of(sets: impl IntoIterator<Item = Self>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for set in sets {
            v4.extend(set.v4.iter());
            v6.extend(set.v6.iter());
        }
        Self { v4: RangeSet::from_ranges(v4), v6: RangeSet::from_ranges(v6) }
    }

    /// What is in either set.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self { v4: self.v4.union(&other.v4), v6: self.v6.union(&other.v6) }
    }

    /// What is in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        Self { v4: self.v4.intersection(&other.v4), v6: self.v6.intersection(&other.v6) }
    }

    /// What is in this set and not in `other`.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        Self { v4: self.v4.difference(&other.v4), v6: self.v6.difference(&other.v6) }
    }

    /// IPv4 ranges as numbers, ascending, inclusive.
    #[must_use]
    pub fn v4(&self) -> &RangeSet<u32> {
        &self.v4
    }

    /// IPv6 ranges as numbers, ascending, inclusive.
    #[must_use]
    pub fn v6(&self) -> &RangeSet<u128> {
        &self.v6
    }

    /// The lowest address, IPv4 before IPv6.
    #[must_use]
    pub fn first(&self) -> Option<IpAddr> {
        let v4 = self.v4.iter().next().map(|(low, _)| IpAddr::V4(Ipv4Addr::from_bits(low)));
        v4.or_else(|| self.v6.iter().next().map(|(low, _)| IpAddr::V6(Ipv6Addr::from_bits(low))))
    }

    /// The ranges that make up the set, as first and last address; disjoint, ascending, IPv4 first.
    pub fn ranges(&self) -> impl Iterator<Item = (IpAddr, IpAddr)> + '_ {
        let v4 = self.v4.iter().map(|(low, high)| (IpAddr::V4(Ipv4Addr::from_bits(low)), IpAddr::V4(Ipv4Addr::from_bits(high))));
        let v6 = self.v6.iter().map(|(low, high)| (IpAddr::V6(Ipv6Addr::from_bits(low)), IpAddr::V6(Ipv6Addr::from_bits(high))));
        v4.chain(v6)
    }

    /// The ranges as text, each as a block where it is one: `10.0.0.0/8`, `10.0.0.1`, `10.0.0.1-10.0.0.5`.
    #[must_use]
    pub fn to_texts(&self) -> Vec<String> {
        let range = |(low, high)| match block_of(low, high) {
            Some(_) if low == high => low.to_string(),
            Some(block) => block.to_string(),
            None => format!("{low}-{high}"),
        };
        self.ranges().map(range).collect()
    }

    /// The fewest CIDR blocks that make up the set; disjoint, ascending, IPv4 first.
    #[must_use]
    pub fn to_cidrs(&self) -> Vec<IpNet> {
        let v4 = self.v4.iter().flat_map(|(low, high)| {
            Ipv4Subnets::new(Ipv4Addr::from_bits(low), Ipv4Addr::from_bits(high), 0).map(|n: Ipv4Net| IpNet::V4(n))
        });
        let v6 = self.v6.iter().flat_map(|(low, high)| {
            Ipv6Subnets::new(Ipv6Addr::from_bits(low), Ipv6Addr::from_bits(high), 0).map(|n: Ipv6Net| IpNet::V6(n))
        });
        v4.chain(v6).collect()
    }
}

/// The CIDR block that goes from the first to the last of these addresses, if there is one.
#[must_use]
pub fn block_of(first: IpAddr, last: IpAddr) -> Option<IpNet> {
    let longest = if first.is_ipv4() { 32 } else { 128 };
    let blocks = (0..=longest).filter_map(|length| IpNet::new(first, length).ok());
    blocks.into_iter().find(|block| block.network() == first && block.broadcast() == last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn excepts_are_cut_out_of_their_block() {
        let set = AddressSet::block_except(net("10.0.0.0/8"), &[net("10.1.0.0/16"), net("10.0.0.0/32")]);
        assert!(!set.contains("10.0.0.0".parse().unwrap()));
        assert!(set.contains("10.0.0.1".parse().unwrap()));
        assert!(!set.contains("10.1.255.255".parse().unwrap()));
        assert!(set.contains("10.2.0.0".parse().unwrap()));
        assert!(!set.contains("::ffff:10.2.0.0".parse().unwrap()));
    }

    #[test]
    fn a_union_of_many_is_that_of_one_after_the_other() {
        let texts = ["10.1.0.0/16", "fd00::/64", "10.0.0.0/16", "10.0.3.0/24", "fd00:0:0:1::/64", "9.0.0.0/8", "11.0.0.1/32"];
        let sets = texts.map(|text| AddressSet::block(net(text)));
        let step_by_step = sets.iter().fold(AddressSet::none(), |all, set| all.union(set));
        assert_eq!(AddressSet::union_of(sets), step_by_step);
        assert_eq!(step_by_step.to_cidrs(), ["9.0.0.0/8", "10.0.0.0/15", "11.0.0.1/32", "fd00::/63"].map(net));
        assert_eq!(AddressSet::union_of([]), AddressSet::none());
    }

    #[test]
    fn cidrs_are_minimal_and_disjoint() {
        let halves = AddressSet::block(net("0.0.0.0/1")).union(&AddressSet::block(net("128.0.0.0/1")));
        assert!(halves.covers(Family::V4));
        assert_eq!(halves.to_cidrs(), vec![net("0.0.0.0/0")]);
        let holed = AddressSet::block_except(net("10.0.0.0/30"), &[net("10.0.0.1/32")]);
        assert_eq!(holed.to_cidrs(), vec![net("10.0.0.0/32"), net("10.0.0.2/31")]);
        assert_eq!(AddressSet::all().to_cidrs(), vec![net("0.0.0.0/0"), net("::/0")]);
    }
}
