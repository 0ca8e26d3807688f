//! What `netpol lint --fix` and `--diff` do.

use std::path::Path;

use anyhow::{Context, Result};
use similar::TextDiff;

use super::check::{Checks, fixes};
use crate::Outcome;
use crate::input::edits::applied;
use crate::output::{is_quiet, message, print_findings};

/// How often files are edited: an edit can make room for another one.
const ROUNDS: usize = 10;

/// Prints what the edits of the findings would change. The outcome is no if that is something.
pub(super) fn diff(checks: &Checks<'_>) -> Result<Outcome> {
    let mut out = String::new();
    for (file, edits) in fixes(checks)? {
        let Some(before) = text(&file)? else { continue };
        let Some(after) = applied(&before, &edits) else { continue };
        let names = [format!("a/{file}"), format!("b/{file}")];
        out.push_str(&TextDiff::from_lines(&before, &after).unified_diff().header(&names[0], &names[1]).to_string());
    }
    print_findings(&out)?;
    Ok(if out.is_empty() { Outcome::Yes } else { Outcome::No })
}

/// Edits the files until nothing is left to edit, and says how much was.
pub(super) fn apply(checks: &Checks<'_>) -> Result<()> {
    let mut done: std::collections::BTreeMap<String, usize> = std::collections::BTreeMap::new();
    for _ in 0..ROUNDS {
        let mut is_changed = false;
        for (file, edits) in fixes(checks)? {
            let Some(before) = text(&file)? else { continue };
            let Some(after) = applied(&before, &edits).filter(|after| *after != before) else { continue };
            std::fs::write(&file, after).with_context(|| format!("cannot write `{file}`"))?;
            *done.entry(file).or_default() += edits.len();
            is_changed = true;
        }
        if !is_changed {
            break;
        }
    }
    let count: usize = done.values().sum();
    if count == 0 && !is_quiet() {
        message("note: nothing can be corrected with certainty; what kustomize, helm or standard input give is not edited");
    }
    if count > 0 && !is_quiet() {
        let files = done.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        message(&format!("note: made {count} edit{} in {files}", if count == 1 { "" } else { "s" }));
    }
    Ok(())
}

/// The text of a file as findings count its bytes; `None` for what is no such file: standard input, what a program printed, and files that
/// are compressed or in another encoding.
fn text(file: &str) -> Result<Option<String>> {
    if file == "-" || !Path::new(file).is_file() {
        return Ok(None);
    }
    let bytes = std::fs::read(file).with_context(|| format!("cannot read `{file}`"))?;
    Ok(String::from_utf8(bytes).ok().filter(|text| !text.starts_with('\u{feff}')))
}
