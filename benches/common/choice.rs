//! What can be chosen by name.

/// What has this name.
pub(crate) fn named<T: Copy>(all: &[(&str, T)], name: &str) -> Option<T> {
    all.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
}

/// The names of all.
pub(crate) fn names<T>(all: &[(&'static str, T)]) -> impl Iterator<Item = &'static str> {
    all.iter().map(|(name, _)| *name)
}
