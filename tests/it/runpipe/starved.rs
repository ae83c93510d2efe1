//! More clients than there are descriptors for.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::ops::RangeInclusive;
use std::time::Duration;
use std::{fs, thread};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use testbed::streams::{MOMENT, exchange, finish, last_error};

use super::Piped;

/// How much CPU time it has used.
fn cpu_time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name before may hold anything; behind it come the state and then numbers.
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let ticks: u64 =
        fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
}

#[test]
fn without_descriptors_clients_wait_in_peace_and_all_are_served() {
    wait_and_are_served("64", "2", 22..=26);
}

/// As many threads as there are descriptors for: none of them may take a client and then lack a
/// descriptor for the remote, as long as all of them do.
#[test]
fn many_threads_leave_each_other_descriptors() {
    wait_and_are_served("128", "40", 8..=23);
}

fn wait_and_are_served(limit: &str, workers: &str, at_once: RangeInclusive<usize>) {
    const CLIENTS: u8 = 100;
    let limit = format!("--nofile={limit}:{limit}");
    // Nobody is turned away, however busy the machine is.
    let options = ["--workers", workers, "--connect-timeout", "600"];
    let piped = Piped::through(&["prlimit", &limit], &options);
    let mut clients: Vec<Option<TcpStream>> = (0..CLIENTS).map(|_| Some(piped.client())).collect();
    for (number, client) in clients.iter().enumerate() {
        client.as_ref().unwrap().write_all(&[number as u8]).unwrap();
    }
    let mut remotes = vec![piped.remote.accept()];
    piped.expect_said("ulimit");
    while let Some(remote) = piped.remote.accept_within(MOMENT) {
        remotes.push(remote);
    }
    assert!(at_once.contains(&remotes.len()), "{} are served at once", remotes.len());

    let before = cpu_time(piped.running.pid());
    thread::sleep(Duration::from_secs(1));
    let used = cpu_time(piped.running.pid()).saturating_sub(before);
    assert!(used < Duration::from_millis(200), "{used:?} of CPU time in a second of waiting");
    assert!(piped.remote.accept_within(Duration::ZERO).is_none(), "there was a descriptor");

    // What one leaves need not be enough for the next: two threads can take one descriptor each for
    // a client, and both lack that for the remote until another one leaves.
    let mut served = BTreeSet::new();
    while served.len() < usize::from(CLIENTS) {
        while let Some(remote) = piped.remote.accept_within(Duration::ZERO) {
            remotes.push(remote);
        }
        let mut remote = remotes.pop().unwrap_or_else(|| piped.remote.accept());
        let mut number = [0];
        remote.read_exact(&mut number).unwrap();
        remote.write_all(&number).unwrap();
        let client = clients[usize::from(number[0])].take().expect("served twice");
        let mut answer = [0];
        (&client).read_exact(&mut answer).unwrap();
        assert_eq!(answer, number, "somebody else's answer");
        served.insert(number[0]);
        finish(client, remote);
    }
    assert_eq!(served, (0..CLIENTS).collect());

    let (client, remote) = piped.connect();
    exchange(&client, &remote);
    finish(client, remote);
    let finished = piped.running.stop();
    let said = finished.stderr.lines().filter(|line| line.contains("ulimit")).count();
    finished.expect("lines about descriptors", said, 1);
}

/// Descriptors may be lacking although there are places: others in the process have them.
#[test]
fn a_client_without_a_descriptor_for_its_remote_is_reset_in_time() {
    let piped = Piped::new(&["--connect-timeout", "1"]);
    piped.descriptors_at_rest();
    let pid = piped.running.pid();
    let open: BTreeSet<u64> = fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
        .collect();
    // One is free: the client's.
    let second_free = (0..).filter(|number| !open.contains(number)).nth(1);
    let few = Rlimit { current: second_free, ..getrlimit(Resource::Nofile) };
    let before = prlimit(Pid::from_raw(pid as i32), Resource::Nofile, few).unwrap();
    assert_eq!(last_error(&piped.client()), Some(ErrorKind::ConnectionReset));
    piped.expect_said("no descriptor was free in time");
    prlimit(Pid::from_raw(pid as i32), Resource::Nofile, before).unwrap();
    let (client, remote) = piped.connect();
    exchange(&client, &remote);
    finish(client, remote);
}
