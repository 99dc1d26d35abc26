#!/usr/bin/env bash
# Verifies the systemd unit, and that its sandbox is not looser than it was.
set -euo pipefail
cd "$(dirname "$0")/.."

# What `systemd-analyze security` gives the unit, in tenths: 0 is sealed, 100 is open. Lower it when the unit improves.
threshold=30

if ! command -v systemd-analyze >/dev/null; then
    echo "check-unit: systemd-analyze is not installed; the unit is not verified" >&2
    exit "${REQUIRE_SYSTEMD:-0}"
fi
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
# Verification wants the program to be there; the unit is checked, not the installation.
sed 's|^ExecStart=.*|ExecStart=/bin/true|' config/agentbotd.service >"$directory/agentbotd.service"
# It warns of unknown keys and succeeds; a warning is a mistake here.
systemd-analyze verify --man=no --recursive-errors=no "$directory/agentbotd.service" >"$directory/warnings" 2>&1 || true
if [ -s "$directory/warnings" ]; then
    cat "$directory/warnings" >&2
    exit 1
fi
if ! systemd-analyze security --offline=yes --no-pager --threshold="$threshold" "$directory/agentbotd.service" >"$directory/report"; then
    cat "$directory/report" >&2
    echo "check-unit: the unit's exposure is above $threshold" >&2
    exit 1
fi
echo "check-unit: config/agentbotd.service is well formed; $(tail -n 1 "$directory/report")"
