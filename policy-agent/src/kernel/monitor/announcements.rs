//! What the kernel announces, read from bytes, and what is certain about it.
//!
//! Another program may change its own tables thousands of times a second, and announces as much. So no message is decoded: its
//! header says what it is, and the first attribute of each kind of message is the name of the table.
//! Source: include/uapi/linux/netfilter/nf_tables.h.

use std::collections::VecDeque;

use policy_ruleset::TABLE;

use super::Between;
use crate::kernel::GUARD;

/// Generations that are remembered.
const KEPT: usize = 4096;
/// The subsystem number of nf_tables in the type of a message.
const SUBSYSTEM: u16 = 10;
/// `NFT_MSG_NEWGEN`.
const NEW_GENERATION: u16 = 15;
/// `NFPROTO_INET`.
const INET: u8 = 1;
/// `NFTA_GEN_ID`, and `NFTA_TABLE_NAME`, `NFTA_CHAIN_TABLE`, `NFTA_RULE_TABLE`, `NFTA_SET_TABLE`, `NFTA_SET_ELEM_LIST_TABLE`,
/// `NFTA_OBJ_TABLE`, `NFTA_FLOWTABLE_TABLE`.
const FIRST: u16 = 1;
/// Bytes of a netlink header, and of the header of nfnetlink after it.
const HEADERS: (usize, usize) = (16, 4);

/// What a message announces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Announcement {
    /// The changes before it made this generation.
    Generation(u32),
    /// Something in our table changed, or it cannot be read what did.
    Ours,
    /// Something else changed.
    Foreign,
}

