//! Whether there is anything to measure.

/// Whether a bench was asked for, and can be run; says so if not. `cargo test` runs these programs, too.
pub(crate) fn is_measured(bench: &str, asked: bool) -> bool {
    if !asked {
        println!("{bench}: only measured by `cargo bench --bench {bench}`");
        return false;
    }
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("{bench}: NOT MEASURED: it makes network namespaces, which takes root");
    }
    root
}
