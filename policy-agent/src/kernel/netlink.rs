//! A netfilter netlink socket: requests, dumps and batches.

use std::io;
use std::time::Duration;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_netfilter::nftables::{GenAttribute, GenMessage, NfTablesMessage};
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::sys::socket::{MsgFlags, setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

use super::encode::Batch;

/// Bytes that may be under way: a full table of 100,000 addresses is a few MiB.
const BUFFER: usize = 64 << 20;
/// Bytes read at once; the kernel's messages are smaller.
const READ: usize = 1 << 18;
/// The kernel answers at once. One that does not for this long is taken to be lost.
const PATIENCE: Duration = Duration::from_secs(30);

/// `NLMSG_ERROR` and `NLMSG_DONE`.
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// Bytes of a netfilter header.
const HEADER: usize = 4;

/// What the kernel says to a batch.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Somebody else changed the ruleset since the generation that the batch names.
    GenerationMoved,
    /// A message was refused, and with it all of them.
    Message {
        /// Its sequence number.
        sequence: u32,
        /// Why.
        error: io::Error,
    },
    /// Whether the batch took effect is not known.
    Unknown(io::Error),
}

/// A netfilter netlink socket.
pub(crate) struct Netlink {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    /// Opens a socket in the network namespace of the calling thread.
    pub(crate) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        // Acknowledgements without a copy of the request. What the limits of the system forbid is done without.
        let _ = socket.set_cap_ack(true);
        if setsockopt(&socket, sockopt::SndBufForce, &BUFFER).is_err() {
            let _ = setsockopt(&socket, sockopt::SndBuf, &BUFFER);
        }
        if setsockopt(&socket, sockopt::RcvBufForce, &BUFFER).is_err() {
            let _ = setsockopt(&socket, sockopt::RcvBuf, &BUFFER);
        }
        let patience = TimeVal::milliseconds(i64::try_from(PATIENCE.as_millis()).unwrap_or(i64::MAX));
        setsockopt(&socket, sockopt::ReceiveTimeout, &patience)?;
        Ok(Self { socket, sequence: 0, buffer: Vec::with_capacity(READ) })
    }

    /// Receives multicast messages of this group, and waits for them for at most `patience`.
    pub(crate) fn join(&mut self, group: u32, patience: Duration) -> io::Result<()> {
        self.socket.add_membership(group)?;
        self.wait_for(patience)
    }

    /// Makes [`Netlink::receive`] wait for at most `patience`.
    pub(crate) fn wait_for(&mut self, patience: Duration) -> io::Result<()> {
        let patience = TimeVal::milliseconds(i64::try_from(patience.as_millis()).unwrap_or(i64::MAX));
        Ok(setsockopt(&self.socket, sockopt::ReceiveTimeout, &patience)?)
    }

    /// The next datagram, as its messages; those that cannot be read are errors.
    pub(crate) fn receive(&mut self) -> io::Result<Vec<io::Result<NetlinkMessage<NetfilterMessage>>>> {
        self.buffer.clear();
        // With this flag the kernel tells the true length of a message that does not fit.
        let length = self.socket.recv(&mut self.buffer, MsgFlags::MSG_TRUNC.bits())?;
        if length > self.buffer.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a netlink message longer than the buffer"));
        }
        let mut messages = Vec::new();
        let mut rest = self.buffer.as_slice();
        while let Ok(header) = NetlinkBuffer::new_checked(rest) {
            let length = header.length() as usize;
            messages.push(parse(rest));
            match rest.get(length.next_multiple_of(4)..) {
                Some(next) if length > 0 => rest = next,
                _ => break,
            }
        }
        Ok(messages)
    }

    fn send(
        &mut self,
        flags: u16,
        family: NetfilterProtoFamily,
        res_id: u16,
        inner: impl Into<NetfilterMessageInner>,
    ) -> io::Result<u32> {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let inner = NetfilterMessage::new(NetfilterHeader::new(family, 0, res_id), inner);
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(inner));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        Ok(self.sequence)
    }

    /// Sends a request and waits for its acknowledgement.
    pub(crate) fn request(&mut self, family: NetfilterProtoFamily, inner: impl Into<NetfilterMessageInner>) -> io::Result<()> {
        self.request_of_group(family, 0, inner)
    }

    /// Sends a request about a group, as NFLOG has them, and waits for its acknowledgement.
    pub(crate) fn request_of_group(
        &mut self,
        family: NetfilterProtoFamily,
        group: u16,
        inner: impl Into<NetfilterMessageInner>,
    ) -> io::Result<()> {
        let sequence = self.send(NLM_F_ACK, family, group, inner)?;
        loop {
            for message in self.receive()? {
                let message = message?;
                if message.header.sequence_number != sequence {
                    continue;
                }
                if let NetlinkPayload::Error(error) = message.payload {
                    return if error.code.is_none() { Ok(()) } else { Err(error.to_io()) };
                }
            }
        }
    }

    /// Sends a request for everything of a kind, and hands each answer to `take`.
    ///
    /// # Errors
    /// `Interrupted` when the answer is not consistent, because things changed meanwhile.
    pub(crate) fn dump(
        &mut self,
        family: NetfilterProtoFamily,
        inner: impl Into<NetfilterMessageInner>,
        mut take: impl FnMut(NetfilterMessage),
    ) -> io::Result<()> {
        let sequence = self.send(NLM_F_DUMP, family, 0, inner)?;
        let mut is_consistent = true;
        loop {
            for message in self.receive()? {
                let message = message?;
                if message.header.sequence_number != sequence {
                    continue;
                }
                is_consistent &= message.header.flags & netlink_packet_core::NLM_F_DUMP_INTR == 0;
                match message.payload {
                    NetlinkPayload::InnerMessage(inner) => take(inner),
                    NetlinkPayload::Done(_) if is_consistent => return Ok(()),
                    NetlinkPayload::Done(_) => return Err(io::ErrorKind::Interrupted.into()),
                    NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                    _ => {}
                }
            }
        }
    }

    /// The same as [`Netlink::dump`] for answers that are not worth parsing as a whole: `take` gets what follows the netfilter
    /// header of each.
    pub(crate) fn dump_raw(
        &mut self,
        family: NetfilterProtoFamily,
        inner: impl Into<NetfilterMessageInner>,
        mut take: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        let sequence = self.send(NLM_F_DUMP, family, 0, inner)?;
        let mut is_consistent = true;
        loop {
            self.buffer.clear();
            let length = match self.socket.recv(&mut self.buffer, MsgFlags::MSG_TRUNC.bits()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            if length > self.buffer.len() {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a netlink message longer than the buffer"));
            }
            let mut rest = self.buffer.as_slice();
            while let Ok(message) = NetlinkBuffer::new_checked(rest) {
                let (length, payload) = (message.length() as usize, message.payload());
                if message.sequence_number() == sequence {
                    is_consistent &= message.flags() & netlink_packet_core::NLM_F_DUMP_INTR == 0;
                    match message.message_type() {
                        // Both begin with the number of an error, which is negative, or zero.
                        NLMSG_DONE | NLMSG_ERROR => {
                            let code = payload.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
                            return match code {
                                0 if is_consistent => Ok(()),
                                0 => Err(io::ErrorKind::Interrupted.into()),
                                code => Err(io::Error::from_raw_os_error(code.saturating_abs())),
                            };
                        }
                        _ => take(payload.get(HEADER..).unwrap_or_default()),
                    }
                }
                match rest.get(length.next_multiple_of(4)..) {
                    Some(next) if length > 0 => rest = next,
                    _ => break,
                }
            }
        }
    }

    /// The generation of the ruleset: it moves with every transaction of anybody.
    pub(crate) fn generation(&mut self) -> io::Result<u32> {
        let message = NfTablesMessage::GetGen(GenMessage { attributes: Vec::new() });
        let sequence = self.send(0, NetfilterProtoFamily::Unspec, 0, message)?;
        loop {
            for message in self.receive()? {
                let message = message?;
                if message.header.sequence_number != sequence {
                    continue;
                }
                match message.payload {
                    NetlinkPayload::InnerMessage(inner) => {
                        return generation_of(&inner).ok_or_else(|| io::ErrorKind::InvalidData.into());
                    }
                    NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                    _ => {}
                }
            }
        }
    }

    /// Sends a batch and waits until the kernel took it or refused it.
    pub(crate) fn commit(&mut self, batch: &Batch) -> Result<(), Refusal> {
        self.socket.send(&batch.bytes, 0).map_err(Refusal::Unknown)?;
        // Only the last message asks for an acknowledgement; refusals come unasked, and before it.
        let last = u32::try_from(batch.steps.len()).unwrap_or(u32::MAX);
        let mut refusal = None;
        loop {
            for message in self.receive().map_err(Refusal::Unknown)? {
                let message = message.map_err(Refusal::Unknown)?;
                let sequence = message.header.sequence_number;
                let NetlinkPayload::Error(error) = message.payload else { continue };
                if error.code.is_some() && refusal.is_none() {
                    let error = error.to_io();
                    let is_stale = sequence == 0 && error.raw_os_error() == Some(nix::errno::Errno::ERESTART as i32);
                    if is_stale {
                        return Err(Refusal::GenerationMoved);
                    }
                    refusal = Some(Refusal::Message { sequence, error });
                }
                if sequence == last || sequence == 0 {
                    return refusal.map_or(Ok(()), Err);
                }
            }
        }
    }
}

fn parse(bytes: &[u8]) -> io::Result<NetlinkMessage<NetfilterMessage>> {
    NetlinkMessage::deserialize(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))
}

/// The generation that a message announces.
pub(crate) fn generation_of(message: &NetfilterMessage) -> Option<u32> {
    let NetfilterMessageInner::NfTables(NfTablesMessage::NewGen(message)) = &message.inner else { return None };
    message.attributes.iter().find_map(|attribute| match attribute {
        GenAttribute::Id(id) => Some(*id),
        _ => None,
    })
}
