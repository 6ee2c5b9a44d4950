#!/bin/sh
# peers.sh - bench/peers as far as it needs no GPU: its lists beside this build's plans, its table, its masks, and
# its peers over ranks on CPUs.
set -eu

python=${PYTHON:-python3}
if ! "$python" -c 'import dataclasses, sys; sys.exit(sys.version_info < (3, 8))' 2>/dev/null; then
  echo "peers.sh: no Python 3.8: skipped"
  exit 77
fi
BSD_BENCH=$(cd "${builddir:-.}" && pwd)/bsd_bench PYTHONDONTWRITEBYTECODE=1 \
  "$python" "${srcdir:-.}/bench/peers/test_peers.py"
PYTHONDONTWRITEBYTECODE=1 "$python" "${srcdir:-.}/bench/peers/test_distributed.py"
