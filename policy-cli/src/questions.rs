//! Questions and their answers.
//!
//! - `answer`: the verdict on one question, and why.
//! - `assertions`: what is asserted of an input, and whether it holds.
//! - `caveats`: what could make an answer differ from what the cluster does.
//! - `connections`: a question taken apart into connections that each have one answer.
//! - `differences`: what two inputs allow differently.
//! - `edits`: the edits that allow all of a question.
//! - `ends`: what users write for the ends of a connection.
//! - `evaluation`: what the input describes, compiled.
//! - `folded`: rows of workloads as rows of namespaces.
//! - `merged`: rows of ends that behave alike, as one row.
//! - `ports`: what users write for the ports of a question.
//! - `suggestion`: suggested fixes, with everything else that they change.
//! - `representation`: what the pods of an answer stand for, as caveats of it.
//! - `rows`: the allowed connections of workloads.
//! - `scope`: which connections a list shows.

pub(crate) mod answer;
pub(crate) mod assertions;
pub(crate) mod caveats;
pub(crate) mod connections;
pub(crate) mod differences;
pub(crate) mod edits;
pub(crate) mod ends;
pub(crate) mod evaluation;
pub(crate) mod folded;
pub(crate) mod merged;
pub(crate) mod ports;
pub(crate) mod representation;
pub(crate) mod rows;
pub(crate) mod scope;
pub(crate) mod suggestion;
