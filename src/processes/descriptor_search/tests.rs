//! With the real `/proc`: sockets of the test's own process.

use std::net::TcpListener;
use std::os::fd::AsRawFd;

use super::*;
use crate::model::flow::{Endpoint, Protocol, Tuple};
use crate::processes::few::Few;
use crate::sockets::Finder;
use crate::until::until;

/// A socket, its inode and its user.
fn socket() -> (TcpListener, Inode, u32) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let source = Endpoint::new(address.ip().into(), address.port());
    let tuple =
        Tuple { protocol: Protocol::TCP, source, destination: Endpoint { port: 1, ..source } };
    let mut found = None;
    Finder::open().unwrap().find(&[tuple], |_| 0, |_, socket| found = socket).unwrap();
    let socket = found.unwrap();
    (listener, socket.inode.unwrap(), socket.uid)
}

fn search() -> DescriptorSearch {
    DescriptorSearch::open(Path::new("/proc")).unwrap()
}

#[test]
fn a_socket_of_a_process_that_nobody_knew_is_found_by_its_user() {
    let (_listener, inode, user) = socket();
    let few = Few::new();
    let mut search = DescriptorSearch::open(few.path()).unwrap();
    let found = search.find_far(inode, user, None, Instant::now()).unwrap();
    assert_eq!(found.pid, std::process::id());
    assert!(search.names.has_command_line(found));
}

#[test]
fn without_links_to_spare_only_the_likely_are_asked() {
    let (listener, inode, user) = socket();
    let now = Instant::now();
    let few = Few::new();
    let search = DescriptorSearch::open(few.path()).unwrap();
    let mut poor = DescriptorSearch { links: 0.0, refilled: Some(now), ..search };
    assert!(poor.find_far(inode, user, None, now).is_none());
    // One that is young is asked all the same.
    poor.notice(Event::Fork { parent: 1, pid: std::process::id() });
    assert_eq!(poor.find_near(inode, None).unwrap().pid, std::process::id());
    assert_eq!(poor.recent_holders[0].last, listener.as_raw_fd() as u32);
    // As is one that had a socket there a moment ago.
    drop(listener);
    let (_listener, inode, user) = socket();
    let found = poor.find_near(inode, None);
    let same_place = poor.recent_holders[0].last == _listener.as_raw_fd() as u32;
    assert!(found.is_some() || !same_place);
    // With time, links come again.
    poor.forget(std::process::id());
    let later = now + Duration::from_secs(1);
    assert!(poor.find_far(inode, user, None, later).is_some());
}

#[test]
fn a_socket_that_is_nobodys_is_not_found() {
    let (listener, inode, user) = socket();
    let few = Few::new();
    let mut search = DescriptorSearch::open(few.path()).unwrap();
    assert!(search.find_far(inode, user, None, Instant::now()).is_some());
    drop(listener);
    assert!(search.find_far(inode, user, None, Instant::now()).is_none());
    // Everybody was asked: there are links left.
    assert!(search.links > 0.0);
}

#[test]
fn who_has_ended_is_forgotten_and_an_exec_is_described_anew() {
    let mut search = search();
    let pid = std::process::id();
    search.notice(Event::Exec { pid });
    let mut read = Vec::new();
    search.read_up(|pid, netns| read.push((pid, netns)));
    assert_eq!(read, [(pid, crate::netns::of(Path::new("/proc"), "self").ok())]);
    assert!(search.young[0].known.is_some());
    search.notice(Event::Exit { pid });
    assert!(search.young.is_empty() && search.recent_holders.is_empty());
    search.notice(Event::Exec { pid });
    search.read_up(|_, _| ());
    search.expect(&[pid]);
    assert_eq!((search.young.len(), search.acceptors.len()), (1, 1));
    search.clear();
    assert_eq!((search.young.len(), search.acceptors.len()), (0, 0));
}

/// Only some processes have their descriptors kept open, however many there are.
#[test]
fn what_is_remembered_is_bounded() {
    let mut search = search();
    for pid in 0..3 * YOUNG as u32 {
        search.notice(Event::Fork { parent: 1, pid: 5_000_000 + pid });
    }
    assert_eq!(search.young.len(), YOUNG);
    for _ in 0..2 * YOUNG_OPEN {
        search.notice(Event::Exec { pid: std::process::id() });
        search.read_up(|_, _| ());
        // Another number: else it would take the other's place.
        search.young[0].pid += 5_000_000;
    }
    let open = search.young.iter().filter(|young| young.known.is_some()).count();
    assert!(open <= YOUNG_OPEN, "{open}");
}

