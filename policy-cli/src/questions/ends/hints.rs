//! What was probably meant by an end that does not exist.

use std::collections::BTreeSet;

use anyhow::{Error, anyhow};
use policy_core::manifest::nearest;
use policy_core::model::{ObjectKey, Pod};

use super::kinds;
use crate::questions::evaluation::Evaluation;

/// Words for the world outside of the cluster.
const OUTSIDE: [&str; 11] =
    ["internet", "world", "any", "anywhere", "all", "everyone", "everything", "outside", "public", "www", "wan"];

/// The error for text that no workload and no pod can be named.
pub(super) fn never_a_name(text: &str, evaluation: &Evaluation) -> Option<Error> {
    if let Some((scheme, rest)) = text.split_once("://") {
        let host = rest.split(['/', ':']).next().unwrap_or_default();
        return Some(anyhow!("`{text}` is a URL, not an end of a connection; {}, without `{scheme}://`", by_address(host)));
    }
    if let Some(error) = with_port(text) {
        return Some(error);
    }
    let is_maker = |(namespace, name): &(String, String)| {
        let mut makers = evaluation.snapshot.makers.iter();
        makers.any(|maker| maker.kind == "Service" && maker.namespace == *namespace && maker.name == *name)
    };
    if let Some((namespace, name)) = service(text, evaluation).filter(|named| !is_maker(named)) {
        return Some(not_yet(evaluation, text, &namespace, &name));
    }
    let address = text.split('/').next().unwrap_or_default();
    let is_v4 = address.contains('.') && address.chars().all(|c| c.is_ascii_digit() || c == '.');
    let is_v6 = address.matches(':').count() > 1 && address.chars().all(|c| c.is_ascii_hexdigit() || c == ':' || c == '.');
    if is_v4 || is_v6 {
        let (what, example) = if text.contains('/') { ("CIDR", "10.0.0.0/8") } else { ("IP address", "10.0.0.1") };
        return Some(anyhow!("`{text}` is not a valid {what}; expected one such as {example}"));
    }
    if let Some(namespace) = text.strip_suffix('/').filter(|namespace| !namespace.contains('/')) {
        return Some(anyhow!("`{text}` has no name after the slash; `{namespace}/*` selects every workload of the namespace"));
    }
    if text.is_empty() || text.split('/').any(str::is_empty) {
        return Some(anyhow!("`{text}` has an empty part; expected ns/name, kind/name or ns/kind/name"));
    }
    None
}

/// The error for text that names nothing in the input, but could have.
pub(super) fn maybe_a_name(text: &str, evaluation: &Evaluation) -> Option<Error> {
    let lower = text.to_ascii_lowercase();
    if OUTSIDE.contains(&lower.as_str()) || lower == "external" {
        return Some(anyhow!(
            "there is no pod or workload `{text}`; did you mean `external`, every address that belongs to no pod and no node?"
        ));
    }
    if kinds::is_kind(text) {
        return Some(anyhow!("`{text}` is a kind without a name; write `{lower}/NAME`, or `NAMESPACE/{lower}/NAME`"));
    }
    if text.contains('/') || !text.contains('.') {
        return None;
    }
    let has = |namespace: &str, name: &str| {
        evaluation.snapshot.workloads.keys().any(|(ns, owner)| ns == namespace && owner.name == name)
    };
    // The order of names in DNS, and that of SQL.
    for (a, b) in text.split_once('.').into_iter() {
        for (namespace, name) in [(b, a), (a, b)] {
            if has(namespace, name) {
                return Some(anyhow!("`{text}` is not a name of a workload; did you mean `{namespace}/{name}`?"));
            }
        }
    }
    let is_host = text.rsplit('.').next().is_some_and(|top| top.len() > 1 && top.chars().all(|c| c.is_ascii_alphabetic()));
    is_host.then(|| anyhow!("there is no pod or workload `{text}`; {}", by_address(text)))
}

fn by_address(host: &str) -> String {
    format!("host names such as `{host}` are not resolved: specify an address, a CIDR, or `external`")
}

