//! A web page with the last minute of every application.
//!
//! `history` stores the traffic. `page` makes an HTML document of it, which is self-contained: it
//! runs no script and fetches nothing. `routes` maps requests to answers, and refuses requests that
//! another web page has caused. `server` handles connections and their limits.

mod chart;
mod history;
mod page;
mod routes;
mod server;

pub(crate) use server::Server;
