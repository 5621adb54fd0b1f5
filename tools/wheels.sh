#!/bin/sh
# Fetches the wheels that the lock files name, with this machine's pip, for a Debian root that has no network of its own.
# usage: wheels.sh FOLDER
set -eu
cd "$(dirname "$0")/.."

python=3.11 # of the Debian in debian_root.sh
out=$1

rm -rf "$out"
for lock in requirements.lock requirements-build.lock; do
    .venv/bin/pip download --quiet --require-hashes --only-binary=:all: --python-version "$python" --dest "$out" -r "$lock"
done
