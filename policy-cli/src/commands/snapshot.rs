//! `netpol snapshot`: the policy-relevant objects of a live cluster, as a file for offline use.

use std::io::{IsTerminal, Write};

use anyhow::{Result, bail};
use flate2::{Compression, write::GzEncoder};
use policy_core::manifest::NOT_READ;
use serde_json::json;

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
    encoder.write_all(missing(&live.notes().collect::<Vec<_>>()).as_bytes())?;
    encoder.finish()?.flush()?;
    let (objects, size) = (live.objects, live.text.len() >> 10);
    message(&format!("saved {objects} objects, {size} KiB before compression; Secrets are not included"));
    Ok(Outcome::Yes)
}

/// What could not be read, as an object after the others, so that answers from the file state it too.
fn missing(notes: &[String]) -> String {
    if notes.is_empty() {
        return String::new();
    }
    let annotations = json!({ NOT_READ: notes.join("\n") });
    format!("\n---\n{}\n", json!({"apiVersion": "v1", "kind": "List", "metadata": {"annotations": annotations}, "items": []}))
}

#[cfg(test)]
mod tests {
    use policy_core::manifest::{Loader, Syntax};

    use super::*;

    #[test]
    fn what_could_not_be_read_is_in_the_file() {
        let notes = ["cannot read pods".to_owned(), "cannot read \"x\"".to_owned()];
        let mut loader = Loader::new(Syntax::Strict);
        let text = format!("{{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[]}}{}", missing(&notes));
        loader.read("saved", text.as_bytes());
        let snapshot = loader.finish();
        assert_eq!(snapshot.not_read, notes);
        assert!(!snapshot.has_errors(), "{:?}", snapshot.diagnostics);
        assert_eq!(missing(&[]), "");
    }
}
