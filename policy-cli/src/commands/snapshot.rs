//! `netpol snapshot`: the policy-relevant objects of a live cluster, as a file for offline use.

use std::io::{IsTerminal, Write};

use anyhow::{Result, bail};
use flate2::{Compression, write::GzEncoder};

use crate::Outcome;
use crate::args::ClusterArgs;
use crate::input::cluster;
use crate::output::diagnostics::text::print_notes;
use crate::output::message;
use crate::output::progress::progress;

/// Writes the objects, compressed, to standard output.
pub(crate) fn run(args: &ClusterArgs) -> Result<Outcome> {
    let out = std::io::stdout();
    if out.is_terminal() {
        bail!("a snapshot is compressed; redirect it to a file: netpol snapshot > cluster.yaml.gz");
    }
    let progress = progress(1);
    progress.set_message("the cluster");
    let live = cluster::read(args)?;
    progress.finish_and_clear();
    print_notes(&live.notes().collect::<Vec<_>>());
    // Whole, or not at all: a reader that finds the end of a gzip stream has all of it.
    let mut encoder = GzEncoder::new(out.lock(), Compression::default());
    encoder.write_all(&live.text)?;
    encoder.finish()?.flush()?;
    let (objects, size) = (live.objects, live.text.len() >> 10);
    message(&format!("saved {objects} objects, {size} KiB before compression; Secrets are not included"));
    Ok(Outcome::Yes)
}
