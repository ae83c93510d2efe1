//! The configuration files: INI documents that define monitors, pipes, applications and
//! notifications.
//!
//! [`load`] reads the files; everything else takes bytes. All errors are collected, each as one
//! line with its position, so that a file can be fixed at once.

pub mod ini;
pub mod keys;

mod applications;
mod error;
mod file;
mod folder;
mod interpolate;
pub(crate) mod monitor;
mod monitors;
mod notifications;
mod open;
pub(crate) mod pipe;
mod section;
mod show;
pub(crate) mod values;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

pub use applications::parse_applications;
pub use error::{ConfigError, InterpolationError, Problem};
pub use monitor::MonitorSettings;
pub use monitors::parse_monitors;
pub use notifications::{Notification, parse_notifications};
pub use pipe::PipeSettings;
pub use show::{show, show_applications, show_monitors, show_notifications};

use crate::group::Application;
use file::Occasion;

/// The files, as the options name them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// `--app-config`.
    pub applications: Option<PathBuf>,
    /// `--monitor-config`.
    pub monitors: Option<PathBuf>,
    /// `--notification-config`.
    pub notifications: Option<PathBuf>,
}

/// The content of the files.
#[derive(Clone, Debug, Default)]
pub struct Configuration {
    /// The monitors.
    pub monitors: Vec<MonitorSettings>,
    /// The pipes.
    pub pipes: Vec<PipeSettings>,
    /// The applications. The first one that matches a process applies.
    pub applications: Vec<Application>,
    /// The notifications.
    pub notifications: Vec<Notification>,
}

/// Reads the files. Without a monitor file, one monitor selects everything and there are no pipes.
///
/// # Errors
/// All errors in all files, file by file in the order of the lines; for a pipe, that its writer has not
/// closed it within ten seconds; for a command that gets an application's name in a word, that another user can
/// create files in the working directory.
pub fn load(files: &Files) -> Result<Configuration, Vec<ConfigError>> {
    load_on(files, Occasion::Start)
}

/// Reads the files again while everything runs. The wait for a pipe is short, and a pipe that was read
/// already is an error.
///
/// # Errors
/// Those of [`load`].
pub fn reload(files: &Files) -> Result<Configuration, Vec<ConfigError>> {
    load_on(files, Occasion::Reload)
}

fn load_on(files: &Files, occasion: Occasion) -> Result<Configuration, Vec<ConfigError>> {
    let mut configuration = Configuration::default();
    let mut errors = Vec::new();
    match read(files.monitors.as_deref(), occasion, parse_monitors) {
        Ok(Some((monitors, pipes))) => {
            configuration.monitors = monitors;
            configuration.pipes = pipes;
        }
        Ok(None) => configuration.monitors = vec![MonitorSettings::all()],
        Err(more) => errors.extend(more),
    }
    match read(files.applications.as_deref(), occasion, parse_applications) {
        Ok(applications) => configuration.applications = applications.unwrap_or_default(),
        Err(more) => errors.extend(more),
    }
    let parse = |file: &Path, bytes: &[u8]| notifications::parse_in(file, bytes, folder::trusted);
    match read(files.notifications.as_deref(), occasion, parse) {
        Ok(notifications) => configuration.notifications = notifications.unwrap_or_default(),
        Err(more) => errors.extend(more),
    }
    if errors.is_empty() { Ok(configuration) } else { Err(errors) }
}

/// The result of `parse` for the bytes of a file, if a file is given.
fn read<T>(
    file: Option<&Path>,
    occasion: Occasion,
    parse: fn(&Path, &[u8]) -> Result<T, Vec<ConfigError>>,
) -> Result<Option<T>, Vec<ConfigError>> {
    let Some(file) = file else { return Ok(None) };
    let bytes = file::contents(file, occasion).map_err(|problem| {
        vec![ConfigError { file: file.to_owned(), line: None, section: None, key: None, problem }]
    })?;
    parse(file, &bytes).map(Some)
}
