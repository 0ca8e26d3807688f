//! What is below a folder and was not read.

use std::path::Path;

use policy_input::sources::folder::Contents;
use serde::Serialize;

use crate::output::names::first;

/// Names that are listed; the others are counted.
const MOST_NAMES: usize = 10;

/// Something that was not read, and could hold objects.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct LeftOut {
    pub kind: Kind,
    pub path: String,
    /// The argument that reads it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ask: Option<String>,
}

/// What was not read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Kustomization,
    Chart,
    /// A manifest beside a kustomization or a chart, which does not use it.
    File,
    /// A link that leads nowhere.
    Link,
}

impl LeftOut {
    fn new(kind: Kind, path: &Path, ask: Option<&str>) -> Self {
        let path = super::shown(path);
        let ask = ask.map(|option| format!("{option} {path}"));
        Self { kind, path, ask }
    }

    pub(crate) fn kustomization(folder: &Path) -> Self {
        Self::new(Kind::Kustomization, folder, Some("-k"))
    }

    pub(crate) fn chart(folder: &Path) -> Self {
        Self::new(Kind::Chart, folder, Some("--chart"))
    }

    pub(crate) fn file(path: &Path) -> Self {
        Self::new(Kind::File, path, Some("-f"))
    }

    pub(crate) fn link(path: &Path) -> Self {
        Self::new(Kind::Link, path, None)
    }

    /// What belongs to kustomizations and charts below a folder, and links that lead nowhere.
    pub(crate) fn of(contents: &Contents) -> Vec<Self> {
        let ask = |is_root: bool, option: &'static str| is_root.then_some(option);
        let kustomizations = contents.kustomizations.iter().map(|folder| {
            let is_root = contents.roots.contains(folder);
            Self::new(Kind::Kustomization, folder, ask(is_root, "-k"))
        });
        let charts =
            contents.charts.iter().map(|chart| Self::new(Kind::Chart, &chart.folder, ask(chart.is_application, "--chart")));
        let links = contents.broken_links.iter().map(|link| Self::link(link));
        kustomizations.chain(charts).chain(links).collect()
    }
}

/// What was left out in sentences, one for each kind.
pub(crate) fn sentences(left_out: &[LeftOut]) -> Vec<String> {
    let sentence = |kind: Kind| {
        let of_kind: Vec<&LeftOut> = left_out.iter().filter(|entry| entry.kind == kind).collect();
        let count = of_kind.len();
        let plural = if count == 1 { "" } else { "s" };
        let asked = || names(of_kind.iter().filter(|entry| entry.ask.is_some()));
        match kind {
            _ if count == 0 => None,
            Kind::Kustomization => Some(format!("left out {count} kustomization{plural}; ask for one with -k: {}", asked())),
            Kind::Chart if of_kind.iter().all(|entry| entry.ask.is_none()) => {
                Some(format!("left out {count} library chart{plural}: {}", names(of_kind.iter())))
            }
            Kind::Chart => Some(format!("left out {count} Helm chart{plural}; ask for one with --chart: {}", asked())),
            Kind::File => Some(format!(
                "left out {count} file{plural} that the kustomization or chart does not use; read {} with -f: {}",
                if count == 1 { "it" } else { "them" },
                names(of_kind.iter())
            )),
            Kind::Link => {
                let verb = if count == 1 { "leads" } else { "lead" };
                Some(format!("left out {count} link{plural} that {verb} nowhere: {}", names(of_kind.iter())))
            }
        }
    };
    [Kind::Kustomization, Kind::Chart, Kind::File, Kind::Link].into_iter().filter_map(sentence).collect()
}

fn names<'e>(entries: impl Iterator<Item = &'e &'e LeftOut>) -> String {
    let all: Vec<&str> = entries.map(|entry| entry.path.as_str()).collect();
    first(&all, MOST_NAMES)
}
