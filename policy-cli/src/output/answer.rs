//! An answer as text.

use std::fmt::Write;

use anstyle::Style;
use policy_core::sets::{PortSet, ProtocolPorts};
use policy_core::suggestion::patch::Patch;
use policy_core::verdict::{Reason, RuleExplanation};

use super::{BOLD, DIM, GREEN, RED, YELLOW};
use crate::questions::answer::{Answer, Side, Verdict};
use crate::questions::suggestion::Change;

fn style(verdict: Verdict) -> Style {
    match verdict {
        Verdict::Allowed => GREEN,
        Verdict::Denied => RED,
        Verdict::Partial => YELLOW,
    }
}

/// How much of an answer is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    /// The verdict, and caveats.
    Verdict,
    /// What decides, and the suggested fix.
    Brief,
    /// Every rule with its reason, and the sections of the semantics.
    Full,
}

/// The verdict and the question, in one line.
pub(crate) fn headline(answer: &Answer) -> String {
    let style = style(answer.verdict);
    let is_everything = answer.asked == PortSet::all().by_protocol();
    let asked = match is_everything {
        true if is_plain_part(answer) => format!("  {} only", port_text(&answer.allowed)),
        true => String::new(),
        false => format!("  {}", port_text(&answer.asked)),
    };
    format!("{style}{}{style:#}  {BOLD}{} → {}{BOLD:#}{asked}\n", answer.verdict.text(), answer.from, answer.to)
}

/// Whether some ports are allowed for all pods and addresses, and all others are denied for all.
fn is_plain_part(answer: &Answer) -> bool {
    answer.verdict == Verdict::Partial && !answer.allowed.is_empty() && answer.partly.is_empty() && answer.outside.is_empty()
}

/// A caveat, in one line.
pub(crate) fn caveat(text: &str) -> String {
    format!("  {YELLOW}caveat{YELLOW:#}: {text}")
}

pub(crate) fn text(answer: &Answer, detail: Detail) -> String {
    let mut out = headline(answer);
    let is_everything = answer.asked == PortSet::all().by_protocol();
    let is_partial = answer.verdict == Verdict::Partial;
    if (is_everything || is_partial) && !(is_everything && is_plain_part(answer)) {
        let ports = if answer.allowed.is_empty() { "nothing".to_owned() } else { port_text(&answer.allowed) };
        let _ = writeln!(out, "  {:<8} {ports}", "allowed");
    }
    if !answer.partly.is_empty() {
        let _ = writeln!(out, "  {:<8} {} (only for some pods or addresses)", "partly", port_text(&answer.partly));
    }
    for part in &answer.outside {
        if part.allowed.is_empty() {
            let _ = writeln!(out, "  {:<8} nothing for other addresses", "outside");
        } else {
            let _ =
                writeln!(out, "  {:<8} {} for {}", "outside", port_text(&part.allowed), shorten(&part.shown, part.cidrs.len()));
        }
    }
    if detail != Detail::Verdict {
        explanation(&mut out, answer, detail);
    }
    for reason in &answer.caveats {
        let _ = writeln!(out, "{}", caveat(&cited(reason, detail)));
    }
    out
}

/// Why, and what to change.
fn explanation(out: &mut String, answer: &Answer, detail: Detail) {
    out.push('\n');
    for side in [&answer.egress, &answer.ingress] {
        side_text(out, side, detail);
    }
    for side in [&answer.egress, &answer.ingress] {
        if let Some(fix) = &side.nearest_miss {
            let place = match &fix.suggestion.rule {
                Some(rule) => rule.to_string(),
                None => fix.suggestion.policy.clone(),
            };
            let (direction, edit) = (side.explained.direction, &fix.suggestion.edit);
            let instruction = match &fix.suggestion.patch {
                Patch::Edit(_) => format!("in {place}, {edit}"),
                Patch::Add(_) => edit.replacen("add a policy", &format!("add the policy {place}"), 1),
            };
            let _ = writeln!(out, "  {BOLD}suggested fix{BOLD:#} for {direction}: {instruction}");
            changes(out, "also opens", &fix.also_opens, detail);
            if !fix.also_closes.is_empty() {
                changes(out, "also closes", &fix.also_closes, detail);
            }
        }
    }
}

