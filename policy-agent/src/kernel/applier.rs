//! Two ways to put a transaction in force. Both leave the same table.

use std::fmt;
use std::io::{self, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use clap::ValueEnum;
use netlink_packet_netfilter::nftables::TableFlags;
use policy_ruleset::netlink::{Batch, Messages, encode};
use policy_ruleset::{Op, TABLE, Transaction};
use serde::Deserialize;

use super::GUARD;
use super::netlink::{Netlink, Refusal};
use super::reader::OWNER;

/// `NFT_TABLE_F_PERSIST`: the table stays when that socket closes.
const PERSIST: u32 = 4;

/// A table that is made and deleted in one transaction, to find out whether its flags are supported.
const PROBE: &str = "netpol-probe";
/// How long nft may take. A large transaction takes seconds.
const PATIENCE: Duration = Duration::from_secs(60);
/// The length limit for error output of nft, which repeats whole lines of input.
const LONGEST_ERROR: u64 = 2000;

/// Why a transaction is not in force. The table is unchanged, unless the variant states otherwise.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Somebody else changed the kernel's ruleset, maybe in another table.
    #[error("the ruleset changed since generation {0}")]
    GenerationMoved(u32),
    /// The kernel refused a step.
    #[error("the kernel refused to {step}: {source}")]
    Refused {
        /// The step, in words.
        step: String,
        /// Why.
        source: io::Error,
        /// Whether it was to add the table.
        is_table: bool,
    },
    /// nft refused the transaction.
    #[error("nft refused the transaction: {0}")]
    Nft(String),
    /// nft could not be run.
    #[error("cannot run `nft`: {0}; install nftables, or use the netlink applier, which needs no nft")]
    NoNft(io::Error),
    /// Somebody else changes the table as fast as we do.
    #[error("another program keeps changing the table; use `nft monitor` to find it")]
    Contended,
    /// The transaction cannot be written as JSON.
    #[error("cannot write the transaction as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// Whether it is in force is not known.
    #[error("no answer from the kernel, so what is in force is not known: {0}")]
    Unknown(io::Error),
}

/// The ways to put transactions in force.
#[derive(ValueEnum, Deserialize, Clone, Copy, PartialEq, Eq, Debug, Default)]
#[serde(rename_all = "kebab-case")]
pub enum ApplierKind {
    /// nf_tables batches; requires no nft on the node
    #[default]
    Netlink,
    /// JSON documents for `nft`
    Nft,
}

impl fmt::Display for ApplierKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Netlink => "netlink",
            Self::Nft => "nft",
        })
    }
}

/// A table that an applier may change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// The table.
    Table,
    /// A second table of the same make. It filters while the first one cannot be changed in place, and is gone at other times.
    Guard,
}

impl Target {
    /// The name of the table.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Table => TABLE,
            Self::Guard => GUARD,
        }
    }
}

/// A way to put transactions in force.
pub trait Applier: Send {
    /// Puts all of a transaction in force, or nothing. With a generation, only if that is the kernel's current one; appliers that
    /// cannot ask for that ignore it.
    ///
    /// # Errors
    /// When nothing took effect, or when that is not known.
    fn apply(&mut self, transaction: &Transaction, generation: Option<u32>) -> Result<(), ApplyError>;

    /// Whether transactions are refused when the generation has moved.
    fn is_bound_to_generation(&self) -> bool;

    /// Whether a table that is made, or kept, by a transaction of this applier belongs to the applier from then on, so that no other program can
    /// change it while the applier is open.
    fn is_protecting(&self) -> bool;

    /// The same as [`Applier::apply`] with the guard instead of the table.
    ///
    /// # Errors
    /// As there.
    fn apply_to_guard(&mut self, transaction: &Transaction, generation: Option<u32>) -> Result<(), ApplyError>;

    /// Puts contents into a table. If the table `is_present`, it is deleted in the same transaction.
    ///
    /// # Errors
    /// As with [`Applier::apply`].
    fn fill(&mut self, to: Target, is_present: bool, contents: &Messages, generation: Option<u32>) -> Result<(), ApplyError>;
}

