//! Manual pages and shell completions are made from the definition of the flags, the tables of keys in
//! the user manual and the comments in the sample files from the definition of the keys. All of them
//! are kept, so that packages need no build to ship them.
//!
//! `BWMON_WRITE_PAGES=1 cargo test --test it pages` writes them anew.

use std::path::Path;

use bwmon::cli::{runaggregator, runmonitor, runpipe};
use bwmon::config::keys::{Fallback, Format, KeyDoc, MONITORS, NOTIFICATIONS};
use clap::{Arg, ArgAction, Command, CommandFactory};
use clap_complete::Shell;

/// The width of a comment in the sample files.
const WIDTH: usize = 98;

fn programs() -> [Command; 3] {
    [
        runaggregator::Arguments::command(),
        runmonitor::Arguments::command(),
        runpipe::Arguments::command(),
    ]
}

fn pages(program: Command) -> Vec<(String, Vec<u8>)> {
    let name = program.get_name().to_owned();
    let mut page = Vec::new();
    clap_mangen::Man::new(program.clone()).render(&mut page).unwrap();
    // What is hidden is completed as well, unless it isn't there.
    let offered = match program.get_arguments().any(Arg::is_hide_set) {
        true => {
            let flags = program.get_arguments().filter(|flag| !flag.is_hide_set()).cloned();
            Command::new(&*name.clone().leak()).version("1").args(flags)
        }
        false => program.clone(),
    };
    let completion = |shell| {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut offered.clone(), &name, &mut script);
        script
    };
    vec![
        (format!("doc/{name}.1"), page),
        (format!("doc/completions/{name}.bash"), completion(Shell::Bash)),
        (format!("doc/completions/_{name}"), completion(Shell::Zsh)),
        (format!("doc/completions/{name}.fish"), completion(Shell::Fish)),
    ]
}

/// Compares a file of the repository with what it should be, or writes it.
fn keep(name: &str, page: &[u8]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    if std::env::var_os("BWMON_WRITE_PAGES").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, page).unwrap();
    }
    let kept = std::fs::read(&path).unwrap_or_default();
    assert!(
        kept == page,
        "{name} is not what the flags and keys say; write it anew: BWMON_WRITE_PAGES=1 cargo test \
         --test it pages"
    );
}

fn kept(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// All that is to be said of a key: what it does, its values, its default.
fn explanation(key: &KeyDoc) -> String {
    let default = match key.default {
        Fallback::Required => "Required".to_owned(),
        Fallback::Value(value) | Fallback::Nothing(value) => format!("Default: {value}"),
    };
    format!("{}. Value: {}. {default}.", key.help, key.expected)
}

/// A row of a table, with a name and what is to be said of it.
fn row(name: &str, text: &str) -> String {
    format!("| `{name}` | {} |", text.replace('|', "\\|"))
}

/// The row of a flag that means the same as a key, or `None` if it doesn't.
fn flag_row(flag: &Arg, keys: &[KeyDoc]) -> Option<(String, String)> {
    let help = flag.get_help()?.to_string();
    let key = keys.iter().find(|key| help.starts_with(key.help))?;
    let long = flag.get_long()?;
    // The manual has a chapter on its values.
    if long == "source" {
        return None;
    }
    if !flag.get_action().takes_values() {
        return Some((format!("--{long}"), format!("{help}.")));
    }
    let name = format!("--{long} {}", flag.get_value_names()?.first()?);
    let is_repeated = matches!(flag.get_action(), ArgAction::Append);
    Some((name, if is_repeated { format!("{help}.") } else { explanation(key) }))
}

/// The manual with its tables of keys, and its rows of flags that mean the same, made anew.
fn manual(text: &str) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let kinds: Vec<_> = [&MONITORS, &NOTIFICATIONS].into_iter().flat_map(Format::kinds).collect();
    for kind in &kinds {
        let marked = |mark: &str| {
            let mark = format!("<!-- {mark} of a {} -->", kind.name);
            lines.iter().position(|line| *line == mark).unwrap_or_else(|| panic!("no {mark}"))
        };
        let (start, end) = (marked("keys"), marked("end of the keys"));
        let rows = kind.keys.iter().map(|key| row(key.name, &explanation(key)));
        let table = ["", "| key | means |", "| --- | --- |"].map(str::to_owned).into_iter();
        let table: Vec<String> = table.chain(rows).chain([String::new()]).collect();
        lines.splice(start + 1..end, table);
    }
    let keys: Vec<KeyDoc> = kinds.into_iter().flat_map(|kind| kind.keys).collect();
    for flag in programs().iter().flat_map(Command::get_arguments) {
        let Some((name, text)) = flag_row(flag, &keys) else { continue };
        let beginning = format!("| `{name}` |");
        let line = lines.iter_mut().find(|line| line.starts_with(&beginning));
        *line.unwrap_or_else(|| panic!("no row for {name}")) = row(&name, &text);
    }
    lines.join("\n") + "\n"
}

