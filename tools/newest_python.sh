#!/bin/sh
# Prints the newest CPython on this machine that is newer than the one given, if there is any: on PATH or of pyenv's.
# usage: newest_python.sh PYTHON
set -eu

newer='
import sys, sysconfig, ensurepip, sqlite3, ssl
known = tuple(map(int, sys.argv[1].split(".")))
fit = sys.version_info[:2] > known and sys.version_info.releaselevel == "final" and sys.implementation.name == "cpython"
sys.exit(not fit or bool(sysconfig.get_config_var("Py_GIL_DISABLED")))'

known=$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
pyenv=$(pyenv root 2>/dev/null) || pyenv=

for version in 3.14 3.13 3.12; do
    for python in "$(command -v "python$version")" "$pyenv"/versions/"$version".*/bin/"python$version"; do
        if [ -x "$python" ] && "$python" -c "$newer" "$known" 2>/dev/null; then
            echo "$python"
            exit
        fi
    done
done
