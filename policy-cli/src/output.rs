//! Printing.
//!
//! - `answer`: an answer as text.
//! - `blocks`: address sets as text.
//! - `diagnostics`: findings about the input, with the lines that they are about.
//! - `differences`: the differences between two inputs.
//! - `graphs`: lists as pictures.
//! - `links`: places in files as links.
//! - `man`: the manual pages.
//! - `names`: long lists of names.
//! - `progress`: a bar for what takes longer than a second.
//! - `reference`: the commands as a page of the manual.
//! - `rows`: lists of connections as text, and the choice of a format.
//! - `schemas`: what JSON output looks like.
//! - `tables`: lists as tables.
//! - `wrap`: lines that fit the terminal.
//! - `yaml`: YAML, from the values that JSON output has.

pub(crate) mod answer;
pub(crate) mod blocks;
pub(crate) mod diagnostics;
pub(crate) mod differences;
pub(crate) mod graphs;
mod links;
pub(crate) mod man;
pub(crate) mod names;
pub(crate) mod progress;
pub(crate) mod reference;
pub(crate) mod rows;
pub(crate) mod schemas;
pub(crate) mod tables;
mod wrap;
pub(crate) mod yaml;

use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use anstream::ColorChoice;
use anstyle::{AnsiColor, Style};
use anyhow::Result;
use policy_core::sets::AddressSet;
use serde::Serialize;

use crate::args::Colours;

pub(crate) const GREEN: Style = AnsiColor::Green.on_default().bold();
pub(crate) const RED: Style = AnsiColor::Red.on_default().bold();
pub(crate) const YELLOW: Style = AnsiColor::Yellow.on_default().bold();
pub(crate) const BOLD: Style = Style::new().bold();
pub(crate) const DIM: Style = Style::new().dimmed();

/// Whether only answers are printed.
static IS_QUIET: AtomicBool = AtomicBool::new(false);

/// Sets what holds for all output of the process.
pub(crate) fn configure(colours: Colours, is_quiet: bool) {
    IS_QUIET.store(is_quiet, Ordering::Relaxed);
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty() && value != "0");
    let choice = match colours {
        Colours::Always => ColorChoice::Always,
        Colours::Never => ColorChoice::Never,
        Colours::Auto if is_set("FORCE_COLOR") && !is_set("NO_COLOR") => ColorChoice::Always,
        Colours::Auto => return,
    };
    choice.write_global();
}

/// Whether notes, progress, explanations and summaries are left out.
pub(crate) fn is_quiet() -> bool {
    IS_QUIET.load(Ordering::Relaxed)
}

/// Prints text as [`print()`] does; on a terminal with links, and with lines that fit its width.
pub(crate) fn print_wrapped(text: &str) -> Result<()> {
    match wrap::width() {
        Some(width) => print(&wrap::wrapped(&links::on_terminals(text), width)),
        None => print(text),
    }
}

/// Prints findings as [`print()`] does; on a terminal with links. The lines of files in them are not wrapped.
pub(crate) fn print_findings(text: &str) -> Result<()> {
    print(&links::of_findings_on_terminals(text))
}

/// Prints text with its colours, which are removed unless standard output is a terminal that supports them.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = anstream::stdout().lock();
    unless_closed(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// Prints bytes as they are.
pub(crate) fn raw(bytes: &[u8]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    unless_closed(out.write_all(bytes).and_then(|()| out.flush()))
}

/// Prints a line to standard error, with its colours. Where standard error is closed, there is no place left for an error.
pub(crate) fn message(text: &str) {
    let mut out = anstream::stderr().lock();
    let _ = writeln!(out, "{text}");
}

/// A closed pipe is not an error: the reader has all that it wants (`netpol can … | head -1`), and the exit code is that of the
/// answer.
fn unless_closed(written: std::io::Result<()>) -> Result<()> {
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// Prints a value as JSON, two spaces deep, with a final line break.
pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> Result<()> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let written = serde_json::to_writer_pretty(&mut out, value).map_err(std::io::Error::from);
    unless_closed(written.and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()))
}

/// Prints values as JSON, one in each line.
pub(crate) fn json_lines<T: Serialize>(values: &[T]) -> Result<()> {
    let mut out = Vec::new();
    for value in values {
        serde_json::to_writer(&mut out, value)?;
        out.push(b'\n');
    }
    raw(&out)
}

/// The blocks of a set as text.
pub(crate) fn cidr_texts(addresses: &AddressSet) -> Vec<String> {
    addresses.to_cidrs().iter().map(ToString::to_string).collect()
}
