#!/usr/bin/env bash
# `make image`: builds the image from the Dockerfile and runs it, as README tells to. On a Debian machine, as root: what
# it needs is installed with apt, and nothing else stays.
# usage: image.sh DEBIAN.tar
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -z "${BOX:-}" ]; then
    tools/apt_install.sh podman crun
    exec tools/box.sh tools/image.sh "$@"
fi
. tools/steps.sh

debian=$1

# Where no cgroup can have limits and no limit can be raised, a container does without.
run_image() {
    podman run --cgroups=disabled --ulimit=host --network=host --volume spool:/var/spool/spoold "$@"
}

in_the_volume() { run_image --rm --interactive spoold "$@"; }

volume() { podman volume inspect --format '{{.Mountpoint}}' spool; }

logs() { podman logs spoold; cat "$WORK"/sink-*; }

# -- steps -------------------------------------------------------------------------------------------------------------

the_image_builds() {
    tools/wheels.sh "$WORK/wheels"
    printf '[global]\nno-index = true\nfind-links = /mnt\n' >"$WORK/pip.conf"
    podman import --quiet "$debian" localhost/debian
    podman build --isolation=chroot --format=docker --pull=never --build-arg BASE=localhost/debian \
        --secret id=pip.conf,src="$WORK/pip.conf" --volume "$WORK/wheels:/mnt:ro" --tag spoold .
}

it_holds_neither_pip_nor_the_sources() {
    run_image --rm --entrypoint=sh spoold -c '
        for path in /src /dist /opt/build /opt/spoold/bin/pip /etc/pip.conf; do
            [ ! -e $path ] || { echo $path is there; exit 1; }
        done'
}

a_sink_listens_on_loopback() {
    sink loopback .venv/bin/spoold sink --listen 127.0.0.1:0
    sed --silent 's/.*listens on 127.0.0.1://p' "$WORK/sink-loopback" >"$WORK/port"
}

it_runs_and_its_health_check_says_so() {
    run_image --detach --name spoold --env SPOOLD_RELAY="smtp://127.0.0.1:$(cat "$WORK/port")?tls=none" spoold
    eventually 20 podman healthcheck run spoold
}

it_is_PID_1_and_not_root() {
    podman exec spoold sh -c 'id; cat /proc/1/comm /proc/1/status' | tee "$WORK/who"
    grep --quiet '^uid=2525(spoold) gid=2525(spoold)' "$WORK/who"
    grep --quiet '^spoold$' "$WORK/who"
    grep --quiet '^CapEff:.0*$' "$WORK/who"
}

a_message_submitted_inside_arrives() {
    mail inside | podman exec --interactive spoold spoold submit
    eventually 20 took loopback inside
}

one_from_another_container_with_the_volume_arrives() {
    mail beside | in_the_volume submit
    eventually 20 took loopback beside
}

one_from_outside_through_the_volume_arrives() {
    mail outside | .venv/bin/spoold --queue "$(volume)/queue.db" submit
    eventually 20 took loopback outside
}

SIGTERM_ends_it_in_order() {
    local begin=$SECONDS
    podman stop --time 30 spoold
    ((SECONDS - begin <= 5))
    [ "$(podman inspect --format '{{.State.ExitCode}}' spoold)" = 0 ]
    podman logs spoold 2>&1 | grep --quiet spooler_stopped
}

it_leaves_the_queue_and_nothing_else() {
    ls --almost-all "$(volume)" | tee "$WORK/left"
    [ "$(cat "$WORK/left")" = queue.db ]
}

it_is_not_ready_any_more() {
    exits_with 69 in_the_volume status --ready
}

a_message_can_be_submitted_meanwhile() {
    mail meanwhile | in_the_volume submit
    exits_with 1 took loopback meanwhile
}

it_sends_that_without_any_right_and_configured_by_key() {
    podman rm spoold
    run_image --detach --name spoold --read-only --cap-drop=all --security-opt=no-new-privileges \
        --env SPOOLD_TRANSPORTS__RELAY__HOST=127.0.0.1 --env SPOOLD_TRANSPORTS__RELAY__TLS=none \
        --env SPOOLD_TRANSPORTS__RELAY__PORT="$(cat "$WORK/port")" spoold
    eventually 20 took loopback meanwhile
    podman kill --signal TERM spoold
    [ "$(timeout 10 podman wait spoold)" = 0 ]
}

SIGTERM_while_it_starts_is_not_lost() {
    local pid
    run_image --detach --pidfile "$WORK/pid" --name starting --env SPOOLD_RELAY=smtp://127.0.0.1 spoold
    pid=$(cat "$WORK/pid")
    # Its own code runs, but is not ready yet.
    timeout 10 sh -c 'until grep --quiet uvloop "/proc/$1/maps"; do :; done' sh "$pid"
    kill -TERM "$pid"
    [ "$(timeout 10 podman wait starting)" = 0 ]
}

a_configuration_that_cannot_be_is_one_line_and_78() {
    exits_with 78 in_the_volume run 2>"$WORK/error"
    cat "$WORK/error"
    [ "$(wc -l <"$WORK/error")" = 1 ]
}

each_message_arrived_once() {
    [ "$(taken)" = 4 ]
}

# All that podman keeps lies in $WORK.
mkdir --parents "$WORK/containers" /var/lib/containers
mount --bind "$WORK/containers" /var/lib/containers
export TMPDIR=$WORK
export DISABLE_HC_SYSTEMD=true # `podman healthcheck run` asks, instead of a timer of systemd

run_steps \
    the_image_builds \
    it_holds_neither_pip_nor_the_sources \
    a_sink_listens_on_loopback \
    it_runs_and_its_health_check_says_so \
    it_is_PID_1_and_not_root \
    a_message_submitted_inside_arrives \
    one_from_another_container_with_the_volume_arrives \
    one_from_outside_through_the_volume_arrives \
    SIGTERM_ends_it_in_order \
    it_leaves_the_queue_and_nothing_else \
    it_is_not_ready_any_more \
    a_message_can_be_submitted_meanwhile \
    it_sends_that_without_any_right_and_configured_by_key \
    SIGTERM_while_it_starts_is_not_lost \
    a_configuration_that_cannot_be_is_one_line_and_78 \
    each_message_arrived_once
