//! Against the real `/proc`: this test's own sockets, and children that inherit them.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::{FdFlags, fcntl_setfd};

use super::*;
use crate::sockets::Reader;

/// One test at a time: a child of another test would inherit this one's socket too.
static ALONE: Mutex<()> = Mutex::new(());

struct Setup {
    _alone: MutexGuard<'static, ()>,
    listener: TcpListener,
    inode: Inode,
    reader: Reader,
    table: SocketTable,
    owners: Owners,
}

impl Setup {
    fn new() -> Setup {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut reader = Reader::open(Path::new("/proc"));
        let mut table = SocketTable::default();
        reader.read(false, &mut table).unwrap();
        let port = listener.local_addr().unwrap().port();
        let ours = table.iter().find(|s| s.tuple.source.port == port && !s.is_connected());
        let inode = ours.and_then(|s| s.inode).unwrap();
        let mut setup = Setup {
            _alone,
            listener,
            inode,
            reader,
            table,
            owners: Owners::open(Path::new("/proc")).unwrap(),
        };
        // A child of some other test may hold it too, between fork and exec.
        setup.look();
        setup
    }

    fn look(&mut self) -> Look {
        self.reader.read(false, &mut self.table).unwrap();
        self.owners.look(&self.table).unwrap()
    }

    fn pid(&mut self) -> Option<u32> {
        match self.owners.owner(self.inode) {
            Ownership::Process(id) => Some(id.pid),
            _ => None,
        }
    }

    /// A child that has inherited the socket. It ends by itself.
    fn heir(&self) -> Heir {
        fcntl_setfd(&self.listener, FdFlags::empty()).unwrap();
        let child = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
        fcntl_setfd(&self.listener, FdFlags::CLOEXEC).unwrap();
        Heir(child)
    }
}

struct Heir(Child);

impl Heir {
    fn end(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Heir {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_socket_is_its_only_holders_with_its_command_line() {
    let mut setup = Setup::new();
    setup.look();
    let Ownership::Process(id) = setup.owners.owner(setup.inode) else { panic!("nobody") };
    assert_eq!(id.pid, std::process::id());
    let cmdline = std::fs::read("/proc/self/cmdline").unwrap();
    let expected: Vec<u8> = cmdline.into_iter().map(|b| if b == 0 { b' ' } else { b }).collect();
    assert_eq!(setup.owners.described(id).map(|d| d.command_line.to_vec()), Some(expected));
    let before = ProcessId { start_time: id.start_time - 1, ..id };
    assert_eq!(setup.owners.described(before), None);
}

#[test]
fn a_shared_socket_is_the_youngest_holders_then_the_ones_that_is_left() {
    let mut setup = Setup::new();
    setup.look();
    assert_eq!(setup.pid(), Some(std::process::id()));
    let mut heir = setup.heir();
    setup.look();
    assert_eq!(setup.pid(), Some(std::process::id()), "it may be about to call exec");
    setup.look();
    assert_eq!(setup.pid(), Some(heir.0.id()));
    heir.end();
    // What an earlier look saw is checked before it is believed.
    assert_eq!(setup.pid(), Some(std::process::id()));
    let look = setup.look();
    assert!(look.ended.iter().any(|id| id.pid == heir.0.id()), "{look:?}");
    assert_eq!(setup.pid(), Some(std::process::id()));
}

#[test]
fn a_socket_that_was_handed_on_is_its_holders() {
    let mut setup = Setup::new();
    setup.look();
    let heir = setup.heir();
    // The parent closes its copy; the socket lives on in the child alone.
    let Setup { _alone, listener, inode, mut reader, mut table, mut owners } = setup;
    drop(listener);
    reader.read(false, &mut table).unwrap();
    owners.look(&table).unwrap();
    let Ownership::Process(id) = owners.owner(inode) else { panic!("nobody") };
    assert_eq!(id.pid, heir.0.id());
}

/// A forking server closes a connection that its child keeps, and the next one gets the number
/// of that descriptor: taking the number for the old connection would hide the new one.
#[test]
fn a_descriptor_number_that_is_used_again_hides_no_socket() {
    let mut setup = Setup::new();
    setup.look();
    let _heir = setup.heir();
    setup.look();
    let mut fresh = TcpListener::bind("127.0.0.1:0").unwrap();
    std::mem::swap(&mut setup.listener, &mut fresh);
    let moved = rustix::io::dup(&setup.listener).unwrap(); // keep the number of descriptors
    drop(fresh);
    setup.look();
    let port = setup.listener.local_addr().unwrap().port();
    let inode = setup
        .table
        .iter()
        .find(|s| s.tuple.source.port == port && !s.is_connected())
        .and_then(|s| s.inode)
        .unwrap();
    setup.inode = inode;
    assert_eq!(setup.pid(), Some(std::process::id()));
    drop(moved);
}

#[test]
fn a_closed_socket_is_nobodys_and_forgotten() {
    let Setup { _alone, listener, inode, mut reader, mut table, mut owners } = Setup::new();
    reader.read(false, &mut table).unwrap();
    owners.look(&table).unwrap();
    owners.look(&table).unwrap();
    drop(listener);
    assert_eq!(owners.owner(inode), Ownership::Nobody);
    reader.read(false, &mut table).unwrap();
    owners.look(&table).unwrap();
    assert!(!owners.holders.contains_key(&inode) && !owners.unknown.contains_key(&inode));
}

#[test]
fn a_proc_that_is_none_is_an_error() {
    assert_eq!(Owners::open(Path::new("/nonexistent")).unwrap_err(), Errno::NOENT);
}

#[test]
fn processes_that_come_and_go_while_they_are_looked_at_are_no_trouble() {
    let mut setup = Setup::new();
    let busy = std::thread::spawn(|| {
        for _ in 0..150 {
            Command::new("true").status().unwrap();
        }
    });
    while !busy.is_finished() {
        let look = setup.look();
        assert_eq!(look.failed, None);
        // A child that is about to call exec may hold it too, but never nobody does.
        assert!(setup.pid().is_some());
    }
    busy.join().unwrap();
    setup.look();
    assert_eq!(setup.pid(), Some(std::process::id()));
}
