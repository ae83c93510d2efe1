//! Writes the resulting configuration.
//!
//! The output is INI documents of the same meaning, with every key and every default. It contains
//! no control character but newlines. In regular expressions they become escapes of the same
//! meaning. Elsewhere they are shown as in messages: so the name of a section with control
//! characters or bytes that are not UTF-8, and a command with control characters, do not read back
//! as the same.

use super::monitor::MONITOR;
use super::notifications::NOTIFICATION;
use super::pipe::PIPE;
use super::section::{push_hex, unescape};
use super::{Configuration, MonitorSettings, Notification, PipeSettings};
use crate::escape::visible;
use crate::group::Application;
use crate::notify::Command;
use ini::{EscapePolicy, Ini};

#[cfg(test)]
mod tests;

/// The whole configuration: three documents, each under a comment with its name.
pub fn show(configuration: &Configuration) -> String {
    let monitors = show_monitors(&configuration.monitors, &configuration.pipes);
    let applications = show_applications(&configuration.applications);
    let notifications = show_notifications(&configuration.notifications);
    format!(
        "# monitors\n{monitors}\n# applications\n{applications}\n# notifications\n{notifications}"
    )
}

/// Monitors and pipes as a monitor file.
pub fn show_monitors(monitors: &[MonitorSettings], pipes: &[PipeSettings]) -> String {
    let mut document = String::new();
    for monitor in monitors {
        write_section(&mut document, &monitor.name, &MONITOR.show(monitor));
    }
    for pipe in pipes {
        write_section(&mut document, &pipe.name, &PIPE.show(pipe));
    }
    document
}

/// Applications as an application file. The labels of their rules are lost.
pub fn show_applications(applications: &[Application]) -> String {
    let mut document = String::new();
    for application in applications {
        let rules = application.rules.iter().enumerate();
        let keys: Vec<(String, String)> = rules
            .map(|(index, rule)| (format!("rule{}", index + 1), pattern(rule.as_str())))
            .collect();
        write_section(&mut document, &application.name, &keys);
    }
    document
}

/// Notifications as a notification file.
pub fn show_notifications(notifications: &[Notification]) -> String {
    let mut document = String::new();
    for notification in notifications {
        if notification.never_fires() {
            document.push_str("; never fires: no threshold\n");
        }
        write_section(&mut document, &notification.rule.name, &NOTIFICATION.show(notification));
    }
    document
}

/// Appends a section and an empty line. Values are as a reader gets them, except for `%`.
fn write_section(document: &mut String, name: &[u8], keys: &[(impl AsRef<str>, String)]) {
    // A name can't be quoted: only what would break the line is replaced.
    let name = visible(name);
    let mut ini = Ini::new();
    let mut section = ini.with_section(Some(name.as_str()));
    if keys.is_empty() {
        // An application without rules: rust-ini drops such a section.
        document.push_str(&format!("[{name}]\n\n"));
        return;
    }
    for (key, value) in keys {
        // The text after a newline is indented, so that it continues the value.
        section.add(key.as_ref(), value.replace('%', "%%").replace('\n', "\n    "));
    }
    let mut bytes = Vec::new();
    // Nothing is escaped, because a backslash is a plain character to the reader. Writing to memory
    // doesn't fail.
    let _ = ini.write_to_policy(&mut bytes, EscapePolicy::Nothing);
    document.push_str(&String::from_utf8_lossy(&bytes));
    document.push('\n');
}

/// A command line that splits into the words of `command`.
pub(super) fn command(command: &Command) -> String {
    let words: Vec<String> = command.words().iter().map(|word| quoted(word)).collect();
    words.join(" ")
}

/// A word, quoted for a shell if needed.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "_@%+=:,./{}-".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return visible(word.as_bytes());
    }
    let mut text = "'".to_owned();
    for c in word.chars() {
        match c {
            '\'' => text.push_str("'\\''"),
            // After a blank it would start a comment, but not after a quotation mark.
            ';' => text.push_str("'';"),
            // Quotation marks keep the blanks beside it.
            '\n' => text.push_str("''\n''"),
            c => text.push_str(&shown(c)),
        }
    }
    text.push('\'');
    text
}

/// A character as messages show it: itself, unless it is a control character or invisible.
fn shown(c: char) -> String {
    // A combining mark is visible on the character before it.
    visible(format!("x{c}").as_bytes()).split_off(1)
}

/// A pattern of the same meaning, without invisible characters or any that a reader would drop.
pub(super) fn pattern(text: &str) -> String {
    let verbose = is_verbose(text);
    let mut escaped = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    let (mut first_line, mut before) = (true, None);
    while let Some(c) = rest.next() {
        let next = rest.peek().copied();
        let is_edge = |beside: Option<char>| beside.is_none_or(|c| c == '\n');
        match c {
            // Blanks have no meaning there.
            '\n' if verbose => escaped.push('\n'),
            c if verbose && c.is_ascii_whitespace() => escaped.push(' '),
            // The reader would strip them.
            ' ' if is_edge(before) || is_edge(next) => push_hex(&mut escaped, b' '),
            '\n' if is_edge(next) => push_hex(&mut escaped, b'\n'),
            // It would start a comment, which continued lines don't have.
            ';' if first_line && before.is_some_and(char::is_whitespace) => {
                push_hex(&mut escaped, b';')
            }
            // Two of them would be an empty value.
            '"' if text == "\"\"" => push_hex(&mut escaped, b'"'),
            '\n' => escaped.push('\n'),
            c if c.is_ascii_control() => push_hex(&mut escaped, c as u8),
            // If the pattern matches bytes, these are the bytes of the character.
            c if shown(c).chars().ne([c]) => {
                unescape(&mut escaped);
                escaped.push_str(&format!("\\u{{{:x}}}", u32::from(c)));
            }
            c => escaped.push(c),
        }
        first_line &= c != '\n';
        before = Some(c);
    }
    escaped
}

/// Whether blanks and comments in a pattern have no meaning: `(?x)`.
fn is_verbose(pattern: &str) -> bool {
    let mut groups = pattern.split("(?").skip(1);
    groups.any(|group| group.chars().take_while(char::is_ascii_alphabetic).any(|flag| flag == 'x'))
}
