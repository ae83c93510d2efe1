//! With the real `/proc`: the test's own sockets, and children that inherit them.

use std::cell::RefCell;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{Pid, Signal, kill_process_group};

use super::*;
use crate::processes::few::Few;
use crate::sockets::{Reader, SocketTable};
use crate::until::until;

struct Setup {
    few: Few,
    /// The process groups of the children.
    groups: RefCell<Vec<u32>>,
    listener: TcpListener,
    inode: Inode,
    reader: Reader,
    table: SocketTable,
    owners: Owners,
}

impl Setup {
    /// A procfs with only the test process and the children of this test.
    fn new() -> Setup {
        let few = Few::new();
        let owners = Owners::open(few.path()).unwrap();
        Setup::with(few, owners)
    }

    fn with(few: Few, owners: Owners) -> Setup {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut reader = Reader::open(Path::new("/proc"));
        let mut table = SocketTable::default();
        reader.read(false, &mut table).unwrap();
        let port = listener.local_addr().unwrap().port();
        let ours = table.iter().find(|s| s.tuple.source.port == port && !s.is_connected());
        let inode = ours.and_then(|s| s.inode).unwrap();
        let groups = RefCell::default();
        let mut setup = Setup { few, groups, listener, inode, reader, table, owners };
        setup.look();
        setup
    }

    fn look(&mut self) -> Look {
        self.few.sweep();
        self.groups.borrow().iter().for_each(|group| self.few.add_group(*group));
        self.reader.read(false, &mut self.table).unwrap();
        self.owners.look(self.table.inodes()).unwrap()
    }

    fn pid(&mut self) -> Option<u32> {
        match self.owners.owner(self.inode) {
            Ownership::Process(id) => Some(id.pid),
            _ => None,
        }
    }

    /// A child that has inherited the socket. It ends by itself.
    fn heir(&self) -> Heir {
        self.heir_that("exec sleep 60")
    }

    /// A child that runs this shell script, with the socket as its standard input.
    fn heir_that(&self, script: &str) -> Heir {
        let listener = std::os::fd::OwnedFd::from(self.listener.try_clone().unwrap());
        let mut shell = Command::new("sh");
        let heir = shell.args(["-c", script]).stdin(listener).process_group(0).spawn().unwrap();
        self.groups.borrow_mut().push(heir.id());
        self.few.add(heir.id());
        Heir(heir)
    }

    fn acceptor(&mut self) -> Option<u32> {
        self.owners.acceptor([self.inode].into_iter()).map(|id| id.pid)
    }

    fn holders(&self) -> Vec<u32> {
        let mut holders: Vec<u32> = self.owners.holders(self.inode).collect();
        holders.sort_unstable();
        holders.dedup();
        holders
    }

    fn sole(&self) -> Option<u32> {
        self.owners.sole(self.inode).map(|id| id.pid)
    }

    /// Closes the socket here: the children that have inherited it still hold it.
    fn leave_to_heirs(&mut self) {
        // The number is nothing else's, not even for as long as it takes to list descriptors.
        self.listener = fcntl_dupfd_cloexec(&self.listener, 1000).unwrap().into();
        self.look();
        self.listener = TcpListener::bind("127.0.0.1:0").unwrap();
    }

    /// Leaves the socket to two children with the same name, and returns their pids.
    fn leave_to_two(&mut self) -> ([Heir; 2], [u32; 2]) {
        let heirs = [self.heir(), self.heir()];
        let pids = heirs.each_ref().map(|heir| heir.0.id());
        self.leave_to_heirs();
        self.look_until(|setup| {
            // Until they have called exec they are called as this test is.
            let named = pids.map(|pid| std::fs::read(format!("/proc/{pid}/cmdline")).ok());
            setup.holders() == pids && named.iter().flatten().all(|name| name.starts_with(b"sleep"))
        });
        (heirs, pids)
    }

