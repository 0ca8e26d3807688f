//! What `netpol test` asserts of an input, and whether it holds.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::{Result, bail};
use policy_core::diagnostic::Position;
use policy_core::model::Direction;
use policy_core::sets::{AddressSet, PortSet};
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::answer::{Answer, Fixes, Verdict, answer};
use super::ends::{self, End};
use super::evaluation::Evaluation;
use super::ports::ports;
use super::rows::{Peer, Question, Row, rows};
use super::scope::Scope;

/// A file with assertions.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
pub(crate) struct TestFile {
    pub tests: Vec<Option<Assertion>>,
}

/// One assertion: between ends, or who is the only one.
#[derive(Deserialize, Serialize, Default, Clone, Debug)]
#[serde(default, rename_all = "kebab-case")]
pub(crate) struct Assertion {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "texts")]
    pub from: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "texts")]
    pub to: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "some_texts")]
    pub only_from: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "some_texts")]
    pub only_to: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "texts")]
    pub ports: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub expect: String,
}

fn some_texts<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<Vec<String>>, D::Error> {
    texts(deserializer).map(Some)
}

/// A text or a number, or a list of them.
fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Vec<String>, D::Error> {
    struct Texts;
    impl<'de> Visitor<'de> for Texts {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text, or a list of texts")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> std::result::Result<Vec<String>, E> {
            Ok(vec![text.to_owned()])
        }

        fn visit_i64<E: de::Error>(self, number: i64) -> std::result::Result<Vec<String>, E> {
            Ok(vec![number.to_string()])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<Vec<String>, A::Error> {
            let mut out = Vec::new();
            while let Some(Text(text)) = list.next_element()? {
                out.push(text);
            }
            Ok(out)
        }
    }
    deserializer.deserialize_any(Texts)
}

/// A text, or a number as one.
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let mut texts = texts(deserializer)?;
        match (texts.pop(), texts.is_empty()) {
            (Some(text), true) => Ok(Self(text)),
            _ => Err(de::Error::custom("found a list, expected a text")),
        }
    }
}

/// An assertion with its place.
#[derive(Clone, Debug)]
pub(crate) struct Asserted {
    pub assertion: Assertion,
    pub file: String,
    pub position: Position,
}

/// What became of an assertion.
pub(crate) struct Outcome {
    /// The answers that it rests on, and those among them that contradict it.
    pub answers: Vec<Answer>,
    pub contradictions: Vec<Contradiction>,
}

/// A counter-example.
pub(crate) struct Contradiction {
    /// What was expected of it.
    pub expected: &'static str,
    pub answer: Answer,
}

impl Assertion {
    /// What it says, in one line.
    pub(crate) fn text(&self) -> String {
        if !self.name.is_empty() {
            return self.name.clone();
        }
        let ports = if self.ports.is_empty() { String::new() } else { format!(" on {}", self.ports.join(", ")) };
        let (from, to) = (self.from.join(", "), self.to.join(", "));
        match (&self.only_from, &self.only_to) {
            (Some(only), _) if only.is_empty() => format!("nothing reaches {to}{ports}"),
            (Some(only), _) => format!("only {} reach {to}{ports}", only.join(", ")),
            (None, Some(only)) if only.is_empty() => format!("{from} reaches nothing{ports}"),
            (None, Some(only)) => format!("{from} reaches only {}{ports}", only.join(", ")),
            (None, None) => format!("{from} → {to}{ports}: {}", self.expect),
        }
    }

    /// Whether it holds.
    ///
    /// # Errors
    /// If it is incomplete, or names what the input does not have.
    pub(crate) fn check(&self, evaluation: &Evaluation) -> Result<Outcome> {
        match (&self.only_from, &self.only_to, self.expect.as_str()) {
            (Some(_), Some(_), _) => bail!("it has both `only-from` and `only-to`"),
            (Some(only), None, "") if self.from.is_empty() && !self.to.is_empty() => self.only(evaluation, &self.to, only, true),
            (None, Some(only), "") if self.to.is_empty() && !self.from.is_empty() => {
                self.only(evaluation, &self.from, only, false)
            }
            (None, None, expect) if !self.from.is_empty() && !self.to.is_empty() => self.between(evaluation, expect),
            (None, None, _) => bail!("it needs `from` and `to`, or `to` with `only-from`, or `from` with `only-to`"),
            _ => bail!("`only-from` goes with `to` alone, and `only-to` with `from` alone; both without `expect`"),
        }
    }

