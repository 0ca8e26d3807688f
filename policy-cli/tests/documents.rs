//! How documents become objects, as answers and findings show it: what is read, and what is named as not read.

#![expect(clippy::expect_used, reason = "a failing check panics")]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// A folder for the files of a test.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("documents").join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// What `netpol` prints in a folder, and its exit code.
fn netpol(folder: &Path, line: &str) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_netpol"));
    let output = command.current_dir(folder).args(line.split_whitespace()).output().expect("netpol runs");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.code(), text)
}

fn write(folder: &Path, files: &[(&str, &str)]) {
    files.iter().for_each(|(name, text)| std::fs::write(folder.join(name), text).expect("a file"));
}

/// Two pods, which no policy isolates, in a namespace.
const PODS: &str = "apiVersion: v1
kind: Namespace
metadata: {name: a}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: a, labels: {app: web}}
spec: {containers: [{name: c, image: x}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: a, labels: {app: db}}
spec: {containers: [{name: c, image: x}]}
";

const DENY: &str = "{\"apiVersion\": \"networking.k8s.io/v1\", \"kind\": \"NetworkPolicy\", \"metadata\": {\"name\": \"deny\", \"namespace\": \"a\"}, \
                    \"spec\": {\"podSelector\": {\"matchLabels\": {\"app\": \"db\"}}, \"policyTypes\": [\"Ingress\"]}}";

#[test]
fn a_policy_in_any_wrapping_denies_or_is_an_error() {
    let folder = folder("wrappings");
    let escaped = Value::from(DENY).to_string();
    for (name, text, is_read) in [
        ("list.json", format!("{{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": [{DENY}]}}"), true),
        ("no-kind.json", format!("{{\"items\": [{DENY}]}}"), true),
        ("no-version.json", format!("{{\"kind\": \"List\", \"items\": [{DENY}]}}"), true),
        (
            "event.json",
            format!(
                "{{\"type\": \"ADDED\", \"object\": {DENY}}}\n{{\"type\": \"BOOKMARK\", \"object\": {{\"kind\": \"NetworkPolicy\"}}}}"
            ),
            true,
        ),
        ("text-in-list.json", format!("{{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": [{escaped}]}}"), false),
        ("text-in-array.json", format!("[{escaped}]"), false),
        ("text.json", escaped.clone(), false),
        ("template.yaml", format!("{{apiVersion: template.openshift.io/v1, kind: Template, objects: [{escaped}]}}"), false),
        ("twice.yaml", format!("{{apiVersion: v1, kind: List, items: [{DENY}], items: []}}"), false),
        ("other-field.yaml", format!("{{apiVersion: v1, kind: List, items: [], Items: [{DENY}]}}"), false),
        ("no-list.yaml", DENY.replace("NetworkPolicy", "NetworkPolicyList"), false),
        ("mapping.yaml", format!("{{apiVersion: v1, kind: List, items: {{deny: {DENY}}}}}"), false),
        ("deleted.json", format!("{{\"type\": \"DELETED\", \"object\": {DENY}}}"), false),
        ("no-version.yaml", DENY.replace("networking.k8s.io/v1", ""), false),
    ] {
        write(&folder, &[("pods.yaml", PODS), (name, &text)]);
        let (code, text) = netpol(&folder, &format!("can -f pods.yaml -f {name} a/web a/db"));
        assert_eq!(code, Some(if is_read { 1 } else { 2 }), "{name}: {text}");
        assert!(is_read == text.contains("isolated for ingress by a/deny"), "{name}: {text}");
        let (_, text) = netpol(&folder, &format!("can -f pods.yaml -f {name} a/web a/db --keep-going"));
        let is_denied = text.contains("isolated for ingress by a/deny");
        assert_eq!(is_denied, is_read || name == "no-version.yaml", "{name}: {text}");
        assert!(is_denied || text.contains("may be a policy that denies what is allowed here"), "{name}: {text}");
    }
}

#[test]
fn one_page_of_a_list_is_a_caveat() {
    let folder = folder("pages");
    let page = format!("{{apiVersion: v1, kind: List, metadata: {{continue: abc, remainingItemCount: 300}}, items: [{DENY}]}}");
    write(&folder, &[("pods.yaml", PODS), ("page.yaml", &page)]);
    for line in ["can a/web a/db", "can a/db a/web", "list", "who a/db"] {
        let words: Vec<&str> = line.splitn(2, ' ').collect();
        let (_, text) = netpol(&folder, &format!("{} -f pods.yaml -f page.yaml {}", words[0], words.get(1).unwrap_or(&"")));
        assert!(text.contains("page.yaml:1 is one page of a list"), "{line}: {text}");
    }
    let (code, text) = netpol(&folder, "validate pods.yaml page.yaml");
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("warning[partial-list]") && text.contains("300 more objects are not in it"), "{text}");
}