    /// Takes looks until the condition holds.
    fn look_until(&mut self, mut so: impl FnMut(&mut Setup) -> bool) {
        let start = Instant::now();
        loop {
            self.look();
            if so(self) {
                return;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "it never was so");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

struct Heir(Child);

impl Heir {
    fn end(&mut self) {
        if let Some(group) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.0.wait();
    }
}

impl Drop for Heir {
    fn drop(&mut self) {
        self.end();
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
    let Setup { few: _few, groups: _, listener, inode, mut reader, mut table, mut owners } = setup;
    drop(listener);
    reader.read(false, &mut table).unwrap();
    owners.look(table.inodes()).unwrap();
    let Ownership::Process(id) = owners.owner(inode) else { panic!("nobody") };
    assert_eq!(id.pid, heir.0.id());
}

/// A forking server closes a connection that its child keeps, and the next one gets the number of
/// that descriptor: assuming the old connection there would hide the new one.
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
    let Setup { few: _few, groups: _, listener, inode, mut reader, mut table, mut owners } =
        Setup::new();
    reader.read(false, &mut table).unwrap();
    owners.look(table.inodes()).unwrap();
    owners.look(table.inodes()).unwrap();
    drop(listener);
    // A child of another test has it until it calls exec.
    until("nobody has it", || {
        reader.read(false, &mut table).unwrap();
        (!table.inodes().any(|listed| listed == inode)).then_some(())
    });
    assert_eq!(owners.owner(inode), Ownership::Nobody);
    owners.look(table.inodes()).unwrap();
    assert!(!owners.holders.contains_key(&inode) && !owners.unknown.contains_key(&inode));
}

#[test]
fn a_proc_that_is_none_is_an_error() {
    assert_eq!(Owners::open(Path::new("/nonexistent")).unwrap_err(), Errno::NOENT);
}

#[test]
fn processes_that_come_and_go_while_they_are_looked_at_are_no_trouble() {
    // All of the host, other tests' children among them.
    let mut setup = Setup::with(Few::new(), Owners::open(Path::new("/proc")).unwrap());
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
    setup.look_until(|setup| setup.pid() == Some(std::process::id()));
}

#[test]
fn who_holds_a_listening_socket_alone_accepts_there() {
    let mut setup = Setup::new();
    let own = Some(std::process::id());
    setup.look_until(|setup| (setup.sole(), setup.acceptor()) == (own, own));
    // Twice, and it is still alone.
    let _second = setup.listener.try_clone().unwrap();
    setup.look_until(|setup| setup.holders() == [std::process::id()]);
    assert_eq!(setup.sole(), own);
    let acceptors = setup.owners.acceptors(setup.inode).unwrap();
    assert_eq!((Some(acceptors.process.pid), acceptors.holders()), (own, 1));
    assert_eq!(setup.owners.acceptors(Inode(0)), None);
    assert_eq!((setup.owners.sole(Inode(0)), setup.owners.acceptor([].into_iter())), (None, None));
}

#[test]
fn a_child_that_has_inherited_a_listening_socket_may_accept_too() {
    let mut setup = Setup::new();
    let mut heir = setup.heir();
    let (own, child) = (std::process::id(), heir.0.id());
    setup.look_until(|setup| setup.holders().contains(&child));
    assert_eq!(setup.sole(), None);
    assert_eq!(setup.acceptor(), None, "they have different names, and both may have run");
    assert_eq!(setup.owners.acceptors(setup.inode), None);
    heir.end();
    setup.look_until(|setup| (setup.sole(), setup.acceptor()) == (Some(own), Some(own)));
}

/// Between fork and exec a child holds all sockets of its parent.
#[test]
fn a_child_that_has_let_go_of_a_listening_socket_accepts_nothing() {
    let mut setup = Setup::new();
    let own = Some(std::process::id());
    // This one holds it until the file is there.
    let file = std::env::temp_dir().join(format!("bwmon-let-go-{}", std::process::id()));
    let wait = format!("until [ -e '{}' ]; do sleep 0.01; done", file.display());
    let mut heir = setup.heir_that(&format!("ulimit -t 20; {wait}; exec <&- sleep 60"));
    let child = heir.0.id();
    setup.look_until(|setup| setup.holders().contains(&child));
    assert_eq!(setup.sole(), None);
    std::fs::write(&file, []).unwrap();
    setup.look_until(|setup| setup.sole() == own);
    std::fs::remove_file(&file).unwrap();
    assert_eq!(setup.acceptor(), own);
    assert!(heir.0.try_wait().unwrap().is_none(), "it is still there");
}

/// A server whose parent has forked its workers and waits for them.
#[test]
fn who_has_not_run_has_accepted_nothing() {
    let mut setup = Setup::new();
    // No longer than twenty seconds of a processor.
    let heir = setup.heir_that("ulimit -t 20; exec 3<&0; sh -c 'while :; do :; done' busy & wait");
    let parent = heir.0.id();
    setup.leave_to_heirs();
    let mut holders = Vec::new();
    setup.look_until(|setup| {
        holders = setup.holders();
        // Its child has called exec.
        let child = holders.iter().find(|pid| **pid != parent);
        let named = child.and_then(|pid| std::fs::read(format!("/proc/{pid}/cmdline")).ok());
        let is_busy = named.is_some_and(|name| name.ends_with(b"busy\0"));
        is_busy && holders.len() == 2 && holders.contains(&parent)
    });
    let busy = holders.iter().copied().find(|pid| *pid != parent).unwrap();
    assert_eq!(setup.acceptor(), None, "nothing was noted");
    setup.owners.note_run_times(&holders);
    assert_eq!(setup.acceptor(), None, "what came before the first note is unknown");
    // A signal, or a look at it, may have made the parent run once more.
    setup.look_until(|setup| {
        setup.owners.note_run_times(&holders);
        setup.acceptor() == Some(busy)
    });
    let acceptors = setup.owners.acceptors(setup.inode).unwrap();
    assert_eq!((acceptors.process.pid, &acceptors.alike[..]), (busy, &[busy][..]));
    let run_times = setup.owners.processes[&parent].run_times;
    assert_eq!(acceptors.resting, [(parent, run_times[0].unwrap())]);
    assert_eq!(setup.sole(), None);
    setup.owners.note_run_times(&[0, u32::MAX]); // there are none
}

#[test]
fn of_several_that_are_called_the_same_it_is_the_youngest() {
    let mut setup = Setup::new();
    let (_heirs, [_, second]) = setup.leave_to_two();
    assert_eq!((setup.acceptor(), setup.sole()), (Some(second), None));
    let acceptors = setup.owners.acceptors(setup.inode).unwrap();
    assert_eq!((acceptors.process.pid, acceptors.holders()), (second, 2));
    assert!(acceptors.resting.is_empty(), "whoever runs, the name is the same");
}

/// A process that is about to end frees its command line before its descriptors.
#[test]
fn one_that_is_about_to_end_is_called_as_its_program_is() {
    let mut setup = Setup::new();
    let (_heirs, [first, second]) = setup.leave_to_two();
    let end = |setup: &mut Setup, pid: u32, comm: &[u8]| {
        let id = setup.owners.describe(pid).unwrap();
        setup.owners.names.cut(id, comm);
    };
    end(&mut setup, second, b"sleep");
    assert_eq!(setup.acceptor(), Some(first));
    end(&mut setup, second, b"wake");
    assert_eq!(setup.acceptor(), None, "it was another program");
    end(&mut setup, second, b"sleep");
    end(&mut setup, first, b"sleep");
    assert_eq!(setup.acceptor(), Some(second), "both are about to end");
}

#[test]
fn where_somebody_may_be_hidden_nobody_is_alone() {
    let mut setup = Setup::new();
    setup.look();
    setup.owners.denied = 1;
    assert_eq!((setup.sole(), setup.acceptor()), (None, None));
    setup.owners.denied = 0;
    setup.owners.whole = false;
    assert_eq!((setup.sole(), setup.acceptor()), (None, None));
}

#[test]
fn who_reads_no_labels_leaves_them_to_the_others_that_share_the_names() {
    let names = Names::default();
    let open = || Owners::with_names(Path::new("/proc"), names.clone()).unwrap();
    let (mut labelled, mut plain) = (open(), open());
    labelled.label_by(vec![super::super::LabelBy::Program]);
    plain.list().unwrap();
    let own = plain.own().unwrap();
    assert_eq!(plain.described(own).unwrap().label, None);
    labelled.list().unwrap();
    assert!(labelled.described(own).unwrap().label.is_some());
    // It has traffic.
    plain.look = 1;
    plain.refresh(own);
    assert!(plain.described(own).unwrap().label.is_some());
}

#[test]
fn every_process_is_in_a_network_namespace() {
    let mut setup = Setup::new();
    setup.look();
    let own = crate::netns::of(Path::new("/proc"), "self").unwrap();
    let here: Vec<u32> =
        setup.owners.namespaces().filter(|(id, _)| *id == own).map(|(_, pid)| pid).collect();
    assert!(here.contains(&std::process::id()));
    let heir = setup.heir();
    setup.look();
    assert!(setup.owners.namespaces().any(|at| at == (own, heir.0.id())));
}

/// A time until which all descriptors are read, on any host.
fn patience() -> Option<Instant> {
    Some(Instant::now() + Duration::from_secs(20))
}

#[test]
fn a_holder_that_was_not_read_yet_is_nobody_knows_whose_until_it_is() {
    let setup = Setup::new();
    let (inode, inodes) = (setup.inode, || setup.table.inodes());
    let nobodys = Inode(u32::MAX);
    let mut owners = Owners::open(Path::new("/proc")).unwrap();
    let own = owners.own().unwrap();
    // A child of another test has it, too, until it calls exec.
    until("it is the test's own alone", || {
        let look = owners.look_until(inodes(), patience(), true).unwrap();
        assert_eq!(look.unread, None);
        (owners.owner(inode) == Ownership::Process(own)).then_some(())
    });
    // Others may be listed later.
    assert_eq!(owners.owner(nobodys), Ownership::Unread);
    owners.look_until(inodes(), patience(), false).unwrap();
    assert!(matches!(owners.owner(inode), Ownership::Process(_)));
    assert_ne!(owners.owner(nobodys), Ownership::Unread);
}

#[test]
fn a_socket_that_is_listed_later_has_the_holder_that_was_read_before() {
    let setup = Setup::new();
    let mut owners = Owners::open(Path::new("/proc")).unwrap();
    owners.look_until(std::iter::empty(), patience(), true).unwrap();
    // No link is read again to find it.
    let own = owners.own().unwrap();
    let scanned = |owners: &Owners| owners.processes[&own.pid].scanned;
    let before = scanned(&owners);
    owners.look_until(setup.table.inodes(), patience(), true).unwrap();
    // Perhaps a child's of another test.
    assert!(matches!(owners.owner(setup.inode), Ownership::Process(_)));
    if owners.first.as_ref().is_some_and(|first| first.read.contains_key(&own)) {
        assert_eq!(scanned(&owners), before);
    }
}

#[test]
fn what_is_not_read_in_time_is_read_for_a_later_look() {
    let setup = Setup::new();
    let mut owners = Owners::open(Path::new("/proc")).unwrap();
    owners.look_until(setup.table.inodes(), Some(Instant::now()), false).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match owners.owner(setup.inode) {
            Ownership::Process(id) if Some(id) == owners.own() => break,
            // A child of another test has it, too, until it calls exec.
            other => assert!(matches!(other, Ownership::Unread | Ownership::Process(_))),
        }
        assert!(Instant::now() < deadline, "it is never read");
        std::thread::sleep(Duration::from_millis(1));
        owners.look_until(setup.table.inodes(), Some(Instant::now()), false).unwrap();
    }
}
