#!/usr/bin/env bash
# Builds what is shipped: agentbotd, agentbotctl and agentbot-agent, side by side in target/release.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib.sh
. scripts/lib.sh

find_cargo
ensure_musl_target
cargo build --locked --release -p agentbotd -p agentbotctl
build_agent
# Renamed into place: a daemon that runs may be reading the old one.
install -m 0755 "$(agent_binary)" "$target_dir/release/.agentbot-agent.new"
mv -f "$target_dir/release/.agentbot-agent.new" "$target_dir/release/agentbot-agent"
