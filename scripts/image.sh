#!/usr/bin/env bash
# Builds the agent's image with the Dockerfile, for those who extend it. The daemon needs no such image: it writes its own.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib.sh
. scripts/lib.sh

image=${IMAGE:-agentbot/agent:local}
have docker || die "the docker program is not installed" "Debian, Ubuntu: apt-get install docker.io"
find_cargo
ensure_engine_runs
ensure_musl_target
build_agent
as_root docker build --tag "$image" --file agent-image/Dockerfile "$(dirname "$(agent_binary)")"
note "built $image; use it with: agentbotctl provision NAME --image $image"