/// One nf_tables batch over netlink.
pub struct NetlinkApplier {
    netlink: Netlink,
    protection: TableFlags,
}

impl NetlinkApplier {
    /// Opens a socket in the network namespace of the calling thread.
    ///
    /// # Errors
    /// When there is no netfilter netlink.
    pub fn open() -> io::Result<Self> {
        Ok(Self { netlink: Netlink::open()?, protection: TableFlags::empty() })
    }

    /// Takes ownership of the tables of this applier: no other program can change them, not even with `nft flush ruleset`.
    /// They stay when the applier closes, and are anybody's then. A kernel that cannot do so (before 6.9) makes them without.
    ///
    /// A table that a protecting applier made is taken over where it is; one that was made without protection is refused.
    #[must_use]
    pub fn protecting(mut self) -> Self {
        self.protection = TableFlags::from_bits_retain(OWNER | PERSIST);
        // A table that is gone before anybody can see it.
        let probe = Transaction { ops: vec![Op::AddTable, Op::DeleteTable] };
        if let Err(error) = self.commit(PROBE, &probe, None) {
            tracing::warn!(%error, "cannot protect the table from other programs; their changes are repaired");
            self.protection = TableFlags::empty();
        }
        self
    }

    fn commit(&mut self, table: &str, transaction: &Transaction, generation: Option<u32>) -> Result<(), ApplyError> {
        if transaction.is_empty() {
            return Ok(());
        }
        let batch = encode(transaction, generation, self.protection);
        self.send(table, batch, generation, |step| transaction.ops.get(step))
    }

    fn send<'a>(
        &mut self,
        table: &str,
        batch: Batch,
        generation: Option<u32>,
        op: impl Fn(usize) -> Option<&'a Op>,
    ) -> Result<(), ApplyError> {
        let steps = batch.steps.clone();
        self.netlink.commit(batch.of_table(table)).map_err(|refusal| match refusal {
            Refusal::GenerationMoved => ApplyError::GenerationMoved(generation.unwrap_or(0)),
            Refusal::Unknown(error) => ApplyError::Unknown(error),
            Refusal::Message { place, error } => {
                // The first message begins the batch.
                let step = (place as usize).checked_sub(1).and_then(|at| steps.get(at)).copied();
                let op = step.map(op);
                let step =
                    op.map_or_else(|| "begin the batch".to_owned(), |op| op.map_or("restore the table".to_owned(), describe));
                ApplyError::Refused { step, source: error, is_table: matches!(op, Some(Some(Op::AddTable | Op::KeepTable))) }
            }
        })
    }
}

impl Applier for NetlinkApplier {
    fn is_bound_to_generation(&self) -> bool {
        true
    }

    fn is_protecting(&self) -> bool {
        !self.protection.is_empty()
    }

    fn apply(&mut self, transaction: &Transaction, generation: Option<u32>) -> Result<(), ApplyError> {
        self.commit(TABLE, transaction, generation)
    }

    fn apply_to_guard(&mut self, transaction: &Transaction, generation: Option<u32>) -> Result<(), ApplyError> {
        self.commit(GUARD, transaction, generation)
    }

    fn fill(&mut self, to: Target, is_present: bool, contents: &Messages, generation: Option<u32>) -> Result<(), ApplyError> {
        let batch = contents.batch(is_present, generation, self.protection);
        self.send(to.name(), batch, generation, |_| None)
    }
}

/// One JSON document for `nft -j -f -`. What nft is not needed for goes over netlink, without protection.
pub struct NftApplier;

impl Applier for NftApplier {
    fn is_bound_to_generation(&self) -> bool {
        false
    }

    fn is_protecting(&self) -> bool {
        false
    }

    fn apply(&mut self, transaction: &Transaction, _: Option<u32>) -> Result<(), ApplyError> {
        if transaction.is_empty() {
            return Ok(());
        }
        run("nft", &transaction.to_json()?, PATIENCE)
    }

    fn apply_to_guard(&mut self, transaction: &Transaction, generation: Option<u32>) -> Result<(), ApplyError> {
        NetlinkApplier::open().map_err(ApplyError::Unknown)?.apply_to_guard(transaction, generation)
    }

