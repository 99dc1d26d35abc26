#!/usr/bin/env bash
# Every check of a change: form, lints, unit tests, and the end-to-end tests on a real Docker Engine.
# With --nightly the long ones too.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib.sh
. scripts/lib.sh

ignored=()
[ "${1:-}" != --nightly ] || ignored=(--include-ignored)

begun=$SECONDS
scripts/ensure-test-host.sh
find_cargo

say "Form and lints"
cargo fmt --all --check
cargo clippy --locked --workspace --all-targets --all-features --quiet -- -D warnings
scripts/check-unit.sh
check_dependencies

# One profile and one set of features, so that everything is compiled once: fault points in, nothing optimised.
say "Building the agent and the programs under test"
build_agent
cargo build --locked --workspace --bins
cargo test --locked --workspace --no-run

say "Tests"
if [ "$(id -u)" != 0 ]; then
    # The daemon runs as root, and so do its tests.
    runner=CARGO_TARGET_$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')_RUNNER
    export "$runner=sudo -E env PATH=$PATH HOME=$HOME"
    note "the tests run through sudo: it may ask for your password"
fi
report=$(mktemp)
trap 'rm -f "$report"' EXIT
code=0
cargo test --locked --workspace --no-fail-fast -- "${ignored[@]}" 2>&1 | tee "$report" || code=$?
awk -v code="$code" -v seconds="$((SECONDS - begun))" '
    /^test result:/ { passed += $4; failed += $6; ignored += $8 }
    END {
        printf "\n%s: %d passed, %d failed, %d left out, in %d min %02d s\n",
            code == 0 ? "all tests passed" : "TESTS FAILED", passed, failed, ignored, seconds / 60, seconds % 60
    }' "$report"
exit "$code"
