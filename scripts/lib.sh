# shellcheck shell=bash
# What every script here needs: where the repository and the cache are, how to speak, how to find the Debian archive.
# Sourced, never run.

repo=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck disable=SC2034 # for the scripts that source this
cache=${PREFLIGHT_CACHE:-$repo/.cache}

# shellcheck source=criu-tests/runtimes/process.sh
. "$repo/criu-tests/runtimes/process.sh"

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() {
    say "$*"
    exit 1
}

# The archive of Debian's suites as this machine's own apt is told to reach it, so that proxies and local mirrors are
# honoured and no host name is written down here. apt itself reads its configuration, in either syntax.
# MIRROR overrides. On a machine that knows only Ubuntu's archive, the same host is tried with debian in place of ubuntu.
debian_mirror() {
    if [ -n "${MIRROR:-}" ]; then
        printf '%s\n' "$MIRROR"
        return
    fi
    local uris found
    # Names what it would fetch and fetches nothing; works before the first apt-get update, too.
    uris=$(apt-get --print-uris update | sed -nE "s#^'([^']*)/dists/.*#\1#p" | sort -u)
    found=$(grep -E '/debian/?$' <<<"$uris" | head -1) || true
    if [ -z "$found" ]; then
        found=$(grep -E '/ubuntu/?$' <<<"$uris" | head -1 | sed -E 's#/ubuntu/?$#/debian#') || true
        [ -z "$found" ] || say "this machine's apt knows no Debian archive; trying debian beside ubuntu on the same host (set MIRROR=URL if it is elsewhere)"
    fi
    [ -n "$found" ] || return 1
    printf '%s\n' "$found"
}

# totals BROKEN LOG...: adds up what cargo test and plain closing lines in the logs say, and BROKEN failures more, as
# "N passed, N failed, N skipped".
totals() {
    awk -v broken="$1" '
        /test result: .* passed; .* failed; / {
            for (i = 2; i <= NF; i++) {
                if ($i ~ /^passed/) passed += $(i - 1)
                if ($i ~ /^failed/) failed += $(i - 1)
                if ($i ~ /^ignored/) skipped += $(i - 1)
            }
        }
        /^([a-z ]+: )?[0-9]+ passed, [0-9]+ failed(, [0-9]+ skipped)?$/ {
            sub(/^[a-z ]+: /, "")
            passed += $1; failed += $3; skipped += $5
        }
        END { printf "%d passed, %d failed, %d skipped\n", passed, failed + broken, skipped }' "${@:2}"
}
failures() { totals "$@" | cut -d' ' -f3; }
