#!/usr/bin/env bash
# Installs what the tests need on Debian or Ubuntu. Needs root, or sudo.
set -euo pipefail

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    as_root=(sudo)
fi

# iproute2, util-linux: namespaces. jq: the manual's examples. nftables: rules that make the kernel track, and the true bytes.
# conntrack: the table beside ours. tmux: the terminal of `top`. python3, libc6-dev: the workloads. gcc: theirs and Rust's linker.
packages=(conntrack gcc iproute2 jq libc6-dev nftables procps python3 tmux util-linux)
missing=()
for package in "${packages[@]}"; do
    dpkg-query --show --showformat='${Status}' "$package" 2>/dev/null |
        grep -q 'install ok installed' || missing+=("$package")
done
if [ "${#missing[@]}" -gt 0 ]; then
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install --yes --no-install-recommends "${missing[@]}"
fi
