#!/usr/bin/env bash
# Gives the tests clients that nobody of this project wrote: Python packages and one of node, pinned, in target/foreign.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib.sh
. scripts/lib.sh

foreign=$target_dir/foreign
wanted=$(cat tests/foreign/requirements.txt tests/foreign/package-lock.json | cksum)
if [ "$(cat "$foreign/made-from" 2>/dev/null)" = "$wanted" ] && "$foreign/venv/bin/python" -c '' 2>/dev/null && have node; then
    exit 0
fi

missing=()
python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3 python3-venv)
have node || missing+=(nodejs)
have npm || missing+=(npm)
if [ ${#missing[@]} -gt 0 ]; then
    say "Installing what the foreign clients need: ${missing[*]} (1 to 3 minutes, once)"
    install_packages "${missing[*]}" "python3 python3-pip nodejs npm" "python nodejs npm" "python3 nodejs npm"
fi
say "Installing the foreign clients into $foreign (about 20 seconds, once)"
rm -rf "$foreign"
mkdir -p "$foreign"
python3 -m venv "$foreign/venv"
"$foreign/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --requirement tests/foreign/requirements.txt
cp tests/foreign/package.json tests/foreign/package-lock.json "$foreign/"
npm ci --prefix "$foreign" --no-audit --no-fund --no-update-notifier --loglevel=error
printf '%s\n' "$wanted" >"$foreign/made-from"
