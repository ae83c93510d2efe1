//! The forwarder, from outside: real sockets on both of its sides.
//!
//! The tests are the clients and the remote. All of them run on the loopback, which loses nothing
//! and has no delay, so that what a pipe counts has to be equal to what arrived, to the byte. Tests
//! wait for conditions and give up after a generous time; none asserts how long something takes,
//! except for limits that are themselves times or rates.

mod pattern;
pub(crate) mod rig;

mod addresses;
mod bytes;
mod connecting;
mod ends;
mod limits;
mod proxy;
mod rings;
mod schedules;
mod several;
mod shaping;
mod slow;
mod stopping;
