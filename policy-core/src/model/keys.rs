//! Names of objects and places in files.

use std::fmt;

use serde::Serialize;

/// Namespace and name of a namespaced object.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize)]
pub struct ObjectKey {
    /// The namespace.
    pub namespace: String,
    /// The name, unique per kind and namespace.
    pub name: String,
}

impl ObjectKey {
    /// The key of `namespace/name`.
    #[must_use]
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The controller that a pod belongs to, or the pod itself when it has none. The namespace is the pod's.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize)]
pub struct WorkloadKey {
    /// `Deployment`, `StatefulSet`, `DaemonSet`, `Job`, `CronJob`, `ReplicaSet`, `ReplicationController`, `Pod`, or any other kind that
    /// makes pods.
    pub kind: String,
    /// The name of the controller.
    pub name: String,
}

/// Where something is written.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize)]
pub struct Origin {
    /// The file as the user named it, `-` for standard input.
    pub file: String,
    /// Line, 1-based; 0 if it is not in a file.
    pub line: u32,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            return f.write_str(&self.file);
        }
        write!(f, "{}:{}", self.file, self.line)
    }
}
