//! Names that describe their contents, and stay the same as long as these do.
//!
//! `in-shop/web-k3j2h1g4f5d6` is the chain for ingress to the pods of namespace `shop` whose app label is `web`; the hash covers
//! the namespace, the labels that its policies select pods by, and the named ports (see [`crate::identity`]). `p-…-4` holds addresses of pods, `c-…-4` address
//! blocks and `n-…-4` named ports; their hash covers what selects them, so one set serves every policy that selects the same. `pp-…-4`
//! holds pods with the ports that they get, and `pc-…-24-4` blocks of this length with the ports that they get.

use std::collections::BTreeSet;

use policy_core::model::{Direction, Labels};
use policy_core::plan::GroupPlan;

/// Letters of a hash: 60 bits.
const SHORT: usize = 12;

/// Labels that usually identify the application of a pod, best first.
const APP_LABELS: [&str; 4] = ["app.kubernetes.io/name", "app", "k8s-app", "name"];

/// Hashes, each in the length in which it is the only one: short, and longer where two short ones would be equal.
pub(crate) struct ShortHashes(BTreeSet<String>);

impl ShortHashes {
    /// For these hashes in full length.
    pub(crate) fn new<'h>(full: impl IntoIterator<Item = &'h String>) -> Self {
        let full: BTreeSet<&String> = full.into_iter().collect();
        let neighbours = full.iter().zip(full.iter().skip(1));
        let shared = neighbours.filter(|(a, b)| cut(a) == cut(b)).map(|(a, _)| cut(a).to_owned());
        Self(shared.collect())
    }

    /// One of them.
    pub(crate) fn of(&self, full: &str) -> String {
        let short = cut(full);
        if self.0.contains(short) { full.to_owned() } else { short.to_owned() }
    }
}

fn cut(full: &str) -> &str {
    full.get(..SHORT).unwrap_or(full)
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
        let full = ["abcdefghijkmn", "abcdefghijkmp", "bbcdefghijkmn", "bbcdefghijkmn"].map(str::to_owned);
        let short = ShortHashes::new(&full);
        assert_eq!(full.map(|hash| short.of(&hash)), ["abcdefghijkmn", "abcdefghijkmp", "bbcdefghijkm", "bbcdefghijkm"]);
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
