//! The manual pages: one for the program, and one for each command.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use clap::Command;
use clap_mangen::Man;

use crate::args::sections::{Section, sections};

/// The page `netpol(1)`.
pub(crate) fn main_page(program: Command) -> Result<Vec<u8>> {
    page(&built(program))
}

/// Writes the page of the program and of every command, `netpol.1` and `netpol-COMMAND.1`.
pub(crate) fn write_all(program: Command, directory: &Path) -> Result<()> {
    let program = built(program);
    std::fs::create_dir_all(directory).with_context(|| format!("cannot create the directory `{}`", directory.display()))?;
    let commands = program.get_subcommands().filter(|command| !command.is_hide_set());
    for command in [&program].into_iter().chain(commands) {
        let path = directory.join(format!("{}.1", title(command)));
        std::fs::write(&path, page(command)?).with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    Ok(())
}

/// The program with everything that clap adds, but without the command `help`.
pub(crate) fn built(program: Command) -> Command {
    let mut program = program.disable_help_subcommand(true);
    program.build();
    program
}

/// The name of a page: `netpol` or `netpol-can`.
fn title(command: &Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

/// Apostrophes, as clap_mangen writes them before each section that it renders. Once for a page is enough.
const APOSTROPHES: &str = ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n";

fn page(command: &Command) -> Result<Vec<u8>> {
    let man = Man::new(command.clone());
    let mut out = Vec::new();
    man.render_name_section(&mut out)?;
    man.render_synopsis_section(&mut out)?;
    man.render_description_section(&mut out)?;
    man.render_options_section(&mut out)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut out)?;
    }
    for section in sections(command.get_name()) {
        write_section(section, &mut out)?;
    }
    let is_program = command.has_subcommands();
    writeln!(out, ".SH \"SEE ALSO\"\n{}", if is_program { "kubectl(1), nft(8)" } else { "netpol(1)" })?;
    let sections = String::from_utf8(out)?.replace(APOSTROPHES, "");
    // The third argument is a date, which would change with every build.
    let header = format!(".TH \"{}\" 1 \"\" \"netpol {}\" \"netpol\"\n", title(command), env!("CARGO_PKG_VERSION"));
    Ok([APOSTROPHES, &header, &sections].concat().into_bytes())
}

/// A section whose lines are not filled.
fn write_section(section: &Section, out: &mut Vec<u8>) -> Result<()> {
    let title = match section.title {
        "Exit codes" => "EXIT STATUS".to_owned(),
        other => other.to_uppercase(),
    };
    writeln!(out, ".SH \"{title}\"\n.nf")?;
    for line in section.lines.lines() {
        let line = line.replace('\\', "\\e").replace('-', "\\-");
        // A dot or an apostrophe at the beginning would be a request.
        let guard = if line.starts_with(['.', '\'']) { "\\&" } else { "" };
        writeln!(out, "{guard}{line}")?;
    }
    writeln!(out, ".fi")?;
    Ok(())
}
