#!/usr/bin/env bash
# TensorBoard over several experiments, each with its own name:  scripts/launch_tensorboard.sh exp-1 exp-2 [--port 6006]
# Without names: over all of them. Needs no mount beforehand; Ctrl-C ends all.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
if [ -x "$here/.venv/bin/artisync" ]; then
  exec "$here/.venv/bin/artisync" tensorboard "$@"
fi
exec artisync tensorboard "$@"
