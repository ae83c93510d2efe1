//! The application file: the processes that are shown as one application.

use std::path::Path;
use std::sync::Arc;

use super::error::ConfigError;
use super::ini;
use super::keys::APPLICATIONS;
use super::section::Reading;
use crate::group::Application;

/// Reads the bytes of an application file. A section is an application, and each value in it a
/// regular expression that matches its processes; the keys are only labels. `file` is the path for
/// messages.
///
/// An empty value is an expression that matches every process. Values of `[DEFAULT]` apply to every
/// application.
///
/// # Errors
/// All errors in the file.
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
