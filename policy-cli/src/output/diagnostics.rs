//! Findings about the input, one module for each format. All of them render the same value.
//!
//! - `json`: the findings as objects.
//! - `text`: the findings as compilers print them, with the lines that they are about.
//!
//! The formats of services that show findings share more:
//!
//! - `files`: the paths of files in a repository, and regions of them.
//! - `fingerprint`: what makes a finding the same one, wherever it moves to.
//! - `report`: the findings of all inputs, and where each is shown.
//! - `github`: commands of GitHub Actions.
//! - `gitlab`: a report of code quality.
//! - `junit`: test results.
//! - `sarif`: SARIF 2.1.0.

mod files;
mod fingerprint;
pub(crate) mod github;
pub(crate) mod gitlab;
pub(crate) mod json;
pub(crate) mod junit;
pub(crate) mod report;
pub(crate) mod sarif;
pub(crate) mod text;
