#!/bin/sh
# Runs tests/interop against Postfix and smtp-sink, on loopback; installs them if they are missing. On Debian, as root.
# usage: interop.sh [what pytest takes...]
set -eu
cd "$(dirname "$0")/.."

if [ "$(id -u)" != 0 ]; then
    echo "$0: needs root: Postfix starts for nobody else" >&2
    exit 1
fi

# The tests start a Postfix of their own; the one that is installed is not to be started.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    trap 'rm -f $policy' EXIT
    trap 'exit 1' HUP INT TERM
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod 755 $policy
fi
tools/apt_install.sh postfix

.venv/bin/python -m pytest tests/interop "$@"
