#!/usr/bin/env bash
# From a fresh clone to an agent that runs. Run again, it builds what changed and takes what is there.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib.sh
. scripts/lib.sh
# shellcheck source=scripts/quickstart-lib.sh
. scripts/quickstart-lib.sh

agent=hello

# Without asking for root: nothing has been said yet.
engine_plan() {
    if [ -S /var/run/docker.sock ] || [ -n "${DOCKER_HOST:-}" ]; then
        echo "the Docker Engine of this machine"
    elif have dockerd; then
        echo "the Docker Engine that is installed here will be started"
    else
        echo "Docker Engine and iptables will be installed from the distribution"
    fi
}

announce() {
    cat <<TEXT
Agentbot quickstart: builds the daemon, starts it and provisions an agent named "$agent".

    engine    $(engine_plan)
    programs  ${release#"$PWD"/} (nothing is installed elsewhere)
    state     $state_dir (stays when the daemon ends)
    daemon    runs as root$(if [ "$(id -u)" != 0 ]; then echo ", through sudo: it may ask for your password"; fi)
    time      5 to 10 minutes the first time on two cores, nearly all of it compiling; seconds after that
TEXT
}

refuse_a_foreign_daemon() {
    if systemd_runs && systemctl --quiet is-active agentbotd.service; then
        die "the installed agentbotd.service is running" "use it with agentbotctl, or: sudo systemctl stop agentbotd"
    fi
    if [ -z "$(daemon_pid)" ] && ctl status >/dev/null 2>&1; then
        die "another agentbotd serves $runtime_dir" "end it first; its process id is in $state_dir/lock"
    fi
}

# The engine that the caller named: neither sudo nor systemd hands variables on by itself.
engine_of_unit=()
engine_of_process=()
if [ -n "${DOCKER_HOST:-}" ]; then
    engine_of_unit=(--setenv="DOCKER_HOST=$DOCKER_HOST")
    engine_of_process=("DOCKER_HOST=$DOCKER_HOST")
fi

# What the running daemon was started from; a difference means that it must be started anew.
sum_of_programs() {
    cksum "$release/agentbotd" "$release/agentbot-agent"
    printf 'engine %s\n' "${DOCKER_HOST:-of this machine}"
}

start_daemon() {
    if [ -n "$(daemon_pid)" ]; then
        if [ "$(as_root cat "$sum_file" 2>/dev/null)" = "$(sum_of_programs)" ]; then
            say "The daemon runs already (pid $(daemon_pid))"
            return
        fi
        say "The programs changed: ending the daemon of the last run; agents keep running meanwhile"
        end_daemon
    fi
    if systemd_runs; then
        say "Starting the daemon as the transient unit $unit.service"
        as_root systemctl reset-failed "$unit.service" 2>/dev/null || true
        as_root systemd-run "${engine_of_unit[@]}" --quiet --collect --unit="$unit" --description="Agentbot daemon (quickstart)" \
            --service-type=notify --property=Restart=always --property=RestartSec=1 --property=WatchdogSec=30 \
            --property=LimitNOFILE=65536 --property=LimitCORE=0 --property=UMask=0077 --property=TimeoutStopSec=30 \
            "$release/agentbotd" --state-dir "$state_dir" --runtime-dir "$runtime_dir"
    else
        say "Starting the daemon in the background: pid in $pid_file, log in $log_file"
        background "$log_file" "$pid_file" env "${engine_of_process[@]}" \
            "$release/agentbotd" --state-dir "$state_dir" --runtime-dir "$runtime_dir"
    fi
    # shellcheck disable=SC2016
    sum_of_programs | as_root sh -c 'umask 077; cat >"$1"' sh "$sum_file"
    wait_until_healthy
}

wait_until_healthy() {
    local try
    for try in $(seq 120); do
        if ctl status >/dev/null 2>&1; then
            note "it answers"
            return
        fi
        [ -n "$(daemon_pid)" ] || break
        [ "$try" = 1 ] || sleep 0.5
    done
    show_log >&2
    die "the daemon does not answer" "its last words are above"
}

provision_agent() {
    if ctl show "$agent" >/dev/null 2>&1; then
        say "The agent \"$agent\" is there already: starting it if it is not running"
        ctl start "$agent"
    else
        say "Provisioning the agent \"$agent\" in a locked-down container (some seconds)"
        ctl provision "$agent"
    fi
    say "This is it"
    ctl show "$agent"
}

talk_to_agent() {
    local greeting='hello' said
    say "Talking to it: agentbotctl chat $agent \"$greeting\""
    # Whatever is piped into this script is not part of what is said.
    ctl chat "$agent" "$greeting" </dev/null && return
    # Asked again for the code, which is for programs: only one of them means an agent that cannot talk at all.
    said=$(ctl -o json chat "$agent" "$greeting" </dev/null 2>/dev/null || true)
    if [[ $said == *'"code":"unsupported"'* ]]; then
        die "the agent \"$agent\" was made by an earlier version and cannot talk" \
            "agentbotctl delete $agent, then make quickstart again; undelete brings it back"
    fi
    die "the agent \"$agent\" did not answer" "what is wrong with it: agentbotctl show $agent"
}

farewell() {
    local run=${release#"$PWD"/}/agentbotctl
    [ "$(id -u)" = 0 ] || run="sudo $run"
    printf '\nNext:\n'
    printf '    %-60s %s\n' \
        "$run chat $agent" "a conversation" \
        "$run list" "all agents" \
        "$run model discover" "models found on this machine" \
        "$run repair $agent" "after breaking its container on purpose" \
        "$run provision scout" "another agent" \
        "$run --help" "all it can do" \
        "make quickstart-stop" "ends agents and daemon; data stays" \
        "sudo make install" "for good, with a systemd unit"
}

announce
find_cargo
as_root true
ensure_engine_installed
ensure_engine_runs
say "Building (cargo shows its progress)"
scripts/build.sh
refuse_a_foreign_daemon
start_daemon
provision_agent
talk_to_agent
farewell
