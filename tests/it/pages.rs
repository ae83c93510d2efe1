//! The manual page and the shell completions are made from the definition of the flags, and kept in
//! `doc/` so that packages need no build to ship them.
//!
//! `BWMON_WRITE_PAGES=1 cargo test --test it pages` writes them anew.

use std::path::Path;

use bwmon::cli::{runaggregator, runmonitor, runpipe};
use bwmon::config::schema::{MONITOR, NOTIFICATION, PIPE};
use clap::{Command, CommandFactory};
use clap_complete::Shell;

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
    let completion = |shell| {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut program.clone(), &name, &mut script);
        script
    };
    vec![
        (format!("doc/{name}.1"), page),
        (format!("doc/completions/{name}.bash"), completion(Shell::Bash)),
        (format!("doc/completions/_{name}"), completion(Shell::Zsh)),
        (format!("doc/completions/{name}.fish"), completion(Shell::Fish)),
    ]
}

#[test]
fn the_generated_pages_are_those_of_the_flags() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let write = std::env::var_os("BWMON_WRITE_PAGES").is_some();
    for (name, page) in programs().into_iter().flat_map(pages) {
        let path = root.join(&name);
        if write {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &page).unwrap();
        }
        let kept = std::fs::read(&path).unwrap_or_default();
        assert!(
            kept == page,
            "{name} is not what the flags say; write it anew: \
             BWMON_WRITE_PAGES=1 cargo test --test it pages"
        );
    }
}

/// Every flag and every key of a configuration stands in the user manual.
#[test]
fn the_user_manual_names_every_flag_and_key() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manual = std::fs::read_to_string(root.join("doc/user-manual.md")).unwrap();
    for argument in programs().iter().flat_map(Command::get_arguments) {
        let Some(long) = argument.get_long() else { continue };
        assert!(manual.contains(&format!("--{long}")), "--{long} is not in doc/user-manual.md");
    }
    for key in [&MONITOR, &PIPE, &NOTIFICATION].into_iter().flat_map(|kind| kind.keys) {
        let name = key.name;
        let named = manual.contains(&format!("| `{name}` |")) || name == "type";
        assert!(named, "{name} has no line in doc/user-manual.md");
    }
    assert!(manual.contains("`type=monitor`") && manual.contains("`type=pipe`"));
}
