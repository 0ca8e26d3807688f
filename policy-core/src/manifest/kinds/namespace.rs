//! `v1 Namespace` (S1.34, S1.35).

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Changes, Compiled, Kind, Role};
use crate::diagnostic::ObjectRef;
use crate::diagnostic::rules::objects;
use crate::manifest::fault::Fault;
use crate::manifest::load::Reader;
use crate::manifest::lower::{self, Report};
use crate::manifest::snapshot::Snapshot;
use crate::manifest::tree::NodeId;
use crate::manifest::wire::ObjectMeta;
use crate::model::{Change, NAME_LABEL, Namespace, ObjectKey};

pub(super) static KINDS: [Kind; 1] = [Kind {
    name: "Namespace",
    groups: &[""],
    role: Role::Subject,
    strict: &[],
    read,
    changes: Some(Changes::of::<Namespaces>()),
}];

/// An object of which only the metadata is read (Namespace).
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields are those of the API")]
pub struct MetadataOnly {
    pub metadata: ObjectMeta,
}

fn read(reader: &mut Reader<'_, '_, '_>, node: NodeId, _: &'static Kind) {
    let (wire, mut unread) = reader.decode::<MetadataOnly>(node);
    reader.check_namespace(&wire.metadata, &mut unread);
    let mut report = Report::new(&unread);
    lower::check_metadata(&wire.metadata, &mut report);
    let name = wire.metadata.name.clone();
    let (namespace, wrong_label) = lower_namespace(&wire.metadata);
    if let Some(found) = wrong_label {
        let message =
            format!("found `{found}` as `kubernetes.io/metadata.name`, expected `{name}`: the API server sets it to the name");
        report.error(Fault::new(&objects::WRONG_NAME_LABEL, &"metadata.labels", message).help("remove the label"));
    }
    let errors = report.errors;
    let object = ObjectRef::global("Namespace", &name);
    reader.tell(node, &object, unread, errors, Vec::new());
    if !name.is_empty() && reader.counts(&object, node, &namespace) {
        reader.assembly().namespaces.insert(name, namespace);
    }
}

/// A Namespace with its name label, and the value that it had instead.
fn lower_namespace(metadata: &ObjectMeta) -> (Namespace, Option<String>) {
    let mut labels = metadata.labels.clone();
    let before = labels.insert(NAME_LABEL.to_owned(), metadata.name.clone());
    let wrong = before.filter(|value| *value != metadata.name);
    (Namespace { name: metadata.name.clone(), labels }, wrong)
}

struct Namespaces;

impl Compiled for Namespaces {
    type Key = String;
    type Object = Namespace;

    fn objects(snapshot: &Snapshot) -> &BTreeMap<String, Namespace> {
        &snapshot.namespaces
    }

    fn into_objects(snapshot: Snapshot) -> BTreeMap<String, Namespace> {
        snapshot.namespaces
    }

    fn key(key: ObjectKey) -> String {
        key.name
    }

    fn present(object: Namespace) -> Change {
        Change::Namespace(object)
    }

    fn removed(key: String) -> Change {
        Change::NamespaceRemoved(key)
    }
}