fn bytes<const N: usize>(from: &[u8], at: usize) -> Option<[u8; N]> {
    from.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// The value of the first attribute of a type; `None` when there is none, or the attributes are torn.
fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16::from_ne_bytes(bytes(attributes, 0)?));
        // The two highest bits are flags.
        let kind = u16::from_ne_bytes(bytes(attributes, 2)?) & 0x3fff;
        let value = attributes.get(4..length)?;
        if kind == wanted {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

/// What a message announces; what cannot be read may be about our table.
fn read(message: &[u8]) -> Announcement {
    let (header, subheader) = HEADERS;
    let attributes = || message.get(header + subheader..);
    let Some(kind) = bytes(message, 4).map(u16::from_ne_bytes) else { return Announcement::Ours };
    if kind >> 8 != SUBSYSTEM {
        return Announcement::Foreign;
    }
    if kind & 0xff == NEW_GENERATION {
        let id = attributes().and_then(|list| attribute(list, FIRST)).and_then(|id| bytes(id, 0));
        return id.map_or(Announcement::Ours, |id| Announcement::Generation(u32::from_be_bytes(id)));
    }
    let is_ours = match (message.get(header), attributes().and_then(|list| attribute(list, FIRST))) {
        (Some(family), _) if *family != INET => false,
        (Some(_), Some(name)) => {
            let name = name.strip_suffix(&[0]).unwrap_or(name);
            name == TABLE.as_bytes() || name == GUARD.as_bytes()
        }
        _ => true,
    };
    if is_ours { Announcement::Ours } else { Announcement::Foreign }
}

/// The messages of a datagram.
fn messages(mut datagram: &[u8]) -> impl Iterator<Item = Announcement> {
    std::iter::from_fn(move || {
        if datagram.is_empty() {
            return None;
        }
        let length = bytes(datagram, 0).map_or(0, u32::from_ne_bytes) as usize;
        let message = datagram.get(..length).filter(|message| message.len() >= HEADERS.0);
        let after = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
        datagram = if message.is_some() { after } else { &[] };
        Some(message.map_or(Announcement::Ours, read))
    })
}

/// The generation after this one. Generations wrap around, and none is zero.
fn next(generation: u32) -> u32 {
    generation.wrapping_add(1).max(1)
}

/// Whether a generation is another one or came after it.
fn is_since(generation: u32, other: u32) -> bool {
    generation.wrapping_sub(other) < u32::MAX / 2
}

/// What was announced.
///
/// Three things can happen to announcements, and they are not the same: a signal interrupts the wait for them, which means nothing; the
/// socket's buffer is full, which the kernel says once and then drops whatever comes until the buffer has been read empty; and
/// generations are missing, which says that something was dropped even when nothing else does.
#[derive(Debug, Default)]
pub(crate) struct Announcements {
    /// The last generation that was announced.
    last: Option<u32>,
    /// After this generation, everything was read; `None` while something may have been dropped since the last one.
    certain_since: Option<u32>,
    /// Recent generations that touched our table, in the order in which they came.
    touched: VecDeque<u32>,
    /// Whether what came since the last generation is about our table.
    is_ours: bool,
    /// Whether announcements were dropped, and may be until the buffer is empty.
    is_overflown: bool,
}

impl Announcements {
    /// Takes a datagram. `report` is called for each generation that touched our table, and with `None` when announcements were lost.
    pub(crate) fn take(&mut self, datagram: &[u8], report: &mut dyn FnMut(Option<u32>)) {
        for announcement in messages(datagram) {
            match announcement {
                Announcement::Generation(generation) => self.generation(generation, report),
                Announcement::Ours => self.touch(),
                Announcement::Foreign => {}
            }
        }
    }

    /// Something in our table changed; the generation that it made follows.
    pub(crate) fn touch(&mut self) {
        self.is_ours = true;
    }

    /// The changes before made this generation.
    pub(crate) fn generation(&mut self, generation: u32, report: &mut dyn FnMut(Option<u32>)) {
        let has_gap = self.last.is_some_and(|last| generation != next(last));
        // After an overflow a gap is to be expected, and has been reported with it.
        if has_gap && self.certain_since.is_some() {
            self.certain_since = None;
            report(None);
        }
        if self.certain_since.is_none() && !self.is_overflown {
            // Some of what made this generation may have been dropped too; but not before the first one, since which everything
            // is listened to.
            self.certain_since = Some(if self.last.is_none() { generation.wrapping_sub(1) } else { generation });
        }
        self.last = Some(generation);
        if std::mem::take(&mut self.is_ours) {
            self.touched.push_back(generation);
            if self.touched.len() > KEPT {
                let forgotten = self.touched.pop_front().unwrap_or(generation);
                self.certain_since = self.certain_since.map(|since| if is_since(forgotten, since) { forgotten } else { since });
            }
            report(Some(generation));
        }
    }

    /// The kernel dropped announcements, and goes on to until the buffer is read empty.
    pub(crate) fn overflow(&mut self, report: &mut dyn FnMut(Option<u32>)) {
        self.certain_since = None;
        // Without a generation there is nothing yet that could be compared with the next one.
        self.last.get_or_insert(0);
        self.is_overflown = true;
        report(None);
    }

    /// The buffer is empty. Whatever was dropped was dropped before.
    pub(crate) fn emptied(&mut self, report: &mut dyn FnMut(Option<u32>)) {
        if std::mem::take(&mut self.is_overflown) {
            report(None);
        }
    }

    /// Whether announcements are being dropped.
    pub(crate) fn is_overflown(&self) -> bool {
        self.is_overflown
    }

    /// Which generations after `from`, up to and with `to`, touched our table; `None` while `to` is not announced.
    pub(crate) fn between(&self, from: u32, to: u32) -> Option<Between> {
        if from == to {
            return Some(Between::Touched(Vec::new()));
        }
        self.last.filter(|last| is_since(*last, to))?;
        if !self.certain_since.is_some_and(|since| is_since(from, since)) {
            return Some(Between::Unknown);
        }
        let length = to.wrapping_sub(from);
        let is_between = |generation: &u32| (1..=length).contains(&generation.wrapping_sub(from));
        Some(Between::Touched(self.touched.iter().copied().filter(is_between).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW_TABLE: u16 = 0;
    const NEW_OBJECT: u16 = 18;
    const NEW_FLOW_TABLE: u16 = 22;
    /// Numbers that nf_tables has not given out yet.
    const UNKNOWN: u16 = 77;
    const IP: u8 = 2;

    fn message(kind: u16, family: u8, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = vec![family, 0, 0, 0];
        for (kind, value) in attributes {
            body.extend((u16::try_from(value.len()).unwrap() + 4).to_ne_bytes());
            body.extend(kind.to_ne_bytes());
            body.extend(*value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        let mut out = (u32::try_from(body.len()).unwrap() + 16).to_ne_bytes().to_vec();
        out.extend((SUBSYSTEM << 8 | kind).to_ne_bytes());
        out.extend([0; 10]);
        out.extend(body);
        out
    }

    fn generation(id: u32) -> Vec<u8> {
        message(NEW_GENERATION, 0, &[(1, &id.to_be_bytes())])
    }

    fn in_table(kind: u16, family: u8, name: &str) -> Vec<u8> {
        message(kind, family, &[(1, &[name.as_bytes(), &[0]].concat())])
    }

    /// Takes datagrams, and returns what was reported.
    fn take(to: &mut Announcements, datagrams: &[Vec<u8>]) -> Vec<Option<u32>> {
        let mut reports = Vec::new();
        for datagram in datagrams {
            to.take(datagram, &mut |report| reports.push(report));
        }
        reports
    }

    #[test]
    fn a_message_is_about_the_table_that_it_names() {
        for kind in [NEW_TABLE, 3, 6, 9, 12, 14, NEW_OBJECT, 20, NEW_FLOW_TABLE, 24, UNKNOWN] {
            let reports = |message: Vec<u8>| take(&mut Announcements::default(), &[[message, generation(7)].concat()]);
            assert_eq!(reports(in_table(kind, INET, TABLE)), [Some(7)], "{kind}");
            assert_eq!(reports(in_table(kind, INET, GUARD)), [Some(7)], "{kind}");
            assert_eq!(reports(in_table(kind, INET, "netpol2")), [], "{kind}: another table");
            assert_eq!(reports(in_table(kind, IP, TABLE)), [], "{kind}: another family");
            assert_eq!(reports(message(kind, INET, &[])), [Some(7)], "{kind}: no table is named");
            // The table need not be named first, and may have no NUL at its end.
            assert_eq!(reports(message(kind, INET, &[(2, b"netpol\0"), (1, b"other\0")])), [], "{kind}");
            assert_eq!(reports(message(kind, INET, &[(2, b"other\0"), (1, TABLE.as_bytes())])), [Some(7)], "{kind}");
        }
    }

    #[test]
    fn what_cannot_be_read_may_be_ours() {
        let whole = [in_table(NEW_OBJECT, INET, "other"), generation(7)].concat();
        for length in 1..whole.len() {
            let mut announcements = Announcements::default();
            take(&mut announcements, &[whole[..length].to_vec(), generation(8)]);
            let object = in_table(NEW_OBJECT, INET, "other").len();
            // Cut between two messages, nothing is torn.
            let expected = if length == object { vec![] } else { vec![8] };
            assert_eq!(announcements.between(7, 8), Some(Between::Touched(expected)), "cut at {length}");
        }
        // A length that leads nowhere does not go on for ever.
        for length in [0u32, 1, 15, u32::MAX] {
            let mut torn = in_table(NEW_OBJECT, INET, "other");
            torn[..4].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(take(&mut Announcements::default(), &[torn, generation(7)]), [Some(7)]);
        }
    }

    #[test]
    fn missing_generations_are_lost_announcements() {
        let mut announcements = Announcements::default();
        assert_eq!(take(&mut announcements, &[generation(5), generation(6)]), []);
        assert_eq!(announcements.between(4, 6), Some(Between::Touched(vec![])));
        assert_eq!(announcements.between(3, 6), Some(Between::Unknown), "that was before anybody listened");
        assert_eq!(announcements.between(6, 7), None, "not announced yet");
        assert_eq!(take(&mut announcements, &[generation(8)]), [None]);
        assert_eq!(announcements.between(6, 8), Some(Between::Unknown));
        assert_eq!(announcements.between(7, 8), Some(Between::Unknown), "a part of it may have been dropped");
        // It is said once, and what comes then is certain again.
        assert_eq!(take(&mut announcements, &[in_table(NEW_TABLE, INET, TABLE), generation(9)]), [Some(9)]);
        assert_eq!(announcements.between(8, 9), Some(Between::Touched(vec![9])));
        assert_eq!(announcements.between(6, 9), Some(Between::Unknown));
    }

    #[test]
    fn generations_wrap_around_and_are_never_zero() {
        let mut announcements = Announcements::default();
        let ours = |id| [in_table(NEW_TABLE, INET, TABLE), generation(id)].concat();
        assert_eq!(
            take(&mut announcements, &[generation(u32::MAX - 1), ours(u32::MAX), ours(1), generation(2)]),
            [Some(u32::MAX), Some(1)]
        );
        assert_eq!(announcements.between(u32::MAX - 1, 2), Some(Between::Touched(vec![u32::MAX, 1])));
        assert_eq!(announcements.between(u32::MAX, 2), Some(Between::Touched(vec![1])));
        assert_eq!(announcements.between(1, 2), Some(Between::Touched(vec![])));
        assert_eq!(take(&mut announcements, &[generation(4)]), [None]);
    }

    #[test]
    fn after_an_overflow_nothing_is_certain_until_the_buffer_was_empty() {
        let mut announcements = Announcements::default();
        take(&mut announcements, &[generation(5)]);
        let mut reports = Vec::new();
        announcements.overflow(&mut |report| reports.push(report));
        assert_eq!(reports, [None]);
        // What was in the buffer before, then a gap: the kernel says nothing more.
        assert_eq!(take(&mut announcements, &[generation(6), generation(9)]), []);
        assert_eq!(announcements.between(5, 6), Some(Between::Unknown));
        announcements.emptied(&mut |report| reports.push(report));
        announcements.emptied(&mut |report| reports.push(report));
        assert_eq!(reports, [None, None], "it is looked again when nothing more is dropped, once");
        // A part of what made the next one may have been dropped.
        assert_eq!(take(&mut announcements, &[generation(10), generation(11)]), []);
        assert_eq!(announcements.between(9, 10), Some(Between::Unknown));
        assert_eq!(announcements.between(10, 11), Some(Between::Touched(vec![])));
    }

    #[test]
    fn what_is_forgotten_is_not_certain() {
        let mut announcements = Announcements::default();
        for id in 1..=u32::try_from(KEPT).unwrap() + 2 {
            take(&mut announcements, &[in_table(NEW_TABLE, INET, TABLE), generation(id)]);
        }
        assert_eq!(announcements.between(1, 3), Some(Between::Unknown));
        assert_eq!(announcements.between(2, 3), Some(Between::Touched(vec![3])));
    }
}
