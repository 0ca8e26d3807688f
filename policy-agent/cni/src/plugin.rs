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

use crate::client::AskError;
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
pub type Ask<'a> = &'a dyn Fn(&Path, Task, Instant) -> Result<Answer, AskError>;

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
            let refused = |why: AskError| failure(code::NOT_AVAILABLE, "pods cannot be isolated now", why.to_string());
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
            done(answer.map_err(|why| failure(code::TRY_AGAIN, "cannot reach the agent", why.to_string()))?)
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
type AskAgent<'a> = &'a dyn Fn(Task) -> Result<Answer, AskError>;

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
    done(answer.map_err(|why| failure(code::TRY_AGAIN, "the pod cannot be isolated yet", why.to_string()))?)?;
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
        let answer = answer.unwrap_or_else(|why| Answer::refused(code::RULES_MISSING, why.to_string()));
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
mod tests;
