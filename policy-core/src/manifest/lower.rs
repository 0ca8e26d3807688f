//! Kubernetes defaults and validation: wire objects become model values, here and nowhere else.
//!
//! Each function reports what the API server would refuse, with the server's field paths (S1.10 to S1.19), and returns the
//! fail-closed reading of what is left (S1.20).

mod pod;
mod policy;
mod selector;
mod workload;

use std::fmt;

pub(crate) use pod::{OwnerName, controller, lower_pod};
pub(crate) use policy::{Stored, lower_policy, stored};
pub(crate) use selector::{label_faults, lower_selector};
pub use workload::is_generated;
pub(crate) use workload::{
    COMPLETION_INDEX, JOB_NAMES, Numbers, POD_INDEX, POD_NAME, Sort, Template, as_next_job, as_rollout, labels_of_object_alone,
    lower_template, lower_workload,
};

use super::decode::Faults;
use super::fault::Fault;
use super::names;
use super::wire::ObjectMeta;
use crate::diagnostic::rules::objects;

/// How CIDR text is judged (S1.19).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Syntax {
    /// Leading zeros, IPv4-mapped addresses and bits beyond the prefix are errors.
    #[default]
    Strict,
    /// They are warnings, and read as old API servers read them.
    Legacy,
}

/// A field path that costs nothing until it is printed.
#[derive(Clone, Copy)]
pub(crate) enum Path<'a> {
    Root(&'static str),
    Field(&'a Path<'a>, &'static str),
    Index(&'a Path<'a>, usize),
}

impl<'a> Path<'a> {
    pub(crate) fn field(&'a self, name: &'static str) -> Self {
        Self::Field(self, name)
    }

    pub(crate) fn index(&'a self, index: usize) -> Self {
        Self::Index(self, index)
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root(name) => f.write_str(name),
            Self::Field(parent, name) => write!(f, "{parent}.{name}"),
            Self::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// Faults of each severity that are listed for one object. Nested aliases can make millions of a few lines.
const MOST_LISTED: usize = 1000;

fn list(faults: &mut Vec<Fault>, fault: Fault) {
    if faults.len() + 1 < MOST_LISTED {
        faults.push(fault);
    } else if faults.len() < MOST_LISTED {
        let message = format!("{}; more such findings of this object are not listed", fault.message);
        faults.push(Fault { message, ..fault });
    }
}

/// What lowering one object has to say.
pub(crate) struct Report<'f> {
    /// What decoding could not read.
    pub unread: &'f Faults,
    /// What the API server would refuse, as far as it is listed.
    pub errors: Vec<Fault>,
    /// What it accepts, and users should know, as far as it is listed.
    pub warnings: Vec<Fault>,
    /// How many errors there are, those that are not listed included.
    pub error_count: usize,
    /// Whether selectors may hold values that are no label values, because the stored object does (S1.12).
    pub allows_invalid_values: bool,
}

impl<'f> Report<'f> {
    pub(crate) fn new(unread: &'f Faults) -> Self {
        Self { unread, errors: Vec::new(), warnings: Vec::new(), error_count: 0, allows_invalid_values: false }
    }

    pub(crate) fn error(&mut self, fault: Fault) {
        self.error_count += 1;
        list(&mut self.errors, fault);
    }

    pub(crate) fn warn(&mut self, fault: Fault) {
        list(&mut self.warnings, fault);
    }
}

/// The namespace and name of an object from a file (S1.2).
pub(crate) fn check_metadata(metadata: &ObjectMeta, report: &mut Report<'_>) {
    let root = Path::Root("metadata");
    let path = root.field("name");
    if metadata.name.is_empty() {
        if metadata.generate_name.is_empty() && !report.unread.touch(&path) {
            report.error(Fault::new(&objects::MISSING_NAME, &path, "the object has no name"));
        }
    } else if let Some(expected) = names::not_subdomain(&metadata.name) {
        report.error(Fault::new(&objects::INVALID_NAME, &path, format!("found `{}`, expected {expected}", metadata.name)));
    }
    let path = root.field("namespace");
    if !metadata.namespace.is_empty()
        && let Some(expected) = names::not_subdomain(&metadata.namespace)
    {
        report.error(Fault::new(&objects::INVALID_NAME, &path, format!("found `{}`, expected {expected}", metadata.namespace)));
    }
}
