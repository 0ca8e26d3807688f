//! What the formats of services render: the findings of all inputs, and the file that each is shown in.

use anyhow::Result;
use policy_core::diagnostic::{Diagnostic, Position, Related};

use super::files::{File, Files};
use crate::args::FailOn;
use crate::input::ReadFrom;

/// What a command found.
pub(crate) struct Report<'r> {
    /// `netpol lint`, or `netpol validate`.
    pub(super) command: &'static str,
    /// The inputs, in the order in which they were read.
    pub(super) parts: Vec<Part<'r>>,
    /// The findings that make the command fail.
    fail_on: FailOn,
    pub(super) files: Files,
}

/// An input, and what was found in it.
pub(crate) struct Part<'r> {
    /// The name of the deployment, if it is one of several.
    pub deployment: Option<&'r str>,
    pub read_from: &'r [ReadFrom],
    pub found: Vec<&'r Diagnostic>,
    /// What was not read or not checked, in sentences.
    pub gaps: Vec<String>,
    /// Why it could not be read.
    pub error: Option<String>,
}

/// A finding, and the input that it is about.
#[derive(Clone, Copy)]
pub(super) struct Found<'r> {
    pub part: &'r Part<'r>,
    pub diagnostic: &'r Diagnostic,
}

impl<'r> Report<'r> {
    /// A report about these inputs.
    ///
    /// # Errors
    /// When there is no current directory.
    pub(crate) fn new(command: &'static str, parts: Vec<Part<'r>>, fail_on: FailOn) -> Result<Self> {
        let read_from = parts.iter().flat_map(|part| part.read_from);
        let diagnostics = parts.iter().flat_map(|part| &part.found);
        let files = Files::new(read_from, diagnostics.flat_map(|diagnostic| files_of(diagnostic)))?;
        Ok(Self { command, parts, fail_on, files })
    }

    /// Every finding, in the order in which they were found.
    pub(super) fn findings(&self) -> impl Iterator<Item = Found<'_>> {
        self.parts.iter().flat_map(Part::findings)
    }

    /// Whether a finding makes the command fail.
    pub(super) fn is_failure(&self, found: Found<'_>) -> bool {
        self.fail_on.includes(found.diagnostic.severity)
    }

    /// The file that a finding is about, and the position in it.
    pub(super) fn place<'f>(&'f self, found: Found<'f>) -> Option<(&'f File, Option<&'f Position>)> {
        self.files.at(found.diagnostic.place.as_ref()?)
    }

    /// Where a finding is shown by services that show none without a file: at its place, at one that has to do with it, or at the first
    /// file of the input. `None` if the input is no file.
    pub(super) fn anchor<'f>(&'f self, found: Found<'f>) -> Option<(&'f File, Option<&'f Position>)> {
        let related = || found.diagnostic.related.iter().find_map(|related| self.files.at(related.place.as_ref()?));
        let first = || found.part.read_from.iter().find_map(|read_from| Some((self.files.get(&read_from.name)?, None)));
        self.place(found).or_else(related).or_else(first)
    }

    /// What was found, where if that is no file, and what to do.
    pub(super) fn lines(&self, found: Found<'_>) -> Vec<String> {
        let Diagnostic { place, help, .. } = found.diagnostic;
        let place = place.as_ref().filter(|place| self.files.get(&place.file).is_none()).map(|place| format!("place: {place}"));
        let help = help.as_ref().map(|help| format!("help: {help}"));
        [Some(found.diagnostic.title()), place, help].into_iter().flatten().collect()
    }

    /// The same, with other objects and places, and with the deployment.
    pub(super) fn all_lines(&self, found: Found<'_>) -> Vec<String> {
        let related = found.diagnostic.related.iter().map(|related| {
            let place = related.place.as_ref().map(|place| format!(" ({place})"));
            format!("related: {}{}", about(related), place.unwrap_or_default())
        });
        let deployment = found.part.deployment.map(|name| format!("deployment: {name}"));
        self.lines(found).into_iter().chain(related).chain(deployment).collect()
    }
}

impl Part<'_> {
    /// Every finding of this input.
    pub(super) fn findings(&self) -> impl Iterator<Item = Found<'_>> {
        self.found.iter().map(|diagnostic| Found { part: self, diagnostic })
    }
}

impl Found<'_> {
    /// The rule, by both of its names.
    pub(super) fn rule(&self) -> String {
        format!("{} {}", self.diagnostic.rule.id, self.diagnostic.rule.name)
    }
}

/// What something has to do with a finding, with its object.
pub(super) fn about(related: &Related) -> String {
    let object = related.object.iter().map(ToString::to_string);
    object.chain([related.message.clone()]).collect::<Vec<_>>().join(" ")
}

/// Every file that a finding names.
fn files_of(diagnostic: &Diagnostic) -> impl Iterator<Item = &str> {
    let related = diagnostic.related.iter().filter_map(|related| related.place.as_ref());
    let places = diagnostic.place.iter().chain(related).map(|place| place.file.as_str());
    places.chain(diagnostic.edit.iter().map(|edit| edit.file.as_str()))
}
