//! Rules as SARIF describes them, with their documentation as text and as Markdown.

use policy_core::diagnostic::Rule;
use serde_json::{Value, json};

use super::level;

/// The description of a rule.
pub(super) fn descriptor(rule: &Rule) -> Value {
    json!({
        "id": rule.id,
        "name": rule.name,
        "shortDescription": {"text": rule.summary},
        "fullDescription": {"text": rule.documentation.what},
        "help": {"text": text(rule), "markdown": markdown(rule)},
        "defaultConfiguration": {"level": level(rule.severity)},
        "properties": {"tags": [rule.group.name()]},
    })
}

/// The sections of the manual, each with whether it is a manifest.
fn sections(rule: &Rule) -> Vec<(&'static str, String, bool)> {
    let manual = &rule.documentation;
    let manifest = |title, text: Option<&str>| text.map(|text| (title, text.trim_end().to_owned(), true));
    let mut out = vec![("Why", manual.why.to_owned(), false), ("What to do", manual.fix.to_owned(), false)];
    out.extend(manifest("Example", manual.example));
    out.extend(manifest("Corrected", manual.corrected));
    out.push(("Allow it", format!("`netpol lint --ignore {}`", rule.name), false));
    out
}

fn text(rule: &Rule) -> String {
    let sections = sections(rule).into_iter().map(|(title, text, _)| format!("\n\n{title}:\n{text}"));
    rule.documentation.what.to_owned() + &sections.collect::<String>()
}

fn markdown(rule: &Rule) -> String {
    let section = |(title, text, is_manifest)| {
        let text = if is_manifest { format!("```yaml\n{text}\n```") } else { text };
        format!("\n\n### {title}\n\n{text}")
    };
    rule.documentation.what.to_owned() + &sections(rule).into_iter().map(section).collect::<String>()
}
