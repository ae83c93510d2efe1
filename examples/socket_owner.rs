//! Prints which process has the socket of this inode (`ls -l /proc/PID/fd` and `ss -e` show inodes):
//! `socket_owner 123456`.

use std::env;
use std::path::Path;

use anyhow::Context;
use bwmon::processes::{Owners, Ownership};
use bwmon::sockets::Inode;

fn main() -> anyhow::Result<()> {
    let inode = env::args().nth(1).context("usage: socket_owner INODE")?;
    let inode = Inode(inode.parse().context("the inode is a number")?);
    let mut owners = Owners::open(Path::new("/proc"))?;
    owners.look([inode])?;
    match owners.owner(inode) {
        Ownership::Process(process) => println!("{}", process.pid),
        Ownership::Denied => println!("perhaps a process of another user: run it as root"),
        Ownership::Hidden => println!("perhaps a process in another PID namespace"),
        Ownership::Nobody | Ownership::Unread => println!("nobody"),
    }
    Ok(())
}
