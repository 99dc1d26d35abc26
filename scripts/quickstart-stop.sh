#!/usr/bin/env bash
# Ends what quickstart left running: stops the agents (KEEP=1 leaves them running), then the daemon. Data stays.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib.sh
. scripts/lib.sh
# shellcheck source=scripts/quickstart-lib.sh
. scripts/quickstart-lib.sh

if [ -z "$(daemon_pid)" ]; then
    note "quickstart's daemon does not run; nothing to do"
    exit 0
fi
if [ "${KEEP:-0}" = 1 ]; then
    say "Leaving the agents running (KEEP=1)"
else
    names=$(ctl list -o json | grep -o '"name": *"[a-z0-9-]*"' | sed 's/.*"\([a-z0-9-]*\)"$/\1/' || true)
    if [ -n "$names" ]; then
        say "Stopping the agents (KEEP=1 would leave them running): $(echo "$names" | tr '\n' ' ')"
        # shellcheck disable=SC2086 # a list of names
        ctl stop $names || note "some did not stop; their containers are listed by: docker ps --filter label=io.agentbot.daemon"
    fi
fi
say "Ending the daemon"
end_daemon
note "data stays in $state_dir; make quickstart goes on from there"
