//! One connection that nobody reads from is that connection's problem alone.

use std::io::{ErrorKind, Write};
use std::net::{Shutdown, TcpStream};
use std::num::NonZeroUsize;
use std::thread;
use std::time::Duration;

use testbed::streams::{exchange, patient};

use super::pattern::{Chance, Pattern, send};
use super::rig::Rig;

/// What the kernel's buffers of four sockets and the pipe's own may hold together, at most. Without
/// a bound in the pipe a sender could go on for ever.
const BOUND: u64 = 48 << 20;

/// Writes until nothing goes any more; how much that was.
fn fill(mut stream: &TcpStream, pattern: Pattern) -> u64 {
    stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut written = 0;
    loop {
        match stream.write(&pattern.bytes(written, 1 << 20)) {
            Ok(length) => written += length as u64,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return written,
            // A machine that is stopped for a moment interrupts whoever waits with a timeout.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("after {written}: {error}"),
        }
        assert!(written < BOUND, "the pipe takes {written} bytes that nobody reads");
    }
}

/// With a single worker, whatever waits for the slow one would keep all from going on.
fn stalled(by_client: bool) {
    let mut chance = Chance::new();
    let rig = Rig::with(|config| config.workers = NonZeroUsize::MIN);
    let (client, remote) = rig.connect();
    let (writes, reads) = if by_client { (client, remote) } else { (remote, client) };
    let pattern = Pattern::new(1);
    let written = fill(&writes, pattern);

    let pairs: Vec<_> = (0..4).map(|_| rig.connect()).collect();
    let (up, down) = (Pattern::new(2), Pattern::new(3));
    const SIZE: u64 = 1_000_000;
    thread::scope(|scope| {
        for (client, remote) in &pairs {
            exchange(client, remote);
            let [mut a, mut b, mut c, mut d] = std::array::from_fn(|_| chance.fork());
            scope.spawn(move || send(client, up, SIZE, &mut a));
            scope.spawn(move || send(remote, down, SIZE, &mut b));
            scope.spawn(move || up.expect_all(remote, SIZE, &mut c));
            scope.spawn(move || down.expect_all(client, SIZE, &mut d));
        }
    });
    drop(pairs);

    // The other way of the stalled connection is not stalled.
    (&reads).write_all(b"a message").unwrap();
    let mut got = [0; 9];
    std::io::Read::read_exact(&mut &writes, &mut got).unwrap();

    let writes = patient(writes);
    thread::scope(|scope| {
        scope.spawn(|| {
            (&writes).write_all(&pattern.bytes(written, 500_000)).unwrap();
            writes.shutdown(Shutdown::Write).unwrap();
        });
        pattern.expect_all(&reads, written + 500_000, &mut chance);
    });
    reads.shutdown(Shutdown::Write).unwrap();
    let (slow, other) = (written + 500_000, 4 * (SIZE + 9));
    let (received, sent) = if by_client { (slow, 9) } else { (9, slow) };
    rig.expect_counted(received + other, sent + other);
}

#[test]
fn a_remote_that_does_not_read_stalls_only_its_client() {
    stalled(true);
}

#[test]
fn a_client_that_does_not_read_stalls_only_its_remote() {
    stalled(false);
}
