//! Placeholders that another program replaces before manifests are applied: `${NAME}`, `$NAME`, `$(NAME)` and `{{ … }}`.

use super::super::fault::Fault;

/// How placeholders of template engines begin.
pub(super) const IN_TEMPLATES: &str = "{{";

pub(super) const RENDER: &str = "replace the placeholders first, for example with `envsubst`";
const PROCESS: &str = "is a parameter of the Template: process the Template first, for example with `oc process`";

/// The first placeholder in what a message cites of the input, in backticks.
pub(super) fn in_message(message: &str) -> Option<&str> {
    message.split('`').skip(1).step_by(2).find_map(first)
}

/// The first placeholder in a text.
pub(super) fn first(text: &str) -> Option<&str> {
    let at = text.match_indices(['$', '{']).map(|(at, _)| at).find(|at| {
        let rest = text.get(*at..).unwrap_or_default();
        let mut after = rest.chars().skip(1);
        match rest.strip_prefix('$') {
            Some(name) => name.starts_with(|c: char| ['{', '(', '_'].contains(&c) || c.is_ascii_alphabetic()),
            None => after.next() == Some('{'),
        }
    })?;
    let rest = text.get(at..)?;
    let closing = [("${{", "}}"), ("{{", "}}"), ("${", "}"), ("$(", ")")].into_iter().find(|(open, _)| rest.starts_with(open));
    let length = match closing {
        Some((open, close)) => rest.find(close).map_or(rest.len(), |end| (end + close.len()).max(open.len())),
        None => {
            rest.char_indices().skip(1).find(|(_, c)| !c.is_ascii_alphanumeric() && *c != '_').map_or(rest.len(), |(end, _)| end)
        }
    };
    rest.get(..length)
}

/// The fault, with advice about a placeholder that its message cites.
pub(super) fn with_advice(fault: Fault, is_in_template: bool) -> Fault {
    // Keys of patches begin with a `$` too.
    let found = Some(&fault).filter(|fault| fault.message.contains("found ")).and_then(|fault| in_message(&fault.message));
    let advice = match found {
        None => return fault,
        Some(found) if found.starts_with(IN_TEMPLATES) => return fault,
        Some(found) if is_in_template => format!("`{found}` {PROCESS}"),
        Some(found) => format!("`{found}` is a placeholder: {RENDER}"),
    };
    Fault { help: Some(advice), correction: None, ..fault }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_found_in_what_messages_cite() {
        for (message, expected) in [
            ("found `${NAMESPACE}`, expected a name", Some("${NAMESPACE}")),
            ("found the string `${{REPLICAS}}`, expected an integer", Some("${{REPLICAS}}")),
            ("found `web-$APP_NAME-1`, expected a name", Some("$APP_NAME")),
            ("found `$(VAR)`", Some("$(VAR)")),
            ("found `{{ .Values.name }}-x`", Some("{{ .Values.name }}")),
            ("found `${UNCLOSED`", Some("${UNCLOSED")),
            ("found `a$`, expected $b", None),
            ("found `{a}` and `5$`", None),
        ] {
            assert_eq!(in_message(message), expected, "{message}");
        }
    }
}
