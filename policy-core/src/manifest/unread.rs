//! What could not be read, and what it may be.

use super::foreign;
use super::kinds;

/// A document or an object that could not be read, or a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// The file.
    pub file: String,
    /// Where it begins, or where the error is; 0 for a whole file.
    pub line: u32,
    /// The kind that the text names; `None` if it names none. If it names several, a kind of policies.
    pub kind: Option<String>,
}

impl Unread {
    /// Whether it may hold a policy: then the cluster may deny what an answer allows.
    #[must_use]
    pub fn may_be_policy(&self) -> bool {
        self.kind.as_deref().is_none_or(is_policy)
    }
}

/// Whether objects of a kind of this name are policies in some group.
fn is_policy(kind: &str) -> bool {
    let kind = kind.strip_suffix("List").unwrap_or(kind);
    kinds::named(kind).is_some_and(kinds::Kind::is_policy) || foreign::is_policy_name(kind)
}

/// The kind that a text names, which may not be valid YAML: the first that is a kind of policies, else the first.
pub(super) fn kind_in(text: &str) -> Option<&str> {
    let mut kinds = text.match_indices("kind").filter_map(|(at, word)| {
        let rest = text.get(at + word.len()..)?;
        let rest = rest.strip_prefix(['"', '\'']).unwrap_or(rest).trim_start_matches([' ', '\t']).strip_prefix(':')?;
        let rest = rest.trim_start_matches([' ', '\t', '"', '\'']);
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        rest.get(..end).filter(|kind| kind.starts_with(|c: char| c.is_ascii_uppercase()))
    });
    let first = kinds.next()?;
    if is_policy(first) { Some(first) } else { kinds.find(|kind| is_policy(kind)).or(Some(first)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_is_the_one_that_the_text_names() {
        for (text, expected) in [
            ("apiVersion: v1\nkind: Pod\na: [", Some("Pod")),
            ("kind: Pod\nkind:   \"NetworkPolicy\"\n", Some("NetworkPolicy")),
            ("{\"kind\" : \"CiliumNetworkPolicy\", ", Some("CiliumNetworkPolicy")),
            ("- kind: List\n  items:\n  - kind: NetworkPolicy", Some("NetworkPolicy")),
            ("kind:\nname: x", None),
            ("mankind is kind", None),
            ("", None),
        ] {
            assert_eq!(kind_in(text), expected, "{text}");
        }
    }

    #[test]
    fn what_names_no_kind_may_be_a_policy() {
        let unread = |kind: Option<&str>| Unread { file: String::new(), line: 1, kind: kind.map(str::to_owned) };
        for (kind, expected) in [
            (None, true),
            (Some("NetworkPolicy"), true),
            (Some("AuthorizationPolicy"), true),
            (Some("EgressFirewall"), true),
            (Some("NetworkPolicyList"), true),
            (Some("Pod"), false),
            (Some("StagedNetworkPolicy"), false),
        ] {
            assert_eq!(unread(kind).may_be_policy(), expected, "{kind:?}");
        }
    }
}
