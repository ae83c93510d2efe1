//! What is asked for on a bench's command line: the parts that all benches have.

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};

/// Whether anything is to be measured.
#[derive(Args, Clone, Copy)]
pub struct Asked {
    /// Added by `cargo bench`; without it nothing is measured.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Asked {
    /// Whether the bench is to be measured, and can be; says so if not. `cargo test --benches` runs these programs, too.
    pub fn is_measured(self, bench: &str) -> bool {
        if !self.bench {
            println!("{bench}: only measured by `cargo bench --bench {bench}`");
            return false;
        }
        let root = rustix::process::geteuid().is_root();
        if !root {
            println!("{bench}: NOT MEASURED: it makes network namespaces, which takes root");
        }
        root
    }
}

/// Takes one of several names, each of which stands for a value.
pub fn one_of<T: Clone + Send + Sync + 'static>(
    choices: Vec<(&'static str, T)>,
) -> impl TypedValueParser<Value = T> {
    let names: Vec<&'static str> = choices.iter().map(|(name, _)| *name).collect();
    PossibleValuesParser::new(names).map(move |name| {
        let choice = choices.iter().find(|(known, _)| *known == name);
        choice.expect("clap has checked it").1.clone()
    })
}

/// A number that is at least 1.
pub fn some() -> impl TypedValueParser<Value = usize> {
    clap::value_parser!(u32).range(1..).map(|number| number as usize)
}

/// What was chosen of a kind; everything, if nothing was.
pub fn or_all<T>(chosen: impl Iterator<Item = T>, all: impl IntoIterator<Item = T>) -> Vec<T> {
    let chosen: Vec<T> = chosen.collect();
    if chosen.is_empty() { all.into_iter().collect() } else { chosen }
}
