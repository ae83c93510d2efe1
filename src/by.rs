//! Groups the rows of a snapshot by what people ask for: users, units, remote hosts, interfaces, and combinations.
//!
//! Grouping is a view of a snapshot, so that it can change at any time without losing anything: every byte of the rows
//! is in exactly one group.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use clap::ValueEnum;
use foldhash::fast::RandomState;

use crate::lookalike::distinct;
use crate::model::traffic::Name;
use crate::model::{
    Account, Attributes, Detail, Group, Kind, Part, Process, Remote, Row, Rows, Snapshot,
};

/// What rows are grouped by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum By {
    /// Each process by itself, with its pid
    Process,
    /// The command line, or the application
    Command,
    /// The name of the program
    Program,
    /// The path of the executable file
    Exe,
    /// The effective user
    User,
    /// The systemd unit
    Unit,
    /// The container
    Container,
    /// The Kubernetes pod
    Pod,
    /// The address of the remote host
    Remote,
    /// The protocol and the port of the remote host
    RemotePort,
    /// The interface of this host
    Interface,
    /// The protocol
    Protocol,
}

impl By {
    /// The name of the value of `--by`.
    pub const fn name(self) -> &'static str {
        match self {
            By::Process => "process",
            By::Command => "command",
            By::Program => "program",
            By::Exe => "exe",
            By::User => "user",
            By::Unit => "unit",
            By::Container => "container",
            By::Pod => "pod",
            By::Remote => "remote",
            By::RemotePort => "remote-port",
            By::Interface => "interface",
            By::Protocol => "protocol",
        }
    }

    /// Whether it takes the remote ends of processes.
    pub const fn needs_details(self) -> bool {
        matches!(self, By::Remote | By::RemotePort | By::Interface | By::Protocol)
    }

    /// Whether it takes the attributes of processes.
    pub const fn needs_attributes(self) -> bool {
        matches!(self, By::Program | By::Exe | By::User | By::Unit | By::Container | By::Pod)
    }

    /// What is shown if a process or a remote end has none.
    const fn none(self) -> &'static str {
        match self {
            By::Process => "(no process)",
            By::Command => "(no command)",
            By::Program => "(program unknown)",
            By::Exe => "(file unknown)",
            By::User => "(user unknown)",
            By::Unit => "(no unit)",
            By::Container => "(no container)",
            By::Pod => "(no pod)",
            By::Remote => "(other remotes)",
            By::RemotePort => "(other ports)",
            By::Interface => "(interface unknown)",
            By::Protocol => "(other protocols)",
        }
    }
}

/// Names of addresses and ports, for people.
pub trait Names: std::fmt::Debug + Send + Sync {
    /// The name of an address; `None` if it has none, or it is not known yet.
    fn host(&self, address: IpAddr) -> Option<Arc<str>>;

    /// The name of a port of this protocol.
    fn service(&self, protocol: u8, port: u16) -> Option<&str>;
}

/// A part of a row whose bytes have the same process or the same attributes.
struct Of<'a> {
    row: &'a Row,
    process: Option<&'a Process>,
    attributes: Option<&'a Attributes>,
}

impl Of<'_> {
    /// The value of this part; `None` if it has none.
    fn value(&self, by: By, remote: Option<&Remote>, names: Option<&dyn Names>) -> Option<Name> {
        let attributes = self.attributes;
        let text = |text: String| Name::from(text.into_bytes());
        match by {
            By::Process => {
                let process = self.process?;
                let pid = format!("{} ", process.pid);
                Some([pid.as_bytes(), &process.command_line].concat().into())
            }
            // It is distinct already.
            By::Command => Some(self.row.name.clone()),
            By::Program => attributes?.program.as_ref().map(distinct),
            By::Exe => attributes?.exe.as_ref().map(distinct),
            By::User => attributes?.user.as_ref().map(distinct),
            By::Unit => attributes?.unit.as_ref().map(distinct),
            By::Container => attributes?.container.as_ref().map(distinct),
            By::Pod => attributes?.pod.as_ref().map(distinct),
            By::Remote => {
                let address = remote?.remote.address.to_ip();
                let name = names.and_then(|names| names.host(address));
                Some(name.map_or_else(|| text(address.to_string()), |name| text(name.to_string())))
            }
            By::RemotePort => {
                let Remote { protocol, remote, .. } = remote?;
                let service = names.and_then(|names| names.service(protocol.0, remote.port));
                Some(match (service, remote.port) {
                    (Some(service), _) => text(format!("{protocol}/{service}")),
                    (None, 0) => text(protocol.to_string()),
                    (None, port) => text(format!("{protocol}/{port}")),
                })
            }
            By::Interface => remote?.interface.name().map(|name| distinct(&name.into())),
            By::Protocol => Some(text(remote?.protocol.to_string())),
        }
    }
}

