#!/usr/bin/env bash
# `make unit`: installs the wheel and the unit in a Debian of their own, boots its systemd, and tries what an operator
# does. Needs root and namespaces; nothing stays.
# usage: unit.sh DEBIAN.tar
set -euo pipefail
cd "$(dirname "$0")/.."
[ -n "${BOX:-}" ] || exec tools/box.sh tools/unit.sh "$@"
. tools/steps.sh

debian=$1
root=$WORK/root

# Runs a command in that Debian, as root of it.
there() {
    nsenter --target "$(cat "$WORK/init")" --all -- \
        env --ignore-environment PATH=/usr/local/bin:/usr/sbin:/usr/bin SYSTEMD_PAGER= "$@"
}

as() { there setpriv --reuid "$1" --regid "$1" --init-groups --reset-env "${@:2}"; }

submit() { mail "$1" | as ann spoold submit; }

# sink_there PORT OPTION...: a sink that has only the network in common with that Debian
sink_there() {
    sink "$1" nsenter --target "$(cat "$WORK/init")" --net -- .venv/bin/spoold sink --listen "127.0.0.1:$1" "${@:2}"
}

configure() {
    mkdir --parents "$root/etc/spoold"
    cat >"$root/etc/spoold/spoold.toml" <<TOML
[queue]
url = "sqlite:////var/lib/spoold/queue.db"
[spooler]
per_destination = 1
[transports.relay]
host = "127.0.0.1"
port = $1
tls = "none"
TOML
}

property() { there systemctl show --property "$1" --value spoold; }

# logged N EVENT: whether the daemon's journal has that event N times
logged() { [ "$(there journalctl --unit spoold --output cat | grep --count "\"event\": \"$2\"")" = "$1" ]; }

logs() { there journalctl --unit spoold --no-hostname | tail -n 30; }

# -- steps -------------------------------------------------------------------------------------------------------------

the_wheel_the_unit_and_its_user_are_installed() {
    tools/wheels.sh "$WORK/wheels"
    .venv/bin/python -m hatchling build --target wheel --directory "$WORK/wheels"
    mount -t tmpfs none "$root"
    tar --extract --file="$debian" --directory="$root"
    mount --bind "$WORK/wheels" "$root/mnt"
    chroot "$root" python3 -m venv /opt/spoold
    chroot "$root" /opt/spoold/bin/pip install --no-index --find-links /mnt spoold
    umount "$root/mnt"
    ln --symbolic /opt/spoold/bin/spoold "$root/usr/local/bin/spoold"
    install -D --mode=644 packaging/systemd/spoold.service --target-directory="$root/usr/lib/systemd/system"
    install -D --mode=644 packaging/systemd/spoold.sysusers "$root/usr/lib/sysusers.d/spoold.conf"
    configure 2525
    chroot "$root" systemd-sysusers
    chroot "$root" useradd --groups spoold ann
    chroot "$root" useradd eve
}

systemd_boots() {
    tools/systemd_box.sh "$root" "$WORK/init" &
    eventually 10 test -s "$WORK/init"
    eventually 60 there systemctl is-system-running --wait
}

systemd_analyze_finds_nothing_wrong_in_the_unit() {
    there systemd-analyze verify --man=no spoold.service | tee "$WORK/findings"
    [ ! -s "$WORK/findings" ]
}

start_returns_when_the_spooler_is_ready() {
    sink_there 2525
    there systemctl enable --now spoold
    [ "$(there systemctl is-active spoold)" = active ]
    as ann spoold status --ready
    logged 1 spooler_started
}

a_member_of_the_group_submits_and_the_mail_arrives() {
    submit first
    eventually 20 took 2525 first
}

another_user_is_refused_with_77_and_one_line() {
    mail refused >"$WORK/refused"
    exits_with 77 as eve spoold submit <"$WORK/refused" 2>"$WORK/error"
    cat "$WORK/error"
    [ "$(wc -l <"$WORK/error")" = 1 ]
    grep --quiet '^spoold: ' "$WORK/error"
}

reload_takes_another_relay() {
    sink_there 2626
    configure 2626
    there systemctl reload spoold
    eventually 20 logged 1 configuration_reloaded
    submit second
    eventually 20 took 2626 second
}

a_broken_configuration_is_refused_and_the_old_one_goes_on() {
    local pid
    pid=$(property MainPID)
    echo 'retries = "many"' >>"$root/etc/spoold/spoold.toml"
    there systemctl reload spoold
    eventually 20 logged 1 configuration_refused
    submit third
    eventually 20 took 2626 third
    [ "$(property MainPID)" = "$pid" ]
    [ "$(property ActiveState)" = active ]
}

it_does_not_start_with_that_nor_try_again() {
    there systemctl stop spoold
    exits_with 1 there systemctl start spoold
    [ "$(property ExecMainStatus) $(property ActiveState) $(property NRestarts)" = '78 failed 0' ]
    configure 2727
    there systemctl reset-failed spoold
    there systemctl start spoold
}

stop_ends_what_is_in_flight_and_hands_the_rest_back() {
    sink_there 2727 --delay 3
    submit slow-1 && submit slow-2 && submit slow-3
    eventually 20 took 2727 slow-1
    there systemctl stop spoold
    [ "$(property Result) $(property ExecMainStatus)" = 'success 0' ]
    as ann spoold list --all --json | tee "$WORK/list"
    [ "$(grep --count '"state": "queued"' "$WORK/list")" = 2 ]
    exits_with 1 took 2727 slow-2
}

what_is_submitted_meanwhile_goes_when_it_is_back() {
    exits_with 69 as ann spoold status --ready
    submit meanwhile
    there systemctl start spoold
    eventually 30 took 2727 slow-2
    eventually 30 took 2727 slow-3
    eventually 30 took 2727 meanwhile
}

a_daemon_that_hangs_is_started_again() {
    local pid
    configure 2525
    mkdir "$root/etc/systemd/system/spoold.service.d"
    printf '[Service]\nWatchdogSec=2s\n' >"$root/etc/systemd/system/spoold.service.d/watchdog.conf"
    there systemctl daemon-reload
    there systemctl restart spoold
    pid=$(property MainPID)
    there systemctl kill --signal=STOP spoold
    submit while-it-hangs
    eventually 30 took 2525 while-it-hangs
    there journalctl --unit spoold --output cat | grep 'Watchdog timeout'
    [ "$(property NRestarts) $(property ActiveState)" = '1 active' ]
    [ "$(property MainPID)" != "$pid" ]
}

each_message_arrived_once() {
    [ "$(taken)" = 8 ]
}

how_exposed_it_is() {
    there systemd-analyze security --no-pager spoold.service | tee "$WORK/security"
    tail -n 1 "$WORK/security" >&3
}

mkdir "$root"
run_steps \
    the_wheel_the_unit_and_its_user_are_installed \
    systemd_boots \
    systemd_analyze_finds_nothing_wrong_in_the_unit \
    start_returns_when_the_spooler_is_ready \
    a_member_of_the_group_submits_and_the_mail_arrives \
    another_user_is_refused_with_77_and_one_line \
    reload_takes_another_relay \
    a_broken_configuration_is_refused_and_the_old_one_goes_on \
    it_does_not_start_with_that_nor_try_again \
    stop_ends_what_is_in_flight_and_hands_the_rest_back \
    what_is_submitted_meanwhile_goes_when_it_is_back \
    a_daemon_that_hangs_is_started_again \
    each_message_arrived_once \
    how_exposed_it_is
