//! Details of bytes: the remote ends and interfaces that they went over, and the attributes of the processes that used
//! them.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::flow::{Endpoint, Protocol};
use super::traffic::Name;
use super::{Account, name};

/// What processes are grouped by beside their command lines. What is not known is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Attributes {
    /// The name of the program: the basename of the first word of the command line. The process can choose it.
    pub program: Option<Name>,
    /// The path of the executable file.
    pub exe: Option<Name>,
    /// The name of the effective user, or the number if it has none.
    pub user: Option<Name>,
    /// The systemd unit.
    pub unit: Option<Name>,
    /// The container.
    pub container: Option<Name>,
    /// The Kubernetes pod.
    pub pod: Option<Name>,
}

impl Attributes {
    /// Bytes of all texts.
    pub(crate) fn bytes(&self) -> usize {
        let Attributes { program, exe, user, unit, container, pod } = self;
        [program, exe, user, unit, container, pod].into_iter().flatten().map(|of| of.len()).sum()
    }
}

/// The name of a network interface, padded with NUL bytes (`IFNAMSIZ`). Whoever made the interface has chosen it.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Interface(pub [u8; 16]);

impl Interface {
    /// An unknown interface.
    pub const UNKNOWN: Interface = Interface([0; 16]);
    /// The loopback device.
    pub const LOOPBACK: Interface = Interface(*b"lo\0\0\0\0\0\0\0\0\0\0\0\0\0\0");

    /// An interface of this name, of which 15 bytes count.
    pub fn named(name: &[u8]) -> Interface {
        let mut bytes = [0; 16];
        let length = name.len().min(15);
        bytes[..length].copy_from_slice(&name[..length]);
        Interface(bytes)
    }

    /// The name; `None` if it is unknown.
    pub fn name(&self) -> Option<&[u8]> {
        self.0.split(|byte| *byte == 0).next().filter(|name| !name.is_empty())
    }
}

impl std::fmt::Debug for Interface {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.name().unwrap_or_default().escape_ascii().to_string())
    }
}

/// One end of traffic, as a socket has it: its own port, the other end, and the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Remote {
    /// The protocol.
    pub protocol: Protocol,
    /// The port on this host; 0 if the protocol has none.
    pub local_port: u16,
    /// The other end. Its port is 0 if the protocol has none.
    pub remote: Endpoint,
    /// The interface of this host.
    pub interface: Interface,
}

/// The lowest port that the kernel gives to a client by itself (`ip_local_port_range`).
const EPHEMERAL: u16 = 32768;

impl Remote {
    /// The remote end of all connections to the same service, without the port that differs from connection to
    /// connection; `None` if there is none.
    pub(crate) fn service(self) -> Option<Remote> {
        match (self.local_port, self.remote.port) {
            (EPHEMERAL.., ..EPHEMERAL) => Some(Remote { local_port: 0, ..self }),
            (_, EPHEMERAL..) => {
                Some(Remote { remote: Endpoint::new(self.remote.address, 0), ..self })
            }
            _ => None,
        }
    }
}

/// The bytes of a remote end, or of all that are not listed one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detail {
    /// The remote end; `None` for the others together: those for which there was no room, and bytes whose remote end is
    /// not known.
    pub remote: Option<Remote>,
    /// Its bytes.
    pub account: Account,
}

impl Serialize for Detail {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(7))?;
        let remote = self.remote.as_ref();
        map.serialize_entry("protocol", &remote.map(|of| of.protocol.to_string()))?;
        let port = |port: u16| (port != 0).then_some(port);
        map.serialize_entry("local_port", &remote.and_then(|of| port(of.local_port)))?;
        let address = remote.map(|of| of.remote.address.to_ip());
        map.serialize_entry("remote_address", &address)?;
        map.serialize_entry("remote_port", &remote.and_then(|of| port(of.remote.port)))?;
        let interface = remote.and_then(|of| of.interface.name());
        map.serialize_entry("interface", &interface.map(name::Text))?;
        map.serialize_entry("total", &self.account.total)?;
        map.serialize_entry("recent", &self.account.recent)?;
        map.end()
    }
}

#[cfg(test)]
impl schemars::JsonSchema for Detail {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Detail".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        /// The bytes of a remote end. All keys but the bytes are `null` for the remote ends that are not listed one by
        /// one, and for bytes whose remote end is not known.
        #[derive(schemars::JsonSchema)]
        #[allow(dead_code)]
        struct Detail {
            /// The protocol: `tcp`, `udp`, `proto-N`.
            protocol: Option<String>,
            /// The port on this host; `null` if the protocol has none.
            local_port: Option<u16>,
            /// The IP address of the other end.
            remote_address: Option<std::net::IpAddr>,
            /// The port of the other end; `null` if the protocol has none.
            remote_port: Option<u16>,
            /// The interface of this host; `null` if the source does not know it.
            #[schemars(schema_with = "name::schema_of_optional")]
            interface: Option<String>,
            /// All bytes so far, as far back as the source reaches.
            total: super::traffic::Traffic,
            /// Bytes since the snapshot before.
            recent: super::traffic::Traffic,
        }
        Detail::json_schema(generator)
    }
}

/// The bytes of a part of a row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// What the processes of this part have in common.
    pub attributes: Option<std::sync::Arc<Attributes>>,
    /// Its bytes.
    pub account: Account,
    /// Its remote ends, which add up to `account`; empty if they were not asked for.
    pub details: Vec<Detail>,
}
