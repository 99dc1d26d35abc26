#!/usr/bin/env bash
# Form, lints, scripts, the unit, and what the dependencies may be.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib.sh
. scripts/lib.sh

find_cargo
cargo fmt --all --check
cargo clippy --locked --workspace --all-targets --all-features -- -D warnings
have shellcheck || die "shellcheck is not installed" "Debian, Ubuntu: apt-get install shellcheck"
shellcheck --external-sources scripts/*.sh .ci/run
scripts/check-unit.sh
check_dependencies
