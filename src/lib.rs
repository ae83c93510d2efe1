//! bwmon reports which application on a Linux host uses how much of the network.
//!
//! A [`Monitor`](monitor::Monitor) reads the kernel through one of several sources (eBPF programs, connection
//! tracking, the sockets' own counters), finds the process of every byte, and adds up. Each refresh results in a
//! [`Snapshot`](model::Snapshot), a plain value: the bytes of every process so far and since the refresh before.
//! Every counted byte is in it once: on the row of its process, or under the reason why it has none.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use bwmon::monitor::{Monitor, Options};
//!
//! let mut monitor = Monitor::open(&Options::default())?;
//! for snapshot in monitor.snapshots(Duration::from_secs(1)) {
//!     let snapshot = snapshot?;
//!     if let Some(row) = snapshot.rows.iter().max_by_key(|row| row.account.recent.total()) {
//!         let rate = snapshot.rate(&row.account);
//!         println!("{:.0} B/s in, {:.0} B/s out: {:?}", rate.received, rate.sent, row.processes);
//!     }
//! }
//! # Ok::<(), bwmon::monitor::WatchError>(())
//! ```
//!
//! An [`Aggregator`](aggregator::Aggregator) combines monitors and [pipes](pipe::Pipe), groups processes to
//! applications and watches thresholds. The three programs are thin: they read arguments and configurations
//! ([`config`]), and show the snapshots of an aggregator.
//!
//! # Forward a port, and count
//!
//! ```
//! use std::io::{Read, Write};
//! use std::net::{Ipv4Addr, TcpListener, TcpStream};
//!
//! use bwmon::pipe::{Config, Pipe};
//!
//! let remote = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
//! let mut config = Config::new(0, "127.0.0.1", remote.local_addr()?.port());
//! config.bind = Some(Ipv4Addr::LOCALHOST.into());
//! let pipe = Pipe::start(config)?;
//!
//! let mut client = TcpStream::connect(pipe.address())?;
//! let (mut server, _) = remote.accept()?;
//! client.write_all(b"hello")?;
//! server.read_exact(&mut [0; 5])?;
//! while pipe.traffic().received < 5 {
//!     std::thread::yield_now();
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Parse a line of connection tracking
//!
//! ```
//! use bwmon::conntrack::text::parse_line;
//!
//! let line = "tcp      6 431999 ESTABLISHED src=192.0.2.1 dst=198.51.100.7 sport=40000 dport=443 \
//!             packets=10 bytes=1200 src=198.51.100.7 dst=192.0.2.1 sport=443 dport=40000 \
//!             packets=12 bytes=15000 [ASSURED] mark=0 use=1";
//! let flow = parse_line(line.as_bytes())?;
//! assert_eq!(flow.original.to_string(), "tcp 192.0.2.1:40000 -> 198.51.100.7:443");
//! assert_eq!(flow.counters.map(|bytes| (bytes.original, bytes.reply)), Some((1200, 15000)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Find the process that holds a socket
//!
//! ```
//! use std::fs;
//! use std::net::TcpListener;
//! use std::os::fd::AsRawFd;
//! use std::os::unix::fs::MetadataExt;
//! use std::path::Path;
//!
//! use bwmon::processes::{Owners, Ownership};
//! use bwmon::sockets::Inode;
//!
//! let socket = TcpListener::bind("127.0.0.1:0")?;
//! let path = format!("/proc/self/fd/{}", socket.as_raw_fd());
//! let inode = Inode(fs::metadata(path)?.ino().try_into()?);
//!
//! let mut owners = Owners::open(Path::new("/proc"))?;
//! owners.look([inode])?;
//! let Ownership::Process(process) = owners.owner(inode) else { panic!("nobody has it") };
//! assert_eq!(process.pid, std::process::id());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! `examples/` has these as programs, and `ARCHITECTURE.md` describes the modules.

mod addresses;
pub mod aggregator;
pub mod alert;
mod attribution;
mod brief;
pub mod by;
#[doc(hidden)]
pub mod cli;
pub mod config;
pub mod conntrack;
mod cpu;
#[doc(hidden)]
pub mod ebpf;
mod environment;
pub mod escape;
pub mod filter;
pub mod group;
mod ledger;
pub mod listen;
mod locale;
mod lookalike;
pub mod model;
#[cfg(test)]
mod module_order;
pub mod monitor;
mod netlink;
pub mod netns;
pub mod notify;
pub mod pipe;
pub mod processes;
mod recording;
mod render;
#[doc(hidden)]
pub mod replay;
mod resolve;
mod screen;
pub mod selection;
mod serve;
mod services;
pub mod sockets;
mod sources;
mod tracker;
#[cfg(test)]
mod until;
mod watch;