    fn fill(&mut self, to: Target, is_present: bool, contents: &Messages, generation: Option<u32>) -> Result<(), ApplyError> {
        NetlinkApplier::open().map_err(ApplyError::Unknown)?.fill(to, is_present, contents, generation)
    }
}

/// Runs nft with this input, and ends it when it takes too long.
fn run(nft: &str, json: &str, patience: Duration) -> Result<(), ApplyError> {
    let mut command = Command::new(nft);
    command.args(["-j", "-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(ApplyError::NoNft)?;
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    // nft reads everything before it writes anything, but an error may come early, and one that hangs reads nothing. So each
    // pipe has a thread; both end with nft at the latest.
    let input = json.to_owned();
    let writer = std::thread::spawn(move || stdin.map_or(Ok(()), |mut stdin| stdin.write_all(input.as_bytes())));
    let (tell, told) = channel();
    std::thread::spawn(move || {
        let mut text = Vec::new();
        if let Some(stderr) = stderr {
            let mut bounded = stderr.take(LONGEST_ERROR);
            let _ = bounded.read_to_end(&mut text);
            // The rest is read and dropped, so that nft is not stopped by a full pipe.
            let _ = io::copy(&mut bounded.into_inner(), &mut io::sink());
        }
        // Nothing more comes when nft has ended.
        let _ = tell.send(String::from_utf8_lossy(&text).trim().to_owned());
    });
    let text = match told.recv_timeout(patience) {
        Ok(text) => text,
        Err(RecvTimeoutError::Timeout) => return Err(ApplyError::Unknown(end(&mut child, patience))),
        Err(RecvTimeoutError::Disconnected) => String::new(),
    };
    let status = child.wait().map_err(ApplyError::Unknown)?;
    if !status.success() {
        return Err(ApplyError::Nft(if text.is_empty() { status.to_string() } else { text }));
    }
    writer.join().unwrap_or(Ok(())).map_err(ApplyError::Unknown)
}

/// Kills a program that took too long, and reports it.
fn end(child: &mut Child, patience: Duration) -> io::Error {
    if let Err(error) = child.kill().and_then(|()| child.wait()) {
        return error;
    }
    io::Error::new(io::ErrorKind::TimedOut, format!("`nft` did not end within {} s and was killed", patience.as_secs()))
}

/// A step in words that follow "the kernel refused to".
fn describe(op: &Op) -> String {
    match op {
        Op::AddTable => "add the table".to_owned(),
        Op::KeepTable => "take over the table".to_owned(),
        Op::DeleteTable => "delete the table".to_owned(),
        Op::AddSet { name, .. } => format!("add the set `{name}`"),
        Op::FlushSet { name } => format!("flush the set `{name}`"),
        Op::DeleteSet { name } => format!("delete the set `{name}`"),
        Op::AddElements { set, elements, .. } => format!("add {} elements to the set `{set}`", elements.len()),
        Op::DeleteElements { set, elements, .. } => format!("delete {} elements from the set `{set}`", elements.len()),
        Op::AddChain { name, .. } => format!("add the chain `{name}`"),
        Op::FlushChain { name } => format!("flush the chain `{name}`"),
        Op::DeleteChain { name } => format!("delete the chain `{name}`"),
        Op::AddRule { chain, .. } => format!("add a rule to the chain `{chain}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nft_that_does_not_end_is_killed() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let program = |name: &str, script: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
            path.to_str().unwrap().to_owned()
        };
        // More than a pipe holds, so that writing blocks as well.
        let input = "x".repeat(1 << 20);
        let short = Duration::from_millis(100);
        let result = run(&program("hangs", "exec sleep 1000"), &input, short);
        assert!(matches!(&result, Err(ApplyError::Unknown(error)) if error.kind() == io::ErrorKind::TimedOut), "{result:?}");
        let long = Duration::from_secs(60);
        let result = run(&program("refuses", "cat >/dev/null; echo no >&2; exit 1"), &input, long);
        assert!(matches!(&result, Err(ApplyError::Nft(text)) if text == "no"), "{result:?}");
        run(&program("works", "cat >/dev/null"), &input, long).unwrap();
    }
}
