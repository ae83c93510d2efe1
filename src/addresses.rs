//! The addresses of this host, which decide which ends of a flow are here.

use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;

use crate::model::flow::Address;
use crate::netlink::wire::Attributes;
use crate::netlink::{Netlink, NetlinkError, Subsystem};

/// `RTM_GETADDR` (`include/uapi/linux/rtnetlink.h`)
const RTM_GETADDR: u16 = 22;
/// `struct ifaddrmsg` (`include/uapi/linux/if_addr.h`): `AF_UNSPEC`, and no other filter.
const IFADDRMSG: [u8; 8] = [0; 8];
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;

/// Every address at which this network namespace receives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LocalAddresses {
    /// The index of the interface with each address, or 0.
    own: HashMap<Address, u32, RandomState>,
    broadcast: HashSet<Address, RandomState>,
}

impl LocalAddresses {
    /// Whether a packet from `address` was sent by this host.
    pub(crate) fn sends_from(&self, address: &Address) -> bool {
        address.is_loopback() || self.own.contains_key(address)
    }

    /// Whether `address` is unique to this host, unlike loopback addresses.
    pub(crate) fn is_known_as(&self, address: &Address) -> bool {
        !address.is_loopback() && self.own.contains_key(address)
    }

    /// Whether this host receives packets to `address`: its own addresses, broadcasts and multicast
    /// groups.
    pub(crate) fn receives_at(&self, address: &Address) -> bool {
        self.sends_from(address) || self.broadcast.contains(address) || address.is_multicast()
    }

    /// All listed addresses of its own, including loopback.
    pub(crate) fn own(&self) -> impl Iterator<Item = Address> {
        self.own.keys().copied()
    }

    /// Adds an address of this host.
    pub(crate) fn insert(&mut self, address: Address) {
        self.own.insert(address, 0);
    }

    /// All listed broadcast addresses.
    pub(crate) fn broadcasts(&self) -> impl Iterator<Item = Address> {
        self.broadcast.iter().copied()
    }

    /// Adds a broadcast address.
    pub(crate) fn insert_broadcast(&mut self, address: Address) {
        self.broadcast.insert(address);
    }

    /// The index of the interface with this address; 0 if it is not listed.
    pub(crate) fn interface(&self, address: &Address) -> u32 {
        self.own.get(address).copied().unwrap_or(0)
    }

    /// Takes one message of an address dump. A message without an address is skipped: an interface
    /// may be unnumbered.
    fn take(&mut self, body: &[u8]) {
        let Some((header, attributes)) = body.split_first_chunk::<8>() else { return };
        let [.., a, b, c, d] = *header;
        let interface = u32::from_ne_bytes([a, b, c, d]); // ifa_index
        let (mut address, mut local) = (None, None);
        for attribute in Attributes::new(attributes) {
            match attribute.kind {
                IFA_ADDRESS => address = parse(attribute.value),
                IFA_LOCAL => local = parse(attribute.value),
                IFA_BROADCAST => self.broadcast.extend(parse(attribute.value)),
                _ => {}
            }
        }
        // On a point-to-point link IFA_ADDRESS is the peer's and IFA_LOCAL this host's.
        self.own.extend(local.or(address).map(|address| (address, interface)));
    }
}

fn parse(value: &[u8]) -> Option<Address> {
    match value.len() {
        4 => value.try_into().ok().map(Address::from_v4),
        _ => value.try_into().ok().map(Address::from_v6),
    }
}

/// Lists the addresses of the network namespace in which it was opened.
#[derive(Debug)]
pub(crate) struct Reader {
    netlink: Netlink,
}

impl Reader {
    /// Opens a routing socket.
    ///
    /// # Errors
    /// Those of socket(2).
    pub(crate) fn open() -> std::io::Result<Reader> {
        Ok(Reader { netlink: Netlink::open(Subsystem::Route)? })
    }

    /// Lists the current addresses.
    ///
    /// # Errors
    /// Those of the exchange with the kernel.
    pub(crate) fn read(&mut self) -> Result<LocalAddresses, NetlinkError> {
        let mut addresses = LocalAddresses::default();
        // An address that changes meanwhile is correct at the next look.
        self.netlink.dump(RTM_GETADDR, &IFADDRMSG, |message| addresses.take(message.body))?;
        Ok(addresses)
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;
    use crate::netlink::wire::build::attribute;

    fn address(text: &str) -> Address {
        text.parse::<IpAddr>().unwrap().into()
    }

    fn taken(attributes: &[Vec<u8>]) -> LocalAddresses {
        let mut addresses = LocalAddresses::default();
        addresses.take(&[IFADDRMSG.to_vec(), attributes.concat()].concat());
        addresses
    }

    #[test]
    fn an_ethernet_address_with_its_broadcast() {
        let local = taken(&[
            attribute(IFA_ADDRESS, &[10, 0, 0, 1]),
            attribute(IFA_LOCAL, &[10, 0, 0, 1]),
            attribute(IFA_BROADCAST, &[10, 0, 0, 255]),
        ]);
        assert!(local.sends_from(&address("10.0.0.1")));
        assert!(!local.sends_from(&address("10.0.0.255")));
        assert!(local.receives_at(&address("10.0.0.255")));
        assert!(!local.receives_at(&address("10.0.0.2")));
    }

    #[test]
    fn an_address_has_its_interface() {
        let mut local = LocalAddresses::default();
        let header = [2, 24, 0x80, 0, 3, 0, 0, 0]; // AF_INET, /24, IFA_F_PERMANENT, universe, ifa_index 3
        local.take(&[header.to_vec(), attribute(IFA_LOCAL, &[10, 0, 0, 1])].concat());
        assert_eq!(local.interface(&address("10.0.0.1")), u32::from_ne_bytes([3, 0, 0, 0]));
        assert_eq!(local.interface(&address("10.0.0.2")), 0);
    }

    #[test]
    fn a_point_to_point_links_peer_is_not_us() {
        let local =
            taken(&[attribute(IFA_ADDRESS, &[10, 0, 0, 2]), attribute(IFA_LOCAL, &[10, 0, 0, 1])]);
        assert!(local.sends_from(&address("10.0.0.1")));
        assert!(!local.sends_from(&address("10.0.0.2")));
    }

    #[test]
    fn an_ipv6_address_has_no_local_attribute() {
        let mut bytes = [0; 16];
        bytes[0] = 0xfd;
        bytes[15] = 1;
        assert!(taken(&[attribute(IFA_ADDRESS, &bytes)]).sends_from(&address("fd00::1")));
    }

    #[test]
    fn loopback_and_multicast_are_here_without_being_listed() {
        let none = LocalAddresses::default();
        assert!(none.sends_from(&address("127.3.2.1")) && none.sends_from(&address("::1")));
        assert!(!none.sends_from(&address("224.0.0.251")));
        assert!(none.receives_at(&address("224.0.0.251")) && none.receives_at(&address("ff02::1")));
    }

    #[test]
    fn the_kernel_answers() {
        Reader::open().unwrap().read().unwrap();
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            LocalAddresses::default().take(&bytes);
        }
    }
}
