//! Printing.
//!
//! - `answer`: an answer as text.
//! - `diagnostics`: findings about the input, with the lines that they are about.
//! - `man`: the manual pages.
//! - `progress`: a bar for what takes longer than a second.
//! - `reference`: the commands as a page of the manual.
//! - `rows`: lists of connections, in every format.

pub(crate) mod answer;
pub(crate) mod diagnostics;
pub(crate) mod man;
pub(crate) mod progress;
pub(crate) mod reference;
pub(crate) mod rows;

use std::io::Write;

use anstyle::{AnsiColor, Style};
use anyhow::Result;
use policy_core::sets::AddressSet;
use serde::Serialize;

pub(crate) const GREEN: Style = AnsiColor::Green.on_default().bold();
pub(crate) const RED: Style = AnsiColor::Red.on_default().bold();
pub(crate) const YELLOW: Style = AnsiColor::Yellow.on_default().bold();
pub(crate) const BOLD: Style = Style::new().bold();
pub(crate) const DIM: Style = Style::new().dimmed();

/// Prints text with its colours, which are removed unless standard output is a terminal that supports them.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// Prints bytes as they are.
pub(crate) fn raw(bytes: &[u8]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()?;
    Ok(())
}

/// Prints a value as JSON, two spaces deep, with a final line break.
pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> Result<()> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    serde_json::to_writer_pretty(&mut out, value)?;
    out.write_all(b"\n")?;
    out.flush()?;
    Ok(())
}

/// The blocks of a set as text.
pub(crate) fn cidr_texts(addresses: &AddressSet) -> Vec<String> {
    addresses.to_cidrs().iter().map(ToString::to_string).collect()
}

/// Whether standard output is a closed pipe.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let is_pipe = |e: &(dyn std::error::Error + 'static)| {
        let io = e.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        let json = e.downcast_ref::<serde_json::Error>().and_then(serde_json::Error::io_error_kind);
        io.or(json) == Some(std::io::ErrorKind::BrokenPipe)
    };
    error.chain().any(is_pipe)
}
