//! The order of the crate's modules: data goes one way through them, and no module uses a later
//! one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The modules, from reading to showing. A module may use those of earlier lines, and those before it in its own
/// line.
const MODULES: &[&str] = &[
    // Values and names.
    "model escape locale filter brief lookalike listen by",
    // Decoders and readers of the kernel.
    "netlink netns addresses cpu sockets conntrack ebpf resolve services",
    // Processes, and their events.
    "processes tracker",
    // Read, resolve, account.
    "environment attribution recording sources selection ledger group",
    "pipe",
    "alert notify",
    // The loop that reads and accounts.
    "watch monitor replay aggregator",
    // Outputs and configuration.
    "render screen serve config cli",
];

/// Adds every source file of a directory to `found`, except tests.
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

/// The names after `crate::` in the code of a file, without comments and tests.
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
fn no_module_uses_a_later_one() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let order: BTreeMap<&str, usize> =
        MODULES.iter().flat_map(|line| line.split(' ')).zip(0..).collect();
    let mut found = Vec::new();
    files(&source, &mut found);
    let mut upwards = Vec::new();
    for path in found {
        let relative = path.strip_prefix(&source).unwrap();
        let module = relative.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs");
        if ["lib", "module_order", "until", "bin"].contains(&module) {
            continue;
        }
        let place =
            order.get(module).unwrap_or_else(|| panic!("{module} is in no line of MODULES"));
        for other in used(&fs::read_to_string(&path).unwrap()) {
            if order.get(other.as_str()).is_some_and(|of| of > place) {
                upwards.push(format!("{} uses {other}", relative.display()));
            }
        }
    }
    upwards.sort();
    assert!(upwards.is_empty(), "modules that use later ones:\n{}", upwards.join("\n"));
}

#[test]
fn what_a_file_uses_is_found() {
    let code = "use crate::a::B;\n//! [`crate::c`]\nuse crate::{d, e::F};\nlet g = crate::h();\n\
                #[cfg(test)]\nmod tests {\nuse crate::i;\n";
    assert_eq!(used(code).into_iter().collect::<Vec<_>>(), ["a", "d", "e", "h"]);
}
