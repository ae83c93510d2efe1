//! What a namespace is set to.

use std::fs;

use anyhow::Context;

use crate::common::{inside, run, this_program};
use crate::tracked::Namespace;

/// Sets a namespace, by this program in the role of `set`.
pub(crate) fn set(namespace: &Namespace, path: &str, value: &str) -> anyhow::Result<()> {
    run(inside(&namespace.path, &this_program()?).args(["set", path, value]))
}

/// Sets the namespace in which it runs.
pub(crate) fn set_here(path: &str, value: &str) -> anyhow::Result<()> {
    fs::write(path, value).with_context(|| path.to_owned())
}
