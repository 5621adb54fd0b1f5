#!/bin/sh
# Installs the Debian packages that are missing, as root. What is there stays as it is.
# usage: apt_install.sh PACKAGE...
set -eu

for package in "$@"; do
    dpkg-query --show --showformat='${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed ||
        set -- "$@" "$package"
    shift
done
[ $# != 0 ] || exit 0

if [ "$(id -u)" != 0 ]; then
    echo "$0: needs root to install $*" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
# Lists that are empty or old would name packages that are not to be had.
apt-get update -qq
apt-get install -qq --yes --no-install-recommends "$@" >/dev/null