    fn between(&self, evaluation: &Evaluation, expect: &str) -> Result<Outcome> {
        let expected = match expect {
            "allowed" => Verdict::Allowed,
            "denied" => Verdict::Denied,
            "partial" => Verdict::Partial,
            "" => bail!("it has no `expect`: allowed, denied or partial"),
            other => bail!("`expect` is `{other}`; expected allowed, denied or partial"),
        };
        let (from, to) = (all_ends(&self.from, evaluation)?, all_ends(&self.to, evaluation)?);
        let ports = ports(&self.ports, Some(&to), evaluation)?;
        let mut outcome = Outcome { answers: Vec::new(), contradictions: Vec::new() };
        for (source, destination) in from.iter().flat_map(|source| to.iter().map(move |destination| (source, destination))) {
            outcome.add(answer(evaluation, source, destination, ports.as_ref(), Fixes::Suggested)?, expected)?;
        }
        Ok(outcome)
    }

    /// Each of the listed ends connects, and nothing else does.
    fn only(&self, evaluation: &Evaluation, subjects: &[String], only: &[String], is_source: bool) -> Result<Outcome> {
        let (subjects, listed) = (all_ends(subjects, evaluation)?, all_ends(only, evaluation)?);
        let destinations = if is_source { &subjects } else { &listed };
        let asked = ports(&self.ports, Some(destinations), evaluation)?;
        let mut outcome = Outcome { answers: Vec::new(), contradictions: Vec::new() };
        let ask = |own: &End, other: &End| {
            let (from, to) = if is_source { (other, own) } else { (own, other) };
            answer(evaluation, from, to, asked.as_ref(), Fixes::Suggested)
        };
        let blocks = AddressSet::union_of(listed.iter().filter_map(End::addresses));
        for own in &subjects {
            let found = others(evaluation, own, is_source, asked.as_ref(), &listed, &blocks);
            for other in &listed {
                // Of addresses, those outside are meant, as in the answer of `netpol who`.
                let one = match other.addresses() {
                    None => Some(other.clone()),
                    Some(addresses) => {
                        let denied = evaluation.outside_one(&addresses.difference(&found.outside));
                        denied.or_else(|| evaluation.outside_one(&addresses)).map(End::Address)
                    }
                };
                if let Some(one) = one {
                    outcome.add(ask(own, &one)?, Verdict::Allowed)?;
                }
            }
            for other in found.ends {
                outcome.add(ask(own, &other)?, Verdict::Denied)?;
            }
        }
        Ok(outcome)
    }
}

impl Outcome {
    fn add(&mut self, found: Answer, expected: Verdict) -> Result<()> {
        if found.verdict == expected {
            self.answers.push(found);
        } else {
            self.contradictions.push(Contradiction { expected: expected.text(), answer: found });
        }
        Ok(())
    }
}

fn all_ends(texts: &[String], evaluation: &Evaluation) -> Result<Vec<End>> {
    let mut out: Vec<End> = Vec::new();
    for text in texts {
        for end in ends::parse(text, evaluation)?.list() {
            if !out.contains(end) {
                out.push(end.clone());
            }
        }
    }
    Ok(out)
}

/// What connects to an end, or is reached from it.
#[derive(Default)]
struct Others {
    /// Ends that are not listed and connect on some of the ports.
    ends: Vec<End>,
    /// Addresses outside that connect on all of the ports.
    outside: AddressSet,
}

fn others(
    evaluation: &Evaluation,
    own: &End,
    is_source: bool,
    asked: Option<&PortSet>,
    listed: &[End],
    blocks: &AddressSet,
) -> Others {
    let ends = ends::Ends::One(own.clone());
    let scope = Scope::all();
    let question = match is_source {
        true => Question { from: None, to: Some(&ends), scope: &scope },
        false => Question { from: Some(&ends), to: None, scope: &scope },
    };
    let all = asked.cloned().unwrap_or_else(PortSet::all);
    let mut out = Others::default();
    let is_asked = |row: &Row| asked.is_none_or(|asked| !row.some().intersection(asked).is_empty());
    for row in rows(evaluation, &question).into_iter().filter(is_asked) {
        let peer = if is_source { &row.src } else { &row.dst };
        match peer {
            Peer::Workload { kind, namespace, name } => {
                let end = End::Workload {
                    namespace: namespace.clone(),
                    owner: policy_core::model::WorkloadKey { kind: kind.clone(), name: name.clone() },
                };
                if !listed.contains(&end) && end != *own {
                    out.ends.push(end);
                }
            }
            Peer::External { cidrs, .. } => {
                let own = AddressSet::union_of(cidrs.iter().filter_map(|cidr| cidr.parse().ok()).map(AddressSet::block));
                if all.difference(&row.allowed).is_empty() {
                    out.outside = out.outside.union(&own);
                }
                out.ends.extend(evaluation.outside_one(&own.difference(blocks)).map(End::Address));
            }
        }
    }
    out
}

