//! The application file: which processes are shown as one application.

use std::path::Path;
use std::sync::Arc;

use super::error::ConfigError;
use super::ini;
use super::keys::APPLICATIONS;
use super::section::Reading;
use crate::group::Application;

/// Reads the bytes of an application file: a section is an application, and each value in it a
/// regular expression by which its processes are known. Keys are only labels. `file` is only for
/// messages.
///
/// An empty value is an expression too, one that is found everywhere. Values of `[DEFAULT]` count
/// for every application.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse_applications(file: &Path, bytes: &[u8]) -> Result<Vec<Application>, Vec<ConfigError>> {
    let (document, errors) = ini::parse(file, bytes);
    let mut reading = Reading::new(&document, errors, &APPLICATIONS);
    let mut applications = Vec::new();
    for section in document.sections() {
        let entries = document.entries(section);
        let rules = entries.filter_map(|entry| reading.label(section, entry)).collect();
        applications.push(Application { name: Arc::from(section.name.as_slice()), rules });
    }
    reading.finish(applications)
}