/// The name of the key that a line of a sample file gives, or would without its `#`.
fn given(line: &str) -> Option<&str> {
    let (name, _) = line.strip_prefix('#').unwrap_or(line).split_once('=')?;
    let is_key = !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    is_key.then_some(name)
}

/// A text as the lines of a comment.
fn comment(text: &str) -> Vec<String> {
    let mut lines = vec!["#".to_owned()];
    for word in text.split(' ') {
        if lines.last().unwrap().chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push("#".to_owned());
        }
        let line = lines.last_mut().unwrap();
        line.push(' ');
        line.push_str(word);
    }
    lines
}

/// A sample file in which the first line with each key stands under what is to be said of it. A key
/// that it doesn't have yet is put, as a comment, below the others of its kind.
fn sample(text: &str, format: &Format) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for kind in format.kinds() {
        let line_of = |lines: &[String], key: &KeyDoc| {
            lines.iter().position(|line| given(line) == Some(key.name))
        };
        for key in &kind.keys {
            let at = line_of(&lines, key).unwrap_or_else(|| {
                let last = kind.keys.iter().filter_map(|key| line_of(&lines, key)).max();
                let below = last.map_or(lines.len(), |line| line + 1);
                lines.insert(below, format!("#{}={}", key.name, key.example));
                below
            });
            let is_comment = |line: &&String| line.starts_with('#') && given(line).is_none();
            let above = lines[..at].iter().rev().take_while(is_comment).count();
            let mut said = comment(&explanation(key));
            if above == 0 && at > 0 && !lines[at - 1].is_empty() {
                said.insert(0, String::new());
            }
            lines.splice(at - above..at, said);
        }
    }
    lines.join("\n") + "\n"
}

#[test]
fn the_generated_pages_are_those_of_the_flags() {
    for (name, page) in programs().into_iter().flat_map(pages) {
        keep(&name, &page);
    }
}

#[test]
fn the_user_manual_says_what_the_keys_say() {
    let name = "doc/user-manual.md";
    keep(name, manual(&kept(name)).as_bytes());
}

#[test]
fn the_samples_say_what_the_keys_say() {
    for (name, format) in
        [("monitors.sample.cfg", &MONITORS), ("notify.sample.cfg", &NOTIFICATIONS)]
    {
        keep(name, sample(&kept(name), format).as_bytes());
    }
}

#[test]
fn every_flag_that_is_named_like_a_key_means_the_same() {
    let keys: Vec<KeyDoc> = MONITORS.kinds().into_iter().flat_map(|kind| kind.keys).collect();
    for flag in programs().iter().flat_map(Command::get_arguments) {
        let Some(long) = flag.get_long() else { continue };
        // Two of the original's keys have other names than its flags.
        let named = match long {
            "ignore-local" => "ignorelocal".to_owned(),
            "shape" => "shape_threshold".to_owned(),
            _ => long.replace('-', "_"),
        };
        let Some(key) = keys.iter().find(|key| key.name == named) else { continue };
        let help = flag.get_help().map(ToString::to_string).unwrap_or_default();
        assert!(help.starts_with(key.help), "--{long} says {help:?}");
    }
}

#[test]
fn the_user_manual_names_every_flag() {
    let manual = kept("doc/user-manual.md");
    let programs = programs();
    let flags = programs.iter().flat_map(Command::get_arguments);
    for argument in flags.filter(|flag| !flag.is_hide_set()) {
        let Some(long) = argument.get_long() else { continue };
        assert!(manual.contains(&format!("--{long}")), "--{long} is not in doc/user-manual.md");
    }
}

/// What a key that was just defined gets from `BWMON_WRITE_PAGES`.
#[test]
fn a_key_that_a_sample_lacks_is_added_with_its_comment() {
    let added =
        sample("[A]\n# Its own words.\n\ntype=monitor\n[B]\nport=1\nnewhost=h\n", &MONITORS);
    let beginning = "[A]\n# Its own words.\n\n# What the section describes. Value: monitor or pipe. \
                     Required.\ntype=monitor\n";
    assert!(added.starts_with(beginning), "{added}");
    for key in MONITORS.kinds().into_iter().flat_map(|kind| kind.keys) {
        let example = format!("#{}={}\n", key.name, key.example);
        let is_there = ["type", "port", "newhost"].contains(&key.name);
        assert_eq!(added.contains(&example), !is_there, "{}: {added}", key.name);
    }
    let last = comment(&explanation(&MONITORS.kinds()[1].keys[9])).join("\n");
    assert!(added.ends_with(&format!("\n\n{last}\n#send_proxy=true\n")), "{added}");
    assert_eq!(sample(&added, &MONITORS), added);
}
