#!/usr/bin/env bash
# Measures; prints figures and ratios.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib.sh
. scripts/lib.sh

scripts/ensure-test-host.sh
find_cargo
scripts/build.sh
cargo build --locked --release -p agentbot-tests --bin bench
as_root "$target_dir/release/bench" "$@"