/// Assertions that hold today: for each isolated workload, who can reach it, and what it can reach, by ports.
pub(crate) fn of_today(evaluation: &Evaluation) -> Result<Vec<Assertion>> {
    let scope = Scope::all();
    let all = rows(evaluation, &Question { from: None, to: None, scope: &scope });
    let mut out = Vec::new();
    for is_source in [true, false] {
        let mut by_subject: BTreeMap<String, Vec<(String, PortSet)>> = BTreeMap::new();
        let direction = if is_source { Direction::Ingress } else { Direction::Egress };
        let is_isolated = |end: &End| {
            let pods = end.unit(evaluation).map(|unit| unit.pods).unwrap_or_default();
            let mut groups = pods.into_iter().filter_map(|pod| evaluation.graph.group_of(pod));
            groups.any(|group| !evaluation.graph.isolating(group, direction).is_empty())
        };
        let isolated: BTreeSet<String> = evaluation.workloads().filter(|end| is_isolated(end)).map(|end| end.name()).collect();
        for row in &all {
            let (own, other) = if is_source { (&row.dst, &row.src) } else { (&row.src, &row.dst) };
            let (Some(own), others) = (name_of(own), names_of(other)) else { continue };
            if !isolated.contains(&own) {
                continue;
            }
            let list = by_subject.entry(own).or_default();
            list.extend(others.into_iter().map(|other| (other, row.allowed.clone())));
        }
        for (subject, peers) in by_subject {
            for (ports, others) in atoms(&peers) {
                if ports.is_all() {
                    continue;
                }
                let texts = port_texts(&ports);
                let others: Vec<String> = others.into_iter().filter(|other| *other != subject).collect();
                if texts.is_empty() || others.is_empty() {
                    continue;
                }
                let (from, to, only_from, only_to) = match is_source {
                    true => (Vec::new(), vec![subject.clone()], Some(others), None),
                    false => (vec![subject.clone()], Vec::new(), None, Some(others)),
                };
                let assertion = Assertion { from, to, only_from, only_to, ports: texts, ..Assertion::default() };
                // What differs between pods, or depends on the other side, is left to people.
                if assertion.check(evaluation).is_ok_and(|outcome| outcome.contradictions.is_empty()) {
                    out.push(assertion);
                }
            }
        }
    }
    Ok(out)
}

fn name_of(peer: &Peer) -> Option<String> {
    match peer {
        Peer::Workload { namespace, name, .. } if !namespace.is_empty() => Some(format!("{namespace}/{name}")),
        _ => None,
    }
}

fn names_of(peer: &Peer) -> Vec<String> {
    match peer {
        Peer::External { cidrs, .. } if *cidrs == ["0.0.0.0/0", "::/0"] => vec!["external".to_owned()],
        Peer::External { cidrs, .. } => cidrs.clone(),
        peer => name_of(peer).into_iter().collect(),
    }
}

/// The ports, cut where who has them changes.
fn atoms(peers: &[(String, PortSet)]) -> Vec<(PortSet, BTreeSet<String>)> {
    let mut out: Vec<(PortSet, BTreeSet<String>)> = Vec::new();
    for (name, ports) in peers {
        let mut left = ports.clone();
        let mut next = Vec::with_capacity(out.len() + 1);
        for (have, names) in out {
            let both = have.intersection(&left);
            let rest = have.difference(&left);
            if !both.is_empty() {
                let mut names = names.clone();
                names.insert(name.clone());
                next.push((both.clone(), names));
            }
            if !rest.is_empty() {
                next.push((rest, names));
            }
            left = left.difference(&both);
        }
        if !left.is_empty() {
            next.push((left, BTreeSet::from([name.clone()])));
        }
        out = next;
    }
    out
}

/// Ports as users write them; none for what cannot be written.
fn port_texts(ports: &PortSet) -> Vec<String> {
    if ports.has_other_protocols() {
        return Vec::new();
    }
    let mut out = Vec::new();
    for transport in policy_core::sets::Transport::ALL {
        for (low, high) in ports.ports(transport).iter() {
            out.push(if low == high { format!("{low}/{transport}") } else { format!("{low}-{high}/{transport}") });
        }
    }
    out
}
