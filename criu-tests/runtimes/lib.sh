# shellcheck shell=bash
# What the tests of every runtime share. Sourced inside the tree (scripts/runtimes-enter); the working directory is /b.
#
# A runtime is made of these functions, defined by the file that sources this one:
#   up SPEC...    starts the container $C with its workload: the counter, and what mkres makes of SPEC
#   ck FLAG...    a checkpoint by the runtime, with nothing but FLAGs; the container goes on ($leave is its word for that)
#   down          ends and deletes the container
#   counter       where the counter of the container is written, as this tree sees it
#   criu_log      CRIU's log of the last checkpoint
#   state         "running" or what else the runtime calls it
#   root_pid      the first process of the container
# and of these words:
#   HINT          what the log says of the cure, where $runtime's user can apply it
#   COMMAND       the runtime's command whose flags a hint may name
#   shows_log     whether the runtime shows its user what CRIU's log says

. /t/process.sh

PLUGIN_DIR=/usr/lib/criu
SYSLOG=/run/syslog
passed=0 failed=0 skipped=0
# What the runtime printed last.
OUT=/b/out

ok() {
    passed=$((passed + 1))
    echo "ok   $runtime: $*"
}
bad() {
    failed=$((failed + 1))
    echo "FAIL $runtime: $*"
}
skip() {
    skipped=$((skipped + 1))
    echo "skip $runtime: $*"
}
# quote TITLE FILE: what somebody would see, indented.
quote() {
    echo "     -- $1:"
    sed 's/^/     | /' "$2" | cut -c1-600 | head -"${3:-40}"
}
closing() {
    echo "$runtime: $passed passed, $failed failed, $skipped skipped"
    [ "$failed" = 0 ]
}

# Ends here where QUICK asks for no more: a container without blockers, and one with.
enough() {
    [ -n "${QUICK:-}" ] || return 0
    closing
    exit
}

# is NAME COMMAND...: a test that is one command.
is() {
    local name=$1
    shift
    if "$@"; then
        ok "$name"
    else
        bad "$name ($*)"
        return 1
    fi
}
# has NAME FILE PATTERN: FILE has a line that matches the extended pattern.
has() {
    if grep -qE -- "$3" "$2" 2>/dev/null; then
        ok "$1"
    else
        bad "$1: no line of $2 matches: $3"
        quote "$2" "$2" 15
    fi
}
hasnt() {
    if grep -qE -- "$3" "$2" 2>/dev/null; then
        bad "$1: a line of $2 matches: $3"
        quote "$2" <(grep -E -- "$3" "$2") 5
    else
        ok "$1"
    fi
}
# until SECONDS COMMAND...: waits for the command to succeed.
until_ok() {
    local end=$((SECONDS + $1))
    shift
    until "$@" 2>/dev/null; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.05
    done
}

plugin() {
    case $1 in
    on)
        mkdir -p $PLUGIN_DIR
        cp /b/preflight_plugin.so $PLUGIN_DIR/
        ;;
    off) rm -rf $PLUGIN_DIR ;;
    esac
}
# Nothing configured: no file of CRIU's, none of ours.
unconfigured() {
    rm -rf /etc/criu /root/.criu
    mkdir -p /etc/criu
}

# A system log: every datagram to /dev/log is a line of $SYSLOG.
syslog_on() {
    : >$SYSLOG
    rm -f /dev/log /b/outside/log
    # busybox follows a link: the socket can be in a directory that containers are given.
    mkdir -p /b/outside
    ln -s /b/outside/log /dev/log
    busybox syslogd -n -O $SYSLOG -s 0 </dev/null >/dev/null 2>&1 &
    SYSLOGD=$!
    started_it $SYSLOGD
    until_ok 5 test -S /dev/log || echo "no syslogd"
}
syslog_off() {
    signal TERM "$SYSLOGD"
    wait "$SYSLOGD" 2>/dev/null
    rm -f /dev/log
}

