//! Transactions as nf_tables netlink batches.
//!
//! What comes out is what nft 1.0.6 would send for the same rules, expression by expression, so that `nft list` shows the
//! same whichever way a ruleset came into the kernel. Source: include/uapi/linux/netfilter/nf_tables.h.
//!
//! Nothing here opens a socket: who calls [`encode`] sends what it returns.
//!
//! - `attributes`: netlink attributes as bytes.
//! - `elements`: elements of sets and maps.
//! - `rules`: statements as expressions over registers.
//! - `batch`: batches as bytes: numbered, kept, made for another table.

mod attributes;
mod batch;
mod elements;
mod rules;

pub use batch::{Messages, NotMessages};

use netlink_packet_core::{NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage};
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, Hook as ChainHook, HookNumber, InetHookNumber, NfTablesMessage, RuleAttribute, RuleMessage,
    SetAttribute, SetDescription, SetFlags, SetMessage, TableAttribute, TableFlags, TableMessage,
};
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily};

use crate::{Hook, Op, SetKind, TABLE, Transaction, terminated};
use attributes::be32;

/// The subsystem number of nf_tables in batch headers.
const SUBSYSTEM: u16 = 10;
/// `NFNL_BATCH_GENID`.
const BATCH_GENID: u16 = 1;
/// `NFNL_MSG_BATCH_BEGIN`.
const BATCH_BEGIN: u8 = 16;
/// `NF_ACCEPT`, the policy of base chains.
const ACCEPT: u32 = 1;

/// A batch, ready to be sent.
#[derive(Debug)]
pub struct Batch {
    /// All messages, one after the other.
    pub bytes: Vec<u8>,
    /// For each message but the first (which begins the batch): the step of the transaction that it comes from. Sequence
    /// numbers start at 0 with the first message.
    pub steps: Vec<usize>,
}

/// Encodes a transaction. With a generation, the kernel refuses it unless that is the current one. A table that is added or
/// kept gets these flags; one that is kept has those that it has, without any.
#[must_use]
pub fn encode(transaction: &Transaction, generation: Option<u32>, flags: TableFlags) -> Batch {
    let mut writer =
        Writer { batch: Batch { bytes: Vec::new(), steps: Vec::new() }, flags, sequence: 0, step: 0, last: 0, next_set: 1 };
    writer.begin(generation);
    for (step, op) in transaction.ops.iter().enumerate() {
        writer.step = step;
        writer.op(op);
    }
    writer.acknowledge_last();
    writer.control(ControlMessage::BatchEnd);
    writer.batch
}

struct Writer {
    batch: Batch,
    flags: TableFlags,
    sequence: u32,
    step: usize,
    /// Where the last message of the table starts.
    last: usize,
    /// The next id of an anonymous set.
    next_set: u32,
}

impl Writer {
    fn message(&mut self, flags: u16, family: NetfilterProtoFamily, res_id: u16, inner: impl Into<NetfilterMessageInner>) {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        self.sequence = self.sequence.wrapping_add(1);
        let inner = NetfilterMessage::new(NetfilterHeader::new(family, 0, res_id), inner);
        let mut message = NetlinkMessage::new(header, inner.into());
        message.finalize();
        let start = self.batch.bytes.len();
        // Messages are aligned to four bytes.
        self.batch.bytes.resize(start + message.buffer_len().next_multiple_of(4), 0);
        if let Some(place) = self.batch.bytes.get_mut(start..) {
            message.serialize(place);
        }
    }

    fn control(&mut self, message: ControlMessage) {
        self.message(0, NetfilterProtoFamily::Unspec, SUBSYSTEM, message);
    }

    fn begin(&mut self, generation: Option<u32>) {
        let begin = match generation {
            None => ControlMessage::BatchBegin,
            Some(id) => ControlMessage::Other { message_type: BATCH_BEGIN, attributes: vec![be32(BATCH_GENID, id)] },
        };
        self.control(begin);
    }

    fn send(&mut self, flags: u16, message: NfTablesMessage) {
        self.batch.steps.push(self.step);
        self.last = self.batch.bytes.len();
        self.message(flags, NetfilterProtoFamily::Inet, 0, message);
    }

    /// Makes the last message ask for an acknowledgement. Refusals come unasked, for every message that has one.
    fn acknowledge_last(&mut self) {
        // The flags are the 16 bits after length and type.
        if let Some(flags) = self.batch.bytes.get_mut(self.last + 6..self.last + 8) {
            for (flag, ack) in flags.iter_mut().zip(NLM_F_ACK.to_ne_bytes()) {
                *flag |= ack;
            }
        }
    }

