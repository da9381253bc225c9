#!/usr/bin/env bash
# Runs the whole test suite after set-up: everything that needs no cluster, then end to end on a cluster of its own.
set -euo pipefail
cd "$(dirname "$0")/.."

bin=.venv/bin
step() { printf '\n== [%5ds] %s\n' "$SECONDS" "$*"; }

step "unit, conformance, fault and API-server tests"
"$bin/pytest" -n 2 --dist loadgroup -m "not e2e" tests

step "end to end on the native cluster"
"$bin/pytest" -m e2e tests

step "done"
