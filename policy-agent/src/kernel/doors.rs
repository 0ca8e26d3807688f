//! Two ways to put a transaction in force. Both leave the same table.

use std::io::{self, Read, Write};
use std::process::{Command, Stdio};

use netlink_packet_netfilter::nftables::TableFlags;
use policy_ruleset::{Op, Transaction};

use super::encode::{self, EncodeError};
use super::netlink::{Netlink, Refusal};
use super::table::OWNER;

/// `NFT_TABLE_F_PERSIST`: the table stays when that socket closes.
const PERSIST: u32 = 4;

/// The most that is kept of what nft says: it repeats whole lines of input.
const LONGEST_ERROR: u64 = 2000;

/// Why a transaction is not in force. The table is as it was before, unless the variant says otherwise.
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
    #[error("somebody else keeps changing the table; find out who: `nft monitor`")]
    Contended,
    /// The transaction cannot be written.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The transaction cannot be written as JSON.
    #[error("cannot write the transaction as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// Whether it is in force is not known.
    #[error("no answer from the kernel, so what is in force is not known: {0}")]
    Unknown(io::Error),
}

/// A way to put transactions in force.
pub trait Door: Send {
    /// Puts all of a transaction in force, or nothing. With a generation, only if that is the kernel's current one; doors that
    /// cannot ask for that ignore it.
    ///
    /// # Errors
    /// When nothing took effect, or when that is not known.
    fn apply(&mut self, transaction: &Transaction, generation: Option<u32>) -> Result<(), ApplyError>;

    /// Whether transactions are refused when the generation has moved.
    fn is_bound_to_generation(&self) -> bool;
}

/// One nf_tables batch over netlink.
pub struct NetlinkDoor {
    netlink: Netlink,
    protection: TableFlags,
}

impl NetlinkDoor {
    /// Opens a socket in the network namespace of the calling thread.
    ///
    /// # Errors
    /// When there is no netfilter netlink.
    pub fn open() -> io::Result<Self> {
        Ok(Self { netlink: Netlink::open()?, protection: TableFlags::empty() })
    }

    /// Makes the tables that come through this door its own: nobody else can change them, not even with `nft flush ruleset`.
    /// They stay when the door closes, and are anybody's then. A kernel that cannot do so (before 6.9) makes them as ever, and
    /// a table that was made without stays without until it is made anew.
    #[must_use]
    pub fn protecting(mut self) -> Self {
        self.protection = TableFlags::from_bits_retain(OWNER | PERSIST);
        self
    }

    fn commit(&mut self, transaction: &Transaction, generation: Option<u32>, flags: TableFlags) -> Result<(), ApplyError> {
        let batch = encode::encode(transaction, generation, flags)?;
        self.netlink.commit(&batch).map_err(|refusal| match refusal {
            Refusal::GenerationMoved => ApplyError::GenerationMoved(generation.unwrap_or(0)),
            Refusal::Unknown(error) => ApplyError::Unknown(error),
            Refusal::Message { sequence, error } => {
                // The first message begins the batch.
                let place = (sequence as usize).checked_sub(1).and_then(|at| batch.steps.get(at)).copied();
                let op = place.and_then(|at| transaction.ops.get(at));
                let step = op.map_or_else(|| "begin the batch".to_owned(), describe);
                ApplyError::Refused { step, source: error, is_table: matches!(op, Some(Op::AddTable | Op::KeepTable)) }
            }
        })
    }
}

impl Door for NetlinkDoor {
    fn is_bound_to_generation(&self) -> bool {
        true
    }

    fn apply(&mut self, transaction: &Transaction, generation: Option<u32>) -> Result<(), ApplyError> {
        if transaction.is_empty() {
            return Ok(());
        }
        match self.commit(transaction, generation, self.protection) {
            // The flags of the table are what this kernel does not know, or what the table was not made with.
            Err(ApplyError::Refused { is_table: true, source, .. }) if !self.protection.is_empty() => {
                tracing::warn!(%source, "the table cannot be protected from others; changes of theirs are repaired");
                if !transaction.ops.contains(&Op::KeepTable) {
                    self.protection = TableFlags::empty();
                }
                self.commit(transaction, generation, TableFlags::empty())
            }
            other => other,
        }
    }
}

/// One JSON document for `nft -j -f -`.
pub struct NftDoor;

impl Door for NftDoor {
    fn is_bound_to_generation(&self) -> bool {
        false
    }

    fn apply(&mut self, transaction: &Transaction, _: Option<u32>) -> Result<(), ApplyError> {
        if transaction.is_empty() {
            return Ok(());
        }
        let json = transaction.to_json()?;
        let mut command = Command::new("nft");
        command.args(["-j", "-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(ApplyError::NoNft)?;
        let stdin = child.stdin.take();
        let stderr = child.stderr.take();
        // nft reads everything before it writes anything, but an error may come early; a thread takes what it says.
        let said = std::thread::spawn(move || {
            let mut text = Vec::new();
            if let Some(stderr) = stderr {
                let mut bounded = stderr.take(LONGEST_ERROR);
                let _ = bounded.read_to_end(&mut text);
                // The rest is read and dropped, so that nft is not stopped by a full pipe.
                let _ = io::copy(&mut bounded.into_inner(), &mut io::sink());
            }
            String::from_utf8_lossy(&text).trim().to_owned()
        });
        let written = stdin.map_or(Ok(()), |mut stdin| stdin.write_all(json.as_bytes()));
        let status = child.wait().map_err(ApplyError::Unknown)?;
        let said = said.join().unwrap_or_default();
        if !status.success() {
            return Err(ApplyError::Nft(if said.is_empty() { status.to_string() } else { said }));
        }
        written.map_err(ApplyError::Unknown)
    }
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
        Op::AddRule(rule) => format!("add a rule to the chain `{}`", rule.chain),
    }
}