/// The groups while they are added up.
#[derive(Default)]
struct Groups {
    rows: Rows,
    /// The names of the groups, by their values.
    names: HashMap<Vec<Option<Name>>, Name, RandomState>,
}

impl Groups {
    fn add(&mut self, by: &[By], values: Vec<Option<Name>>, account: Account) -> &mut Row {
        let name = self.names.entry(values.clone()).or_insert_with(|| {
            let parts: Vec<&[u8]> = by
                .iter()
                .zip(&values)
                .map(|(by, value)| value.as_deref().unwrap_or(by.none().as_bytes()))
                .collect();
            parts.join(&b", "[..]).into()
        });
        let row = self.rows.add(name, Kind::Group, account);
        if row.group.is_empty() {
            let values = by.iter().zip(values);
            row.group = values.map(|(by, value)| Group { by: by.name(), value }).collect();
        }
        row
    }
}

/// The rows of a snapshot, grouped. `names` gives names instead of addresses and ports.
///
/// Each group has the parts of its rows: the processes, with those of their bytes that belong to it. Call it with a
/// snapshot that has what the values need: see [`By::needs_details`], [`By::needs_attributes`].
pub fn grouped(snapshot: &Snapshot, by: &[By], names: Option<&dyn Names>) -> Vec<Row> {
    let mut groups = Groups::default();
    let has_details = by.iter().any(|by| by.needs_details());
    for row in &snapshot.rows {
        let mut rest = row.account;
        for process in &row.processes {
            rest = rest - process.account;
            let attributes = process.attributes.as_deref();
            let of = Of { row, process: Some(process), attributes };
            let Process { account, details, .. } = process;
            each(*account, details, has_details, |account, details| {
                let remote = remote_of(details, has_details);
                let values = by.iter().map(|by| of.value(*by, remote, names)).collect();
                let group = groups.add(by, values, account);
                // Of several remote ends in one group the process is one.
                match group.processes.last_mut().filter(|last| last.id() == process.id()) {
                    Some(last) => {
                        last.account += account;
                        last.details.extend(details);
                    }
                    None => group.processes.push(Process {
                        account,
                        details: details.to_vec(),
                        ..process.clone()
                    }),
                }
            });
        }
        let parts: Account = row.parts.iter().map(|part| part.account).sum();
        let rest = Part { account: rest - parts, ..Part::default() };
        let rest = Some(&rest).filter(|rest| !rest.account.is_zero());
        for Part { attributes, account, details } in row.parts.iter().chain(rest) {
            let of = Of { row, process: None, attributes: attributes.as_deref() };
            each(*account, details, has_details, |account, details| {
                let remote = remote_of(details, has_details);
                let values = by.iter().map(|by| of.value(*by, remote, names)).collect();
                let (attributes, details) = (attributes.clone(), details.to_vec());
                let part = Part { attributes, account, details };
                groups.add(by, values, account).parts.push(part);
            });
        }
    }
    let has_any = snapshot.rows.iter().any(|row| !row.details.is_empty());
    groups.rows.finish(has_any)
}

/// The remote end by which bytes are grouped.
fn remote_of(details: &[Detail], has_details: bool) -> Option<&Remote> {
    details.first().filter(|_| has_details)?.remote.as_ref()
}

