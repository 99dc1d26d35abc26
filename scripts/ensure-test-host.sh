#!/usr/bin/env bash
# Gives a fresh machine what the tests need: a Docker Engine that answers, iptables, systemd-analyze, foreign clients.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib.sh
. scripts/lib.sh

find_cargo
missing=()
have dockerd || missing+=(docker.io)
have iptables || missing+=(iptables)
have systemd-analyze || missing+=(systemd)
if [ ${#missing[@]} -gt 0 ]; then
    if have apt-get; then
        say "Installing what the tests need: ${missing[*]}"
        install_packages "${missing[*]}" "" "" ""
    else
        ensure_engine_installed
    fi
fi
ensure_engine_runs
ensure_musl_target
scripts/ensure-foreign-clients.sh
