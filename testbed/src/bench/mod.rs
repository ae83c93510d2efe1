//! What only benches need: this program in other roles, namespaces with many connections, programs that
//! watch and what they take, and figures.
//!
//! A bench is one program: what it starts beside it (a janitor, clients, servers) is the same program again, with
//! the name of a role for its first argument.

pub mod options;
