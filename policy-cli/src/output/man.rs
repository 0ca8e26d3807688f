//! The manual page.

use anyhow::Result;
use clap::Command;

/// The manual page of the command and of its subcommands, as one roff document.
pub(crate) fn man_pages(command: &Command, out: &mut Vec<u8>) -> Result<()> {
    clap_mangen::Man::new(command.clone()).render(out)?;
    for sub in command.get_subcommands().filter(|c| c.get_name() != "help") {
        let name = format!("netpol-{}", sub.get_name());
        clap_mangen::Man::new(sub.clone().name(name)).render(out)?;
    }
    Ok(())
}
