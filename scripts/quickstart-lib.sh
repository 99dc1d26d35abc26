# shellcheck shell=bash
# shellcheck disable=SC2034 # used by the scripts that source this
# The daemon that quickstart leaves running: where it is, and how it is ended. Sourced after lib.sh.

state_dir=/var/lib/agentbot
runtime_dir=/run/agentbot
unit=agentbotd-quickstart
pid_file=/run/agentbot-quickstart.pid
sum_file=/run/agentbot-quickstart.sum
log_file=/var/log/agentbot-quickstart.log
release=${target_dir:?}/release

ctl() { as_root "$release/agentbotctl" --socket "$runtime_dir/agentbot.sock" "$@"; }

# The process id of quickstart's daemon; nothing when it does not run.
daemon_pid() {
    local pid
    if systemd_runs; then
        pid=$(systemctl show --property=MainPID --value "$unit.service" 2>/dev/null || true)
        if [ "${pid:-0}" = 0 ]; then pid=; fi
    else
        pid=$(as_root cat "$pid_file" 2>/dev/null || true)
        # A pid is used again after a reboot: only a process that is agentbotd counts.
        if [ -n "$pid" ] && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" != agentbotd ]; then pid=; fi
    fi
    printf '%s' "$pid"
}

# Ends the daemon and waits: it drains for 10 s at most. Agents keep running.
end_daemon() {
    local pid try
    pid=$(daemon_pid)
    if [ -z "$pid" ]; then return; fi
    if systemd_runs; then
        as_root systemctl stop "$unit.service"
    else
        as_root kill -TERM "$pid"
        for try in $(seq 300); do
            if [ -z "$(daemon_pid)" ]; then break; fi
            sleep 0.1
            if [ "$try" = 300 ]; then die "the daemon (pid $pid) did not end within 30 s" "its log is $log_file"; fi
        done
        as_root rm -f "$pid_file"
    fi
    as_root rm -f "$sum_file"
}

show_log() {
    if systemd_runs; then
        as_root journalctl --no-pager --unit="$unit.service" --lines=20
    else
        as_root tail -n 20 "$log_file"
    fi
}
