#!/bin/sh
# Starts two hosts, two edges, a worker and nginx on this machine, and a Redis unless HYBRID_BACKPLANE names one.
# Ctrl-C ends all of them.
set -eu
cd "$(dirname "$0")"
run=$(mktemp -d)
chmod 755 "$run" # the workers of nginx may be somebody else
pids="" redis=""

end() {
    trap - EXIT INT TERM
    for some in "$pids" "$redis"; do # Redis last: the others still send it what they have
        # shellcheck disable=SC2086
        [ -z "$some" ] || { kill $some 2>/dev/null || true; wait $some || true; }
    done
    rm -rf "$run"
}
trap end EXIT
trap 'exit 0' INT TERM

start() {
    "$@" &
    pids="$pids $!"
}

if [ -z "${HYBRID_BACKPLANE:-}" ]; then
    export HYBRID_BACKPLANE=redis://127.0.0.1:6379/0
    start redis-server --bind 127.0.0.1 --port 6379 --dir "$run" --appendonly yes --maxmemory-policy noeviction
    redis=$pids pids=""
fi
export HYBRID_BACKPLANE_NAME=scale_out

start python app.py 5001
start python app.py 5002
start hakgal-hybrid edge --port 5101
start hakgal-hybrid edge --port 5102
start python worker.py
if command -v nginx >/dev/null; then
    start nginx -p "$run" -c "$PWD/nginx.conf" -g "daemon off; error_log stderr; pid nginx.pid;"
    echo "open http://127.0.0.1:8080/"
fi
wait
