# shellcheck shell=bash
# Sourced by the scripts that try spoold as it is installed. A step is a function; its name is the sentence it shows.

# Runs each step. Prints a line for it; if it fails, what it said and the function `logs`. A step can print to 3.
run_steps() {
    local begin
    exec 3>&1
    trap 'failed $?' EXIT
    trap 'exit 1' HUP INT TERM
    for step in "$@"; do
        begin=$SECONDS
        "$step" >"$WORK/said" 2>&1
        printf 'ok      %s (%s s)\n' "${step//_/ }" $((SECONDS - begin))
    done
    trap - EXIT
    printf '%s passed, 0 failed\n' $#
}

failed() {
    set +e
    exec 1>&3 2>&3 # still the step's
    printf 'FAILED  %s\n' "${step//_/ }"
    { cat "$WORK/said"; logs; } 2>&1 | sed 's/^/        /'
    exit $(($1 ? $1 : 1))
}

# eventually SECONDS COMMAND...: until it succeeds; shows what it said last
eventually() {
    local end=$((SECONDS + $1)) said
    shift
    until said=$("$@" 2>&1); do
        ((SECONDS < end)) || { printf 'not in time: %s\n%s\n' "$*" "$said"; return 1; }
        sleep 0.1
    done
}

# exits_with CODE COMMAND...
exits_with() {
    local code=0
    "${@:2}" || code=$?
    ((code == $1)) || { echo "exit code $code, not $1: ${*:2}"; return 1; }
}

mail() {
    printf 'From: app@example.com\nTo: ann@example.com\nSubject: %s\n\nhello\n' "$1"
}

# sink NAME COMMAND...: starts `spoold sink`, which tells in $WORK/sink-NAME what it takes
sink() {
    "${@:2}" >"$WORK/sink-$1" 2>&1 &
    eventually 10 grep --quiet 'listens on' "$WORK/sink-$1"
}

# took NAME SUBJECT: whether that sink has the mail
took() { grep --quiet "octets  $2\$" "$WORK/sink-$1"; }

taken() { cat "$WORK"/sink-* | grep --count octets; }