/// What a suggested fix changes besides what was asked.
fn changes(out: &mut String, word: &str, list: &[Change], detail: Detail) {
    let most = if detail == Detail::Full { usize::MAX } else { 3 };
    let _ = writeln!(out, "    {word}: {}", change_texts(list, most));
}

/// Changes in one line, at most this many of them by name.
pub(crate) fn change_texts(list: &[Change], most: usize) -> String {
    let shown = list.iter().take(most).map(|change| format!("{} → {} {}", change.from, change.to, port_text(&change.ports)));
    let mut texts: Vec<String> = shown.collect();
    match list.len().saturating_sub(texts.len()) {
        0 => {}
        more => texts.push(format!("and {more} more (use -v to show all)")),
    }
    if texts.is_empty() { "nothing".to_owned() } else { texts.join("; ") }
}

/// A reason, with its section of the semantics in a verbose answer.
fn cited(reason: &Reason, detail: Detail) -> String {
    if detail == Detail::Full { format!("{reason:#}") } else { reason.to_string() }
}

fn side_text(out: &mut String, side: &Side, detail: Detail) {
    let is_verbose = detail == Detail::Full;
    let style = style(side.verdict);
    let direction = side.explained.direction.to_string();
    let section = if is_verbose { format!(" ({})", side.section) } else { String::new() };
    let _ = writeln!(out, "  {direction:<8} {style}{}{style:#}: {}{section}", side.verdict.text(), side.reason);
    // The rules that decide: those that allow something, or, if none does, all of them.
    let is_allowing = side.explained.rules.iter().any(|r| !r.allows.is_empty());
    let decides = |r: &&RuleExplanation| is_verbose || r.allows.is_empty() != is_allowing;
    let rules: Vec<&RuleExplanation> = side.explained.rules.iter().filter(decides).collect();
    let most = if is_verbose { usize::MAX } else { 5 };
    if is_verbose || side.verdict != Verdict::Allowed {
        if let Some(rule) = side.rule.as_ref().filter(|_| !is_allowing) {
            let _ = writeln!(out, "           {DIM}{rule}{DIM:#}: allows it for some pods or addresses");
        }
        for rule in rules.iter().take(most) {
            let allows = if rule.allows.is_empty() { String::new() } else { format!(": allows {}", rule.allows) };
            let _ = writeln!(out, "           {DIM}{}{DIM:#}{allows}", rule.rule);
            let misses = if is_verbose || rule.allows.is_empty() { rule.misses.as_slice() } else { &[] };
            for miss in misses.iter().take(most) {
                let _ = writeln!(out, "             {}", cited(miss, detail));
            }
        }
        if rules.len() > most {
            let _ = writeln!(out, "           … and {} more rules (use -v to show all)", rules.len() - most);
        }
        for policy in &side.explained.policies {
            let name = format!("{}/{}", policy.namespace, policy.name);
            let has_rules = side.explained.rules.iter().any(|r| r.rule.policy == name);
            if !has_rules && (is_verbose || !is_allowing) {
                let place = policy.origin.as_ref().map(|origin| format!(" ({origin})")).unwrap_or_default();
                let _ = writeln!(out, "           {DIM}{name}{place}{DIM:#}: isolates the pod and has no {direction} rules");
            }
        }
        for (policy, reason) in side.others.iter().filter(|_| is_verbose) {
            let _ = writeln!(out, "           {DIM}{}/{}{DIM:#}: {reason}", policy.namespace, policy.name);
        }
    }
}

fn port_text(ports: &[ProtocolPorts]) -> String {
    let all = PortSet::all().by_protocol();
    if ports == all {
        return "every protocol and port".to_owned();
    }
    let parts = ports.iter().map(|p| match p.protocol.as_str() {
        "other" => "other protocols".to_owned(),
        name => format!("{name} {}", p.ports.join(",")),
    });
    parts.collect::<Vec<_>>().join("; ")
}

fn shorten(texts: &[String], blocks: usize) -> String {
    let shown = texts.iter().take(6).cloned().collect::<Vec<_>>().join(", ");
    if texts.len() > 6 { format!("{shown}, … ({blocks} blocks)") } else { shown }
}
