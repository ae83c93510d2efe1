//! What the tests and the benches share. For development only: the programs know nothing of it.
//!
//! | module | what is in it |
//! | --- | --- |
//! | [`netns`] | network namespaces, for one test or for a bench |
//! | [`workloads`] | workloads of known truth, and a program's figures beside it |
//! | [`remotes`] | the same for remote ends |
//! | [`endpoint`], [`programs`] | the processes that move bytes, and what they run |
//! | [`truth`], [`bytes`] | the true bytes, as nft counts them |
//! | [`mod@program`], [`running`], [`finished`] | the programs under test: started, watched, ended |
//! | [`lines`], [`terminal`] | what they print: lines, screens |
//! | [`peers`] | other programs of the kind, and what they print |
//! | [`mod@bench`] | what only benches need |
//! | [`requirements`], [`leftovers`] | what a host has to have; what a killed run leaves, and who removes it |
//! | [`apart`], [`ports`], [`streams`], [`wait`], [`busy`] | small helpers |
//!
//! A test fails by a panic that explains itself, and so does everything here.

pub mod apart;
pub mod bench;
pub mod busy;
pub mod bytes;
pub mod command;
pub mod endpoint;
pub mod finished;
pub mod leftovers;
pub mod lines;
pub mod machine;
pub mod netns;
pub mod peers;
pub mod ports;
mod processors;
pub mod program;
pub mod programs;
pub mod remotes;
pub mod requirements;
pub mod running;
pub mod streams;
pub mod terminal;
pub mod truth;
pub mod wait;
pub mod workloads;