# rootfs DIR: busybox, mkres and the workload.
rootfs() {
    mkdir -p "$1"/{bin,proc,sys,dev,tmp,etc,run,var}
    cp /bin/busybox "$1/bin/"
    cp /b/mkres "$1/bin/"
    local applet
    for applet in sh sleep echo cat mkdir ls kill; do ln -sf busybox "$1/bin/$applet"; done
    # The counter is written aside and renamed, so that no reader gets half a number.
    cat >"$1/bin/work" <<'X'
#!/bin/sh
busybox ifconfig lo up 2>/dev/null
if [ $# -gt 0 ]; then
    mkdir -p /tmp/files
    mkres --dir /tmp/files --ready /tmp/ready "$@" >/tmp/why 2>&1 || { echo $? >/tmp/unmade; exec sleep 1000; }
fi
i=0
while :; do i=$((i+1)); echo $i >/tmp/count.new; mv /tmp/count.new /tmp/count; sleep 0.1; done
X
    ln -sf busybox "$1/bin/mv"
    # Makes the first terminal its own, and stays.
    printf '#!/bin/sh\nexec sleep 1000 </dev/pts/0\n' >"$1/bin/attach"
    chmod 755 "$1/bin/attach"
    chmod 755 "$1/bin/work"
    echo 'root:x:0:0:root:/:/bin/sh' >"$1/etc/passwd"
    touch "$1"/etc/{resolv.conf,hosts,hostname,localtime}
}

count() { cat "$(counter)" 2>/dev/null || echo 0; }
# counts NAME: the workload goes on.
advances() {
    local before now end
    before=$(count)
    end=$((SECONDS + 5))
    while [ $SECONDS -lt $end ]; do
        sleep 0.1
        now=$(count)
        [ "${now:-0}" -le "${before:-0}" ] || return 0
    done
    return 1
}
counts() { is "$1" advances; }
stands_still() {
    local before
    before=$(count)
    sleep 0.5
    [ "$(count)" = "$before" ]
}

# started NAME SPEC...: up, and everything of SPEC is made. Otherwise says why, and is false.
started() {
    local name=$1 files
    shift
    if ! up "$@" >"$OUT" 2>&1; then
        bad "$name: the container does not start"
        quote "the runtime" "$OUT" 10
        return 1
    fi
    if ! until_ok 10 advances_once; then
        files=$(dirname "$(counter)")
        if [ "$(cat "$files/unmade" 2>/dev/null)" = 77 ]; then
            skip "$name: $(cat "$files/why")"
        else
            bad "$name: the workload does not start: $(cat "$files/why" 2>&1)"
        fi
        down
        return 1
    fi
    # A network interface that CRIU does not dump.
    # shellcheck disable=SC2086 # words
    if [ -n "${LINK:-}" ] && ! nsenter -t "$(root_pid)" -n ip link add link0 type $LINK >"$OUT" 2>&1; then
        skip "$name: $(tail -1 "$OUT")"
        down
        return 1
    fi
    # A program that somebody starts in the container: no child of its first process.
    # shellcheck disable=SC2086 # words
    [ -z "${EXEC:-}" ] || is "$name: exec $EXEC" in_container $EXEC
}
in_container() {
    rt exec -d "$C" "$@" </dev/null >/dev/null 2>&1 || return 1
    # It may have something to do first.
    sleep 0.3
}
advances_once() { [ "$(count)" -gt 0 ]; }

# The verdict of a checkpoint in $rc, its outputs in $OUT and $LOG.
LOG=/b/log
checkpoint() {
    local try
    for try in 1 2 3; do
        : >"$OUT"
        rc=0
        ck "$@" >"$OUT" 2>&1 </dev/null || rc=$?
        cp "$(criu_log)" $LOG 2>/dev/null || : >$LOG
        # The freezer did not come to an end in CRIU's ten seconds, with the plugin or without: says nothing of either.
        grep -q 'Timeout reached. Try to interrupt' $LOG || return 0
        echo "     -- CRIU could not freeze the container (attempt $try)"
    done
}
ours() { grep -E '(Error|Warn ) \(preflight\)' $LOG | sed 's/^([0-9.]*) //'; }
# CRIU's own first error that means something.
reason() { grep -E 'Error \(' $LOG | grep -vE 'RLIMIT_NOFILE|shutdown state|socket shutdown info|\(preflight\)' | head -1; }

# same NAME yes|no|either SPEC -- FLAG...: the runtime's verdict with the plugin is its verdict without, and is this one.
# With the plugin a refusal is ours, names all of it, and leaves the container as it was.
same() {
    local name=$1 expect=$2 spec=() without why
    shift 2
    while [ $# -gt 0 ] && [ "$1" != -- ]; do
        spec+=("$1")
        shift
    done
    [ $# = 0 ] || shift
    started "$name" "${spec[@]}" || return 0
    plugin off
    checkpoint "${leave[@]}" "$@"
    without=$([ $rc = 0 ] && echo yes || echo no)
    why=$(reason)
    [ $rc = 0 ] || cp "$OUT" /b/out-without
    plugin on
    checkpoint "${leave[@]}" "$@"
    local with
    with=$([ $rc = 0 ] && echo yes || echo no)
    if [ "$with$without" = nono ] && [ ! -s $LOG ]; then
        skip "$name: CRIU is not even asked: $(head -1 "$OUT")"
    elif [ "$with$without" = nono ] && [[ $why == *"Can't get 1:16 opt"* ]]; then
        skip "$name: this CRIU refuses every socket on this kernel: ${why##*Error }"
    elif [ "$with" != "$without" ]; then
        bad "$name: without the plugin '$without', with it '$with'"
        quote "the plugin" <(ours)
        quote "CRIU without it" <(echo "$why")
        quote "the log" <(tail -5 $LOG)
    elif [ "$expect" != either ] && [ "$with" != "$expect" ]; then
        bad "$name: the runtime says '$with' with and without the plugin, expected was '$expect': $why"
        quote "the runtime" "$OUT" 12
        quote "the log" <(tail -5 $LOG)
    elif [ "$with" = no ] && [ -z "$(ours)" ]; then
        bad "$name: refused, and not by the plugin: $why"
    elif [ "$with" = yes ] && grep -q 'Error (preflight)' $LOG; then
        bad "$name: the checkpoint was made, and the plugin writes an error"
        quote "the plugin" <(ours)
    elif ! advances; then
        bad "$name: the container does not go on"
    elif [ $# = 0 ] && [ -z "${NOT_ASKED:-}" ] && ! asked "$([ "$with" = yes ]; echo $?)"; then
        bad "$name: '$with', and the command, which is told nothing but the process, says something else"
    else
        ok "$name: $with${why:+ (CRIU: ${why##*Error })}"
    fi
    down
}

# What the command says of the container, whose runtime it has to recognise. 3: it can be dumped, and not restored.
asked() {
    local status=0
    /b/criu-preflight check "$(root_pid)" --criu "$(command -v criu)" >/b/asked 2>&1 || status=$?
    [ $status = "$1" ] || [ $status$1 = 30 ] && grep -q 'is in a container of' /b/asked || {
        quote "the command ($status)" /b/asked 6
        return 1
    }
}
# How many of which rule a summary tells.
counted() { sed -n 's/.* blockers\? in [^:]*: //p' "$1" | head -1 | sed 's/; report: .*//; s/; with .*//; s/, /\n/g' | sort; }

# The kinds of blockers that a container of every runtime is refused for, and what names them: pid and resource.
BLOCKERS=(tcp-pair lock:type=flock pipe-packet io-uring dev:path=/dev/fuse)
BLOCKED=('TCP 127.0.0.1:[0-9]+ .*ESTABLISHED' '[Ll]ock' '[Pp]acketized|O_DIRECT' 'io_uring' '/dev/fuse')

# blockers NAME: all of them at once, the runtime's words, the system log.
blockers() {
    started "blockers" "${BLOCKERS[@]}" || return 0
    plugin on
    : >$SYSLOG
    checkpoint "${leave[@]}"
    is "blockers are refused" [ $rc != 0 ]
    is "the container is $(state) after the refusal" [ "$(state)" = running ]
    counts "the container counts on after the refusal"
    quote "CRIU's log" <(ours)
    is "the command refuses it, too" asked 1 &&
        is "for the same reasons" [ "$(counted /b/asked)" = "$(counted <(ours))" ]
    has "the first error of the log is the summary" <(grep -m1 'Error (' $LOG) 'refusing to dump pid [0-9]+ \(.*\).* blockers in'
    local want report
    for want in "${BLOCKED[@]}"; do
        has "the log names process, descriptor and: $want" <(ours) "pid [0-9]+ \(mkres\) fd [0-9]+.*($want)"
    done
    has "the hint names the place of this runtime" <(ours) "$HINT"
    quote "what the user of $runtime sees" "$OUT"
    quote "the system log" $SYSLOG
    has "the system log has the summary and the place of the report" $SYSLOG \
        'criu-preflight\[[0-9]+\]: .*refusing to dump pid .*; report: /.*\.json'
    if [ "$shows_log" = yes ]; then
        has "the user sees the summary" "$OUT" 'refusing to dump pid'
        for want in "${BLOCKED[@]}"; do
            has "the user sees pid, descriptor and: $want" "$OUT" "pid [0-9]+ \(mkres\) fd [0-9]+.*($want)"
        done
    fi
    report=$(sed -n 's#.*; report: \(/[^ ]*\.json\).*#\1#p' $SYSLOG | tail -1)
    is "the report is where the system log says: $report" [ -s "${report:-/nowhere}" ]
    [ ! -s "${report:-/nowhere}" ] || is "the report is JSON and names pids" \
        jq -e '.findings | length >= 3 and all(.[]; .pid > 0)' "$report" >/dev/null
    down
}

# cured NAME SPEC...: refused; and each way out that the hint names, taken to the letter, leads to a checkpoint: a flag of
# $COMMAND, a line in the file. HINTED counts the ways.
cured() {
    local name=$1 hint way file kept
    shift
    HINTED=0
    started "$name" "$@" || return 0
    plugin on
    checkpoint "${leave[@]}"
    hint=$(ours | sed -n 2p)
    if [ $rc = 0 ] || [ -z "$hint" ]; then
        bad "$name: not refused by us"
        down
        return
    fi
    for way in $(grep -oE "pass --[^;]* to ${COMMAND:-nothing}( \\(again[^)]*\\))?[,;]" <<<"$hint" | grep -oE -- '--[a-z-]+'); do
        checkpoint "${leave[@]}" "$way"
        lets_through "$name, $way"
    done
    file=$(grep -oE "write '[^;]* in /[^ ;]+" <<<"$hint")
    while read -r way; do
        # A descriptor for the restore is no line of a file.
        [ -n "$way" ] && [[ $way != *"[N]"* ]] || continue
        kept=$(cat "${file##* in }" 2>/dev/null)
        printf '%s\n' ${kept:+"$kept"} "$way" >"${file##* in }"
        checkpoint "${leave[@]}"
        lets_through "$name, '$way' in ${file##* in }"
        if [ -n "$kept" ]; then echo "$kept" >"${file##* in }"; else rm -f "${file##* in }"; fi
    done < <(grep -oE "'[^']*'" <<<"$file" | tr -d "'")
    [ $HINTED != 0 ] || bad "$name: the hint has no way that somebody could take: $hint"
    down
}
# hinted NAME PATTERN SPEC...: refused, and the hint says this.
hinted() {
    local name=$1 pattern=$2
    shift 2
    started "$name" "$@" || return 0
    plugin on
    checkpoint "${leave[@]}"
    is "$name: refused" [ $rc != 0 ]
    has "$name: what the hint says" <(ours) "$pattern"
    down
}
lets_through() {
    HINTED=$((HINTED + 1))
    if [ $rc = 0 ]; then
        ok "cured: $1"
    elif [ -z "$(ours | sed 1d | grep -v socket-opt-passcred)" ]; then
        skip "cured: $1: this CRIU refuses every socket on this kernel"
    else
        bad "cured: $1: still refused"
        quote "the hint was" <(echo "$hint")
        quote "the plugin" <(ours)
        quote "the log" <(grep Error $LOG | tail -3)
        quote "the runtime" "$OUT" 5
    fi
}

looked_frozen() { has "the plugin looked at it frozen" $LOG 'preflight: frozen look at'; }

# The runtime's words for a checkpoint that ends the container.
clean_flags=()

# A container without blockers is checkpointed and stops, is restored and goes on from where it was.
clean() {
    started "a clean container" || return 0
    plugin on
    counts "a clean container counts"
    is "the command says that it can be dumped" asked 0
    : >$SYSLOG
    local at
    at=$(count)
    checkpoint "${clean_flags[@]}"
    if ! is "a clean container is checkpointed" [ $rc = 0 ]; then
        quote "the runtime" "$OUT"
    fi
    hasnt "nothing of ours is in the log of a good checkpoint" $LOG '(Error|Warn ) \(preflight\)'
    looked_frozen
    hasnt "no line of ours in the system log" $SYSLOG criu-preflight
    if ! is "it is restored" restore; then
        quote "the runtime" "$OUT"
        quote "the log" <(tail -5 "$(restore_log)")
    fi
    counts "it counts on"
    is "from where it was ($at)" [ "$(count)" -gt "$at" ]
    hasnt "nothing of ours is in the log of the restore" "$(restore_log)" '(Error|Warn ) \(preflight\)'
    down
}

# A datagram socket connected to one outside, of a directory that is mounted into the container.
external_socket() {
    same "an outside socket" no unix-connect:path=/outside/log,type=dgram
    same "an outside socket, --ext-unix-sk" yes unix-connect:path=/outside/log,type=dgram -- --ext-unix-sk
}