#[test]
fn failed_commands_leave_no_objects() {
    let folder = folder("commands");
    let forbidden =
        "Error from server (Forbidden): networkpolicies.networking.k8s.io is forbidden: User \"x\" cannot list resource\n";
    let dump = format!("Error from server (NotFound): the server could not find it\n{PODS}");
    // Standard error follows the objects where it is not buffered.
    let after = format!("{PODS}Error from server (NotFound): the server could not find it\n");
    let list = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Namespace, metadata: {name: b}}\nError from server (NotFound): x\n";
    write(
        &folder,
        &[
            ("pods.yaml", PODS),
            ("forbidden.yaml", forbidden),
            ("both.yaml", &dump),
            ("after.yaml", &after),
            ("list.yaml", list),
            ("empty.yaml", ""),
            ("blank.yaml", " \n\n"),
        ],
    );
    write(&folder, &[("none.yaml", "No resources found in a namespace.\n"), ("comment.yaml", "# later\n")]);
    for name in ["-f pods.yaml -f forbidden.yaml", "-f both.yaml", "-f after.yaml", "-f pods.yaml -f list.yaml"] {
        let (code, text) = netpol(&folder, &format!("can {name} a/web a/db"));
        assert!(
            code == Some(2) && text.contains("error[error-answer]") && text.contains("Error from server ("),
            "{name}: {text}"
        );
        let (code, text) = netpol(&folder, &format!("validate {name}"));
        assert_eq!(code, Some(2), "{name}: {text}");
        let (code, text) = netpol(&folder, &format!("can {name} a/web a/db --keep-going"));
        assert!(code == Some(2) && text.contains("may be a policy that denies what is allowed here"), "{name}: {text}");
    }
    for (name, message) in
        [("empty.yaml", "the file is empty"), ("blank.yaml", "the file is empty"), ("none.yaml", "No resources found")]
    {
        let (code, text) = netpol(&folder, &format!("validate pods.yaml {name}"));
        assert!(code == Some(0) && text.contains("warning[empty-file]") && text.contains(message), "{name}: {text}");
    }
    let (_, text) = netpol(&folder, "validate pods.yaml comment.yaml");
    assert!(!text.contains("empty-file"), "{text}");
    let (code, text) = netpol(&folder, "can -f pods.yaml -f none.yaml a/web a/db");
    assert!(code == Some(0) && text.contains("none.yaml:1 is not a Kubernetes object, and was not read"), "{text}");
}

#[test]
fn text_in_utf16_without_a_mark_is_an_error() {
    let folder = folder("utf16");
    write(&folder, &[("pods.yaml", PODS)]);
    for bytes in [u16::to_le_bytes, u16::to_be_bytes] {
        let wide: Vec<u8> = DENY.encode_utf16().flat_map(bytes).collect();
        std::fs::write(folder.join("deny.yaml"), wide).expect("a file");
        let (code, text) = netpol(&folder, "can -f . a/web a/db");
        assert!(code == Some(2) && text.contains("error[invalid-encoding]"), "{text}");
        let (_, text) = netpol(&folder, "can -f . a/web a/db --keep-going");
        assert!(text.contains("deny.yaml may be a policy that denies what is allowed here"), "{text}");
    }
}

