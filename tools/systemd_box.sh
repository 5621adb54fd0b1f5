#!/bin/sh
# Boots the systemd of ROOT, which must be a mount point, as PID 1 of its own, without a network but loopback. Runs in
# box.sh, so that all of it ends with that. The init's number as seen from here goes to FILE, for nsenter.
# usage: systemd_box.sh ROOT FILE
set -eu

outside() {
    mkdir /sys/fs/cgroup/systemd
    echo $$ >/sys/fs/cgroup/systemd/cgroup.procs
    unshare --mount --pid --fork --kill-child --ipc --uts --net --cgroup -- "$0" "$1" "" &
    until grep --no-messages --only-matching '[0-9]*' "/proc/$!/task/$!/children" >"$2"; do sleep 0.1; done
    wait
}

inside() {
    cd "$1"
    mount -t proc none proc
    # What holds for the whole machine is not for this systemd to change.
    mount --bind proc/sys proc/sys
    mount -o remount,bind,ro proc/sys
    mount -t sysfs -o ro none sys
    mount -t cgroup2 none sys/fs/cgroup
    mount -t tmpfs -o mode=755 none run
    mount -t tmpfs -o mode=755 none dev
    for device in null zero full random urandom tty; do
        touch "dev/$device"
        mount --bind "/dev/$device" "dev/$device"
    done
    mkdir dev/pts
    mount -t devpts -o newinstance,ptmxmode=666 none dev/pts
    ln -s pts/ptmx dev/ptmx
    pivot_root . mnt
    umount --lazy mnt
    exec env -i container=box PATH=/usr/local/bin:/usr/sbin:/usr/bin /lib/systemd/systemd --show-status=no
}

if [ -n "$2" ]; then outside "$@"; else inside "$@"; fi
