//! What is in our table: whose it is, and what its counters say.

use std::collections::BTreeMap;
use std::io;

use netlink_packet_core::Nla;
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, ExpressionAttribute, Expressions, ListAttribute, NfTablesMessage, RuleAttribute, RuleMessage,
    SetAttribute, SetMessage, TableAttribute, TableMessage,
};
use netlink_packet_netfilter::{NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily};
use nix::errno::Errno;
use policy_ruleset::{MARKER, TABLE};

use super::netlink::Netlink;

/// `NFT_TABLE_F_OWNER`: only the socket that made the table may change it.
pub(crate) const OWNER: u32 = 2;
/// `NFTA_COUNTER_PACKETS`.
const COUNTER_PACKETS: u16 = 2;

/// Why the kernel is of no use to the agent. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// No right to change the ruleset.
    #[error("no right to change nftables in this network namespace: run as root, or with the capability CAP_NET_ADMIN")]
    NotPermitted,
    /// No nf_tables.
    #[error("this kernel has no nf_tables ({0}): load the module `nf_tables`, or use a kernel with CONFIG_NF_TABLES_INET")]
    NoNfTables(io::Error),
    /// Another program holds the table.
    #[error("the table `inet {TABLE}` belongs to another program (flag owner); stop that program, then start netpol again")]
    Owned,
    /// The table is there, and netpol did not make it.
    #[error(
        "there is a table `inet {TABLE}` that netpol did not make (it has no chain `{MARKER}`); rename or delete it: `nft delete table inet {TABLE}`"
    )]
    Foreign,
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
    /// When the kernel does not say.
    pub fn generation(&mut self) -> io::Result<u32> {
        self.netlink.generation()
    }

    /// Checks that the agent may, and can, own its table.
    ///
    /// # Errors
    /// When it cannot; says why, and what to do.
    pub fn check(&mut self) -> Result<(), Unusable> {
        self.netlink.generation().map_err(why_unusable)?;
        let Some(flags) = self.table_flags()? else { return Ok(()) };
        if flags & OWNER != 0 {
            return Err(Unusable::Owned);
        }
        let chains = self.chains()?;
        if chains.is_empty() || chains.iter().any(|name| name == MARKER) { Ok(()) } else { Err(Unusable::Foreign) }
    }

    fn dump(&mut self, message: NfTablesMessage, mut take: impl FnMut(NfTablesMessage)) -> io::Result<()> {
        self.netlink.dump(NetfilterProtoFamily::Inet, message, |NetfilterMessage { inner, .. }| {
            if let NetfilterMessageInner::NfTables(inner) = inner {
                take(inner);
            }
        })
    }

    /// The flags of our table; `None` when it is not there.
    fn table_flags(&mut self) -> io::Result<Option<u32>> {
        let mut out = None;
        self.dump(NfTablesMessage::GetTable(TableMessage { attributes: Vec::new() }), |message| {
            let NfTablesMessage::NewTable(table) = message else { return };
            if table.attributes.iter().any(|a| matches!(a, TableAttribute::Name(name) if name == TABLE)) {
                let flags = table.attributes.iter().find_map(|a| match a {
                    TableAttribute::Flags(flags) => Some(flags.bits()),
                    _ => None,
                });
                out = Some(flags.unwrap_or(0));
            }
        })?;
        Ok(out)
    }

    /// Whether our table is there.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn is_present(&mut self) -> io::Result<bool> {
        Ok(self.table_flags()?.is_some())
    }

    /// The names of the chains in our table.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn chains(&mut self) -> io::Result<Vec<String>> {
        let mut out = Vec::new();
        self.dump(NfTablesMessage::GetChain(ChainMessage { attributes: Vec::new() }), |message| {
            let NfTablesMessage::NewChain(chain) = message else { return };
            if chain.attributes.iter().any(|a| matches!(a, ChainAttribute::Table(name) if name == TABLE)) {
                out.extend(chain.attributes.into_iter().find_map(|a| match a {
                    ChainAttribute::Name(name) => Some(name),
                    _ => None,
                }));
            }
        })?;
        Ok(out)
    }

    /// Elements in the named sets of our table; `None` when the kernel does not count them (before Linux 6.16).
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn elements(&mut self) -> io::Result<Option<u64>> {
        let mut out = None;
        self.named_sets(|_, attributes| {
            let count = attributes.iter().find_map(|a| match a {
                SetAttribute::Count(count) => Some(u64::from(*count)),
                _ => None,
            });
            if let Some(count) = count {
                *out.get_or_insert(0) += count;
            }
        })?;
        Ok(out)
    }

    /// The names of the sets in our table, but for those that rules hold within.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn sets(&mut self) -> io::Result<Vec<String>> {
        let mut out = Vec::new();
        self.named_sets(|name, _| out.push(name.to_owned()))?;
        Ok(out)
    }

    fn named_sets(&mut self, mut take: impl FnMut(&str, &[SetAttribute])) -> io::Result<()> {
        let attributes = vec![SetAttribute::Table(TABLE.to_owned())];
        let result = self.dump(NfTablesMessage::GetSet(SetMessage { attributes }), |message| {
            let NfTablesMessage::NewSet(set) = message else { return };
            let name = set.attributes.iter().find_map(|a| match a {
                SetAttribute::Name(name) if !name.starts_with("__") => Some(name),
                _ => None,
            });
            if let Some(name) = name {
                take(name, &set.attributes);
            }
        });
        match result {
            // No table, no sets.
            Err(error) if error.raw_os_error() == Some(Errno::ENOENT as i32) => Ok(()),
            other => other,
        }
    }

    /// Packets counted in each chain of our table, since the chain was last replaced.
    ///
    /// # Errors
    /// When the kernel does not say. Cost: linear in rules.
    pub fn packets(&mut self) -> io::Result<BTreeMap<String, u64>> {
        let mut out = BTreeMap::new();
        let attributes = vec![RuleAttribute::Table(TABLE.to_owned())];
        let result = self.dump(NfTablesMessage::GetRule(RuleMessage { attributes }), |message| {
            let NfTablesMessage::NewRule(rule) = message else { return };
            let chain = rule.attributes.iter().find_map(|a| match a {
                RuleAttribute::Chain(name) => Some(name.clone()),
                _ => None,
            });
            let expressions = rule.attributes.iter().find_map(|a| match a {
                RuleAttribute::Expressions(list) => Some(list),
                _ => None,
            });
            if let (Some(chain), Some(packets)) = (chain, expressions.and_then(|list| counted(list))) {
                *out.entry(chain).or_default() += packets;
            }
        });
        match result {
            // No table, no packets.
            Err(error) if error.raw_os_error() == Some(Errno::ENOENT as i32) => Ok(BTreeMap::new()),
            other => other.map(|()| out),
        }
    }
}

/// What it means that the kernel does not tell its generation.
fn why_unusable(error: io::Error) -> Unusable {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EPERM) => Unusable::NotPermitted,
        // nfnetlink answers so for a subsystem that is not there.
        Some(Errno::EINVAL | Errno::EOPNOTSUPP | Errno::EPROTONOSUPPORT) => Unusable::NoNfTables(error),
        _ => Unusable::Io(error),
    }
}

/// What the counters of a rule say.
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
