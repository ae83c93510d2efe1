//! Netlink messages and attributes, decoded in place.
//!
//! The format: `include/uapi/linux/netlink.h` of the kernel. Headers are in host byte order; the
//! byte order of an attribute's value depends on its subsystem.

use thiserror::Error;

/// `NLMSG_NOOP`
pub(crate) const NLMSG_NOOP: u16 = 1;
/// `NLMSG_ERROR`
pub(crate) const NLMSG_ERROR: u16 = 2;
/// `NLMSG_DONE`
pub(crate) const NLMSG_DONE: u16 = 3;
/// `NLM_F_REQUEST`
pub(crate) const NLM_F_REQUEST: u16 = 0x01;
/// `NLM_F_DUMP_INTR`: the table changed while it was dumped.
pub(crate) const NLM_F_DUMP_INTR: u16 = 0x10;
/// `NLM_F_ROOT | NLM_F_MATCH`
pub(crate) const NLM_F_DUMP: u16 = 0x300;

/// The length of `struct nlmsghdr`.
pub(crate) const HEADER: usize = 16;
/// `NLA_F_NESTED`: the attribute holds attributes.
pub(crate) const NESTED: u16 = 0x8000;
/// The attribute type without the `NESTED` and `NET_BYTEORDER` flags.
const NLA_TYPE_MASK: u16 = 0x3fff;

/// Why bytes are no netlink message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WireError {
    /// The length in a message's header is more than was received, or less than the header.
    #[error("a message of {length} bytes where {available} were received")]
    Length {
        /// The length in the header.
        length: u32,
        /// The number of received bytes.
        available: usize,
    },
}

/// The header of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    /// The message type.
    pub kind: u16,
    /// `NLM_F_*`
    pub flags: u16,
    /// Repeated in every message of the answer.
    pub sequence: u32,
}

impl Header {
    /// The bytes of one message.
    pub(crate) fn with_body(self, body: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + body.len());
        self.append(body, &mut bytes);
        bytes
    }

    /// Appends one message to others. All but the last must be padded to four bytes.
    pub(crate) fn append(self, body: &[u8], bytes: &mut Vec<u8>) {
        let length = HEADER + body.len();
        bytes.extend_from_slice(&(length as u32).to_ne_bytes());
        bytes.extend_from_slice(&self.kind.to_ne_bytes());
        bytes.extend_from_slice(&self.flags.to_ne_bytes());
        bytes.extend_from_slice(&self.sequence.to_ne_bytes());
        bytes.extend_from_slice(&0u32.to_ne_bytes());
        bytes.extend_from_slice(body);
    }
}

/// One received message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    /// The message type.
    pub kind: u16,
    /// `NLM_F_*`
    pub flags: u16,
    /// The request's sequence number; 0 for events.
    pub sequence: u32,
    /// The bytes after the header.
    pub body: &'a [u8],
}

impl Message<'_> {
    /// The error number of a message of type [`NLMSG_ERROR`] or [`NLMSG_DONE`]; 0 is success.
    pub(crate) fn errno(&self) -> i32 {
        self.body.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code).saturating_neg().max(0))
    }
}

/// The messages of one read.
#[derive(Clone, Debug)]
pub(crate) struct Messages<'a> {
    rest: &'a [u8],
}

impl<'a> Messages<'a> {
    /// All messages in `bytes`.
    pub(crate) fn new(bytes: &'a [u8]) -> Messages<'a> {
        Messages { rest: bytes }
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let available = self.rest.len();
        let message = split_message(self.rest);
        match message {
            Some((message, rest)) => {
                self.rest = rest;
                Some(Ok(message))
            }
            None => {
                let length = self.rest.first_chunk().map_or(0, |l| u32::from_ne_bytes(*l));
                self.rest = &[];
                Some(Err(WireError::Length { length, available }))
            }
        }
    }
}

/// `length` rounded up to the next start of a message or attribute: `NLMSG_ALIGN`, `NLA_ALIGN`.
/// This is the hottest path, where `next_multiple_of` and its check for an impossible overflow take
/// a third of the decoding.
fn aligned(length: usize) -> usize {
    length.saturating_add(3) & !3
}

fn split_message(bytes: &[u8]) -> Option<(Message<'_>, &[u8])> {
    let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
    let whole = bytes.get(..length)?;
    let message = Message {
        kind: u16::from_ne_bytes(*whole.get(4..)?.first_chunk()?),
        flags: u16::from_ne_bytes(*whole.get(6..)?.first_chunk()?),
        sequence: u32::from_ne_bytes(*whole.get(8..)?.first_chunk()?),
        body: whole.get(HEADER..)?,
    };
    Some((message, bytes.get(aligned(length)..).unwrap_or_default()))
}

/// One attribute.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attribute<'a> {
    /// The type, without the `NESTED` and `NET_BYTEORDER` flags.
    pub kind: u16,
    /// The value.
    pub value: &'a [u8],
}