#[test]
fn the_answer_names_the_one_of_several_objects_that_counts() {
    let folder = folder("contradictions");
    let allow = DENY.replace("[\"Ingress\"]", "[\"Ingress\"], \"ingress\": [{}]");
    write(&folder, &[("pods.yaml", PODS), ("deny.yaml", DENY), ("allow.yaml", &allow)]);
    for (files, answer, counts) in [
        ("-f pods.yaml -f deny.yaml -f allow.yaml", "allowed", "NetworkPolicy a/deny of allow.yaml:1, not of deny.yaml:1"),
        ("-f pods.yaml -f allow.yaml -f deny.yaml", "denied", "NetworkPolicy a/deny of deny.yaml:1, not of allow.yaml:1"),
    ] {
        assert_eq!(netpol(&folder, &format!("can {files} a/web a/db")).0, Some(2));
        let (_, text) = netpol(&folder, &format!("can {files} a/web a/db --keep-going"));
        assert!(text.contains(answer) && text.contains(counts) && !text.contains("cannot be read"), "{text}");
    }
    // An error of another kind has its own sentence.
    write(
        &folder,
        &[(
            "broken.yaml",
            "apiVersion: v1\nkind: Pod\nmetadata: {name: x, namespace: a, labels: {a: [b]}}\nspec: {containers: [{name: c}]}\n",
        )],
    );
    let (_, text) = netpol(&folder, "can -f pods.yaml -f deny.yaml -f allow.yaml -f broken.yaml a/web a/db --keep-going");
    assert!(text.contains("not of deny.yaml:1") && text.contains("objects that cannot be read allow nothing"), "{text}");
}

#[test]
fn pods_with_generated_names_are_asked_by_what_is_written() {
    let folder = folder("generated");
    let one = |kind: &str, version: &str, name: &str, spec: &str| {
        format!(
            "---\napiVersion: {version}\nkind: {kind}\nmetadata: {{generateName: {name}, namespace: a, labels: {{app: x}}}}\nspec: {spec}\n"
        )
    };
    let containers = "{containers: [{name: c, image: x}]}";
    let job = format!("{{template: {{spec: {containers}}}}}");
    let objects = [
        one("Pod", "v1", "x-", containers),
        one("Pod", "v1", "y-", containers),
        one("Pod", "v1", "y-", containers),
        one("Job", "batch/v1", "migrate-", &job),
    ];
    write(&folder, &[("in.yaml", &format!("{PODS}{}", objects.concat()))]);
    std::fs::create_dir_all(folder.join("sub")).expect("a folder");
    write(&folder, &[("sub/in.yaml", &objects[0].replace("x-", "z-"))]);
    write(&folder, &[("sub/job.yaml", &objects[3].replace("migrate-", "seed-"))]);
    let named = ["a/x-", "a/pod/x-", "a/migrate-", "a/job/migrate-", "a/x-*", "a/z-"];
    let listed = ["a/x-(in.yaml:15)", "a/pod/x-(in.yaml:15)", "a/z-(sub/in.yaml:2)", "a/pod/z-(sub/in.yaml:2)"];
    let of_job = ["a/seed-(sub/job.yaml:2)", "a/job/seed-(sub/job.yaml:2)", "a/jobs.batch/seed-(sub/job.yaml:2)"];
    let in_namespace = ["-n a seed-(sub/job.yaml:2)", "-n a job/seed-(sub/job.yaml:2)"];
    for end in named.iter().chain(&listed).chain(&of_job).chain(&in_namespace) {
        let (code, text) = netpol(&folder, &format!("can -f in.yaml -f sub/in.yaml -f sub/job.yaml {end} a/db"));
        assert_eq!(code, Some(0), "{end}: {text}");
    }
    for (end, part) in [
        ("a/pod/seed-(sub/job.yaml:2)", "there is no Pod `seed-(sub/job.yaml:2)`"),
        ("a/sed-(sub/job.yaml:2)", "did you mean `a/seed-(sub/job.yaml:2)`?"),
        ("b/seed-(sub/job.yaml:2)", "did you mean `a/seed-(sub/job.yaml:2)`?"),
    ] {
        let (code, text) = netpol(&folder, &format!("can -f in.yaml -f sub/job.yaml {end} a/db"));
        assert!(code == Some(2) && text.contains(part), "{end}: {text}");
    }
    assert_eq!(netpol(&folder, "can -n a -f in.yaml x- db").0, Some(0));
    let (code, text) = netpol(&folder, "can -f in.yaml a/y- a/db");
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("`a/y-` is the generateName of several objects; specify one of `a/y-(in.yaml:"), "{text}");
    let (_, text) = netpol(&folder, "can -f in.yaml a/job/x- a/db");
    assert!(text.contains("there is no Job `x-`"), "{text}");
}
