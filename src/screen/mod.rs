//! The interactive screen of `--top`.
//!
//! [`State`](state::State) is what is shown and what the user has chosen; it knows neither a terminal nor a clock.
//! [`Screen`] runs it in a thread of its own, which gets each refresh, reads the keys and draws.

mod arrange;
mod chart;
mod columns;
mod detail;
mod draw;
#[cfg(test)]
mod examples;
mod filter;
mod header;
mod help;
mod input;
#[cfg(test)]
mod key_tests;
mod keys;
mod layout;
mod list_keys;
mod order;
mod parents;
mod rates;
mod rows;
mod state;
#[cfg(test)]
mod svg;
mod table;
pub(crate) mod terminal;
#[cfg(test)]
mod tests;
mod text;
mod theme;
mod thread;

pub(crate) use columns::Column;
pub(crate) use state::Setup;
pub(crate) use thread::{Screen, Waker};
