#!/bin/sh
# roll.sh PIDFILE LOG: starts a server, has it take the port over from that of PIDFILE, if there is one, and ends that.
# Its settings are those of the environment. docs/draining.md
set -eu
pidfile=$1 log=$2
old=$(cat "$pidfile" 2>/dev/null || true)
: >"$log.new"
jasaweb-rt serve --take-over >>"$log.new" 2>&1 &
new=$!
until grep -q "listening on" "$log.new"; do
  if ! kill -0 "$new" 2>/dev/null; then
    cat "$log.new" >&2
    exit 1
  fi
  sleep 0.1
done
echo "$new" >"$pidfile"
mv "$log.new" "$log"
if [ -n "$old" ]; then
  kill -TERM "$old" 2>/dev/null || true
fi
