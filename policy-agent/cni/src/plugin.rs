//! What the CNI specification asks of a chained plugin, as a function of environment and standard input.
//!
//! Source: the CNI specification 1.1.0, <https://www.cni.dev/docs/spec/>. Whatever cannot be read or done is an error: a pod
//! whose rules are not in the kernel does not start.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;
use serde_json::value::RawValue;

use crate::protocol::{Answer, Attachment, Invalid, PodAddresses, PodName, SOCKET, Sandbox, Task, TaskResult, code};

/// Versions of the specification, oldest first.
pub const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
/// CHECK looks this many times before it reports that rules are missing.
const LOOKS: u32 = 4;
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);
/// The agent must have answered in this time, however often it is asked. Runtimes give a chain of plugins minutes.
const PATIENCE: Duration = Duration::from_secs(10);

/// The environment that a runtime gives.
pub type Environment = BTreeMap<String, String>;
/// Asks the agent at a socket, and waits until a deadline.
pub type Ask<'a> = &'a dyn Fn(&Path, Task, Instant) -> Result<Answer, String>;

/// The output and the exit code of the plugin.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// For standard output.
    pub output: String,
    /// Whether it did what was asked.
    pub is_good: bool,
}

/// Why it did not.
struct Failure {
    code: u32,
    message: String,
    details: String,
}

fn failure(code: u32, message: &str, details: impl Into<String>) -> Failure {
    Failure { code, message: message.to_owned(), details: details.into() }
}

/// The configuration, as far as it matters.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Configuration<'a> {
    #[serde(rename = "cniVersion")]
    cni_version: Option<String>,
    socket: Option<PathBuf>,
    #[serde(rename = "prevResult", borrow)]
    previous: Option<&'a RawValue>,
    #[serde(rename = "cni.dev/valid-attachments")]
    valid_attachments: Option<Vec<ValidAttachment>>,
}

#[derive(Deserialize)]
struct ValidAttachment {
    #[serde(rename = "containerID")]
    container: String,
    ifname: String,
}

/// A result of earlier plugins, as far as it matters.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Previous {
    interfaces: Option<Vec<Interface>>,
    ips: Option<Vec<Ip>>,
    /// Where CNI 0.2.0 had addresses.
    ip4: Option<IgnoredAny>,
    ip6: Option<IgnoredAny>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Interface {
    name: Option<String>,
    sandbox: Option<String>,
}

#[derive(Deserialize)]
struct Ip {
    address: String,
    interface: Option<usize>,
}

/// Does what a runtime asks.
#[must_use]
pub fn run(environment: &Environment, input: &str, ask: Ask<'_>) -> Outcome {
    let configuration: Result<Configuration<'_>, _> = serde_json::from_str(input);
    let asked_version = configuration.as_ref().ok().and_then(|c| c.cni_version.clone());
    let result = match configuration {
        Ok(configuration) => dispatch(environment, &configuration, ask),
        Err(error) => Err(failure(code::UNDECODABLE, "cannot read the configuration on standard input", error.to_string())),
    };
    match result {
        Ok(output) => Outcome { output, is_good: true },
        Err(Failure { code, message, details }) => {
            let version = asked_version.filter(|v| VERSIONS.contains(&v.as_str())).unwrap_or_else(|| newest().to_owned());
            let error = json!({"cniVersion": version, "code": code, "msg": message, "details": details});
            Outcome { output: error.to_string(), is_good: false }
        }
    }
}

fn newest() -> &'static str {
    VERSIONS.last().copied().unwrap_or_default()
}

fn dispatch(environment: &Environment, configuration: &Configuration<'_>, ask: Ask<'_>) -> Result<String, Failure> {
    let command = variable(environment, "CNI_COMMAND")?;
    // Configurations of the first days say no version.
    let version = configuration.cni_version.as_deref().unwrap_or("0.1.0");
    if command == "VERSION" {
        return Ok(json!({"cniVersion": version, "supportedVersions": VERSIONS}).to_string());
    }
    if !VERSIONS.contains(&version) {
        let details = format!("found cniVersion {version}, supported are {}", VERSIONS.join(", "));
        return Err(failure(code::INCOMPATIBLE_VERSION, "this version of CNI is not supported", details));
    }
    let socket = configuration.socket.clone().unwrap_or_else(|| SOCKET.into());
    let deadline = Instant::now() + PATIENCE;
    let ask = &|task: Task| ask(&socket, task, deadline);
    match command {
        "ADD" => add(environment, configuration, ask),
        "DEL" => {
            let attachment = attachment(environment)?;
            // Best effort: whatever is gone already is gone (S6.7). The agent forgets the rest at the next GC or ADD.
            if ask(Task::Del(attachment.clone())).is_err() {
                forget(&socket, &attachment);
            }
            Ok(String::new())
        }
        "CHECK" => {
            variable(environment, "CNI_NETNS")?;
            check(&attachment(environment)?, ask)
        }
        "STATUS" => {
            let refused = |why| failure(code::NOT_AVAILABLE, "pods cannot be isolated now", why);
            let answer = ask(Task::Status).map_err(refused)?;
            done(answer)
        }
        "GC" => {
            let listed = configuration.valid_attachments.as_ref().ok_or_else(|| {
                failure(code::INVALID_CONFIGURATION, "GC without `cni.dev/valid-attachments`", "nothing was removed")
            })?;
            // What has no valid name was never added, so nothing is to be kept for it.
            let keep = listed.iter().filter_map(|a| Attachment::new(a.container.as_str(), a.ifname.as_str()).ok());
            let answer = ask(Task::Gc(keep.collect()));
            done(answer.map_err(|why| failure(code::TRY_AGAIN, "cannot reach the agent", why))?)
        }
        other => Err(failure(code::BAD_ENVIRONMENT, "CNI_COMMAND is not one of ADD, DEL, CHECK, GC, STATUS, VERSION", other)),
    }
}

