//! Help, manual pages, completions and the reference describe the same commands.

use std::path::Path;
use std::process::{Command, Output};

/// The commands that are not hidden.
const COMMANDS: [&str; 15] = [
    "can",
    "list",
    "who",
    "reach",
    "validate",
    "lint",
    "diff",
    "test",
    "rules",
    "init",
    "render",
    "snapshot",
    "completions",
    "schema",
    "man",
];

fn netpol() -> Command {
    Command::new(env!("CARGO_BIN_EXE_netpol"))
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn help_completions_and_manual_are_there() {
    for command in COMMANDS {
        let output = netpol().args([command, "--help"]).output().expect("netpol runs");
        assert!(output.status.success() && text(&output).contains("Examples:\n"), "{command} --help has no example");
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = netpol().args(["completions", shell]).output().expect("netpol runs").stdout;
        let script = String::from_utf8(script).expect("UTF-8");
        assert!(script.len() > 500 && script.contains("validate"), "{shell}");
        assert!(!script.contains("reference"), "{shell}: hidden commands are not completed");
    }
    let main_page = text(&netpol().arg("man").output().expect("netpol runs"));
    assert!(main_page.contains("\n.TH \"netpol\" 1 \"\" \"netpol ") && main_page.contains("netpol\\-can(1)"), "{main_page}");
    assert_eq!(netpol().arg("cna").output().expect("netpol runs").status.code(), Some(2));
}

#[test]
fn short_help_and_long_help_agree() {
    let help = |arguments: &[&str]| text(&netpol().args(arguments).output().expect("netpol runs"));
    let first = |text: &str| text.lines().next().map(str::to_owned);
    let short = help(&["-h"]);
    let long = help(&["--help"]);
    assert_eq!(first(&short), first(&long));
    assert_eq!(long, help(&["help"]));
    for command in COMMANDS {
        assert!(long.contains(&format!("\n  {command} ")), "{command}: {long}");
        assert_eq!(help(&[command, "--help"]), help(&["help", command]));
        assert_eq!(first(&help(&[command, "-h"])), first(&help(&[command, "--help"])));
    }
}

#[test]
fn options_are_described_as_the_command_uses_them() {
    let help = |command: &str| text(&netpol().args([command, "--help"]).output().expect("netpol runs"));
    for command in ["can", "list", "who", "reach", "validate", "render"] {
        let shown = help(command);
        let words: Vec<&str> = shown.split_whitespace().collect();
        let shown = words.join(" ");
        assert_eq!(shown.contains("are listed"), ["list", "who", "reach"].contains(&command), "{command}");
        assert_eq!(
            shown.contains("The namespace of objects without one"),
            ["validate", "render"].contains(&command),
            "{command}"
        );
        assert_eq!(shown.contains("--keep-going"), command != "validate", "{command}");
        assert_eq!(shown.contains("--own-node-egress"), command != "validate", "{command}");
    }
    let schema = netpol().args(["schema", "render"]).output().expect("netpol runs");
    assert!(schema.status.code() == Some(2) && text(&schema).contains("libnftables-json(5)"), "{}", text(&schema));
}

#[test]
fn every_command_has_a_manual_page_of_its_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = netpol().args(["man", "--out"]).arg(folder.path().join("man1")).output().expect("netpol runs");
    assert!(output.status.success() && text(&output).is_empty(), "{}", text(&output));
    let mut expected: Vec<String> = COMMANDS.iter().map(|command| format!("netpol-{command}")).collect();
    expected.push("netpol".to_owned());
    for name in &expected {
        let page = std::fs::read_to_string(folder.path().join(format!("man1/{name}.1"))).expect("a page");
        assert_eq!(page.matches("\n.TH ").count(), 1, "{name}");
        assert!(page.contains(&format!("\n.TH \"{name}\" 1 \"\" \"netpol ")), "{name}: {page}");
        for section in ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXAMPLES", "\"SEE ALSO\""] {
            assert!(
                page.contains(&format!(".SH {section}\n")) || page.contains(&format!(".SH \"{section}\"\n")),
                "{name}: {section}: {page}"
            );
        }
        assert!(!page.contains("EXTRA"), "{name}");
        // Examples are not filled.
        assert_eq!(page.matches("\n.nf\n").count(), page.matches("\n.fi\n").count(), "{name}");
    }
    assert_eq!(std::fs::read_dir(folder.path().join("man1")).expect("pages").count(), expected.len());
}

#[test]
fn the_reference_is_what_the_commands_are() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace");
    let page = std::fs::read_to_string(root.join("docs/src/reference/netpol.md")).expect("a page");
    let shown = text(&netpol().arg("reference").output().expect("netpol runs"));
    assert!(page == shown, "docs/src/reference/netpol.md is out of date; run `make reference`");
    for command in COMMANDS {
        assert!(page.contains(&format!("\n## netpol {command}\n")), "{command}");
    }
    let page = std::fs::read_to_string(root.join("docs/src/reference/rules.md")).expect("a page");
    let shown = text(&netpol().args(["reference", "--rules"]).output().expect("netpol runs"));
    assert!(page == shown, "docs/src/reference/rules.md is out of date; run `make reference`");
}
