//! The manual page and the shell completions are made from the definition of the flags, and kept in
//! `doc/` so that packages need no build to ship them.
//!
//! `BWMON_WRITE_PAGES=1 cargo test --test it pages` writes them anew.

use std::path::Path;

use bwmon::cli::runmonitor::Arguments;
use clap::CommandFactory;
use clap_complete::Shell;

fn pages() -> Vec<(&'static str, Vec<u8>)> {
    let mut page = Vec::new();
    clap_mangen::Man::new(Arguments::command()).render(&mut page).unwrap();
    let completion = |shell| {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Arguments::command(), "runmonitor", &mut script);
        script
    };
    vec![
        ("doc/runmonitor.1", page),
        ("doc/completions/runmonitor.bash", completion(Shell::Bash)),
        ("doc/completions/_runmonitor", completion(Shell::Zsh)),
        ("doc/completions/runmonitor.fish", completion(Shell::Fish)),
    ]
}

#[test]
fn the_generated_pages_are_those_of_the_flags() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let write = std::env::var_os("BWMON_WRITE_PAGES").is_some();
    for (name, page) in pages() {
        let path = root.join(name);
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

/// Every flag stands in the user manual.
#[test]
fn the_user_manual_names_every_flag() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manual = std::fs::read_to_string(root.join("doc/user-manual.md")).unwrap();
    for argument in Arguments::command().get_arguments() {
        let Some(long) = argument.get_long() else { continue };
        assert!(manual.contains(&format!("--{long}")), "--{long} is not in doc/user-manual.md");
    }
}
