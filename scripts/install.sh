#!/usr/bin/env bash
# Installs what `make build` built below DESTDIR/PREFIX; run again, it replaces. Builds nothing, so that root needs no cargo.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib.sh
. scripts/lib.sh

prefix=${PREFIX:-/usr/local}
root=${DESTDIR:-}$prefix
release=$target_dir/release

for program in agentbotd agentbotctl agentbot-agent; do
    [ -x "$release/$program" ] || die "$release/$program is missing" "make build"
done
case $prefix in /*) ;; *) die "PREFIX=$prefix is not an absolute path" ;; esac
if [ -z "${DESTDIR:-}" ] && [ "$(id -u)" != 0 ]; then
    die "installing into $prefix needs root" "sudo make install PREFIX=$prefix" "or name another place in DESTDIR"
fi

completion() { "$release/agentbotctl" completion "$1" | install -D -m 0644 /dev/stdin "$root/$2"; }

# install(1) replaces the file, so a daemon that runs keeps the program it has.
install -D -m 0755 "$release/agentbotd" "$root/bin/agentbotd"
install -D -m 0755 "$release/agentbotctl" "$root/bin/agentbotctl"
install -D -m 0755 "$release/agentbot-agent" "$root/lib/agentbot/agentbot-agent"
install -D -m 0644 config/agentbot.toml "$root/share/agentbot/agentbot.toml"
install -d -m 0755 "$root/lib/systemd/system"
sed "s|^ExecStart=.*|ExecStart=$prefix/bin/agentbotd|" config/agentbotd.service >"$root/lib/systemd/system/agentbotd.service"
chmod 0644 "$root/lib/systemd/system/agentbotd.service"
completion bash share/bash-completion/completions/agentbotctl
completion zsh share/zsh/site-functions/_agentbotctl
completion fish share/fish/vendor_completions.d/agentbotctl.fish
note "installed below $root"

if [ -n "${DESTDIR:-}" ]; then exit 0; fi
if ! getent group agentbot >/dev/null; then
    groupadd --system agentbot
    note "made the group agentbot: its members may use agentbotctl without sudo (sudo usermod -aG agentbot NAME)"
fi
if systemd_runs; then
    systemctl daemon-reload
    note "start it now and at boot: systemctl enable --now agentbotd"
    note "after an upgrade: systemctl restart agentbotd (agents keep running)"
fi
note "settings: copy what differs from $prefix/share/agentbot/agentbot.toml to /etc/agentbot/agentbot.toml"
