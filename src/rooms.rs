//! The rooms of the crate: data goes one way through them, and none knows one that comes later.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// From what is read to what is shown. A room may use those in lines before its own, and those in its own line that
/// come before it.
const ROOMS: &[&str] = &[
    // Values, and what is done with names.
    "model escape filter brief lookalike listen",
    // How the kernel says it.
    "netlink netns addresses cpu sockets conntrack ebpf",
    // Who holds sockets, and what is announced.
    "processes tracker",
    // Read, resolve, account.
    "environment attribution recording sources selection ledger group",
    "pipe",
    "alert notify",
    // The engine.
    "watch monitor replay aggregator",
    // What people and programs see.
    "render serve config cli",
];

/// Every source file of a directory but tests, with the room that it is in.
fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        if name == "tests" || name.ends_with("_tests") {
            continue;
        }
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// What stands behind `crate::` in the code of a file, without comments and tests.
fn used(code: &str) -> BTreeSet<String> {
    let code = code.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let mut used = BTreeSet::new();
    for line in code.lines().map(str::trim_start).filter(|line| !line.starts_with("//")) {
        for path in line.split("crate::").skip(1) {
            let names = path.strip_prefix('{').map_or(path, |group| group.trim_end_matches("};"));
            let first = |path: &str| -> String {
                path.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
            };
            let group = path.starts_with('{');
            let names = names.split(',').take(if group { usize::MAX } else { 1 });
            used.extend(names.map(|name| first(name.trim())));
        }
    }
    used.remove("");
    used
}

#[test]
fn no_room_knows_one_that_comes_later() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let order: BTreeMap<&str, usize> =
        ROOMS.iter().flat_map(|line| line.split(' ')).zip(0..).collect();
    let mut found = Vec::new();
    files(&source, &mut found);
    let mut upwards = Vec::new();
    for path in found {
        let relative = path.strip_prefix(&source).unwrap();
        let room = relative.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs");
        if ["lib", "rooms", "until", "bin"].contains(&room) {
            continue;
        }
        let place = order.get(room).unwrap_or_else(|| panic!("{room} is in no line of ROOMS"));
        for other in used(&fs::read_to_string(&path).unwrap()) {
            if order.get(other.as_str()).is_some_and(|of| of > place) {
                upwards.push(format!("{} uses {other}", relative.display()));
            }
        }
    }
    upwards.sort();
    assert!(upwards.is_empty(), "rooms that know later ones:\n{}", upwards.join("\n"));
}

#[test]
fn what_a_file_uses_is_found() {
    let code = "use crate::a::B;\n//! [`crate::c`]\nuse crate::{d, e::F};\nlet g = crate::h();\n\
                #[cfg(test)]\nmod tests {\nuse crate::i;\n";
    assert_eq!(used(code).into_iter().collect::<Vec<_>>(), ["a", "d", "e", "h"]);
}
