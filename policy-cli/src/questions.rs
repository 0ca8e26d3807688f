//! Questions and their answers.
//!
//! - `answer`: the verdict on one question, and why.
//! - `caveats`: what could make an answer differ from what the cluster does.
//! - `connections`: a question taken apart into connections that each have one answer.
//! - `ends`: what users write for the ends of a connection, and for ports.
//! - `evaluation`: what the input describes, compiled.
//! - `representation`: what the pods of an answer stand for, as caveats of it.
//! - `rows`: the allowed connections of workloads.

pub(crate) mod answer;
pub(crate) mod caveats;
pub(crate) mod connections;
pub(crate) mod ends;
pub(crate) mod evaluation;
pub(crate) mod representation;
pub(crate) mod rows;
pub(crate) mod suggestion;