fn variable<'e>(environment: &'e Environment, name: &str) -> Result<&'e str, Failure> {
    let value = environment.get(name).map(String::as_str).filter(|value| !value.is_empty());
    value.ok_or_else(|| failure(code::BAD_ENVIRONMENT, &format!("the variable {name} is missing"), "the runtime must set it"))
}

fn attachment(environment: &Environment) -> Result<Attachment, Failure> {
    let (container, interface) = (variable(environment, "CNI_CONTAINERID")?, variable(environment, "CNI_IFNAME")?);
    Attachment::new(container, interface).map_err(|invalid| {
        let name = if matches!(invalid, Invalid::Interface(_)) { "CNI_IFNAME" } else { "CNI_CONTAINERID" };
        failure(code::BAD_ENVIRONMENT, &format!("the variable {name} is invalid"), invalid.to_string())
    })
}

/// `K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;…`
fn pod_name(environment: &Environment) -> Option<PodName> {
    let arguments = environment.get("CNI_ARGS").map(String::as_str).unwrap_or_default();
    let value = |name: &str| {
        let found = arguments.split(';').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name);
        found.map(|(_, value)| value.to_owned()).filter(|value| !value.is_empty())
    };
    Some(PodName { namespace: value("K8S_POD_NAMESPACE")?, name: value("K8S_POD_NAME")?, uid: value("K8S_POD_UID") })
}

/// Asks the agent, with socket and deadline given.
type AskAgent<'a> = &'a dyn Fn(Task) -> Result<Answer, String>;

fn add(environment: &Environment, configuration: &Configuration<'_>, ask: AskAgent<'_>) -> Result<String, Failure> {
    let attachment = attachment(environment)?;
    variable(environment, "CNI_NETNS")?;
    let Some(previous) = configuration.previous else {
        let details = "this plugin must be chained after a plugin that assigns addresses";
        return Err(failure(code::INVALID_CONFIGURATION, "the configuration has no `prevResult`", details));
    };
    let (addresses, host_interface) = (addresses(previous)?, host_interface(previous));
    let sandbox = Sandbox { attachment, pod: pod_name(environment), addresses, host_interface };
    let answer = ask(Task::Add(sandbox));
    done(answer.map_err(|why| failure(code::TRY_AGAIN, "the pod cannot be isolated yet", why))?)?;
    Ok(previous.get().to_owned())
}

/// The addresses of the pod's own interfaces. A pod whose addresses are not known cannot be isolated, so there must be one.
fn addresses(previous: &RawValue) -> Result<PodAddresses, Failure> {
    let unreadable = |details: String| failure(code::UNDECODABLE, "cannot read `prevResult`", details);
    let unusable = |details: String| failure(code::INVALID_CONFIGURATION, "cannot use `prevResult`", details);
    // serde reads a list as an object, too.
    if !previous.get().starts_with('{') {
        return Err(unreadable("expected an object".to_owned()));
    }
    let previous: Previous = serde_json::from_str(previous.get()).map_err(|error| unreadable(error.to_string()))?;
    let (interfaces, ips) = (previous.interfaces.unwrap_or_default(), previous.ips.unwrap_or_default());
    let mut own = Vec::new();
    for ip in &ips {
        let address = address(&ip.address)
            .ok_or_else(|| unreadable(format!("found `{}` in `ips`, expected an address with its prefix length", ip.address)))?;
        let interface = ip.interface.map(|at| {
            let there = interfaces.len();
            let wrong = || unusable(format!("`{}` is of interface {at}, and there are {there} in `interfaces`", ip.address));
            interfaces.get(at).ok_or_else(wrong)
        });
        let is_host = interface.transpose()?.is_some_and(|i| i.sandbox.as_ref().is_none_or(String::is_empty));
        if !is_host {
            own.push(address);
        }
    }
    PodAddresses::try_from(own).map_err(|invalid| match invalid {
        Invalid::NoAddress if previous.ip4.is_some() || previous.ip6.is_some() => {
            unusable("found `ip4` or `ip6`, the form of CNI 0.2.0, expected `ips`; set a newer `cniVersion`".to_owned())
        }
        Invalid::NoAddress if !ips.is_empty() => {
            let what = "each address in `ips` is of an interface without `sandbox`, which is an interface of the host";
            unusable(format!("{what}: {invalid}"))
        }
        invalid => unusable(invalid.to_string()),
    })
}

