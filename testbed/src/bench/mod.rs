//! What only benches need: this program in other roles, namespaces with many connections, programs that
//! watch and what they take, and figures.
//!
//! A bench is one program: what it starts beside it (a janitor, clients, servers) is the same program again, with
//! the name of a role for its first argument.

pub mod figures;
pub mod joined;
pub mod options;
pub mod roles;
pub mod seen;
pub mod server;
pub mod tracked;
pub mod usage;
pub mod watcher;
