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
use policy_ruleset::netlink::Batch;

/// Bytes that may be under way: a full table of 100,000 addresses is a few MiB.
const BUFFER: usize = 64 << 20;
/// Datagrams that may be left over from a request that ended early.
const MOST_LEFT: usize = 100_000;
/// How often a dump is repeated because things changed meanwhile.
const DUMPS: usize = 10;
/// Bytes read at once; the kernel's messages are smaller.
const READ: usize = 1 << 18;
/// The kernel answers at once. One that does not for this long is taken to be lost.
const PATIENCE: Duration = Duration::from_secs(30);

/// `NLMSG_ERROR` and `NLMSG_DONE`.
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// Bytes of a netfilter header.
const HEADER: usize = 4;

/// The answer of the kernel to a batch.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Somebody else changed the ruleset since the generation that the batch names.
    GenerationMoved,
    /// A message was refused, and with it all of them.
    Message {
        /// Its place in the batch; the first message, which begins it, is 0.
        place: u32,
        /// Why.
        error: io::Error,
    },
    /// Whether the batch took effect is not known.
    Unknown(io::Error),
}

/// How to receive when nothing has come yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wait {
    /// As long as the socket's patience lasts.
    Patiently,
    /// Not at all.
    Not,
}

/// A netfilter netlink socket.
///
/// Every message that it sends has a sequence number that no message had before it, so that a late answer to one is not taken for the
/// answer to another.
pub(crate) struct Netlink {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
    /// Whether the answer to the last request was not read to its end.
    has_leftovers: bool,
}

