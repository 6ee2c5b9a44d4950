#!/bin/sh
# scaling.sh - bench/scaling-study.sh on two CPU ranks: a section of each command, its files, and that its table
# sees a digest, a byte count and a check that are wrong.
set -u

srcdir=$(cd "${srcdir:-.}" && pwd)
build=$(cd "${builddir:-.}" && pwd)
if [ -z "${MPIRUN-mpirun}" ] || ! command -v "${MPIRUN-mpirun}" >/dev/null 2>&1 ||
  ! command -v bash >/dev/null 2>&1 || ! python3 -c '' 2>/dev/null; then
  echo "scaling.sh: needs an MPI launcher, bash and Python: skipped"
  exit 77
fi
work=$(mktemp -d) || exit 99
trap 'rm -rf "$work"' EXIT
PYTHONDONTWRITEBYTECODE=1
export PYTHONDONTWRITEBYTECODE
cd "$work" || exit 99

failed=0
expect() { # STATUS WHAT COMMAND...
  wanted=$1 what=$2 status=0
  shift 2
  "$@" >output 2>&1 || status=$?
  [ "$status" -eq "$wanted" ] && return
  failed=$((failed + 1))
  echo "FAIL: $what: status $status, expected $wanted"
  sed 's/^/    /' output | head -30
}
study() {
  CUDA_VISIBLE_DEVICES='' bash "$srcdir/bench/scaling-study.sh" -b "$build" -o out -n 2 -t 200 --rehearse "$@"
}
table() {
  python3 "$srcdir/bench/scaling_table.py" out 2 "$1"
}
plant() { # WHAT FILE SED-EXPRESSION
  cp "out/raw/$2" kept
  sed "$3" kept >"out/raw/$2"
  if cmp -s kept "out/raw/$2"; then
    failed=$((failed + 1))
    echo "FAIL: nothing to change in $2"
  fi
  expect 1 "a planted $1" table 1
  mv kept "out/raw/$2"
}

expect 2 "no command" study
expect 2 "a section that there is none of" study measure fast
expect 0 "check" study check oracle
expect 0 "measure" study measure sparse
for file in summary.txt results.csv strong.json raw/strong-density-p1.json raw/strong-density-p2.json; do
  [ -s "out/$file" ] || { failed=$((failed + 1)); echo "FAIL: no $file"; }
done
for wanted in 'oracle: .* within bounds' 'bytes: .* 1.000 in all' 'strided(1:2,density=0.05) 1K .* 1->2 '; do
  grep -q "$wanted" out/summary.txt || { failed=$((failed + 1)); echo "FAIL: no '$wanted' in summary.txt"; }
done
expect 0 "a document as bsd_bench writes it" "$build/tests/bench_json" out/strong.json count=2 ranks=2 scaling='"strong"'
plant "byte" strong-density-p2.json 's/"bytes_moved": [0-9]*/"bytes_moved": 7/'
plant "failed check" oracle-f32-p2.json 's/"pass": true/"pass": false/'
sed 's/"hash": null/"hash": "0123456789abcdef"/' out/raw/strong-density-p1.json >out/raw/bits-p1.json
sed 's/"hash": null/"hash": "0123456789abcdef"/' out/raw/strong-density-p2.json >out/raw/bits-p2.json
expect 0 "equal digests" table 1
plant "digest" bits-p2.json 's/0123456789abcdef/fedcba9876543210/'
# A target reached, and one missed by what is exposed.
cp out/raw/strong-density-p1.json out/raw/weak-x-p1.json
for exposed in '0.0 pass' '1e9 MISS'; do
  sed 's/"n": [0-9]*/"n": 2048/; s/"tflops": [0-9.e-]*/"tflops": 1e3/; s/"exposed_ms": [0-9.e-]*/"exposed_ms": '"${exposed% *}/" \
    out/raw/strong-density-p2.json >out/raw/weak-x-p2.json
  expect 0 "targets" table 0
  grep -q "2K.* 1->2 .* ${exposed#* }\$" output || { failed=$((failed + 1)); echo "FAIL: not ${exposed#* }"; cat output; }
done

# The fastest setting is kept for the measurements, unless the default is as fast.
cp out/raw/strong-density-p2.json out/raw/tune-BSD_STAGES-auto-p2.json
for tuned in 's/x/x/' 's/"ms": [0-9.e-]*/"ms": 1e-6/'; do
  sed "$tuned" out/raw/strong-density-p2.json >out/raw/tune-BSD_STAGES-3-p2.json
  expect 0 "tuning" table 1
  cat out/best_setting
done >settings
[ "$(cat settings)" = BSD_STAGES=3 ] || { failed=$((failed + 1)); echo "FAIL: settings kept: $(cat settings)"; }

echo "$failed checks failed"
[ "$failed" -eq 0 ]
