# programs.sh - how the scripts that test a program begin, and what they count with; read by them, not run.
#
# $srcdir is the source tree, absolute. Sets build, the build tree; the current folder is a temporary one from here
# on, removed at the end. stdout and stderr there are files of the program's last run.
# shellcheck shell=sh disable=SC2034 # build and the counts are read by who reads this

build=$(cd "${builddir:-.}" && pwd)
work=$(mktemp -d) || exit 99
trap 'rm -rf "$work"' EXIT
# shellcheck source=tests/mpi-environment.sh
. "$srcdir/tests/mpi-environment.sh"
OMP_NUM_THREADS=1
OPENBLAS_NUM_THREADS=1
export OMP_NUM_THREADS OPENBLAS_NUM_THREADS
cd "$work" || exit 99

passed=0 failed=0
good() {
  passed=$((passed + 1))
}
bad() { # SENTENCE
  failed=$((failed + 1))
  echo "FAIL: $1"
  sed 's/^/    /' stdout stderr 2>/dev/null | head -20
}
