//! Tests of the plugin.

use std::cell::RefCell;

use serde_json::Value;

use super::*;

const RESULT: &str = r#"{"cniVersion":"1.0.0", "interfaces":[{"name":"veth1"},{"name":"eth0","sandbox":"/var/run/netns/a"}],
    "ips":[{"address":"10.0.0.7/24","gateway":"10.0.0.1","interface":1},{"address":"10.0.0.1/24","interface":0},{"address":"fd00::7/64"}],"dns":{}}"#;

fn environment(command: &str) -> Environment {
    let pairs = [
        ("CNI_COMMAND", command),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_NETNS", "/var/run/netns/a"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=x;K8S_POD_NAME=a;K8S_POD_INFRA_CONTAINER_ID=c1;K8S_POD_UID=7"),
    ];
    pairs.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

fn configuration(more: &str) -> String {
    format!(r#"{{"cniVersion":"1.0.0","name":"net","type":"netpol-cni"{more}}}"#)
}

/// Runs it with an agent that gives this answer, or none in time, and returns what the agent was asked.
fn run_with(environment: &Environment, input: &str, answer: Option<&Answer>) -> (Outcome, Vec<Task>) {
    let asked = RefCell::new(Vec::new());
    let ask = |socket: &Path, task: Task, _: Instant| {
        asked.borrow_mut().push(task);
        answer.cloned().ok_or_else(|| AskError::Timeout(socket.to_owned()))
    };
    let outcome = run(environment, input, &ask);
    (outcome, asked.into_inner())
}

fn error_of(outcome: &Outcome) -> (u64, String) {
    assert!(!outcome.is_good, "{}", outcome.output);
    let error: Value = serde_json::from_str(&outcome.output).unwrap();
    assert!(error["cniVersion"].is_string() && error["details"].is_string(), "{error}");
    (error["code"].as_u64().unwrap(), error["msg"].as_str().unwrap().to_owned())
}

#[test]
fn c226_add_prints_what_came_before_unchanged() {
    let input = configuration(&format!(r#","prevResult":{RESULT}"#));
    let (outcome, asked) = run_with(&environment("ADD"), &input, Some(&Answer::done()));
    assert_eq!(outcome, Outcome { output: RESULT.to_owned(), is_good: true });
    let [Task::Add(sandbox)] = asked.as_slice() else { panic!("{asked:?}") };
    let addresses: Vec<IpAddr> = ["10.0.0.7", "fd00::7"].map(|a| a.parse().unwrap()).to_vec();
    assert_eq!(sandbox.addresses.to_vec(), addresses, "the host's own are not the pod's");
    assert_eq!(sandbox.host_interface.as_deref(), Some("veth1"));
    let pod = sandbox.pod.clone().unwrap();
    assert_eq!((pod.namespace.as_str(), pod.name.as_str(), pod.uid.as_deref()), ("x", "a", Some("7")));
}

#[test]
fn c227_add_without_an_agent_is_tried_again_later() {
    let input = configuration(&format!(r#","prevResult":{RESULT}"#));
    let (outcome, _) = run_with(&environment("ADD"), &input, None);
    assert_eq!(error_of(&outcome).0, 11);
    let (outcome, _) = run_with(&environment("ADD"), &input, Some(&Answer::refused(code::TRY_AGAIN, "not yet")));
    assert_eq!(error_of(&outcome).0, 11);
}

#[test]
fn c228_add_needs_a_result_before() {
    let (outcome, asked) = run_with(&environment("ADD"), &configuration(""), Some(&Answer::done()));
    assert_eq!((error_of(&outcome).0, asked.len()), (7, 0));
}

/// Code 6 for what cannot be decoded, code 7 for what can, and cannot be used (S6.9). No such pod starts.
#[test]
fn add_needs_an_address_that_is_the_pods_own() {
    let of_interface =
        |at: &str| format!(r#"{{"interfaces":[{{"name":"v"}}],"ips":[{{"address":"10.0.0.7/24","interface":{at}}}]}}"#);
    let of_address = |text: &str| format!(r#"{{"ips":[{{"address":"{text}"}}]}}"#);
    let (host, beyond, negative) = (of_interface("0"), of_interface("99"), of_interface("-1"));
    let with_mapped = r#"{"ips":[{"address":"10.0.0.7/24"},{"address":"::ffff:10.0.0.8/128"}]}"#;
    let mut bad: Vec<(u64, String)> =
        ["7", "[]", "\"10.0.0.7/24\"", r#"{"ips":7}"#, r#"{"ips":[7]}"#, r#"{"ips":[{}]}"#, &negative]
            .map(|text| (6, text.to_owned()))
            .into();
    let unreadable = [
        "",
        "here",
        "10.0.0.7",
        "10.0.0.7/",
        "10.0.0.7/33",
        "10.0.0.7/+8",
        "10.0.0.7/24;x",
        "010.0.0.7/24",
        "fd00::7/129",
        "fe80::1%eth0/64",
    ];
    bad.extend(unreadable.map(|text| (6, of_address(text))));
    bad.extend(["{}", r#"{"ips":[]}"#, r#"{"ips":null}"#, r#"{"ip4":{"ip":"10.0.0.7/24"}}"#].map(|text| (7, text.to_owned())));
    bad.extend([host, beyond, with_mapped.to_owned()].map(|text| (7, text)));
    let unusable =
        ["::ffff:10.0.0.7/128", "0.0.0.0/0", "::/0", "127.0.0.1/8", "::1/128", "224.0.0.1/4", "ff02::1/8", "255.255.255.255/32"];
    bad.extend(unusable.map(|text| (7, of_address(text))));
    for (code, previous) in bad {
        let input = configuration(&format!(r#","prevResult":{previous}"#));
        let (outcome, asked) = run_with(&environment("ADD"), &input, Some(&Answer::done()));
        assert_eq!((error_of(&outcome).0, asked.len()), (code, 0), "{previous}: {}", outcome.output);
    }
    // Without an index, or with one of an interface in the sandbox, an address is the pod's.
    let good = r#"{"interfaces":null,"ips":[{"address":"10.0.0.7/24","interface":null}]}"#;
    assert!(run_with(&environment("ADD"), &configuration(&format!(r#","prevResult":{good}"#)), Some(&Answer::done())).0.is_good);
}

#[test]
fn c229_del_succeeds_whatever_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("agent.sock");
    let input = configuration(&format!(r#","socket":"{}""#, socket.display()));
    let mut environment = environment("DEL");
    environment.remove("CNI_NETNS");
    let record = record(&socket, &Attachment::new("c1", "eth0").unwrap());
    std::fs::create_dir(record.parent().unwrap()).unwrap();
    std::fs::write(&record, "{}").unwrap();
    for answer in [None, Some(&Answer::done()), None] {
        let (outcome, asked) = run_with(&environment, &input, answer);
        assert_eq!(outcome, Outcome { output: String::new(), is_good: true });
        assert!(matches!(asked.as_slice(), [Task::Del(_)]));
        assert!(!record.exists(), "the next agent must not know it");
    }
}

#[test]
fn c230_check_says_when_rules_are_missing() {
    let (outcome, asked) =
        run_with(&environment("CHECK"), &configuration(""), Some(&Answer::refused(code::RULES_MISSING, "none")));
    assert_eq!((error_of(&outcome).0, asked.len()), (100, 4), "after a short grace");
    let (outcome, _) = run_with(&environment("CHECK"), &configuration(""), Some(&Answer::done()));
    assert_eq!(outcome, Outcome { output: String::new(), is_good: true });
}

#[test]
fn c231_status_says_when_pods_could_not_be_added() {
    let environment = Environment::from([("CNI_COMMAND".to_owned(), "STATUS".to_owned())]);
    let input = configuration("").replace("1.0.0", "1.1.0");
    let (outcome, _) = run_with(&environment, &input, Some(&Answer::refused(code::NOT_AVAILABLE, "not synced")));
    assert_eq!(error_of(&outcome).0, 50);
    let (outcome, _) = run_with(&environment, &input, None);
    assert_eq!(error_of(&outcome).0, 50);
    assert!(run_with(&environment, &input, Some(&Answer::done())).0.is_good);
}

#[test]
fn c232_gc_keeps_what_is_listed() {
    let environment = Environment::from([("CNI_COMMAND".to_owned(), "GC".to_owned())]);
    let list = r#","cni.dev/valid-attachments":[{"containerID":"c1","ifname":"eth0"}]"#;
    let (outcome, asked) = run_with(&environment, &configuration(list), Some(&Answer::done()));
    assert_eq!(outcome, Outcome { output: String::new(), is_good: true });
    assert_eq!(asked, [Task::Gc(vec![Attachment::new("c1", "eth0").unwrap()])]);
    // Without a list everything would go.
    let (outcome, asked) = run_with(&environment, &configuration(""), Some(&Answer::done()));
    assert_eq!((error_of(&outcome).0, asked.len()), (7, 0));
}

#[test]
fn c233_versions_are_told() {
    let environment = Environment::from([("CNI_COMMAND".to_owned(), "VERSION".to_owned())]);
    let (outcome, asked) = run_with(&environment, r#"{"cniVersion":"1.0.0"}"#, None);
    let told: Value = serde_json::from_str(&outcome.output).unwrap();
    assert_eq!((told["cniVersion"].as_str(), outcome.is_good, asked.len()), (Some("1.0.0"), true, 0));
    let supported: Vec<&str> = told["supportedVersions"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(["0.4.0", "1.0.0", "1.1.0"].iter().all(|version| supported.contains(version)), "{told}");
}

#[test]
fn c234_and_c235_what_is_asked_wrongly_is_an_error() {
    let (outcome, _) = run_with(&environment("ADD"), &configuration("").replace("1.0.0", "9.9.9"), Some(&Answer::done()));
    assert_eq!(error_of(&outcome).0, 1);
    let (outcome, _) = run_with(&Environment::new(), &configuration(""), Some(&Answer::done()));
    assert_eq!(error_of(&outcome), (4, "the variable CNI_COMMAND is missing".to_owned()));
    for (name, bad) in [
        ("CNI_CONTAINERID", "../etc"),
        ("CNI_CONTAINERID", ".."),
        ("CNI_CONTAINERID", "a\nb"),
        ("CNI_CONTAINERID", &"a".repeat(300)),
        ("CNI_IFNAME", "a/b"),
        ("CNI_IFNAME", "a\nb"),
        ("CNI_IFNAME", "é"),
        ("CNI_IFNAME", "0123456789abcdef"),
        ("CNI_IFNAME", ""),
        ("CNI_COMMAND", "add"),
    ] {
        let mut environment = environment("DEL");
        environment.insert(name.to_owned(), bad.to_owned());
        let (outcome, asked) = run_with(&environment, &configuration(""), Some(&Answer::done()));
        assert_eq!((error_of(&outcome).0, asked.len()), (4, 0), "{name}={bad}");
    }
    let (outcome, _) = run_with(&environment("ADD"), "{", Some(&Answer::done()));
    assert_eq!(error_of(&outcome).0, 6);
}
