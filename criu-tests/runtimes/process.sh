# shellcheck shell=bash
# Processes that a script has started: signalled by it, and never any other. Sourced by scripts/lib.sh and by the tests of the
# runtimes; scripts/check-signals finds what sends signals past it.
#
#   started_it PID...       notes processes that have just been started
#   signal NAME PID...      sends a signal to each that is still the one that was noted (NAME 0: only looks)
#   end_tree PID            kills a noted process and all below it

# When each was started, by its pid: a number that is given to another process has another time.
declare -A preflight_started=()

# The 22nd field of stat; the second, the name, may have anything in it.
start_time() {
    local stat
    { read -r -d '' stat || [ -n "${stat:-}" ]; } 2>/dev/null <"/proc/$1/stat" || return 1
    # shellcheck disable=SC2086 # fields
    set -- ${stat##*) }
    [ $# -ge 20 ] && echo "${20}"
}
# A number greater than 1: to kill(1) -1 is everybody, 0 and other negative numbers are groups.
is_pid() { [[ $1 =~ ^[1-9][0-9]{0,8}$ ]] && [ "$1" -gt 1 ] && [ "$1" != $$ ]; }

started_it() {
    local pid when
    for pid in "$@"; do
        if ! is_pid "$pid"; then
            echo "no process that can be noted: '$pid'" >&2
            return 1
        fi
        # One that has ended already has none, and is never signalled.
        when=$(start_time "$pid") || when=ended
        preflight_started[$pid]=$when
    done
}
signal() {
    local name=$1 pid status=0
    shift
    [ $# -gt 0 ] || status=1
    for pid in "$@"; do
        if ! is_pid "$pid" || [ -z "${preflight_started[$pid]:-}" ]; then
            echo "no process of this script, not signalled: '$pid'" >&2
            status=1
        elif [ "$(start_time "$pid")" != "${preflight_started[$pid]}" ]; then
            status=1 # it has ended
        else
            kill -s "$name" "$pid" 2>/dev/null || status=1
        fi
    done
    return $status
}
# Itself first, so that it starts no others meanwhile.
end_tree() {
    local pid below=() here=("$1") next
    signal 0 "$1" || return 1
    while [ ${#here[@]} -gt 0 ]; do
        next=()
        for pid in "${here[@]}"; do
            # shellcheck disable=SC2207 # numbers
            next+=($(cat "/proc/$pid/task/"*/children 2>/dev/null))
        done
        for pid in "${next[@]}"; do started_it "$pid" 2>/dev/null && below+=("$pid"); done
        here=("${next[@]}")
    done
    signal KILL "$1" "${below[@]}" || true
}