/// `10.0.0.7/24`.
fn address(text: &str) -> Option<IpAddr> {
    let (address, prefix) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let is_number = (1..=3).contains(&prefix.len()) && prefix.bytes().all(|byte| byte.is_ascii_digit());
    let longest = if address.is_ipv4() { 32 } else { 128 };
    prefix.parse::<u8>().is_ok_and(|prefix| is_number && prefix <= longest).then_some(address)
}

/// The node's end of the link: the one interface that is in no sandbox. Of several, such as a bridge and its port, it is not known
/// which one packets of the pod come from.
fn host_interface(previous: &RawValue) -> Option<String> {
    let previous: Previous = serde_json::from_str(previous.get()).ok()?;
    let is_on_node = |interface: &Interface| interface.sandbox.as_ref().is_none_or(String::is_empty);
    let mut on_node = previous.interfaces.unwrap_or_default().into_iter().filter(is_on_node);
    on_node.next().filter(|_| on_node.next().is_none())?.name.filter(|name| !name.is_empty())
}

fn check(attachment: &Attachment, ask: AskAgent<'_>) -> Result<String, Failure> {
    let mut looks = 0;
    loop {
        let answer = ask(Task::Check(attachment.clone()));
        let answer = answer.unwrap_or_else(|why| Answer::refused(code::RULES_MISSING, why));
        looks += 1;
        if answer.refusal().is_none() || looks == LOOKS {
            return done(answer);
        }
        std::thread::sleep(BETWEEN_LOOKS);
    }
}

fn done(answer: Answer) -> Result<String, Failure> {
    match answer.result {
        TaskResult::Done => Ok(String::new()),
        TaskResult::Refused(refusal) => Err(failure(refusal.code, "the agent refuses", refusal.message)),
    }
}

/// Where an agent keeps what it knows of a sandbox, beside its socket.
#[must_use]
pub fn record(socket: &Path, attachment: &Attachment) -> PathBuf {
    records(socket).join(attachment.record_name())
}

/// The folder of these records.
#[must_use]
pub fn records(socket: &Path) -> PathBuf {
    socket.parent().unwrap_or(Path::new("/")).join("sandboxes")
}

/// Removes what an agent that does not answer would know after its next start.
fn forget(socket: &Path, attachment: &Attachment) {
    // It may never have been there.
    let _ = std::fs::remove_file(record(socket, attachment));
}

#[cfg(test)]
mod tests {
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

