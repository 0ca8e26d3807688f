//! Files that are not read as manifests, and what they may be, by their names.
//!
//! Whether one of them holds or makes objects is seen in its content.

use std::path::Path;

use crate::files::is_manifest;

/// Endings of documentation, program text, settings, pictures and binaries. Where they contain manifests, these are examples or text.
const NO_MANIFESTS: &[&str] = &[
    "adoc", "avif", "bat", "bmp", "c", "cc", "cfg", "class", "cpp", "cs", "css", "csv", "dart", "dll", "dylib", "eot", "ex",
    "exe", "exs", "fish", "gif", "go", "gradle", "h", "hpp", "htm", "html", "ico", "ini", "ipynb", "jar", "java", "jpeg", "jpg",
    "js", "jsx", "kt", "kts", "less", "lock", "log", "lua", "map", "markdown", "md", "mdx", "mjs", "mod", "mp4", "o", "org",
    "otf", "pdf", "php", "pl", "png", "proto", "ps1", "psd", "py", "pyc", "r", "rb", "rlib", "rs", "rst", "scala", "scss", "sh",
    "so", "sql", "sum", "svg", "swift", "toml", "ts", "tsx", "ttf", "vue", "wasm", "webp", "woff", "woff2", "xml", "zsh",
];
/// Endings of what editors and patches leave beside a file.
const COPIES: &[&str] = &["bak", "orig", "rej", "swo", "swp"];
/// Endings of the languages that other programs make objects of.
const LANGUAGES: &[&str] = &["cue", "dhall", "hcl", "jsonnet", "k", "libsonnet", "pkl", "star", "tf"];
/// Endings of archives, and of compressed files that are not decompressed here.
const ARCHIVES: &[&str] = &["7z", "bz2", "tar", "tbz", "tgz", "txz", "xz", "zip", "zst"];
/// Endings of encrypted files.
const ENCRYPTED: &[&str] = &["age", "asc", "enc", "gpg", "pgp", "sops", "vault"];

/// What a file may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Other {
    /// A file from which `helmfile` renders charts.
    Helmfile,
    /// An archive, or a compressed file.
    Archive,
    /// An encrypted manifest.
    Encrypted,
    /// A manifest with an ending after its own, such as a template: `deny.yaml.tpl`.
    Template,
    /// Text of a language that objects are made of.
    Language,
    /// Anything else: a manifest with another ending, or no manifest at all.
    Text,
}

/// What a file that is no manifest by its name may be; `None` if its name is that of something without objects.
#[must_use]
pub fn other(path: &Path) -> Option<Other> {
    let name = path.file_name()?.to_string_lossy().to_lowercase();
    if is_helmfile(path) {
        return Some(Other::Helmfile);
    }
    if name.ends_with('~') || name.starts_with('#') || name.ends_with("___jb_tmp___") {
        return None;
    }
    let extension = |path: &Path| path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
    let is_of_manifest = path.file_stem().is_some_and(|stem| is_manifest(Path::new(stem)));
    let last = extension(path).unwrap_or_default();
    let is_in = |list: &[&str]| list.contains(&last.as_str());
    match last.as_str() {
        "gz" if name.ends_with(".tar.gz") => Some(Other::Archive),
        "gz" => other(Path::new(path.file_stem()?)),
        _ if is_in(NO_MANIFESTS) || is_in(COPIES) => None,
        _ if is_in(ARCHIVES) => Some(Other::Archive),
        _ if is_in(LANGUAGES) => Some(Other::Language),
        _ if is_of_manifest && is_in(ENCRYPTED) => Some(Other::Encrypted),
        _ if is_of_manifest => Some(Other::Template),
        _ => Some(Other::Text),
    }
}

/// Whether a file is a helmfile, by its name: it is YAML, a template of it, or has no objects itself.
#[must_use]
pub fn is_helmfile(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    ["helmfile.yaml", "helmfile.yml", "helmfile.yaml.gotmpl", "helmfile.yml.gotmpl"].contains(&name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_what_a_file_may_be() {
        let rows: [(&[&str], Option<Other>); 7] = [
            (&["helmfile.yaml", "helmfile.yaml.gotmpl"], Some(Other::Helmfile)),
            (&["a.tar.gz", "a.tgz", "a.zip", "a.yaml.zst"], Some(Other::Archive)),
            (&["a.yaml.enc", "a.yml.gpg", "a.json.sops"], Some(Other::Encrypted)),
            (&["a.yaml.tpl", "a.yml.j2", "a.YAML.gotmpl", "a.yaml.disabled", "a.yaml.tpl.gz"], Some(Other::Template)),
            (&["a.jsonnet", "a.cue", "a.tf"], Some(Other::Language)),
            (&["a.txt", "a", "a.manifest", "a.conf", "a.json5", "LICENSE", ".helmignore"], Some(Other::Text)),
            (&["README.md", "main.go", "deploy.sh", "a.png", "a.yaml~", "#a.yaml#", "a.yaml.bak", "a.yaml.swp", "go.sum"], None),
        ];
        for (names, expected) in rows {
            for name in names {
                assert_eq!(other(Path::new(name)), expected, "{name}");
            }
        }
    }
}
