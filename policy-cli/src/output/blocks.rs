//! Address sets as text: `10.0.0.0/8 except 10.1.0.0/16` where that is shorter than a list of blocks.

use ipnet::IpNet;
use policy_core::sets::AddressSet;

/// Sets of more blocks are listed as they are, to bound time.
const MOST_BLOCKS: usize = 256;

/// The set as the shortest list of blocks with exceptions.
pub(crate) fn texts(addresses: &AddressSet) -> Vec<String> {
    let blocks = addresses.to_cidrs();
    let as_list = || blocks.iter().map(ToString::to_string).collect::<Vec<_>>();
    if !(2..=MOST_BLOCKS).contains(&blocks.len()) {
        return as_list();
    }
    let roots = ["0.0.0.0/0", "::/0"].iter().filter_map(|root| root.parse::<IpNet>().ok());
    let parts: Vec<Part> = roots
        .flat_map(|root| {
            let own: Vec<IpNet> = blocks.iter().filter(|block| root.contains(*block)).copied().collect();
            parts(root, &own, addresses)
        })
        .collect();
    if parts.iter().map(Part::cost).sum::<usize>() < blocks.len() {
        parts.iter().map(ToString::to_string).collect()
    } else {
        as_list()
    }
}

/// A block without some of its blocks.
#[derive(Clone, Debug)]
struct Part {
    block: IpNet,
    except: Vec<IpNet>,
}

impl Part {
    /// How many blocks the text has.
    fn cost(&self) -> usize {
        1 + self.except.len()
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let except: Vec<String> = self.except.iter().map(ToString::to_string).collect();
        match except.as_slice() {
            [] => write!(f, "{}", self.block),
            [one] => write!(f, "{} except {one}", self.block),
            several => write!(f, "{} except ({})", self.block, several.join(", ")),
        }
    }
}

/// The parts of `within` that `blocks` are, which are sorted and in it.
fn parts(within: IpNet, blocks: &[IpNet], addresses: &AddressSet) -> Vec<Part> {
    match blocks {
        [] => return Vec::new(),
        [one] => return vec![Part { block: *one, except: Vec::new() }],
        _ => {}
    }
    let mut halves = Vec::new();
    for half in within.subnets(within.prefix_len() + 1).into_iter().flatten() {
        let own: Vec<IpNet> = blocks.iter().filter(|block| half.contains(*block)).copied().collect();
        halves.extend(parts(half, &own, addresses));
    }
    let except = AddressSet::block(within).difference(addresses).to_cidrs();
    if 1 + except.len() < halves.iter().map(Part::cost).sum() { vec![Part { block: within, except }] } else { halves }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(blocks: &[&str], except: &[&str]) -> AddressSet {
        let read = |text: &&str| AddressSet::block(text.parse().expect("a block"));
        AddressSet::union_of(blocks.iter().map(read)).difference(&AddressSet::union_of(except.iter().map(read)))
    }

    #[test]
    fn exceptions_are_shown_where_that_is_shorter() {
        for (blocks, except, expected) in [
            (&["10.0.0.0/8"][..], &[][..], &["10.0.0.0/8"][..]),
            (&["10.0.0.0/8"], &["10.1.0.0/16"], &["10.0.0.0/8 except 10.1.0.0/16"]),
            (&["10.0.0.0/8"], &["10.1.0.0/16", "10.200.0.0/16"], &["10.0.0.0/8 except (10.1.0.0/16, 10.200.0.0/16)"]),
            (&["10.0.0.0/8", "192.168.0.0/16"], &["10.1.0.0/16"], &["10.0.0.0/8 except 10.1.0.0/16", "192.168.0.0/16"]),
            // Two blocks are two blocks, however they are described.
            (&["10.0.0.0/8"], &["10.128.0.0/9"], &["10.0.0.0/9"]),
            (&["10.0.0.0/8"], &["10.64.0.0/10"], &["10.0.0.0/10", "10.128.0.0/9"]),
            (&["0.0.0.0/0", "::/0"], &["10.0.0.0/8"], &["0.0.0.0/0 except 10.0.0.0/8", "::/0"]),
            (&["fd00::/8"], &["fd00::/64"], &["fd00::/8 except fd00::/64"]),
        ] {
            assert_eq!(texts(&set(blocks, except)), expected, "{blocks:?} without {except:?}");
        }
    }
}
