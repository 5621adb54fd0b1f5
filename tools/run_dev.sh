#!/usr/bin/env bash
# `make run`: spoold from this tree, its queue in ./var. It relays to $SPOOLD_RELAY if that is set, else to a capture
# server (`spoold sink`) started beside it. Ctrl-C or SIGTERM stops both, and either one's end stops the other.
set -euo pipefail
cd "$(dirname "$0")/.."

queue=sqlite:///var/queue.db
spoold=.venv/bin/spoold
relay=${SPOOLD_RELAY:-}
listen=127.0.0.1:2525
pids=()

listens() { (: >"/dev/tcp/${listen/:/\/}") 2>/dev/null; }

stop() {
    trap '' HUP INT TERM
    # The spooler first: what it has in flight may still reach the sink.
    for pid in "${pids[@]}"; do
        kill -TERM "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    exit "$1"
}

set -m # a process group for each, so that Ctrl-C comes to this script alone
trap 'stop 0' HUP INT TERM
mkdir -p var

where='the server in $SPOOLD_RELAY'
if [ -z "$relay" ]; then
    where="a sink on $listen that prints what it gets"
    if listens; then
        echo "make run: something listens on $listen already: stop it, or set SPOOLD_RELAY" >&2
        exit 1
    fi
    "$spoold" sink --listen "$listen" </dev/null &
    pids=($!)
    relay="smtp://$listen?tls=none"
    until listens; do
        kill -0 "${pids[0]}" 2>/dev/null || stop 1
        sleep 0.1
    done
fi

cat <<TEXT
spoold: the queue is $queue, mail goes to $where. Ctrl-C stops.
Submit from another terminal:

    printf 'From: ann@example.com\nTo: bob@example.com\nSubject: Hello\n\nHello, Bob.\n' | $spoold --queue $queue submit

TEXT
"$spoold" --queue "$queue" run --relay "$relay" </dev/null &
pids=($! "${pids[@]}")

status=0
wait -n || status=$?
stop "$status"
