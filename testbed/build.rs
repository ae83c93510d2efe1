//! Compiles `programs/short.c` and `programs/calls.c`, the endpoints that live too short for an interpreter.
//!
//! A host without the C library's static half can build everything else: what the compiler says is kept for the
//! tests that need the program.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

const SOURCES: [&str; 2] = ["short.c", "calls.c"];

fn main() -> std::io::Result<()> {
    println!("cargo::rerun-if-changed=programs/short.h");
    for source in SOURCES {
        println!("cargo::rerun-if-changed=programs/{source}");
    }
    let out = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    let program = Path::new(&out).join("short");
    // Static: a process that is to live a millisecond has no time to look for libraries.
    let mut cc = Command::new("cc");
    cc.args(["-O2", "-Wall", "-Wextra", "-static", "-pthread", "-o"]).arg(&program);
    cc.args(SOURCES).current_dir("programs");
    let said = match cc.output() {
        Ok(output) if output.status.success() => String::new(),
        Ok(output) => format!("{cc:?}\n{}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => format!("{cc:?}: {error}"),
    };
    if !said.is_empty() {
        let _ = fs::remove_file(&program);
        println!("cargo::warning=short.c is not compiled; tests that need it will fail");
    }
    fs::write(program.with_extension("stderr"), said)
}
