#!/usr/bin/env bash
# Removes what `make install` installed. State, settings, agents' containers and the group stay.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib.sh
. scripts/lib.sh

prefix=${PREFIX:-/usr/local}
root=${DESTDIR:-}$prefix

if [ -z "${DESTDIR:-}" ]; then
    [ "$(id -u)" = 0 ] || die "uninstalling from $prefix needs root" "sudo make uninstall PREFIX=$prefix"
    if systemd_runs && [ -e "$root/lib/systemd/system/agentbotd.service" ]; then
        systemctl disable --now agentbotd.service
    fi
fi
rm -f "$root/bin/agentbotd" "$root/bin/agentbotctl" "$root/lib/agentbot/agentbot-agent" \
    "$root/share/agentbot/agentbot.toml" "$root/lib/systemd/system/agentbotd.service" \
    "$root/share/bash-completion/completions/agentbotctl" "$root/share/zsh/site-functions/_agentbotctl" \
    "$root/share/fish/vendor_completions.d/agentbotctl.fish"
for directory in "$root/lib/agentbot" "$root/share/agentbot"; do
    if [ -d "$directory" ]; then rmdir --ignore-fail-on-non-empty "$directory"; fi
done
if [ -z "${DESTDIR:-}" ] && systemd_runs; then systemctl daemon-reload; fi
note "removed from $root"
note "left: /var/lib/agentbot (state and workspaces), /etc/agentbot, the group agentbot, and agents' containers"
note "containers: docker ps --all --filter label=io.agentbot.daemon"
