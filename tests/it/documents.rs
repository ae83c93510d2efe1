//! The documents: what they link to and the files that they name exist.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every document, with its place in the repository.
fn documents() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for directory in ["", "doc", "doc/design", "tests"] {
        for entry in fs::read_dir(root().join(directory)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "md") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    found
}

/// How a heading is named in a link.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn has_anchor(text: &str, wanted: &str) -> bool {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#'))).any(|anchor| anchor == wanted)
}

/// What of a text stands between such marks.
fn between<'a>(mut text: &'a str, begin: &str, end: &str) -> Vec<&'a str> {
    let mut found = Vec::new();
    while let Some((_, rest)) = text.split_once(begin)
        && let Some((part, rest)) = rest.split_once(end)
    {
        found.push(part);
        text = rest;
    }
    found
}

#[test]
fn marks_come_in_pairs() {
    assert_eq!(between("a `b` c `d`", "`", "`"), ["b", "d"]);
    assert_eq!(between("[a](b) [c](d#e)", "](", ")"), ["b", "d#e"]);
}

#[test]
fn every_link_leads_somewhere() {
    let mut dead = Vec::new();
    for (path, text) in documents() {
        for link in between(&text, "](", ")") {
            if link.starts_with("https:") || link.starts_with("http:") {
                continue;
            }
            let (file, wanted) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => path.clone(),
                file => path.parent().unwrap().join(file),
            };
            let there = match fs::read_to_string(&target) {
                Ok(text) => wanted.is_empty() || has_anchor(&text, wanted),
                Err(_) => target.is_dir() && wanted.is_empty(),
            };
            if !there {
                dead.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(dead.is_empty(), "dead links:\n{}", dead.join("\n"));
}

#[test]
fn every_file_that_is_named_exists() {
    let mut missing = Vec::new();
    for (path, text) in documents() {
        // Blocks of code stand in lines of their own.
        let text = text.replace("```", "");
        for name in between(&text, "`", "`") {
            let is_path = ["src/", "tests/", "benches/", "testbed/", "doc/", "examples/"]
                .iter()
                .any(|prefix| name.starts_with(prefix));
            // Capitals stand for a name.
            let stands_for_itself = name.split('/').all(|part| part != part.to_uppercase());
            if is_path && stands_for_itself && !name.contains(' ') && !root().join(name).exists() {
                missing.push(format!("{}: {name}", path.display()));
            }
        }
    }
    missing.sort();
    assert!(missing.is_empty(), "named, but not there:\n{}", missing.join("\n"));
}
