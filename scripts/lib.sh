# shellcheck shell=bash
# What the other scripts share: words, root, the engine, the build. Sourced, with `set -euo pipefail`, in the top directory.

export LC_ALL=C

engine_log=/var/log/agentbot-dockerd.log
musl_target=$(uname -m)-unknown-linux-musl
target_dir=$(realpath -m "${CARGO_TARGET_DIR:-target}")

say() { printf '\n==> %s\n' "$*"; }
note() { printf '    %s\n' "$*"; }
die() {
    printf 'error: %s\n' "$1" >&2
    shift
    local hint
    for hint in "$@"; do printf '  hint: %s\n' "$hint" >&2; done
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# Runs a command as root, with sudo where that is needed.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif have sudo; then
        sudo -- "$@"
    else
        die "root is needed for: $*" "run this as root, or install sudo"
    fi
}

# Runs a command as root in the background: log, pid file ("" for none), command. It holds nothing of ours: not the
# terminal's session, and no open file.
background() {
    # shellcheck disable=SC2016 # the parameters are for the inner shell
    as_root bash -c '
        log=$1 pid_file=$2
        shift 2
        (umask 077 && : >>"$log")
        for fd in /proc/$BASHPID/fd/*; do
            fd=${fd##*/}
            if [ "$fd" -gt 2 ]; then eval "exec $fd>&-"; fi
        done
        setsid "$@" >>"$log" 2>&1 </dev/null &
        if [ -n "$pid_file" ]; then echo $! >"$pid_file"; fi
    ' bash "$@"
}

systemd_runs() { [ -d /run/systemd/system ] && have systemctl; }

# Where cargo is, also where a login shell has not said so.
find_cargo() {
    have cargo || PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
    have cargo || die "cargo is not installed" "install Rust with rustup: https://rustup.rs"
    have cc || die "there is no C compiler (cc)" "Debian, Ubuntu: apt-get install gcc libc6-dev"
}

# The target of the agent's static binary. rust-toolchain.toml names the most common one; this adds any other.
ensure_musl_target() {
    if [ -d "$(rustc --print sysroot)/lib/rustlib/$musl_target" ]; then return; fi
    have rustup || die "the Rust target $musl_target is not installed" "install Rust with rustup: https://rustup.rs"
    say "Adding the Rust target $musl_target with rustup"
    rustup target add "$musl_target"
}

# Builds the agent: one static file.
build_agent() { cargo build --locked --profile agent --target "$musl_target" -p agentbot-agent; }

agent_binary() { printf '%s/%s/agent/agentbot-agent\n' "$target_dir" "$musl_target"; }

# The checker of dependencies, built for itself when it is not installed (about 2 minutes, once).
ensure_cargo_deny() {
    if have cargo-deny; then return; fi
    PATH=$PATH:$target_dir/tools/bin
    if have cargo-deny; then return; fi
    say "Building cargo-deny from crates.io into $target_dir/tools (about 2 minutes, once)"
    cargo install --quiet --locked --debug --root "$target_dir/tools" cargo-deny@0.20.2
}

check_dependencies() {
    ensure_cargo_deny
    cargo deny --log-level error --workspace check bans licenses sources
}

engine_answers() {
    local socket=${DOCKER_HOST:-unix:///var/run/docker.sock}
    case $socket in
        unix://*) socket=${socket#unix://} ;;
        *) die "DOCKER_HOST=$socket is not a Unix socket" "unset DOCKER_HOST: agents need an engine on this machine" ;;
    esac
    [ -S "$socket" ] || return 1
    if have docker; then
        as_root docker --host "unix://$socket" info >/dev/null 2>&1
    elif have curl; then
        as_root curl --silent --fail --max-time 10 --unix-socket "$socket" http://localhost/_ping >/dev/null
    else
        die "neither docker nor curl is there to ask the engine" "install curl"
    fi
}

# Installs packages of the distribution, given as: apt names, dnf names, pacman names, zypper names.
install_packages() {
    if have apt-get; then
        as_root apt-get update -q
        # shellcheck disable=SC2086 # a list of words
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $1
    elif have dnf; then
        # shellcheck disable=SC2086
        as_root dnf install -y $2
    elif have pacman; then
        # shellcheck disable=SC2086
        as_root pacman -S --noconfirm --needed $3
    elif have zypper; then
        # shellcheck disable=SC2086
        as_root zypper --non-interactive install $4
    else
        die "this distribution's package manager is not known here" "install yourself: $1"
    fi
}

ensure_engine_installed() {
    if engine_answers || have dockerd; then return; fi
    say "Installing Docker Engine and iptables from the distribution (about 1 minute)"
    install_packages "docker.io iptables" "moby-engine iptables" "docker iptables" "docker iptables"
}

wait_for_engine() {
    local try
    for try in $(seq 60); do
        if engine_answers; then return; fi
        [ "$try" = 1 ] || sleep 1
    done
    return 1
}

# Has an engine that answers: the one that runs, or the one that is installed, started.
ensure_engine_runs() {
    if engine_answers; then return; fi
    if systemd_runs; then
        say "Starting the engine: systemctl start docker"
        as_root systemctl start docker
        wait_for_engine || die "the engine does not answer" "journalctl -u docker"
        return
    fi
    say "Starting the engine in the background: dockerd, log in $engine_log"
    background "$engine_log" "" dockerd
    if ! wait_for_engine; then
        as_root tail -n 20 "$engine_log" >&2 || true
        die "the engine does not answer" "its log is $engine_log; in a container it needs to be privileged"
    fi
}
