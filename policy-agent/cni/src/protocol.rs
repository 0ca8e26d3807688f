//! What plugin and agent say to each other: one line of JSON each, over a unix socket that only root may use.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Both sides must speak the same.
pub const VERSION: u32 = 1;
/// Where the agent listens, unless the configuration says otherwise.
pub const SOCKET: &str = "/run/netpol/agent.sock";
/// Questions longer than this are none.
pub const LONGEST: u64 = 1 << 20;

/// A question.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Request {
    /// [`VERSION`] of whoever asks.
    pub version: u32,
    /// What is to be done.
    pub task: Task,
}

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// A sandbox is there: answer when its addresses are closed, or as open as policies say.
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

/// A container's interface, as a runtime names it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Attachment {
    /// `CNI_CONTAINERID`.
    pub container: String,
    /// `CNI_IFNAME`.
    pub interface: String,
}

/// A pod's place, before or after its containers are there.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Sandbox {
    /// Its name for the runtime.
    pub attachment: Attachment,
    /// The pod, when the runtime says which.
    pub pod: Option<PodName>,
    /// The addresses that plugins before this one gave it.
    pub addresses: Vec<IpAddr>,
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

/// An answer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Answer {
    /// [`VERSION`] of the agent.
    pub version: u32,
    /// Why it was not done; `None` when it was.
    pub refusal: Option<Refusal>,
}

/// Why something was not done.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Refusal {
    /// A code of the CNI specification (S6.9).
    pub code: u32,
    /// In words.
    pub message: String,
}

impl Answer {
    /// Done.
    #[must_use]
    pub fn done() -> Self {
        Self { version: VERSION, refusal: None }
    }

    /// Not done.
    #[must_use]
    pub fn refused(code: u32, message: impl Into<String>) -> Self {
        Self { version: VERSION, refusal: Some(Refusal { code, message: message.into() }) }
    }
}

/// Codes of errors (S6.9).
pub mod code {
    /// The configuration asks for a version that is not supported.
    pub const INCOMPATIBLE_VERSION: u32 = 1;
    /// A variable of the environment is missing or wrong.
    pub const BAD_ENVIRONMENT: u32 = 4;
    /// The configuration is no JSON of the right shape.
    pub const UNDECODABLE: u32 = 6;
    /// The configuration lacks something.
    pub const INVALID_CONFIGURATION: u32 = 7;
    /// The runtime should try again later.
    pub const TRY_AGAIN: u32 = 11;
    /// ADD would not work.
    pub const NOT_AVAILABLE: u32 = 50;
    /// Our own: the kernel does not have the rules of a pod.
    pub const RULES_MISSING: u32 = 100;
}
