//! The questions of the plugin and the answers of the agent: one line of JSON each, over a unix socket that only root may use.
//!
//! A question and an answer carry a version. The agent answers in the version of the question, so that a plugin of the version
//! before works until it is replaced. A plugin accepts an answer of its own version only: with an older agent, ADD fails with
//! code 11, and the runtime repeats it.
//!
//! - `valid`: what an attachment and the addresses of a pod may look like; checked wherever they are read.

mod valid;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub use valid::{Attachment, Invalid, PodAddresses};

/// The version of questions and answers. In version 1 an answer without `refusal` meant success.
pub const VERSION: u32 = 2;
/// The version before, which the agent still answers.
const BEFORE: u32 = 1;
/// The default socket of the agent.
pub const SOCKET: &str = "/run/netpol/agent.sock";
/// The longest question and answer, in bytes.
pub const LONGEST: u64 = 1 << 20;

/// A question.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Request {
    /// [`VERSION`] of the plugin.
    pub version: u32,
    /// What is to be done.
    pub task: Task,
}

/// A question whose task may be of any version.
#[derive(Deserialize)]
struct AnyRequest<'a> {
    version: u32,
    #[serde(borrow)]
    task: &'a RawValue,
}

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// A sandbox was added: answer when its addresses are in quarantine, or its rules are in force.
    Add(Sandbox),
    /// A sandbox is gone.
    Del(Attachment),
    /// Answer whether the rules of a sandbox are in the kernel.
    Check(Attachment),
    /// Answer whether a sandbox could be added.
    Status,
    /// Only these sandboxes are there.
    Gc(Vec<Attachment>),
}

/// A pod's place, before or after its containers are there.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Sandbox {
    /// Its name for the runtime.
    pub attachment: Attachment,
    /// The pod, if the runtime names it.
    pub pod: Option<PodName>,
    /// The addresses that plugins before this one gave it.
    pub addresses: PodAddresses,
    /// The node's end of its link, when the result of those plugins shows which one that is. Plugins and records of before this field
    /// have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_interface: Option<String>,
}

/// A pod as a runtime names it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PodName {
    /// `K8S_POD_NAMESPACE`.
    pub namespace: String,
    /// `K8S_POD_NAME`.
    pub name: String,
    /// `K8S_POD_UID`; for static pods it is the kubelet's own (S6.5).
    pub uid: Option<String>,
}

/// An answer. It always states the result: an object without `result` is not an answer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Answer {
    /// [`VERSION`] of the agent.
    pub version: u32,
    /// What came of the question.
    pub result: TaskResult,
}

/// What came of a question.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskResult {
    /// The task is done.
    Done,
    /// The task is not done.
    Refused(Refusal),
}

/// Why something was not done.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Refusal {
    /// A code of the CNI specification (S6.9).
    pub code: u32,
    /// In words.
    pub message: String,
}

/// An answer of the version before.
#[derive(Serialize)]
struct AnswerBefore<'a> {
    version: u32,
    refusal: Option<&'a Refusal>,
}

impl Answer {
    /// Done.
    #[must_use]
    pub fn done() -> Self {
        Self { version: VERSION, result: TaskResult::Done }
    }

    /// Not done.
    #[must_use]
    pub fn refused(code: u32, message: impl Into<String>) -> Self {
        Self { version: VERSION, result: TaskResult::Refused(Refusal { code, message: message.into() }) }
    }

    /// Why it was not done; `None` when it was.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        match &self.result {
            TaskResult::Done => None,
            TaskResult::Refused(refusal) => Some(refusal),
        }
    }

    /// A line for a plugin of this version.
    fn line(&self, version: u32) -> serde_json::Result<String> {
        let text = match version {
            BEFORE => serde_json::to_string(&AnswerBefore { version, refusal: self.refusal() })?,
            _ => serde_json::to_string(self)?,
        };
        Ok(format!("{text}\n"))
    }
}

/// Answers the line of a plugin, in its version. The agent acts only on what can be read whole: names and addresses have been
/// checked when `act` gets them, for every sender.
///
/// # Errors
/// When the answer cannot be written as JSON.
pub fn serve(line: &str, act: impl FnOnce(Task) -> Answer) -> serde_json::Result<String> {
    let unreadable = |error: serde_json::Error| Answer::refused(code::UNDECODABLE, format!("cannot read the request: {error}"));
    let request: AnyRequest<'_> = match serde_json::from_str(line) {
        Ok(request) => request,
        Err(error) => return unreadable(error).line(VERSION),
    };
    let answer = match request.version {
        BEFORE | VERSION => serde_json::from_str(request.task.get()).map_or_else(unreadable, act),
        // The plugin is about to be replaced, or this agent is.
        other => Answer::refused(
            code::TRY_AGAIN,
            format!("unsupported request version {other}; this agent supports versions {BEFORE} and {VERSION}"),
        ),
    };
    answer.line(request.version)
}

