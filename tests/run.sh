#!/usr/bin/env bash
# Installs what the tests need on Debian or Ubuntu, and runs them all.
#
# Most of them watch real traffic in network namespaces that they make themselves, so they run as
# root; a test that can't run for real is a failure here, not a skip. Arguments go to `cargo test`.
set -euo pipefail
cd "$(dirname "$0")/.."

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    # Cargo and its toolchain are the user's own: root gets them with the user's environment.
    as_root=(sudo --preserve-env=HOME,CARGO_HOME,RUSTUP_HOME env "PATH=$PATH")
fi

tests/install.sh

# As the user first: what is compiled stays the user's. Unit tests run before those of traffic, and those of the
# documentation last.
cargo test --workspace --no-run "$@"
# More threads than cores: these tests mostly wait for traffic. Not many more: some look whether a thread is in time.
exec "${as_root[@]}" env BWMON_REQUIRE_NETNS=1 "RUST_TEST_THREADS=${RUST_TEST_THREADS:-4}" \
    cargo test --workspace "$@"