/// Calls again while a signal interrupts. An interruption means nothing for what is waited for, and a socket with a time-out is interrupted by
/// each signal, whatever its handler asks for, and by being stopped and continued.
fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
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
        Ok(Self { socket, sequence: 0, buffer: Vec::with_capacity(READ), has_leftovers: false })
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

    /// The next datagram.
    pub(crate) fn receive_bytes(&mut self, wait: Wait) -> io::Result<&[u8]> {
        // With the first flag the kernel tells the true length of a message that does not fit.
        let flags = match wait {
            Wait::Patiently => MsgFlags::MSG_TRUNC,
            Wait::Not => MsgFlags::MSG_TRUNC | MsgFlags::MSG_DONTWAIT,
        };
        let length = uninterrupted(|| {
            self.buffer.clear();
            self.socket.recv(&mut self.buffer, flags.bits())
        })?;
        if length > self.buffer.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a netlink message longer than the buffer"));
        }
        Ok(&self.buffer)
    }

    /// The next datagram, as its messages; those that cannot be read are errors.
    pub(crate) fn receive(&mut self) -> io::Result<Vec<io::Result<NetlinkMessage<NetfilterMessage>>>> {
        let mut rest = self.receive_bytes(Wait::Patiently)?;
        let mut messages = Vec::new();
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

    /// The next sequence number.
    fn number(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        self.sequence
    }

    /// Sends messages whose answer will be read. What is left of an earlier answer goes first: the kernel refuses a second dump
    /// while one is going on, and a full buffer takes no answers.
    fn begin(&mut self, messages: &[u8]) -> io::Result<()> {
        for _ in 0..if self.has_leftovers { MOST_LEFT } else { 0 } {
            // A full buffer is said once, and is no reason to leave the rest in it.
            if self.receive_bytes(Wait::Not).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
                break;
            }
        }
        self.has_leftovers = true;
        uninterrupted(|| self.socket.send(messages, 0)).map(drop)
    }

    /// Hands over the messages that answer those numbered from `first` to `last`, until one of them ends the answer.
    fn answer<T>(
        &mut self,
        (first, last): (u32, u32),
        mut take: impl FnMut(NetlinkMessage<NetfilterMessage>) -> Option<T>,
    ) -> io::Result<T> {
        loop {
            for message in self.receive()? {
                let message = message?;
                if message.header.sequence_number.wrapping_sub(first) > last.wrapping_sub(first) {
                    continue;
                }
                if let Some(result) = take(message) {
                    self.has_leftovers = false;
                    return Ok(result);
                }
            }
        }
    }

    fn send(
        &mut self,
        flags: u16,
        family: NetfilterProtoFamily,
        res_id: u16,
        inner: impl Into<NetfilterMessageInner>,
    ) -> io::Result<u32> {
        let sequence = self.number();
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = sequence;
        let inner = NetfilterMessage::new(NetfilterHeader::new(family, 0, res_id), inner);
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(inner));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.begin(&bytes)?;
        Ok(sequence)
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
        self.answer((sequence, sequence), |message| match message.payload {
            NetlinkPayload::Error(error) => Some(if error.code.is_none() { Ok(()) } else { Err(error.to_io()) }),
            _ => None,
        })?
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
        self.answer((sequence, sequence), |message| {
            is_consistent &= message.header.flags & netlink_packet_core::NLM_F_DUMP_INTR == 0;
            match message.payload {
                NetlinkPayload::InnerMessage(inner) => take(inner),
                // A dump that failed after it had begun ends like one that is whole, but for the code.
                NetlinkPayload::Done(done) if done.code != 0 => return Some(Err(io::Error::from_raw_os_error(-done.code))),
                NetlinkPayload::Done(_) if is_consistent => return Some(Ok(())),
                NetlinkPayload::Done(_) => return Some(Err(io::ErrorKind::Interrupted.into())),
                NetlinkPayload::Error(error) if error.code.is_some() => return Some(Err(error.to_io())),
                _ => {}
            }
            None
        })?
    }

    /// Everything of a kind, asked for again while the answer is not consistent.
    ///
    /// # Errors
    /// `Interrupted` when things changed during each of several answers.
    pub(crate) fn list<T>(
        &mut self,
        family: NetfilterProtoFamily,
        inner: impl Into<NetfilterMessageInner> + Clone,
        mut take: impl FnMut(NetfilterMessage) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        repeated(|| {
            let mut out = Vec::new();
            self.dump(family, inner.clone(), |message| out.extend(take(message)))?;
            Ok(out)
        })
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
        self.answer((sequence, sequence), |message| match message.payload {
            NetlinkPayload::InnerMessage(inner) => Some(generation_of(&inner).ok_or_else(|| io::ErrorKind::InvalidData.into())),
            NetlinkPayload::Error(error) if error.code.is_some() => Some(Err(error.to_io())),
            _ => None,
        })?
    }

    /// Sends a batch and waits until the kernel took it or refused it.
    pub(crate) fn commit(&mut self, mut batch: Batch) -> Result<(), Refusal> {
        let first = self.number();
        // The batch has a message that begins it, and one that ends it.
        self.sequence = batch.renumber(first);
        self.begin(&batch.bytes).map_err(Refusal::Unknown)?;
        // Only the last message asks for an acknowledgement; refusals come unasked, and before it.
        let last = u32::try_from(batch.steps.len()).unwrap_or(u32::MAX);
        let mut refusal = None;
        let answer = self.answer((first, first.wrapping_add(last)), |message| {
            let place = message.header.sequence_number.wrapping_sub(first);
            let NetlinkPayload::Error(error) = message.payload else { return None };
            if error.code.is_some() && refusal.is_none() {
                let error = error.to_io();
                let is_stale = place == 0 && error.raw_os_error() == Some(nix::errno::Errno::ERESTART as i32);
                refusal = Some(if is_stale { Refusal::GenerationMoved } else { Refusal::Message { place, error } });
            }
            (place == last || place == 0).then(|| refusal.take().map_or(Ok(()), Err))
        });
        answer.map_err(Refusal::Unknown)?
    }
}

/// Asks again, a few times, while the answer is not consistent.
fn repeated<T>(mut ask: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 1..DUMPS {
        match ask() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
    ask()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn interrupted() -> io::Error {
        nix::errno::Errno::EINTR.into()
    }

    #[test]
    fn a_signal_is_no_answer() {
        let mut results = vec![Err(interrupted()), Err(interrupted()), Ok(7)].into_iter();
        assert_eq!(uninterrupted(|| results.next().unwrap()).unwrap(), 7);
        let full: io::Error = nix::errno::Errno::ENOBUFS.into();
        assert_eq!(uninterrupted(|| Err::<(), _>(nix::errno::Errno::ENOBUFS.into())).unwrap_err().kind(), full.kind());
    }

    #[test]
    fn what_changed_while_it_was_listed_is_listed_again() {
        let mut results = vec![Err(interrupted()), Ok(7)].into_iter();
        assert_eq!(repeated(|| results.next().unwrap()).unwrap(), 7);
        let mut times = 0;
        let result = repeated(|| {
            times += 1;
            Err::<(), _>(interrupted())
        });
        assert_eq!((result.unwrap_err().kind(), times), (io::ErrorKind::Interrupted, DUMPS));
    }
}