/// Codes of errors (S6.9).
pub mod code {
    /// The configuration asks for a version that is not supported.
    pub const INCOMPATIBLE_VERSION: u32 = 1;
    /// A variable of the environment is missing or wrong.
    pub const BAD_ENVIRONMENT: u32 = 4;
    /// Text cannot be decoded.
    pub const UNDECODABLE: u32 = 6;
    /// What was decoded cannot be used.
    pub const INVALID_CONFIGURATION: u32 = 7;
    /// The runtime should try again later.
    pub const TRY_AGAIN: u32 = 11;
    /// ADD would not work.
    pub const NOT_AVAILABLE: u32 = 50;
    /// Our own: the kernel does not have the rules of a pod.
    pub const RULES_MISSING: u32 = 100;
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn asked(version: u32, task: &Value) -> (Value, Option<Task>) {
        let mut got = None;
        let line = serve(&json!({"version": version, "task": task}).to_string(), |task| {
            got = Some(task);
            Answer::done()
        });
        (serde_json::from_str(&line.unwrap()).unwrap(), got)
    }

    #[test]
    fn only_an_object_with_a_result_is_an_answer() {
        for text in ["{\"version\":2}", "{\"version\":2,\"refusal\":null}", "{\"version\":2,\"result\":null}", "{}", "2"] {
            assert!(serde_json::from_str::<Answer>(text).is_err(), "{text}");
        }
        for answer in [Answer::done(), Answer::refused(code::TRY_AGAIN, "later")] {
            assert_eq!(serde_json::from_str::<Answer>(&answer.line(VERSION).unwrap()).unwrap(), answer);
        }
    }

    #[test]
    fn a_plugin_of_the_version_before_is_answered_in_its_version() {
        let (answer, task) = asked(1, &json!("status"));
        assert_eq!((answer, task), (json!({"version": 1, "refusal": null}), Some(Task::Status)));
        let (answer, task) = asked(1, &json!({"del": {"container": "../x", "interface": "eth0"}}));
        assert_eq!((&answer["refusal"]["code"], task), (&json!(6), None), "{answer}");
        let (answer, task) = asked(3, &json!("status"));
        assert_eq!((&answer["result"]["refused"]["code"], task), (&json!(11), None), "{answer}");
    }

    #[test]
    fn the_agent_acts_on_no_name_and_no_address_that_the_plugin_would_refuse() {
        let sandbox = |container: &str, interface: &str, addresses: Value| json!({"add": {"attachment": {"container": container, "interface": interface}, "pod": null, "addresses": addresses}});
        assert!(asked(2, &sandbox("c1", "eth0", json!(["10.0.0.7", "fd00::7"]))).1.is_some());
        let long = "a".repeat(201);
        let mut bad: Vec<Value> = ["", ".", "..", "../c", "a/b", "a:b", "-a", "a\nb", "a b", "é", long.as_str()]
            .map(|id| sandbox(id, "eth0", json!(["10.0.0.7"])))
            .into();
        bad.extend(
            ["", ".", "..", "a/b", "a:b", "a b", "a\nb", "é", "0123456789abcdef"]
                .map(|name| sandbox("c1", name, json!(["10.0.0.7"]))),
        );
        let addresses = [
            json!([]),
            json!(["0.0.0.0"]),
            json!(["::"]),
            json!(["127.0.0.1"]),
            json!(["::1"]),
            json!(["224.0.0.1"]),
            json!(["ff02::1"]),
        ];
        bad.extend(addresses.into_iter().map(|addresses| sandbox("c1", "eth0", addresses)));
        bad.push(sandbox("c1", "eth0", json!(["::ffff:10.0.0.7"])));
        bad.push(sandbox("c1", "eth0", json!(["255.255.255.255"])));
        bad.push(sandbox("c1", "eth0", json!((0..=254).map(|n| format!("10.0.0.{n}")).collect::<Vec<_>>())));
        bad.push(json!({"check": {"container": "..", "interface": "eth0"}}));
        bad.push(json!({"gc": [{"container": "c1", "interface": "eth0"}, {"container": "c1", "interface": "../x"}]}));
        for task in bad {
            let (answer, got) = asked(2, &task);
            assert_eq!((&answer["result"]["refused"]["code"], got), (&json!(6), None), "{task}: {answer}");
        }
        for line in ["", "{", "{\"version\":2}", "{\"version\":2,\"task\":\"other\"}"] {
            let answer = serve(line, |_| panic!("{line}")).unwrap();
            assert!(answer.contains("\"code\":6"), "{line}: {answer}");
        }
    }
}