/// `shop/db:5432`, `10.0.0.1:80` and `[fd00::1]:80`.
fn with_port(text: &str) -> Option<Error> {
    let (end, port) = text.rsplit_once(':')?;
    let end = end.strip_prefix('[').and_then(|end| end.strip_suffix(']')).unwrap_or(end);
    let is_port = !port.is_empty() && port.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    let is_end = !end.is_empty() && (!end.contains(':') || text.starts_with('['));
    (is_port && is_end).then(|| anyhow!("an end has no port: write `{end} -p {port}` instead of `{text}`"))
}

/// The namespace and name of a Service: `svc/web`, `shop/svc/web`, `shop/web.svc`, `web.shop.svc`, `web.shop.svc.cluster.local`.
fn service(text: &str, evaluation: &Evaluation) -> Option<(String, String)> {
    let parts: Vec<&str> = text.split('/').collect();
    match parts.as_slice() {
        [word, name] if kinds::is_service(word) && !evaluation.snapshot.namespaces.contains_key(*word) => {
            Some((evaluation.namespace.clone(), (*name).to_owned()))
        }
        [namespace, word, name] if kinds::is_service(word) => Some(((*namespace).to_owned(), (*name).to_owned())),
        [host] => service_of_host(host, &evaluation.namespace),
        [namespace, host] if !exists(evaluation, namespace, host) => service_of_host(host, namespace),
        _ => None,
    }
}

/// The namespace and name of the Service of a host name: `web.svc` is in the given namespace, and `web.shop.svc` in its own.
fn service_of_host(host: &str, namespace: &str) -> Option<(String, String)> {
    let labels: Vec<&str> = host.trim_end_matches('.').split('.').collect();
    let (namespace, name) = match labels.as_slice() {
        [name, namespace, "svc", ..] | [_, name, namespace, "svc", ..] => (*namespace, *name),
        [name, "svc", ..] => (namespace, *name),
        _ => return None,
    };
    Some((namespace.to_owned(), name.to_owned()))
}

/// Whether the input has a pod or a workload of this name.
fn exists(evaluation: &Evaluation, namespace: &str, name: &str) -> bool {
    let snapshot = &evaluation.snapshot;
    snapshot.pods.contains_key(&ObjectKey::new(namespace, name))
        || snapshot.workloads.keys().any(|(own, owner)| own == namespace && owner.name == name)
}

fn not_yet(evaluation: &Evaluation, text: &str, namespace: &str, name: &str) -> Error {
    let snapshot = &evaluation.snapshot;
    let Some(service) = snapshot.services.get(&ObjectKey::new(namespace, name)) else {
        let own = snapshot.services.keys().filter(|key| key.namespace == namespace).map(|key| key.name.as_str());
        let near = nearest(name, own).map(|near| format!("; did you mean `{namespace}/svc/{near}`?")).unwrap_or_default();
        return anyhow!(
            "`{text}` is a Service, and the input has no Service {namespace}/{name}{near}; Services are not supported as ends yet: ask for \
             the pods behind it, on the port of the pods (`targetPort`)"
        );
    };
    let is_behind = |pod: &&Pod| {
        let has = |(key, value): (&String, &String)| pod.labels.get(key) == Some(value);
        pod.key.namespace == namespace && !service.selector.is_empty() && service.selector.iter().all(has)
    };
    let owners: BTreeSet<&str> =
        snapshot.pods.values().filter(is_behind).filter_map(|pod| pod.owner.as_ref()).map(|owner| owner.name.as_str()).collect();
    let pods: Vec<String> = owners.into_iter().take(3).map(|owner| format!("`{namespace}/{owner}`")).collect();
    let example = if pods.is_empty() { String::new() } else { format!(", {}", pods.join(" or ")) };
    anyhow!(
        "`{text}` is the Service {namespace}/{name}, and Services are not supported as ends yet: ask for the pods behind it{example}, on \
         the port of the pods (`targetPort`)"
    )
}
