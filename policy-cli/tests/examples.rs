//! The questions and the console blocks of every README, and those of the book, are true.

#![expect(clippy::expect_used, reason = "a failing check panics")]

mod programs;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").to_owned()
}

/// Runs a command line as a reader would type it, from the top of the repository.
fn run(line: &str) -> Output {
    assert!(line.starts_with("netpol ") || line.contains("| netpol "), "{line}");
    let programs = Path::new(env!("CARGO_BIN_EXE_netpol")).parent().expect("a folder");
    let mut path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap_or_default());
    for folder in programs::folders().into_iter().flatten() {
        path = format!("{path}:{}", folder.display());
    }
    Command::new("sh").args(["-c", line]).env("PATH", path).current_dir(root()).output().expect("a shell")
}

fn examples() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(root().join("examples")).expect("examples").map(|e| e.expect("an entry").path()).collect();
    folders.sort();
    folders
}

/// The Markdown files of a folder and of those in it.
fn pages_below(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    let below = |path: PathBuf| if path.is_dir() { pages_below(&path) } else { vec![path] };
    paths.into_iter().flat_map(below).filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect()
}

#[test]
fn questions_have_their_answers() {
    for folder in examples() {
        let text = std::fs::read_to_string(folder.join("README.md")).expect("every example has a README");
        let mut count = 0;
        for line in text.lines() {
            let Some((question, answer)) =
                line.strip_prefix("| `").and_then(|l| l.strip_suffix(" |")).and_then(|l| l.split_once("` | "))
            else {
                continue;
            };
            count += 1;
            let is_rendered = question.contains(" -k ") || question.contains(" --chart ");
            if is_rendered && programs::folders().is_none() {
                continue;
            }
            let output = run(question);
            let shown = String::from_utf8_lossy(&output.stdout);
            let code = match answer {
                "allowed" => 0,
                "denied" | "partly allowed" => 1,
                other => panic!("{other} is no answer"),
            };
            assert!(shown.starts_with(&format!("{answer}  ")), "{question}: expected {answer}, found {output:?}");
            assert_eq!(output.status.code(), Some(code), "{question}");
        }
        assert!(count >= 8, "{} asks only {count} questions", folder.display());
    }
}

#[test]
fn every_file_of_an_example_is_valid_and_asked_about() {
    for folder in examples() {
        let readme = std::fs::read_to_string(folder.join("README.md")).expect("a README");
        let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
        let asks_for_folder = readme.contains(&format!("-f examples/{name} "));
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.ends_with("netpol-test.yaml") {
                let output = run(&format!("netpol test -f examples/{name}"));
                assert!(output.status.success(), "{name}: {output:?}");
            } else if path.extension().is_some_and(|e| e == "yaml") {
                let file = path.file_name().expect("a name").to_string_lossy().into_owned();
                assert!(asks_for_folder || readme.contains(&file), "nobody asks about {name}/{file}");
                let output = run(&format!("netpol validate -f examples/{name}/{file}"));
                assert!(output.status.success(), "{name}/{file}: {output:?}");
            }
        }
    }
}

/// Blocks of the form `$ netpol …` with the output below.
#[test]
fn console_blocks_show_what_netpol_prints() {
    let mut pages = vec![root().join("README.md")];
    pages.extend(examples().into_iter().map(|e| e.join("README.md")));
    pages.extend(pages_below(&root().join("docs/src")));
    let mut count = 0;
    for page in pages {
        let text = std::fs::read_to_string(&page).expect("readable");
        for block in text.split("```console\n").skip(1) {
            let block = block.split("```").next().unwrap_or_default();
            for part in block.split("$ ").skip(1) {
                let (line, expected) = part.split_once('\n').expect("a line");
                if expected.trim().is_empty() {
                    continue;
                }
                // Both, in the order in which a terminal shows them.
                let output = run(&format!("{line} 2>&1"));
                let shown = String::from_utf8_lossy(&output.stdout);
                // Three dots at the end stand for more of it.
                let (shown, expected) = (shown.trim_end(), expected.trim_end());
                let is_shown = match expected.strip_suffix("\n…") {
                    Some(beginning) => shown.starts_with(beginning),
                    None => shown == expected,
                };
                assert!(is_shown, "{}: {line}: expected\n{expected}\nfound\n{shown}", page.display());
                count += 1;
            }
        }
    }
    assert!(count >= 11, "only {count} console blocks were found");
}