#[test]
fn processes_of_other_namespaces_are_left_alone_where_only_one_matters() {
    let mut search = search();
    let pid = std::process::id();
    let own = crate::netns::of(Path::new("/proc"), "self").unwrap();
    for (only, kept) in [(own, 1), (NetnsId(own.0 + 1), 0)] {
        search.keep_to(Some(only));
        for event in [Event::Exec { pid }, Event::Fork { parent: 1, pid }] {
            search.notice(event);
            search.read_up(|_, _| ());
            assert_eq!(search.young.len(), kept);
        }
    }
}

/// A server elsewhere may have hundreds of workers that execute nothing.
#[test]
fn copies_in_another_namespace_do_not_stand_before_those_of_the_socket_s() {
    let (listener, inode, _) = socket();
    let pid = std::process::id();
    let own = crate::netns::of(Path::new("/proc"), "self").unwrap();
    let elsewhere = NetnsId(own.0 + 1);
    let mut search = search();
    search.notice(Event::Exec { pid });
    search.read_up(|_, _| ());
    search.young[0].known.as_mut().unwrap().last = listener.as_raw_fd() as u32;
    for copy in 0..2 * YOUNG_OPEN as u32 {
        search.notice(Event::Fork { parent: 1, pid: 5_000_000 + copy });
        search.young[0].netns = Some(elsewhere);
    }
    search.copies.clear(); // there are no such processes
    search.read_up(|_, _| ());
    assert!(search.find_near(inode, Some(elsewhere)).is_none());
    assert_eq!(search.find_near(inode, Some(own)).unwrap().pid, pid);
    // So is a copy that was placed there itself.
    search.notice(Event::Fork { parent: 1, pid });
    search.read_up(|_, _| ());
    assert!(search.find_near(inode, Some(elsewhere)).is_none());
    assert_eq!(search.find_near(inode, Some(own)).unwrap().pid, pid);
}

#[test]
fn of_those_that_accept_together_who_has_waited_longest_is_asked_first() {
    let sockets = [socket(), socket()];
    let mut children = sockets.each_ref().map(|(listener, ..)| {
        let listener = std::os::fd::OwnedFd::from(listener.try_clone().unwrap());
        std::process::Command::new("sleep").arg("60").stdin(listener).spawn().unwrap()
    });
    let [first, second] = children.each_ref().map(|child| child.id());
    let mut search = search();
    search.expect(&[first, second]);
    // Their standard input.
    search.acceptors.iter_mut().for_each(|known| known.last = 0);
    let order = |search: &DescriptorSearch| -> Vec<u32> {
        search.acceptors.iter().map(|known| known.id.pid).collect()
    };
    assert!(!search.accepts_together());
    let [of_first, of_second] = sockets.each_ref().map(|(_, inode, _)| *inode);
    for (inode, pid, then) in [
        (of_second, second, [second, first]),
        (of_first, first, [second, first]),
        (of_second, second, [first, second]),
    ] {
        assert_eq!(search.find_acceptor(inode).unwrap().pid, pid);
        assert_eq!(order(&search), then);
    }
    assert!(search.find_acceptor(Inode(0)).is_none());
    assert_eq!((order(&search), search.accepting), (vec![first, second], 2));
    search.notice(Event::Exit { pid: second });
    assert_eq!((order(&search), search.accepting), (vec![first], 1));
    search.expect(&[]);
    assert!(order(&search).is_empty() && !search.accepts_together());
    for child in &mut children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

/// The child is not reaped, so that it exists without a command line.
#[test]
fn one_that_is_ending_is_not_named_by_its_parent_if_its_short_name_differs() {
    let mut parent = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    for (program, named) in [("true", "[true]"), ("sleep", "sleep 60 ")] {
        let mut child = std::process::Command::new(program).arg("0").spawn().unwrap();
        let stat = format!("/proc/{}/stat", child.id());
        until("it has ended", || {
            std::fs::read_to_string(&stat).unwrap().contains(") Z ").then_some(())
        });
        let mut search = search();
        search.notice(Event::Exec { pid: parent.id() });
        search.read_up(|_, _| ());
        let known = search.know(child.id(), Some(parent.id())).unwrap();
        let described = search.names.described(known.id).unwrap();
        assert_eq!(String::from_utf8_lossy(&described.command_line), named);
        child.wait().unwrap();
    }
    parent.kill().unwrap();
    parent.wait().unwrap();
}
