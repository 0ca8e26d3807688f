//! What a folder of a repository is: plain manifests, kustomizations, Helm charts; and what the programs that render them print.
//!
//! Only with the feature `sources`: an agent reads plain manifests.
//!
//! - [`folder`]: which files below a folder are plain manifests, and which belong to kustomizations and charts.
//! - `kustomization`, `chart`: what the files of those name.
//! - `references`: from one kustomization to the next.
//! - `document`: YAML with lines, as far as those files need it.
//! - [`other`]: what a file that is no manifest by its name may be.
//! - [`ignores`]: `.gitignore`, `.netpolignore` and globs.
//! - [`kustomize`], [`helm`]: what `kustomize build` and `helm template` print.
//! - `program`: a program that may take some time, and may print so much.
//! - [`rendered`]: where the objects of such output come from.

mod chart;
mod document;
pub mod folder;
pub mod helm;
pub mod ignores;
mod kustomization;
pub mod kustomize;
pub mod other;
mod program;
mod references;
pub mod rendered;

pub use chart::{Chart, is_chart, is_chart_file};
pub use program::{Failure, Limits};
pub use references::{built_by, is_kustomization};
