//! Batches as bytes: numbered for a socket, kept for a later agent, made for another table.
//!
//! Source: include/uapi/linux/netlink.h, include/uapi/linux/netfilter/nf_tables.h.

use netlink_packet_core::NLM_F_ACK;
use netlink_packet_netfilter::nftables::TableFlags;

use super::{Batch, encode};
use crate::{Op, TABLE, Transaction};

/// Bytes of a netlink header, and of the header of nfnetlink after it.
const HEADERS: usize = 20;
/// Where the type, the flags and the sequence number of a message are.
const KIND: usize = 4;
const FLAGS: usize = 6;
const SEQUENCE: usize = 8;
/// Types of messages that make something in a table: `NFT_MSG_NEWCHAIN`, `NEWRULE`, `NEWSET`, `NEWSETELEM`, of the subsystem of
/// nf_tables.
const MAKING: [u16; 4] = [0x0a03, 0x0a06, 0x0a09, 0x0a0c];
/// The subsystem number of nf_tables in the type of a message.
const SUBSYSTEM: u16 = 10;
/// The attribute that names the table, in all of them.
const TABLE_NAME: u16 = 1;
/// `NFPROTO_INET`.
const INET: u8 = 1;

fn read<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn write<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    if let Some(place) = bytes.get_mut(at..at + N) {
        place.copy_from_slice(&value);
    }
}

/// The messages of a batch, aligned; a torn one is `None`, and the last.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let length = read(bytes, 0).map_or(0, u32::from_ne_bytes) as usize;
        let parts = bytes.split_at_checked(length.next_multiple_of(4)).filter(|_| length >= HEADERS);
        bytes = parts.map_or(&[], |(_, rest)| rest);
        Some(parts.map(|(message, _)| message))
    })
}

fn kind(message: &[u8]) -> u16 {
    read(message, KIND).map_or(0, u16::from_ne_bytes)
}

/// The length and the value of the first attribute, if that is the name of the table.
fn table(message: &[u8]) -> Option<(usize, &[u8])> {
    let length = usize::from(u16::from_ne_bytes(read(message, HEADERS)?));
    let is_name = u16::from_ne_bytes(read(message, HEADERS + 2)?) == TABLE_NAME;
    let value = message.get(HEADERS + 4..HEADERS.checked_add(length)?)?;
    is_name.then_some((length, value.strip_suffix(&[0]).unwrap_or(value)))
}

fn flag(message: &mut [u8], flag: u16, is_set: bool) {
    let flags = read(message, FLAGS).map_or(0, u16::from_ne_bytes);
    write(message, FLAGS, if is_set { flags | flag } else { flags & !flag }.to_ne_bytes());
}

impl Batch {
    /// Numbers the messages from `first` on, and returns the last number.
    pub fn renumber(&mut self, first: u32) -> u32 {
        let (mut at, mut number) = (0, first.wrapping_sub(1));
        while let Some(length) = read(&self.bytes, at).map(u32::from_ne_bytes) {
            number = number.wrapping_add(1);
            write(&mut self.bytes, at + SEQUENCE, number.to_ne_bytes());
            at += (length as usize).next_multiple_of(4).max(4);
        }
        number
    }

    /// The same for a table of another name.
    #[must_use]
    pub fn of_table(self, name: &str) -> Self {
        if name == TABLE {
            return self;
        }
        let mut bytes = Vec::with_capacity(self.bytes.len());
        for message in messages(&self.bytes).flatten() {
            let start = bytes.len();
            match table(message).filter(|_| kind(message) >> 8 == SUBSYSTEM) {
                None => bytes.extend_from_slice(message),
                Some((length, _)) => {
                    let value = [name.as_bytes(), &[0]].concat();
                    bytes.extend_from_slice(message.get(..HEADERS).unwrap_or_default());
                    bytes.extend(u16::try_from(value.len() + 4).unwrap_or_default().to_ne_bytes());
                    bytes.extend(TABLE_NAME.to_ne_bytes());
                    bytes.extend(value);
                    bytes.resize(bytes.len().next_multiple_of(4), 0);
                    bytes.extend_from_slice(message.get(HEADERS + length.next_multiple_of(4)..).unwrap_or_default());
                    let whole = u32::try_from(bytes.len() - start).unwrap_or_default();
                    bytes.get_mut(start..).into_iter().for_each(|message| write(message, 0, whole.to_ne_bytes()));
                }
            }
        }
        Self { bytes, steps: self.steps }
    }
}

/// Everything in a table, as the messages that make it.
///
/// It is kept on disk for a later agent, maybe of another version: what the kernel understands is older than any agent, and stays.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Messages(Vec<u8>);

/// Bytes that are no messages which make the contents of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the messages do not make sets, chains and rules of the table `inet {TABLE}`")]
pub struct NotMessages;

