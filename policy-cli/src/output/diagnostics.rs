//! Findings about the input, one module for each format. All of them render the same value.
//!
//! - `json`: the findings as objects.
//! - `text`: the findings as compilers print them, with the lines that they are about.

pub(crate) mod json;
pub(crate) mod text;
