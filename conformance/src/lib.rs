//! Proves that the allow graph and the command line give the verdicts of the specification.
//!
//! - [`case`]: cases as Markdown files, with manifests and tables of expected verdicts written by hand.
//! - [`oracle`]: a naive evaluator over plain JSON objects, which shares no code with the engine.
//! - `generate`: small adversarial clusters.
//! - [`lab`]: network namespaces, for what only packets can prove.
//! - [`measure`]: figures of benchmarks.
//! - [`engine`]: the engine behind the same questions as the oracle.
//! - [`shop`]: an example, for demonstrations.

#![expect(clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "a failing check panics")]

pub mod case;
pub mod engine;
#[cfg(feature = "generate")]
pub mod generate;
pub mod lab;
pub mod measure;
pub mod oracle;
pub mod shop;
