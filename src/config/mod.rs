//! The configuration files: INI documents that say what is monitored, which processes are one
//! application, and when somebody is told.
//!
//! [`load`] reads the files; all that follows takes bytes. Everything that is wrong is gathered,
//! each as one line with its place, so that a file can be mended at once.

pub mod ini;
pub mod keys;

mod applications;
mod error;
mod file;
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

/// What the files say.
#[derive(Clone, Debug, Default)]
pub struct Configuration {
    /// Whose processes are shown.
    pub monitors: Vec<MonitorSettings>,
    /// Which ports are forwarded.
    pub pipes: Vec<PipeSettings>,
    /// How processes are grouped; the first that matches wins.
    pub applications: Vec<Application>,
    /// When somebody is told.
    pub notifications: Vec<Notification>,
}

/// Reads the files. Without one for monitors, one monitor shows everything and there are no
/// pipes; with one, there is only what it says.
///
/// # Errors
/// Everything that is wrong with all of them, file by file in the order of the lines. Of a pipe that is
/// not written and closed within ten seconds, that.
pub fn load(files: &Files) -> Result<Configuration, Vec<ConfigError>> {
    load_on(files, Occasion::Start)
}

/// Reads the files again while everything runs. A pipe is waited for only a moment, and one that holds
/// nothing more is an error.
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
    match read(files.notifications.as_deref(), occasion, parse_notifications) {
        Ok(notifications) => configuration.notifications = notifications.unwrap_or_default(),
        Err(more) => errors.extend(more),
    }
    if errors.is_empty() { Ok(configuration) } else { Err(errors) }
}

/// What `parse` makes of a file's bytes, if there is a file.
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
