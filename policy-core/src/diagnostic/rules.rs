//! The rules of the loader and of the graph: each is a constant, and each is in [`RULES`].
//!
//! - [`files`]: text, syntax and types.
//! - [`objects`]: kinds, names and namespaces.
//! - [`pods`]: pods and their addresses.
//! - [`policies`]: the fields of a NetworkPolicy.

/// A policy with this text as the fields of its `spec`.
macro_rules! policy {
    ($spec:literal) => {
        concat!("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: web, namespace: shop}\nspec:\n", $spec)
    };
}

/// A pod with this text as its last fields.
macro_rules! pod {
    ($rest:literal) => {
        concat!("apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: shop}\nspec: {nodeName: n1}\n", $rest)
    };
}

pub mod files;
pub mod objects;
pub mod pods;
pub mod policies;

use super::Rule;

/// Every rule of this crate, in the order in which input meets them.
pub static RULES: &[&Rule] = &[
    &files::UNREADABLE_FILE,
    &files::EMPTY_FILE,
    &files::INVALID_ENCODING,
    &files::INVALID_SYNTAX,
    &files::UNRENDERED_TEMPLATE,
    &files::HTML_PAGE,
    &files::MISSING_SEPARATOR,
    &files::EXCESSIVE_ALIASES,
    &files::DUPLICATE_KEY,
    &files::NULL_ELEMENT,
    &files::UNKNOWN_FIELD,
    &files::WRONG_TYPE,
    &objects::INVALID_LIST,
    &objects::OBJECT_AS_TEXT,
    &objects::PARTIAL_LIST,
    &objects::DELETED_OBJECT,
    &objects::MISSING_API_VERSION_OR_KIND,
    &objects::UNKNOWN_KIND,
    &objects::UNSUPPORTED_API_VERSION,
    &objects::ERROR_ANSWER,
    &objects::PATCH_AS_OBJECT,
    &objects::MISSING_SELECTOR,
    &objects::UNSELECTED_TEMPLATE,
    &objects::MISSING_NAME,
    &objects::INVALID_NAME,
    &objects::DUPLICATE_POLICY,
    &objects::DUPLICATE_OBJECT,
    &objects::WRONG_NAME_LABEL,
    &objects::UNDECLARED_NAMESPACE,
    &pods::INVALID_ADDRESS,
    &pods::NONCANONICAL_ADDRESS,
    &pods::TOO_MANY_ADDRESSES,
    &pods::ADDRESS_WITHOUT_NODE,
    &pods::MISSING_CONTAINERS,
    &pods::INVALID_CONTAINER_PORT,
    &policies::INVALID_LABEL,
    &policies::UNKNOWN_OPERATOR,
    &policies::MISSING_VALUES,
    &policies::UNEXPECTED_VALUES,
    &policies::RULES_WITHOUT_TYPE,
    &policies::TOO_MANY_POLICY_TYPES,
    &policies::UNKNOWN_POLICY_TYPE,
    &policies::EMPTY_PEER,
    &policies::MIXED_PEER,
    &policies::MISSING_CIDR,
    &policies::INVALID_CIDR,
    &policies::AMBIGUOUS_CIDR,
    &policies::LEGACY_CIDR,
    &policies::NONCANONICAL_CIDR,
    &policies::EXCEPT_OUTSIDE_CIDR,
    &policies::UNSUPPORTED_PROTOCOL,
    &policies::INVALID_PORT,
    &policies::INVALID_END_PORT,
];
