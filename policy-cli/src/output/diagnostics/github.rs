//! Findings as commands of GitHub Actions, which shows them beside the lines of a pull request.
//!
//! GitHub shows ten findings of each severity for a step, so the worst come first.
//!
//! Source: *Workflow commands for GitHub Actions* of the documentation, and `packages/core/src/command.ts` of `actions/toolkit` for what is
//! escaped.

use policy_core::diagnostic::Severity;

use super::report::{Found, Report};

/// One command for each finding, and for each input that could not be read.
pub(crate) fn commands(report: &Report<'_>) -> String {
    let mut findings: Vec<Found<'_>> = report.findings().collect();
    findings.sort_by_key(|found| found.diagnostic.severity);
    let unread = report.parts.iter().filter_map(|part| {
        let title = part.deployment.unwrap_or(report.command).to_owned();
        Some(command("error", &[("title", title)], part.error.as_ref()?))
    });
    unread.chain(findings.into_iter().map(|found| of_finding(report, found))).collect()
}

fn of_finding(report: &Report<'_>, found: Found<'_>) -> String {
    let name = match found.diagnostic.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Info => "notice",
    };
    let mut properties = Vec::new();
    if let Some((file, position)) = report.place(found) {
        properties.push(("file", file.path.clone()));
        if let Some(at) = position {
            properties.extend([("line", at.line.to_string()), ("col", at.column.to_string())]);
        }
    }
    properties.push(("title", found.rule()));
    command(name, &properties, &report.all_lines(found).join("\n"))
}

fn command(name: &str, properties: &[(&str, String)], message: &str) -> String {
    let properties: Vec<String> = properties
        .iter()
        .map(|(key, value)| format!("{key}={}", escaped(value).replace(':', "%3A").replace(',', "%2C")))
        .collect();
    format!("::{name} {}::{}\n", properties.join(","), escaped(message))
}

fn escaped(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_a_property_or_a_message_is_escaped() {
        let properties = [("file", "a,b:c%.yaml".to_owned()), ("line", "3".to_owned())];
        assert_eq!(
            command("error", &properties, "100 %: a, b\r\nhelp: c"),
            "::error file=a%2Cb%3Ac%25.yaml,line=3::100 %25: a, b%0D%0Ahelp: c\n"
        );
    }
}