/// Hands on bytes as a whole or, with `split`, remote end by remote end.
fn each(
    account: Account,
    details: &[Detail],
    split: bool,
    mut each: impl FnMut(Account, &[Detail]),
) {
    if !split {
        return each(account, details);
    }
    let mut rest = account;
    for detail in details {
        rest = rest - detail.account;
        each(detail.account, std::slice::from_ref(detail));
    }
    if !rest.is_zero() {
        each(rest, &[]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Interface;
    use crate::model::flow::{Address, Endpoint, Protocol};
    use crate::model::traffic::Traffic;

    fn account(bytes: u64) -> Account {
        Account { total: Traffic::new(bytes, 2 * bytes), recent: Traffic::new(bytes / 2, 0) }
    }

    fn detail(address: u8, interface: &str, bytes: u64) -> Detail {
        let remote = Endpoint::new(Address::from_v4([192, 0, 2, address]), 443);
        let interface = Interface::named(interface.as_bytes());
        let remote = Remote { protocol: Protocol::TCP, local_port: 9, remote, interface };
        Detail { remote: Some(remote), account: account(bytes) }
    }

    fn attributes(user: &str, unit: Option<&str>) -> Option<Arc<Attributes>> {
        let name = |text: &str| Name::from(text.as_bytes());
        let (user, unit) = (Some(name(user)), unit.map(name));
        Some(Arc::new(Attributes { user, unit, ..Attributes::default() }))
    }

    /// Two processes of one row, ended ones, and a pipe.
    fn snapshot() -> Snapshot {
        let others = Detail { remote: None, account: account(5) };
        let one = Process {
            account: account(105),
            attributes: attributes("jo", Some("web.service")),
            details: vec![detail(1, "eth0", 60), detail(2, "eth1", 40), others],
            ..Process::of(1)
        };
        let two = Process {
            account: account(50),
            attributes: attributes("jo", None),
            details: vec![detail(1, "eth0", 50)],
            ..Process::of(2)
        };
        let ended = Part {
            attributes: attributes("root", Some("web.service")),
            account: account(30),
            details: vec![detail(1, "eth0", 30)],
        };
        let mut row = Row::of((*b"nginx").into(), Kind::Process);
        row.account = [105, 50, 30].into_iter().map(account).sum();
        (row.processes, row.parts) = (vec![one, two], vec![ended]);
        row.details = vec![detail(1, "eth0", 1)];
        let mut pipe = Row::of((*b"pipe-80:a:80").into(), Kind::Pipe);
        pipe.account = account(7);
        Snapshot { rows: vec![row, pipe], ..Snapshot::default() }
    }

    fn sums(by: &[By]) -> Vec<(String, u64)> {
        let snapshot = snapshot();
        let rows = grouped(&snapshot, by, None);
        let all = |rows: &[Row]| rows.iter().map(|row| row.account).sum::<Account>();
        assert_eq!(all(&rows), all(&snapshot.rows), "{by:?}");
        for row in &rows {
            let parts = row.processes.iter().map(|process| process.account);
            let parts: Account = parts.chain(row.parts.iter().map(|part| part.account)).sum();
            assert_eq!(parts, row.account, "{by:?}: {row:?}");
        }
        let text = |name: &Name| String::from_utf8_lossy(name).into_owned();
        let mut sums: Vec<(String, u64)> =
            rows.iter().map(|row| (text(&row.name), row.account.total.received)).collect();
        sums.sort();
        sums
    }

    fn are(sums: Vec<(String, u64)>, expected: &[(&str, u64)]) {
        let expected: Vec<_> =
            expected.iter().map(|(name, sum)| (name.to_string(), *sum)).collect();
        assert_eq!(sums, expected);
    }

    #[test]
    fn every_byte_is_in_one_group() {
        are(sums(&[By::Command]), &[("nginx", 185), ("pipe-80:a:80", 7)]);
        are(sums(&[By::User]), &[("(user unknown)", 7), ("jo", 155), ("root", 30)]);
        are(sums(&[By::Unit]), &[("(no unit)", 57), ("web.service", 135)]);
        are(sums(&[By::Process]), &[("(no process)", 37), ("1 ", 105), ("2 ", 50)]);
        are(sums(&[By::Remote]), &[("(other remotes)", 12), ("192.0.2.1", 140), ("192.0.2.2", 40)]);
        are(sums(&[By::RemotePort]), &[("(other ports)", 12), ("tcp/443", 180)]);
        are(sums(&[By::Protocol]), &[("(other protocols)", 12), ("tcp", 180)]);
        are(
            sums(&[By::Unit, By::Interface]),
            &[
                ("(no unit), (interface unknown)", 7),
                ("(no unit), eth0", 50),
                ("web.service, (interface unknown)", 5),
                ("web.service, eth0", 90),
                ("web.service, eth1", 40),
            ],
        );
    }

    #[test]
    fn a_group_has_the_values_and_the_processes_with_their_bytes_in_it() {
        let rows = grouped(&snapshot(), &[By::Interface, By::User], None);
        let row = rows.iter().find(|row| &*row.name == b"eth0, jo").unwrap();
        let values: Vec<_> = row.group.iter().map(|of| (of.by, of.value.clone())).collect();
        let name = |text: &[u8]| Some(Name::from(text));
        assert_eq!(values, [("interface", name(b"eth0")), ("user", name(b"jo"))]);
        let processes: Vec<_> =
            row.processes.iter().map(|of| (of.pid, of.account.total.received)).collect();
        assert_eq!(processes, [(1, 60), (2, 50)]);
        assert_eq!(row.details, [detail(1, "eth0", 110)]);
        let unknown = rows.iter().find(|row| &*row.name == b"(interface unknown), (user unknown)");
        assert_eq!(unknown.unwrap().group[0].value, None);
    }

    #[test]
    fn a_value_cannot_pass_for_none() {
        let mut snapshot = snapshot();
        snapshot.rows.truncate(1);
        snapshot.rows[0].processes[0].attributes = attributes("(no user)", Some("(no unit)"));
        let rows = grouped(&snapshot, &[By::Unit], None);
        let names: Vec<_> = rows.iter().map(|row| &*row.name).collect();
        assert!(names.contains(&&b"\\(no unit)"[..]) && names.contains(&&b"(no unit)"[..]));
    }

    #[test]
    fn the_names_of_the_values_are_those_of_the_flag() {
        for by in By::value_variants() {
            assert_eq!(by.to_possible_value().unwrap().get_name(), by.name());
        }
    }
}
