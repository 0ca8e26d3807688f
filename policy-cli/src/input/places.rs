//! Where the objects of rendered input come from.

use std::collections::BTreeMap;

use policy_core::diagnostic::{Diagnostic, Place, Position};
use policy_core::manifest::{Loader, Snapshot, Syntax};
use policy_core::model::{Direction, Origin, Policy, Rule};
use policy_input::sources::rendered::{Rendered, Source};

/// Sources that are larger are not searched for the lines of rules.
const LARGEST: u64 = 16 << 20;

/// What was rendered, by the name that it was read under.
#[derive(Default)]
pub(crate) struct Places {
    rendered: BTreeMap<String, Rendered>,
}

impl Places {
    /// Takes what was rendered, and returns its text.
    pub(crate) fn take(&mut self, name: &str, mut rendered: Rendered) -> Vec<u8> {
        let text = std::mem::take(&mut rendered.text);
        self.rendered.insert(name.to_owned(), rendered);
        text
    }

    /// Names the files that policies and findings come from in place of what was rendered.
    pub(crate) fn apply(&self, snapshot: &mut Snapshot, syntax: Syntax) {
        if self.rendered.is_empty() {
            return;
        }
        let mut sources: BTreeMap<String, Snapshot> = BTreeMap::new();
        for policy in snapshot.policies.values_mut() {
            let Some(source) = policy.origin.as_ref().and_then(|origin| self.source(&origin.file, origin.line)) else { continue };
            let origin = written(source);
            let file = sources.entry(origin.file.clone()).or_insert_with(|| read(source, syntax));
            let known = file.policies.values().find(|known| known.origin.as_ref().is_some_and(|o| o.line == origin.line));
            for direction in Direction::ALL {
                let lines = known.map(|known| lines(known, policy, direction)).unwrap_or_default();
                for (number, rule) in rules(policy, direction).iter_mut().enumerate() {
                    rule.line = lines.get(number).copied().unwrap_or(origin.line);
                }
            }
            policy.origin = Some(origin);
        }
        for foreign in &mut snapshot.foreign {
            if let Some(source) = self.source(&foreign.origin.file, foreign.origin.line) {
                foreign.origin = written(source);
            }
        }
        for maker in &mut snapshot.makers {
            if let Some(source) = self.source(&maker.origin.file, maker.origin.line) {
                maker.origin = written(source);
            }
        }
        for unread in &mut snapshot.unread {
            if let Some(source) = self.source(&unread.file, unread.line) {
                let Origin { file, line } = written(source);
                (unread.file, unread.line) = (file, line);
            }
        }
        self.apply_to(&mut snapshot.diagnostics);
    }

    /// Names the files that findings come from.
    pub(crate) fn apply_to(&self, diagnostics: &mut [Diagnostic]) {
        for diagnostic in diagnostics {
            let related = diagnostic.related.iter_mut().filter_map(|related| related.place.as_mut());
            for place in diagnostic.place.iter_mut().chain(related) {
                self.replace(place);
            }
            // What was rendered is no file that could be edited.
            diagnostic.edit.take_if(|edit| self.rendered.contains_key(&edit.file));
        }
    }

    fn replace(&self, place: &mut Place) {
        let line = place.position.as_ref().map_or(0, |at| at.line);
        if let Some(source) = self.source(&place.file, line) {
            let Origin { file, line } = written(source);
            let position = (line > 0).then_some(Position { line, column: 1, bytes: (0, 0) });
            *place = Place { file, position };
        }
    }

    fn source(&self, file: &str, line: u32) -> Option<&Source> {
        self.rendered.get(file)?.source(line)
    }
}

fn written(source: &Source) -> Origin {
    Origin { file: super::shown(&source.file), line: source.line }
}

/// The objects of a file by itself.
fn read(source: &Source, syntax: Syntax) -> Snapshot {
    let mut loader = Loader::new(syntax);
    // A template has no lines, and a file that is gone has none either.
    if source.line > 0
        && let Ok(bytes) = policy_input::files::regular_content(&source.file, LARGEST)
    {
        loader.read("", &bytes);
    }
    loader.finish()
}

/// The lines of the rules of a policy in its file; none if it has other rules there, because it was patched.
fn lines(known: &Policy, policy: &Policy, direction: Direction) -> Vec<u32> {
    let [before, after] = [known, policy].map(|policy| policy.rules(direction).unwrap_or_default());
    let is_same = before.len() == after.len() && before.iter().zip(after).all(|(a, b)| a.peers == b.peers && a.ports == b.ports);
    if is_same { before.iter().map(|rule| rule.line).collect() } else { Vec::new() }
}

fn rules(policy: &mut Policy, direction: Direction) -> &mut [Rule] {
    let rules = match direction {
        Direction::Egress => &mut policy.egress,
        Direction::Ingress => &mut policy.ingress,
    };
    rules.as_deref_mut().unwrap_or_default()
}
