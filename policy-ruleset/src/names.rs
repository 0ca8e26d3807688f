//! Names that describe their contents, and stay the same as long as these do.
//!
//! `in-shop/web-k3j2h1g4f5d6` is the chain for ingress to the pods of namespace `shop` whose app label is `web`; the hash covers
//! the namespace, the labels that its policies select pods by, and the named ports. `p-…-4` holds addresses of pods, `c-…-4` address
//! blocks and `n-…-4` named ports; their hash covers what selects them, so one set serves every policy that selects the same. `pp-…-4`
//! holds pods with the ports that they get, and `pc-…-24-4` blocks of this length with the ports that they get.

use std::collections::{BTreeMap, BTreeSet};

use policy_core::model::{Direction, Labels};
use policy_core::plan::GroupPlan;
use sha2::{Digest, Sha256};

/// Letters of a hash: 60 bits.
const SHORT: usize = 12;

/// Labels that usually identify the application of a pod, best first.
const APP_LABELS: [&str; 4] = ["app.kubernetes.io/name", "app", "k8s-app", "name"];

/// Letters and digits that cannot be mistaken for each other.
const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// A hash as text, in full length.
pub(crate) fn hash(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    let mut out = String::new();
    let (mut bits, mut held) = (0u32, 0u32);
    for byte in digest {
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

/// Gives each text a hash of its own: short, and longer where two short ones are equal.
pub(crate) fn hashes<'t>(texts: impl IntoIterator<Item = &'t str>) -> BTreeMap<&'t str, String> {
    let mut full: BTreeMap<&str, String> = BTreeMap::new();
    for text in texts {
        full.entry(text).or_insert_with(|| hash(text));
    }
    let short = short(full.values().map(String::as_str));
    full.iter().map(|(text, long)| (*text, short.get(long.as_str()).copied().unwrap_or_default().to_owned())).collect()
}

/// Hashes in the length in which each is the only one.
pub(crate) fn short<'h>(full: impl IntoIterator<Item = &'h str>) -> BTreeMap<&'h str, &'h str> {
    let full: BTreeSet<&str> = full.into_iter().collect();
    let cut = |long: &'h str| long.get(..SHORT).unwrap_or(long);
    let mut uses: BTreeMap<&str, usize> = BTreeMap::new();
    for long in &full {
        *uses.entry(cut(long)).or_default() += 1;
    }
    full.into_iter().map(|long| (long, if uses.get(cut(long)).is_some_and(|n| *n > 1) { long } else { cut(long) })).collect()
}

/// What makes a group the group that it is.
pub(crate) fn group_text(group: &GroupPlan) -> String {
    format!("{:?} {:?} {:?}", group.namespace, group.labels, group.ports)
}

/// `shop/web`: the namespace and the app label, in letters that nft takes; the namespace alone without such a label.
#[must_use]
pub fn workload_name(namespace: &str, labels: &Labels) -> String {
    slug(namespace, app_label(labels).unwrap_or_default())
}

/// The same for the pods of a group, by the labels that the policies of their namespace select pods by: those are all that the pods
/// have in common. Without an app label among them `shop/tier_db`, from the first one.
pub(crate) fn group_name(group: &GroupPlan) -> String {
    let first = || group.labels.iter().next().map(|(key, value)| format!("{}_{value}", key.rsplit('/').next().unwrap_or(key)));
    let name = app_label(&group.labels).map(str::to_owned).or_else(first);
    slug(&group.namespace, &name.unwrap_or_default())
}

fn app_label(labels: &Labels) -> Option<&str> {
    APP_LABELS.iter().find_map(|key| labels.get(*key)).map(String::as_str)
}

fn slug(namespace: &str, name: &str) -> String {
    let part = |text: &str| -> String {
        let plain = text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '.' { c } else { '_' });
        plain.take(30).collect()
    };
    match part(name).as_str() {
        "" => part(namespace),
        name => format!("{}/{name}", part(namespace)),
    }
}

/// The chain of a group for one direction.
pub(crate) fn group_chain(direction: Direction, slug: &str, hash: &str) -> String {
    let side = match direction {
        Direction::Egress => "eg",
        Direction::Ingress => "in",
    };
    format!("{side}-{slug}-{hash}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_short_unless_two_would_be_equal() {
        let names = hashes(["a", "b"]);
        assert!(names.values().all(|name| name.len() == SHORT));
        assert_ne!(names["a"], names["b"]);
        assert_eq!(hash("a").len(), 51);
    }

    #[test]
    fn slugs_have_only_letters_that_nft_takes() {
        let labels = Labels::from([("app".to_owned(), "we\"b x".to_owned())]);
        assert_eq!(workload_name("shop", &labels), "shop/we_b_x");
        assert_eq!(workload_name("shop", &Labels::new()), "shop");
    }

    #[test]
    fn a_group_is_named_after_what_its_pods_have_in_common() {
        let name = |labels: &[(&str, &str)]| {
            let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            let (ports, pods, sides) = (Vec::new(), vec!["web-0".to_owned()], [None, None]);
            group_name(&GroupPlan { namespace: "shop".to_owned(), labels, ports, pods, families: BTreeSet::default(), sides })
        };
        assert_eq!(name(&[("a", "b"), ("app", "web")]), "shop/web");
        assert_eq!(name(&[("example.com/tier", "db"), ("zone", "b")]), "shop/tier_db");
        assert_eq!(name(&[]), "shop");
    }
}