    /// Runs it with an agent that gives this answer, and returns what the agent was asked.
    fn run_with(environment: &Environment, input: &str, answer: &Result<Answer, String>) -> (Outcome, Vec<Task>) {
        let asked = RefCell::new(Vec::new());
        let ask = |_: &Path, task: Task, _: Instant| {
            asked.borrow_mut().push(task);
            answer.clone()
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
        let (outcome, asked) = run_with(&environment("ADD"), &input, &Ok(Answer::done()));
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
        let (outcome, _) = run_with(&environment("ADD"), &input, &Err("nobody listens".to_owned()));
        assert_eq!(error_of(&outcome).0, 11);
        let (outcome, _) = run_with(&environment("ADD"), &input, &Ok(Answer::refused(code::TRY_AGAIN, "not yet")));
        assert_eq!(error_of(&outcome).0, 11);
    }

    #[test]
    fn c228_add_needs_a_result_before() {
        let (outcome, asked) = run_with(&environment("ADD"), &configuration(""), &Ok(Answer::done()));
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
        bad.extend(
            ["{}", r#"{"ips":[]}"#, r#"{"ips":null}"#, r#"{"ip4":{"ip":"10.0.0.7/24"}}"#].map(|text| (7, text.to_owned())),
        );
        bad.extend([host, beyond, with_mapped.to_owned()].map(|text| (7, text)));
        let unusable = [
            "::ffff:10.0.0.7/128",
            "0.0.0.0/0",
            "::/0",
            "127.0.0.1/8",
            "::1/128",
            "224.0.0.1/4",
            "ff02::1/8",
            "255.255.255.255/32",
        ];
        bad.extend(unusable.map(|text| (7, of_address(text))));
        for (code, previous) in bad {
            let input = configuration(&format!(r#","prevResult":{previous}"#));
            let (outcome, asked) = run_with(&environment("ADD"), &input, &Ok(Answer::done()));
            assert_eq!((error_of(&outcome).0, asked.len()), (code, 0), "{previous}: {}", outcome.output);
        }
        // Without an index, or with one of an interface in the sandbox, an address is the pod's.
        let good = r#"{"interfaces":null,"ips":[{"address":"10.0.0.7/24","interface":null}]}"#;
        assert!(
            run_with(&environment("ADD"), &configuration(&format!(r#","prevResult":{good}"#)), &Ok(Answer::done())).0.is_good
        );
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
        for answer in [Err("gone".to_owned()), Ok(Answer::done()), Err("gone".to_owned())] {
            let (outcome, asked) = run_with(&environment, &input, &answer);
            assert_eq!(outcome, Outcome { output: String::new(), is_good: true });
            assert!(matches!(asked.as_slice(), [Task::Del(_)]));
            assert!(!record.exists(), "the next agent must not know it");
        }
    }

    #[test]
    fn c230_check_says_when_rules_are_missing() {
        let (outcome, asked) =
            run_with(&environment("CHECK"), &configuration(""), &Ok(Answer::refused(code::RULES_MISSING, "none")));
        assert_eq!((error_of(&outcome).0, asked.len()), (100, 4), "after a short grace");
        let (outcome, _) = run_with(&environment("CHECK"), &configuration(""), &Ok(Answer::done()));
        assert_eq!(outcome, Outcome { output: String::new(), is_good: true });
    }

    #[test]
    fn c231_status_says_when_pods_could_not_be_added() {
        let environment = Environment::from([("CNI_COMMAND".to_owned(), "STATUS".to_owned())]);
        let input = configuration("").replace("1.0.0", "1.1.0");
        let (outcome, _) = run_with(&environment, &input, &Ok(Answer::refused(code::NOT_AVAILABLE, "not synced")));
        assert_eq!(error_of(&outcome).0, 50);
        let (outcome, _) = run_with(&environment, &input, &Err("nobody listens".to_owned()));
        assert_eq!(error_of(&outcome).0, 50);
        assert!(run_with(&environment, &input, &Ok(Answer::done())).0.is_good);
    }

    #[test]
    fn c232_gc_keeps_what_is_listed() {
        let environment = Environment::from([("CNI_COMMAND".to_owned(), "GC".to_owned())]);
        let list = r#","cni.dev/valid-attachments":[{"containerID":"c1","ifname":"eth0"}]"#;
        let (outcome, asked) = run_with(&environment, &configuration(list), &Ok(Answer::done()));
        assert_eq!(outcome, Outcome { output: String::new(), is_good: true });
        assert_eq!(asked, [Task::Gc(vec![Attachment::new("c1", "eth0").unwrap()])]);
        // Without a list everything would go.
        let (outcome, asked) = run_with(&environment, &configuration(""), &Ok(Answer::done()));
        assert_eq!((error_of(&outcome).0, asked.len()), (7, 0));
    }

    #[test]
    fn c233_versions_are_told() {
        let environment = Environment::from([("CNI_COMMAND".to_owned(), "VERSION".to_owned())]);
        let (outcome, asked) = run_with(&environment, r#"{"cniVersion":"1.0.0"}"#, &Err(String::new()));
        let told: Value = serde_json::from_str(&outcome.output).unwrap();
        assert_eq!((told["cniVersion"].as_str(), outcome.is_good, asked.len()), (Some("1.0.0"), true, 0));
        let supported: Vec<&str> = told["supportedVersions"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert!(["0.4.0", "1.0.0", "1.1.0"].iter().all(|version| supported.contains(version)), "{told}");
    }

    #[test]
    fn c234_and_c235_what_is_asked_wrongly_is_an_error() {
        let (outcome, _) = run_with(&environment("ADD"), &configuration("").replace("1.0.0", "9.9.9"), &Ok(Answer::done()));
        assert_eq!(error_of(&outcome).0, 1);
        let (outcome, _) = run_with(&Environment::new(), &configuration(""), &Ok(Answer::done()));
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
            let (outcome, asked) = run_with(&environment, &configuration(""), &Ok(Answer::done()));
            assert_eq!((error_of(&outcome).0, asked.len()), (4, 0), "{name}={bad}");
        }
        let (outcome, _) = run_with(&environment("ADD"), "{", &Ok(Answer::done()));
        assert_eq!(error_of(&outcome).0, 6);
    }
}