    fn op(&mut self, op: &Op) {
        let table = || TABLE.to_owned();
        let chain = |name: &str| {
            let attributes = vec![ChainAttribute::Table(table()), ChainAttribute::Name(name.to_owned())];
            ChainMessage { attributes }
        };
        match op {
            Op::AddTable | Op::KeepTable => {
                let mut attributes = vec![TableAttribute::Name(table())];
                // Without the attribute, the kernel changes nothing about a table that is there.
                if *op == Op::AddTable || !self.flags.is_empty() {
                    attributes.push(TableAttribute::Flags(self.flags));
                }
                self.send(NLM_F_CREATE, NfTablesMessage::NewTable(TableMessage { attributes }));
            }
            Op::DeleteTable => {
                let attributes = vec![TableAttribute::Name(table())];
                self.send(0, NfTablesMessage::DeleteTable(TableMessage { attributes }));
            }
            Op::AddSet { name, kind } => self.send(NLM_F_CREATE, NfTablesMessage::NewSet(self.named_set(name, *kind))),
            Op::FlushSet { name } => self.send(0, NfTablesMessage::DeleteSetElement(elements::all(name))),
            Op::DeleteSet { name } => {
                let attributes = vec![SetAttribute::Table(table()), SetAttribute::Name(name.clone())];
                self.send(0, NfTablesMessage::DeleteSet(SetMessage { attributes }));
            }
            Op::AddElements { set, kind, elements } => {
                for message in elements::messages(set, *kind, elements) {
                    self.send(NLM_F_CREATE, NfTablesMessage::NewSetElement(message));
                }
            }
            Op::DeleteElements { set, kind, elements } => {
                for message in elements::messages(set, *kind, elements) {
                    self.send(0, NfTablesMessage::DeleteSetElement(message));
                }
            }
            Op::AddChain { name, hook } => {
                let mut message = chain(name);
                if let Some(hook) = hook {
                    message.attributes.extend(base_chain(*hook));
                }
                self.send(NLM_F_CREATE, NfTablesMessage::NewChain(message));
            }
            Op::FlushChain { name } => {
                let attributes = vec![RuleAttribute::Table(table()), RuleAttribute::Chain(name.clone())];
                self.send(0, NfTablesMessage::DeleteRule(RuleMessage { attributes }));
            }
            Op::DeleteChain { name } => self.send(0, NfTablesMessage::DeleteChain(chain(name))),
            Op::AddRule { chain, rule } => {
                let rule = rules::encode(chain, rule, &mut self.next_set);
                for set in rule.sets {
                    self.send(NLM_F_CREATE, NfTablesMessage::NewSet(set.set));
                    for elements in set.elements {
                        self.send(NLM_F_CREATE, NfTablesMessage::NewSetElement(elements));
                    }
                }
                self.send(NLM_F_CREATE | NLM_F_APPEND, NfTablesMessage::NewRule(rule.rule));
            }
        }
    }

    fn named_set(&self, name: &str, kind: SetKind) -> SetMessage {
        let (key_type, key_len) = elements::key_type(kind);
        let flags = match kind {
            SetKind::Ranges(_) => SetFlags::Interval,
            kind if kind.is_dynamic() => SetFlags::Timeout | SetFlags::Eval,
            _ => SetFlags::empty(),
        };
        let mut attributes = vec![
            SetAttribute::Table(TABLE.to_owned()),
            SetAttribute::Name(name.to_owned()),
            SetAttribute::Flags(flags),
            SetAttribute::KeyType(key_type),
            SetAttribute::KeyLen(key_len),
            SetAttribute::Id(u32::try_from(self.step).unwrap_or(u32::MAX) | elements::NAMED_SET_IDS),
        ];
        if kind.is_dynamic() {
            attributes.push(SetAttribute::Description(vec![SetDescription::Size(terminated::SIZE)]));
            attributes.push(SetAttribute::Timeout(u64::from(terminated::SECONDS) * 1000));
        }
        attributes.push(SetAttribute::UserData(elements::named_set_userdata(kind)));
        SetMessage { attributes }
    }
}

fn base_chain(hook: Hook) -> [ChainAttribute; 3] {
    let number = match hook {
        Hook::Input => InetHookNumber::LocalIn,
        Hook::Forward => InetHookNumber::Forward,
    };
    [
        ChainAttribute::Type("filter".to_owned()),
        ChainAttribute::Policy(ACCEPT),
        ChainAttribute::Hook(vec![ChainHook::Number(HookNumber::Inet(number)), ChainHook::Priority(0)]),
    ]
}
