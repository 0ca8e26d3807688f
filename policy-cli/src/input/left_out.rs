//! What was not read, and could hold objects.

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
    /// The folder of a Helm chart, or its archive.
    Chart,
    /// A file from which `helmfile` renders charts.
    Helmfile,
    /// A manifest beside a kustomization or a chart, which does not use it.
    File,
    /// A file with another ending.
    Other,
    /// A hidden file or folder.
    Hidden,
    /// A file or folder that `.gitignore` excludes.
    Ignored,
    /// A file or folder that the user excludes.
    Excluded,
    /// An encrypted file.
    Encrypted,
    /// A file that stands for one that is elsewhere, as those of Git LFS do.
    Pointer,
    /// A file without content.
    Empty,
    /// A link that leads nowhere.
    Link,
}

impl Kind {
    const ALL: [Self; 12] = [
        Self::Kustomization,
        Self::Chart,
        Self::Helmfile,
        Self::File,
        Self::Other,
        Self::Hidden,
        Self::Ignored,
        Self::Excluded,
        Self::Encrypted,
        Self::Pointer,
        Self::Empty,
        Self::Link,
    ];

    /// The option that reads it.
    fn option(self) -> Option<&'static str> {
        match self {
            Self::Kustomization => Some("-k"),
            Self::Chart => Some("--chart"),
            Self::File | Self::Hidden | Self::Ignored | Self::Excluded => Some("-f"),
            Self::Helmfile | Self::Other | Self::Encrypted | Self::Pointer | Self::Empty | Self::Link => None,
        }
    }
}

impl LeftOut {
    /// What can be read with the option of its kind, if that has one.
    pub(crate) fn new(kind: Kind, path: &Path) -> Self {
        let path = super::shown(path);
        let ask = kind.option().map(|option| format!("{option} {path}"));
        Self { kind, path, ask }
    }

    /// What belongs to kustomizations and charts below a folder, and links that lead nowhere.
    pub(crate) fn of(contents: &Contents) -> Vec<Self> {
        let entry = |kind: Kind, path: &Path, is_root: bool| {
            let entry = Self::new(kind, path);
            if is_root { entry } else { Self { ask: None, ..entry } }
        };
        let kustomizations = contents.kustomizations.iter();
        let kustomizations = kustomizations.map(|folder| entry(Kind::Kustomization, folder, contents.roots.contains(folder)));
        let charts = contents.charts.iter().map(|chart| entry(Kind::Chart, &chart.folder, chart.is_application));
        let links = contents.broken_links.iter().map(|link| Self::new(Kind::Link, link));
        kustomizations.chain(charts).chain(links).collect()
    }
}

/// What was left out and could change answers, in sentences, one for each kind.
pub(crate) fn sentences(left_out: &[LeftOut]) -> Vec<String> {
    Kind::ALL.into_iter().filter(|kind| *kind != Kind::Excluded).filter_map(|kind| sentence(kind, left_out)).collect()
}

/// What the user excludes, in a sentence. It is no part of the question.
pub(crate) fn excluded(left_out: &[LeftOut]) -> Option<String> {
    sentence(Kind::Excluded, left_out)
}

fn sentence(kind: Kind, left_out: &[LeftOut]) -> Option<String> {
    let of_kind: Vec<&LeftOut> = left_out.iter().filter(|entry| entry.kind == kind).collect();
    let asked: Vec<&LeftOut> = of_kind.iter().copied().filter(|entry| entry.ask.is_some()).collect();
    let is_choice = matches!(kind, Kind::Kustomization | Kind::Chart);
    let [one, many, help] = match kind {
        Kind::Chart if asked.is_empty() => ["library chart", "library charts", ""],
        Kind::Kustomization if asked.is_empty() => ["kustomization", "kustomizations", ""],
        _ => words(kind),
    };
    let noun = if of_kind.len() == 1 { one } else { many };
    let named = if is_choice && !asked.is_empty() { &asked } else { &of_kind };
    let which = if named.len() == of_kind.len() { String::new() } else { some(kind, named.len()) };
    let them = match named.len() {
        1 => "it",
        _ if is_choice => "one",
        _ => "them",
    };
    let help = help.replace("THEM", them);
    (!of_kind.is_empty()).then(|| format!("left out {} {noun}{which}{help}: {}", of_kind.len(), names(named)))
}

/// Which kustomizations or charts are named, where others are counted too.
fn some(kind: Kind, count: usize) -> String {
    let which = match (kind, count) {
        (Kind::Chart, 1) => "is not a library",
        (Kind::Chart, _) => "are not libraries",
        (_, 1) => "is not part of another",
        _ => "are not part of another",
    };
    format!(", of which {count} {which}")
}

/// The nouns of a kind for one and for several, and what to do.
fn words(kind: Kind) -> [&'static str; 3] {
    match kind {
        Kind::Kustomization => ["kustomization", "kustomizations", "; build THEM with -k"],
        Kind::Chart => ["Helm chart", "Helm charts", "; render THEM with --chart"],
        Kind::Helmfile => ["helmfile", "helmfiles", "; pipe what `helmfile template` prints"],
        Kind::File => [
            "file that the kustomization or chart does not use",
            "files that the kustomization or chart does not use",
            "; read THEM with -f",
        ],
        Kind::Other => [
            "file that may hold or make objects, and is not read because of its ending",
            "files that may hold or make objects, and are not read because of their endings",
            "; name manifests with -f, and pipe what programs make of other files",
        ],
        Kind::Hidden => ["hidden entry that may hold objects", "hidden entries that may hold objects", "; read THEM with -f"],
        Kind::Ignored => [
            "entry that .gitignore excludes and that may hold objects",
            "entries that .gitignore excludes and that may hold objects",
            "; read THEM with -f",
        ],
        Kind::Excluded => [
            "entry that .netpolignore, `ignore` or --exclude excludes",
            "entries that .netpolignore, `ignore` or --exclude excludes",
            "",
        ],
        Kind::Encrypted => [
            "encrypted file that may hold objects",
            "encrypted files that may hold objects",
            "; decrypt THEM, and pipe the output",
        ],
        Kind::Pointer => [
            "pointer of Git LFS or git-annex in place of a file",
            "pointers of Git LFS or git-annex in place of files",
            "; fetch THEM with `git lfs pull` or `git annex get`",
        ],
        Kind::Empty => ["empty file", "empty files", ""],
        Kind::Link => ["link that leads nowhere", "links that lead nowhere", ""],
    }
}

fn names(entries: &[&LeftOut]) -> String {
    let all: Vec<&str> = entries.iter().map(|entry| entry.path.as_str()).collect();
    first(&all, MOST_NAMES)
}
