//! Printing.

use std::io::Write;

use anstyle::{AnsiColor, Style};
use anyhow::Result;
use clap::Command;
use policy_core::sets::AddressSet;
use serde::Serialize;

pub(crate) const GREEN: Style = AnsiColor::Green.on_default().bold();
pub(crate) const RED: Style = AnsiColor::Red.on_default().bold();
pub(crate) const YELLOW: Style = AnsiColor::Yellow.on_default().bold();
pub(crate) const BOLD: Style = Style::new().bold();
pub(crate) const DIM: Style = Style::new().dimmed();

/// Prints text with its colours, which are dropped unless standard output is a terminal that wants them.
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

/// The manual page of the command and of its subcommands, as one roff document.
pub(crate) fn man_pages(command: &Command, out: &mut Vec<u8>) -> Result<()> {
    clap_mangen::Man::new(command.clone()).render(out)?;
    for sub in command.get_subcommands().filter(|c| c.get_name() != "help") {
        let name = format!("netpol-{}", sub.get_name());
        clap_mangen::Man::new(sub.clone().name(name)).render(out)?;
    }
    Ok(())
}

/// Whether the reader of standard output has gone.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let is_pipe = |e: &(dyn std::error::Error + 'static)| {
        let io = e.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        let json = e.downcast_ref::<serde_json::Error>().and_then(serde_json::Error::io_error_kind);
        io.or(json) == Some(std::io::ErrorKind::BrokenPipe)
    };
    error.chain().any(is_pipe)
}
