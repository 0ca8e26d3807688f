//! Two pods with one address (S2.5).

use std::net::IpAddr;

use policy_core::diagnostic::{Diagnostic, Documentation, Group, Kind, ObjectRef, Place, Related, Rule, Severity};
use policy_core::graph::AllowGraph;
use policy_core::manifest::Snapshot;
use policy_core::model::{Addresses, ObjectKey};

/// Several pods have the same address.
pub static AMBIGUOUS_ADDRESS: Rule = Rule {
    id: "NP104",
    name: "ambiguous-address",
    severity: Severity::Warning,
    group: Group::Correctness,
    kind: Kind::AmbiguousPodIP,
    section: "S2.5",
    event_reason: None,
    summary: "several pods have the same address",
    documentation: Documentation {
        what: "Several running pods with the same address.",
        why: "The kernel sees addresses, not pods. Selectors match the address only if they match all of these pods.",
        example: Some(
            "apiVersion: v1\nkind: Pod\nmetadata: {name: old, namespace: shop}\nspec: {nodeName: n1}\nstatus: {podIP: 10.0.0.1}\n---\n\
             apiVersion: v1\nkind: Pod\nmetadata: {name: new, namespace: shop}\nspec: {nodeName: n1}\nstatus: {podIP: 10.0.0.1}\n",
        ),
        fix: "Take a new snapshot or dump: one of the pods has probably been deleted.",
        corrected: None,
    },
};

/// One finding for each address, about the first of its pods.
pub(crate) fn findings(graph: &AllowGraph, snapshot: &Snapshot) -> Vec<Diagnostic> {
    let key = |pod| {
        let (namespace, name) = graph.pod_name(pod);
        ObjectKey::new(namespace, name)
    };
    let mut out = Vec::new();
    for (address, pods) in graph.ambiguous_addresses() {
        let mut keys: Vec<ObjectKey> = pods.into_iter().map(key).collect();
        keys.sort();
        let names = keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
        let mut claims = keys.iter().map(|key| claim(key, address, snapshot));
        let Some((object, path, place)) = claims.next() else { continue };
        let related =
            claims.map(|(object, _, place)| Related { message: "has the same address".to_owned(), object: Some(object), place });
        let message = format!("{names} have the same address {address}; selectors match it only if they match all of them");
        out.push(Diagnostic {
            place,
            related: related.collect(),
            ..Diagnostic::new(&AMBIGUOUS_ADDRESS, message)
                .about(object)
                .at(path)
                .help("take a new snapshot or dump: one of the pods has probably been deleted")
        });
    }
    out
}

/// The pod, and the field with its address.
fn claim(key: &ObjectKey, address: IpAddr, snapshot: &Snapshot) -> (ObjectRef, String, Option<Place>) {
    let object = ObjectRef::namespaced("Pod", &key.namespace, &key.name);
    let index = match snapshot.pods.get(key).map(|pod| &pod.addresses) {
        Some(Addresses::Known(known)) => known.iter().position(|own| *own == address).unwrap_or_default(),
        _ => 0,
    };
    // `podIPs` counts if it is written, else `podIP` (S2.2).
    for path in [format!("status.podIPs[{index}].ip"), "status.podIP".to_owned()] {
        if let Some(place) = snapshot.places.exact(&object, &path) {
            return (object, path, Some(place));
        }
    }
    (object, "status.podIPs".to_owned(), None)
}
