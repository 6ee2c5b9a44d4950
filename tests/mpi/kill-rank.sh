#!/bin/sh
# kill-rank.sh - kills or stops a rank in mid-exchange: every survivor says so in time, and the job ends.
#
# usage: kill-rank.sh [COUNT [SECONDS]]   runs COUNT of the 216 cases (default 10, spread over them); a job
#                                         may take SECONDS (default 10; starting a GPU takes its time)
#
# BSD_TEST_BACKEND=cuda and BSD_TEST_TRANSPORT=nccl do the same on a GPU and over NCCL; BSD_TEST_WRAPPER is
# run in front of each rank's program.
#
# A case: 2 to 4 ranks, the victim, the point of its exchange, forward or backward, the signal (see
# survive.h), over shared memory. (Over TCP, Open MPI 4.1 writes to the dead rank's socket: SIGPIPE ends a
# survivor that does not ignore it, and a stopped rank that wakes floods stderr: beyond the library.)
# With a deadline of T = 1 s:
#   kill, stop   every survivor has PEER or TIMEOUT within T + 2 s, the job ends within 10 s
#   pause        (T/2) every rank has OK, and the right contents
# mpirun's own status says nothing here: --enable-recovery keeps the survivors alive, and returns 0.
# Exit status: 0 good, 1 a case failed, 77 skipped (no Open MPI launcher with --enable-recovery).
set -u

count=${1:-10}
longest=${2:-10}
deadline=1
here=$(dirname "$0")
program=${builddir:-.}/tests/mpi/survive
. "$here/../mpi-environment.sh"
if ! "$MPIRUN" --help all 2>/dev/null | grep -q enable-recovery; then
  echo "kill-rank.sh: $MPIRUN has no --enable-recovery: skipped"
  exit 77
fi
if [ ! -x "$program" ]; then
  echo "kill-rank.sh: $program is not built" >&2
  exit 1
fi
if [ -n "${builddir:-}" ] && command -v flock >/dev/null 2>&1; then
  exec 9>"$builddir/run-mpi.lock"
  flock 9
fi

directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
BSD_FLIGHT_FILE=$directory/dump
export BSD_FLIGHT_FILE

# One line per case: ranks victim point signal.
cases() {
  for ranks in 2 3 4; do
    victim=0
    while [ "$victim" -lt "$ranks" ]; do
      for point in 0 1 2 3 4 5 6 7; do
        for signal in kill stop pause; do
          echo "$ranks $victim $point $signal"
        done
      done
      victim=$((victim + 1))
    done
  done
}

# Says what is wrong with what a rank wrote, if anything.
judge_rank() { # RANK VICTIM SIGNAL
  if [ "$3" != pause ] && [ "$1" = "$2" ]; then
    return
  fi
  if ! read -r status seconds <"$directory/$1"; then
    echo "rank $1 reported nothing"
    return
  fi 2>/dev/null
  case $3:$status in
    pause:0) ;;
    kill:6 | kill:7 | stop:6 | stop:7)
      echo "$seconds $deadline" |
        awk -v rank="$1" '$1 > $2 + 2 { print "rank " rank " took " $1 " s" }'
      ;;
    *) echo "rank $1 reported status $status" ;;
  esac
}

run_case() { # RANKS VICTIM POINT SIGNAL
  rm -f "$directory"/*
  start=$(date +%s)
  # shellcheck disable=SC2086 # the options are lists of words
  timeout -k 2 "$((2 * longest))" "$MPIRUN" $mpi_options --mca btl ^tcp --enable-recovery -np "$1" \
    ${BSD_TEST_WRAPPER:-} "$program" \
    "$directory" "$4" "$2" "$3" "$deadline" >"$directory/output" 2>&1 </dev/null
  took=$(($(date +%s) - start))
  wrong=$(
    [ "$took" -le "$longest" ] || echo "the job took $took s"
    rank=0
    while [ "$rank" -lt "$1" ]; do
      judge_rank "$rank" "$2" "$4"
      rank=$((rank + 1))
    done
  )
  [ -n "$wrong" ] || return 0
  echo "kill-rank.sh: $4 of rank $2 of $1 at point $3: $wrong"
  tail -n 20 "$directory/output"
  return 1
}

# A stride that shares no factor with the number of cases visits each of them once.
failed=0
number=0
all=$(cases)
total=$(echo "$all" | wc -l)
while [ "$number" -lt "$count" ]; do
  line=$((number * 35 % total + 1))
  # shellcheck disable=SC2046 # a case is four words
  run_case $(echo "$all" | sed -n "${line}p") || failed=$((failed + 1))
  number=$((number + 1))
done
echo "kill-rank.sh: $((count - failed)) of $count cases passed"
[ "$failed" -eq 0 ]
