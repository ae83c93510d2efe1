//! Ports that are one test's.

use std::net::{Ipv4Addr, Ipv6Addr, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};

use crate::leftovers::PREFIX;

/// Below those that the kernel gives to whoever connects: none of them becomes a client's by chance.
const FIRST: u16 = 10_000;
/// How many ports one test process has, and how many processes can have theirs at once.
const EACH: u16 = 1_000;
const BLOCKS: u16 = 22;

/// Ports that no other test process has.
struct Block {
    first: u16,
    next: AtomicU16,
    /// Taken for as long as the process lives.
    _lock: UnixListener,
}

impl Block {
    fn new() -> Block {
        let begin = (process::id() % u32::from(BLOCKS)) as u16;
        let mut blocks = (0..BLOCKS).map(|turn| (begin + turn) % BLOCKS);
        let block = blocks.find_map(|block| {
            let address = SocketAddr::from_abstract_name(format!("{PREFIX}-ports-{block}"));
            let lock = UnixListener::bind_addr(&address.unwrap()).ok()?;
            Some(Block { first: FIRST + block * EACH, next: AtomicU16::new(0), _lock: lock })
        });
        block.expect("not so many test processes at once")
    }
}

/// Asked by a connection and not by listening there: a child that another test starts at that moment would have
/// the listening socket until it calls exec, and whoever is given the port could not listen.
fn listens(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
        || TcpStream::connect((Ipv6Addr::LOCALHOST, port)).is_ok()
}

/// A port where nobody listens, and that no other test is given before some hundred others are.
pub fn free_port() -> u16 {
    static BLOCK: LazyLock<Block> = LazyLock::new(Block::new);
    loop {
        let port = BLOCK.first + BLOCK.next.fetch_add(1, Ordering::Relaxed) % EACH;
        if !listens(port) {
            return port;
        }
    }
}
