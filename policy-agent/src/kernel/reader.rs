//! The contents of our table: its owner and its counters.

use std::collections::BTreeMap;
use std::io;

use netlink_packet_core::{DefaultNla, Nla};
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, ExpressionAttribute, Expressions, ListAttribute, NfTablesMessage, RuleAttribute, RuleMessage,
    SetAttribute, SetMessage, TableAttribute, TableMessage,
};
use netlink_packet_netfilter::{NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily};
use nix::errno::Errno;
use policy_ruleset::{MARKER, TABLE};

use super::GUARD;
use super::netlink::Netlink;

/// `NFT_TABLE_F_OWNER`: only the socket that made the table may change it.
pub(crate) const OWNER: u32 = 2;
/// `NFTA_OBJ_TABLE` and `NFTA_FLOWTABLE_TABLE`.
const TABLE_NAME: u16 = 1;
/// `NFTA_COUNTER_PACKETS`.
const COUNTER_PACKETS: u16 = 2;

/// Why the kernel is of no use to the agent. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// No right to change the ruleset.
    #[error("permission denied: managing nftables requires root or the capability CAP_NET_ADMIN")]
    NotPermitted,
    /// No nf_tables.
    #[error("this kernel has no nf_tables ({0}): load the module `nf_tables`, or use a kernel with CONFIG_NF_TABLES_INET")]
    NoNfTables(io::Error),
    /// Another program holds the table.
    #[error("the table `inet {0}` belongs to another program (flag owner); stop that program, then start netpol again")]
    Owned(&'static str),
    /// The table is there, and netpol did not make it.
    #[error(
        "there is a table `inet {0}` that netpol did not create (it has no chain `{MARKER}`); rename or delete it: `nft delete table inet {0}`"
    )]
    Foreign(&'static str),
    /// Something else.
    #[error("cannot read the ruleset: {0}")]
    Io(#[from] io::Error),
}

/// Reads what is in the kernel.
pub struct Reader {
    netlink: Netlink,
}

impl Reader {
    /// Opens a socket in the network namespace of the calling thread.
    ///
    /// # Errors
    /// When there is no netfilter netlink.
    pub fn open() -> io::Result<Self> {
        Ok(Self { netlink: Netlink::open()? })
    }

    /// The generation of the ruleset.
    ///
    /// # Errors
    /// If the kernel does not answer.
    pub fn generation(&mut self) -> io::Result<u32> {
        self.netlink.generation()
    }

    /// Checks that the agent may, and can, own its table.
    ///
    /// # Errors
    /// If it cannot, with the reason and the remedy.
    pub fn check(&mut self) -> Result<(), Unusable> {
        self.netlink.generation().map_err(why_unusable)?;
        for table in [TABLE, GUARD] {
            if self.table_flags(table)?.is_some_and(|flags| flags & OWNER != 0) {
                return Err(Unusable::Owned(table));
            }
        }
        for table in [TABLE, GUARD] {
            let chains = self.chains_of(table)?;
            if !chains.is_empty() && !chains.iter().any(|name| name == MARKER) {
                return Err(Unusable::Foreign(table));
            }
        }
        Ok(())
    }

    /// Everything of a kind that `take` accepts.
    fn list<T>(&mut self, message: NfTablesMessage, mut take: impl FnMut(NfTablesMessage) -> Option<T>) -> io::Result<Vec<T>> {
        self.netlink.list(NetfilterProtoFamily::Inet, message, |NetfilterMessage { inner, .. }| match inner {
            NetfilterMessageInner::NfTables(inner) => take(inner),
            _ => None,
        })
    }

    /// The flags of a table; `None` when it is not there.
    fn table_flags(&mut self, wanted: &str) -> io::Result<Option<u32>> {
        let flags = self.list(NfTablesMessage::GetTable(TableMessage { attributes: Vec::new() }), |message| {
            let NfTablesMessage::NewTable(table) = message else { return None };
            table.attributes.iter().find(|a| matches!(a, TableAttribute::Name(name) if name == wanted))?;
            let flags = table.attributes.iter().find_map(|a| match a {
                TableAttribute::Flags(flags) => Some(flags.bits()),
                _ => None,
            });
            Some(flags.unwrap_or(0))
        })?;
        Ok(flags.first().copied())
    }

    /// Whether our table is there.
    ///
    /// # Errors
    /// If the kernel does not answer.
    pub fn is_present(&mut self) -> io::Result<bool> {
        Ok(self.table_flags(TABLE)?.is_some())
    }

    /// Whether the guard is there.
    ///
    /// # Errors
    /// If the kernel does not answer.
    pub fn is_guard_present(&mut self) -> io::Result<bool> {
        Ok(self.table_flags(GUARD)?.is_some())
    }

    /// The names of the chains in our table.
    ///
    /// # Errors
    /// If the kernel does not answer.
    pub fn chains(&mut self) -> io::Result<Vec<String>> {
        self.chains_of(TABLE)
    }

    fn chains_of(&mut self, table: &str) -> io::Result<Vec<String>> {
        self.list(NfTablesMessage::GetChain(ChainMessage { attributes: Vec::new() }), |message| {
            let NfTablesMessage::NewChain(chain) = message else { return None };
            chain.attributes.iter().find(|a| matches!(a, ChainAttribute::Table(name) if name == table))?;
            chain.attributes.into_iter().find_map(|a| match a {
                ChainAttribute::Name(name) => Some(name),
                _ => None,
            })
        })
    }

    /// Whether there are rules of ours in our table: in the chain that every ruleset has.
    ///
    /// # Errors
    /// If the kernel does not answer.
    pub fn has_rules(&mut self) -> io::Result<bool> {
        Ok(!self.rules(MARKER, |_| Some(()))?.is_empty())
    }

    /// Whether there is something in our table of a kind that netpol does not make: a stateful object or a flow table.
    ///
    /// # Errors
    /// If the kernel does not answer.
    pub fn has_strangers(&mut self) -> io::Result<bool> {
        for request in [NfTablesMessage::GetObject(Vec::new()), NfTablesMessage::GetFlowTable(Vec::new())] {
            let found = self.list(request, |message| match message {
                NfTablesMessage::NewObject(list) | NfTablesMessage::NewFlowTable(list) => {
                    list.iter().any(is_table_name).then_some(())
                }
                _ => None,
            });
            match found {
                Ok(found) if found.is_empty() => {}
                Ok(_) => return Ok(true),
                // A kernel without flow tables has none.
                Err(error) if error.raw_os_error() == Some(Errno::EOPNOTSUPP as i32) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Elements in the named sets of our table; `None` when the kernel does not count them (before Linux 6.16).
    ///
    /// # Errors
    /// If the kernel does not answer.
    pub fn elements(&mut self) -> io::Result<Option<u64>> {
        let counts = self.named_sets(|_, attributes| {
            let count = attributes.iter().find_map(|a| match a {
                SetAttribute::Count(count) => Some(u64::from(*count)),
                _ => None,
            });
            Some(count)
        })?;
        Ok(counts.into_iter().flatten().reduce(|a, b| a + b))
    }

    /// The names of the sets in our table, but for those that rules hold within.
    ///
    /// # Errors
    /// If the kernel does not answer.
    pub fn sets(&mut self) -> io::Result<Vec<String>> {
        self.named_sets(|name, _| Some(name.to_owned()))
    }

    fn named_sets<T>(&mut self, mut take: impl FnMut(&str, &[SetAttribute]) -> Option<T>) -> io::Result<Vec<T>> {
        let attributes = vec![SetAttribute::Table(TABLE.to_owned())];
        let result = self.list(NfTablesMessage::GetSet(SetMessage { attributes }), |message| {
            let NfTablesMessage::NewSet(set) = message else { return None };
            let name = set.attributes.iter().find_map(|a| match a {
                SetAttribute::Name(name) if !name.starts_with("__") => Some(name),
                _ => None,
            });
            name.and_then(|name| take(name, &set.attributes))
        });
        without_table(result)
    }

    /// Packets counted in each chain of our table, since the chain was last replaced.
    ///
    /// # Errors
    /// If the kernel does not answer. Cost: linear in rules.
    pub fn packets(&mut self) -> io::Result<BTreeMap<String, u64>> {
        let mut out = BTreeMap::new();
        // One chain after the other: in each part of an answer, the kernel counts the rules of the parts before once more, so all
        // rules in one answer cost their square.
        for chain in self.chains()? {
            let counts = self.rules(&chain, |rule| {
                rule.attributes.iter().find_map(|a| match a {
                    RuleAttribute::Expressions(list) => counted(list),
                    _ => None,
                })
            })?;
            if let Some(packets) = counts.into_iter().reduce(|a, b| a + b) {
                out.insert(chain, packets);
            }
        }
        Ok(out)
    }

    /// Something about each rule of a chain of our table; nothing when the chain is gone.
    fn rules<T>(&mut self, chain: &str, mut take: impl FnMut(RuleMessage) -> Option<T>) -> io::Result<Vec<T>> {
        let attributes = vec![RuleAttribute::Table(TABLE.to_owned()), RuleAttribute::Chain(chain.to_owned())];
        let rules = self.list(NfTablesMessage::GetRule(RuleMessage { attributes }), |message| match message {
            NfTablesMessage::NewRule(rule) => take(rule),
            _ => None,
        });
        without_table(rules)
    }
}

/// Whether an object or a flow table is in our table, by its attribute.
fn is_table_name(attribute: &DefaultNla) -> bool {
    let mut value = vec![0; attribute.value_len()];
    attribute.emit_value(&mut value);
    attribute.kind() == TABLE_NAME && value.strip_suffix(&[0]) == Some(TABLE.as_bytes())
}

/// Without the table, there is nothing in it.
fn without_table<T>(result: io::Result<Vec<T>>) -> io::Result<Vec<T>> {
    match result {
        Err(error) if error.raw_os_error() == Some(Errno::ENOENT as i32) => Ok(Vec::new()),
        other => other,
    }
}

/// The error for a kernel that does not report its generation.
fn why_unusable(error: io::Error) -> Unusable {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EPERM) => Unusable::NotPermitted,
        // nfnetlink answers so for a subsystem that is not there.
        Some(Errno::EINVAL | Errno::EOPNOTSUPP | Errno::EPROTONOSUPPORT) => Unusable::NoNfTables(error),
        _ => Unusable::Io(error),
    }
}

/// The counters of a rule.
fn counted(expressions: &[ListAttribute<ExpressionAttribute>]) -> Option<u64> {
    let parts = expressions.iter().filter_map(|item| match item {
        ListAttribute::Element(parts) => Some(parts),
        _ => None,
    });
    let packets = parts.flatten().filter_map(|part| match part {
        ExpressionAttribute::Data(Expressions::Other { expression_type, attributes }) if expression_type == "counter" => {
            let packets = attributes.iter().find(|a| a.kind() == COUNTER_PACKETS)?;
            let mut bytes = [0; 8];
            (packets.value_len() == 8).then(|| packets.emit_value(&mut bytes))?;
            Some(u64::from_be_bytes(bytes))
        }
        _ => None,
    });
    packets.reduce(|a, b| a + b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_cannot_start_is_told_what_to_do() {
        let told = |errno: Errno| why_unusable(errno.into()).to_string();
        assert!(told(Errno::EPERM).contains("CAP_NET_ADMIN"));
        assert!(told(Errno::EINVAL).contains("CONFIG_NF_TABLES"));
        assert!(told(Errno::ENOBUFS).contains("cannot read the ruleset"));
    }
}