impl Messages {
    /// What a transaction makes.
    #[must_use]
    pub fn new(transaction: &Transaction) -> Self {
        let batch = encode(transaction, None, TableFlags::empty());
        let mut out = Vec::with_capacity(batch.bytes.len());
        for message in messages(&batch.bytes).flatten().filter(|message| MAKING.contains(&kind(message))) {
            let start = out.len();
            out.extend_from_slice(message);
            out.get_mut(start..).into_iter().for_each(|message| flag(message, NLM_F_ACK, false));
        }
        Self(out)
    }

    /// What was kept.
    ///
    /// # Errors
    /// When it is something else.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, NotMessages> {
        let is_ours = |message: Option<&[u8]>| {
            let Some(message) = message else { return false };
            let name = table(message).map(|(_, name)| name);
            MAKING.contains(&kind(message)) && message.get(HEADERS - 4) == Some(&INET) && name == Some(TABLE.as_bytes())
        };
        if messages(&bytes).all(is_ours) { Ok(Self(bytes)) } else { Err(NotMessages) }
    }

    /// The messages.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// A batch that puts the contents into the table, which is made, or emptied by being made anew if it `is_present`.
    #[must_use]
    pub fn batch(&self, is_present: bool, generation: Option<u32>, flags: TableFlags) -> Batch {
        let ops = if is_present { vec![Op::DeleteTable, Op::AddTable] } else { vec![Op::AddTable] };
        let mut batch = encode(&Transaction { ops }, generation, flags);
        let count = batch.steps.len();
        // The last message ends the batch.
        let end = messages(&batch.bytes).flatten().last().map(<[u8]>::to_vec).unwrap_or_default();
        batch.bytes.truncate(batch.bytes.len().saturating_sub(end.len()));
        batch.bytes.extend_from_slice(&self.0);
        let last = messages(&self.0).flatten().last().map_or(0, <[u8]>::len);
        let start = batch.bytes.len().saturating_sub(last);
        batch.bytes.get_mut(start..).into_iter().for_each(|message| flag(message, NLM_F_ACK, true));
        batch.steps.extend(messages(&self.0).map(|_| count));
        batch.bytes.extend(end);
        batch
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::{NLM_F_ACK, NetlinkMessage};
    use netlink_packet_netfilter::NetfilterMessage;
    use policy_core::sets::Family;

    use super::*;
    use crate::{Element, SetKind};

    fn transaction() -> Transaction {
        let kind = SetKind::Addresses(Family::V4);
        let elements = vec![Element::Address("10.0.0.1".parse().unwrap())];
        let set = "s".to_owned();
        Transaction { ops: vec![Op::AddTable, Op::AddSet { name: set.clone(), kind }, Op::AddElements { set, kind, elements }] }
    }

    fn parsed(batch: &Batch) -> Vec<NetlinkMessage<NetfilterMessage>> {
        messages(&batch.bytes).map(|message| NetlinkMessage::deserialize(message.unwrap()).unwrap()).collect()
    }

    fn numbers(batch: &Batch) -> Vec<u32> {
        parsed(batch).iter().map(|message| message.header.sequence_number).collect()
    }

    #[test]
    fn no_two_batches_of_a_socket_have_a_number_in_common() {
        let batch = || encode(&transaction(), Some(7), TableFlags::empty());
        let (mut first, mut second) = (batch(), batch());
        let last = first.renumber(41);
        assert_eq!((numbers(&first), last), ((41..46).collect(), 45));
        assert_eq!(second.renumber(last.wrapping_add(1)), 50);
        assert_eq!(numbers(&second), (46..51).collect::<Vec<_>>());
        // Numbers wrap around.
        assert_eq!(second.renumber(u32::MAX), 3);
        assert_eq!(numbers(&second), [u32::MAX, 0, 1, 2, 3]);
    }

    #[test]
    fn contents_are_what_a_transaction_makes_for_whatever_table() {
        let contents = Messages::new(&transaction());
        for (is_present, tables) in [(false, 1), (true, 2)] {
            let batch = contents.batch(is_present, Some(7), TableFlags::empty());
            let encoded = encode(&transaction(), Some(7), TableFlags::empty());
            let is_making = |message: &&NetlinkMessage<NetfilterMessage>| MAKING.contains(&message.header.message_type);
            let payloads = |batch: &Batch| parsed(batch).iter().filter(is_making).map(|m| m.payload.clone()).collect::<Vec<_>>();
            assert_eq!(payloads(&batch), payloads(&encoded));
            let all = parsed(&batch);
            assert_eq!((all.len(), batch.steps.len()), (tables + 4, tables + 2), "begin, tables, set, elements, end");
            let acknowledged = all.iter().rposition(|message| message.header.flags & NLM_F_ACK != 0);
            assert_eq!(acknowledged, Some(all.len() - 2), "the last message but the end");

            let other = batch.of_table("another-one");
            assert_eq!(parsed(&other).len(), all.len());
            let names: Vec<&[u8]> = messages(&other.bytes)
                .flatten()
                .filter(|m| kind(m) >> 8 == SUBSYSTEM)
                .filter_map(table)
                .map(|(_, name)| name)
                .collect();
            assert_eq!(names, vec![b"another-one".as_slice(); tables + 2]);
        }
    }
}
