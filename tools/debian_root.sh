#!/bin/sh
# A small Debian with Python and systemd, as a tar file: what `make image` builds on and `make unit` boots.
# usage: debian_root.sh FILE.tar
set -eu

suite=bookworm
packages=ca-certificates,dbus,python3,python3-venv,systemd,systemd-sysv
out=$1

"$(dirname "$0")"/apt_install.sh debootstrap
work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT
trap 'exit 1' HUP INT TERM

# From where this machine's own apt gets that suite, if it does.
mirror=$(apt-get indextargets --format '$(REPO_URI)' "Codename: $suite" 'Created-By: Packages' | head -n 1)

debootstrap --variant=minbase --include="$packages" "$suite" "$work/debian" ${mirror:+"$mirror"} >"$work/log" 2>&1 || {
    tail -n 20 "$work/log" >&2
    echo "$0: debootstrap of $suite failed" >&2
    exit 1
}
rm -rf "$work"/debian/var/cache/apt/* "$work"/debian/var/lib/apt/lists/*
mkdir -p "$(dirname "$out")"
tar --create --directory="$work/debian" --one-file-system --file="$out.part" .
mv "$out.part" "$out"
