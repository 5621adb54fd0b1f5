#!/usr/bin/env bash
# Runs a command in namespaces of its own: all that it starts ends with it, and all that it mounts is gone.
# It finds $WORK, an empty folder; an empty /run; cgroups of version 2 alone, of which it sees its own. It is root.
# usage: box.sh COMMAND...
set -euo pipefail

outside() {
    WORK=$(mktemp -d)
    export WORK
    trap 'rm -rf --one-file-system "$WORK"' EXIT
    BOX=around unshare --mount -- "$0" "$@" &
    trap 'trap "" HUP INT TERM; kill $!; wait $!; exit 1' HUP INT TERM
    wait $!
}

around() {
    umount --recursive /sys/fs/cgroup
    mount -t cgroup2 none /sys/fs/cgroup
    cgroup=/sys/fs/cgroup/spoold-box-$$
    mkdir "$cgroup"
    trap clear_away EXIT
    trap 'exit 1' HUP INT TERM
    (
        echo "$BASHPID" >"$cgroup/cgroup.procs"
        export BOX=inside
        exec unshare --mount --pid --fork --kill-child --mount-proc --ipc --uts --cgroup -- "$0" "$@"
    ) &
    wait $!
}

clear_away() {
    trap '' HUP INT TERM
    echo 1 >"$cgroup/cgroup.kill"
    until find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null; do sleep 0.1; done
}

inside() {
    umount /sys/fs/cgroup
    mount -t cgroup2 none /sys/fs/cgroup
    mount -t tmpfs none /run
    exec "$@"
}

"${BOX:-outside}" "$@"