impl<'a> Attribute<'a> {
    /// The attributes inside a nested one.
    pub(crate) fn nested(&self) -> Attributes<'a> {
        Attributes::new(self.value)
    }

    /// The value as a byte; `None` if it is empty.
    pub(crate) fn u8(&self) -> Option<u8> {
        self.value.first().copied()
    }

    /// The value as a number in network byte order; `None` if it is too short.
    pub(crate) fn be16(&self) -> Option<u16> {
        self.value.first_chunk().map(|v| u16::from_be_bytes(*v))
    }

    /// The value as a number in network byte order; `None` if it is too short.
    pub(crate) fn be32(&self) -> Option<u32> {
        self.value.first_chunk().map(|v| u32::from_be_bytes(*v))
    }

    /// The value as a number in network byte order; `None` if it is too short.
    pub(crate) fn be64(&self) -> Option<u64> {
        self.value.first_chunk().map(|v| u64::from_be_bytes(*v))
    }
}

/// Appends one attribute, padded. Its value has at most 64 KiB.
pub(crate) fn put(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = 4 + value.len();
    bytes.extend_from_slice(&(length as u16).to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len() + aligned(length) - length, 0);
}

/// The attributes of a message, up to the first that does not fit into it. In a message that was
/// cut, its decoder then misses an attribute that it needs.
#[derive(Clone, Debug)]
pub(crate) struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Attributes<'a> {
    /// All attributes in `bytes`.
    pub(crate) fn new(bytes: &'a [u8]) -> Attributes<'a> {
        Attributes { rest: bytes }
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    #[inline]
    fn next(&mut self) -> Option<Attribute<'a>> {
        let (header, _) = self.rest.split_first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & NLA_TYPE_MASK;
        let value = self.rest.get(4..length)?;
        self.rest = self.rest.get(aligned(length)..).unwrap_or_default();
        Some(Attribute { kind, value })
    }
}

#[cfg(test)]
pub(crate) mod build {
    //! Encodes attributes, for tests.

    use super::{NESTED, put};

    /// One attribute of type `kind`, padded.
    pub(crate) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        put(&mut bytes, kind, value);
        bytes
    }

    /// An attribute of attributes, with the `NESTED` flag as the kernel sets it.
    pub(crate) fn nested(kind: u16, inner: &[Vec<u8>]) -> Vec<u8> {
        attribute(kind | NESTED, &inner.concat())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_built_is_read_back() {
        let mut bytes = Header { kind: 7, flags: 0x301, sequence: 9 }.with_body(&[1, 2, 3, 4]);
        bytes.extend(Header { kind: 8, flags: 0, sequence: 10 }.with_body(&[]));
        let read: Vec<_> = Messages::new(&bytes).map(Result::unwrap).collect();
        assert_eq!(read.len(), 2);
        assert_eq!((read[0].kind, read[0].flags, read[0].sequence), (7, 0x301, 9));
        assert_eq!(read[0].body, [1, 2, 3, 4]);
        assert_eq!((read[1].kind, read[1].body.len()), (8, 0));
    }

    #[test]
    fn an_error_message_gives_its_errno() {
        let body = (-1i32).to_ne_bytes();
        let message = Message { kind: NLMSG_ERROR, flags: 0, sequence: 0, body: &body };
        assert_eq!(message.errno(), 1);
        assert_eq!(Message { body: &[], ..message }.errno(), 0);
    }

    #[test]
    fn a_message_that_is_cut_is_an_error_and_ends_the_read() {
        let bytes = Header { kind: 7, flags: 0, sequence: 9 }.with_body(&[1, 2, 3, 4]);
        let mut messages = Messages::new(&bytes[..18]);
        assert_eq!(messages.next(), Some(Err(WireError::Length { length: 20, available: 18 })));
        assert_eq!(messages.next(), None);
    }

    #[test]
    fn attributes_lose_their_flags_and_padding() {
        let bytes = [build::nested(9, &[build::attribute(2, &[1, 2, 3])]), vec![0xff; 3]].concat();
        let mut attributes = Attributes::new(&bytes);
        let outer = attributes.next().unwrap();
        assert_eq!(outer.kind, 9);
        let inner: Vec<_> = outer.nested().map(|a| (a.kind, a.value.to_vec())).collect();
        assert_eq!(inner, [(2, vec![1, 2, 3])]);
        assert!(attributes.next().is_none());
    }

    proptest! {
        #[test]
        fn no_bytes_panic_or_loop(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for message in Messages::new(&bytes).flatten() {
                message.errno();
                for attribute in Attributes::new(message.body) {
                    for inner in attribute.nested() {
                        let _ = (inner.u8(), inner.be16(), inner.be32(), inner.be64());
                    }
                }
            }
            prop_assert!(Attributes::new(&bytes).count() <= bytes.len() / 4);
        }
    }
}
