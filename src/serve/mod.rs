//! The last minute of every application as a web page, for whoever has no terminal at hand.
//!
//! `history` remembers what was carried. `page` makes a document of it: it holds everything it
//! needs, runs no script and fetches nothing. `routes` says what is where, and refuses whoever was
//! sent by another web page; `server` has the connections and their limits.

mod chart;
mod history;
mod page;
mod routes;
mod server;

pub(crate) use server::Server;
