//! Compiles Kubernetes NetworkPolicy objects and pod labels into a per-pod L3/L4 allow graph.
//!
//! The crate is pure: no files, sockets, clock, environment, threads or logging. Values go in as text ([`manifest`]) or as
//! [`model::Change`]s, and come out as an [`graph::AllowGraph`], [`verdict`]s with reasons, [`suggestion`]s, and [`diagnostic`]s.
//!
//! ```
//! use policy_core::compile::{Compiler, Options};
//! use policy_core::manifest::{Loader, Syntax};
//! use policy_core::sets::{Protocol, Transport};
//! use policy_core::verdict::Flow;
//!
//! let mut loader = Loader::new(Syntax::Strict);
//! loader.read("demo.yaml", br#"
//! apiVersion: v1
//! kind: Pod
//! metadata: {name: db, namespace: shop, labels: {app: db}}
//! spec: {nodeName: n1}
//! status: {podIP: 10.0.0.2}
//! ---
//! apiVersion: networking.k8s.io/v1
//! kind: NetworkPolicy
//! metadata: {name: deny, namespace: shop}
//! spec: {podSelector: {}}
//! "#);
//! let snapshot = loader.finish();
//! assert!(!snapshot.has_errors());
//!
//! let mut compiler = Compiler::new(Options::default());
//! for change in snapshot.changes() {
//!     compiler.apply(change);
//! }
//! compiler.flush();
//! let flow = Flow {
//!     source: "203.0.113.9".parse()?,
//!     destination: "10.0.0.2".parse()?,
//!     protocol: Protocol::Port(Transport::Tcp, 5432),
//! };
//! assert!(!compiler.graph().verdict(&flow).is_allowed());
//! # Ok::<(), std::net::AddrParseError>(())
//! ```

pub mod compile;
pub mod diagnostic;
pub mod graph;
pub mod manifest;
pub mod model;
pub mod plan;
pub mod proof;
pub mod sets;
pub mod suggestion;
pub mod verdict;
