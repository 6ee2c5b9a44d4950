#!/usr/bin/env bash
# gpu-check.sh - the whole test suite on a machine with a GPU (one is enough).
#
# usage: tests/gpu-check.sh [-b BUILDDIR] [-o LOGDIR] [-j JOBS] [-q] [SECTION...]
#   -b   a build with CUDA (default: build, else .); missing test programs are made there
#   -o   where logs go (default: BUILDDIR/gpu-check)
#   -j   programs at a time, where they may share the GPU (default 6)
#   -q   only what failed, and a line for each section
#
# Sections (default: all, in this order):
#   conformance  every kernel family against fp64 loops over hand-built lists, and against the oracle through
#                the library: random problems, identities, known failures of others
#   check        bsd_bench --check over head dims, blocks, types, GQA and graphs
#   repeats      large problems, several times: the same bits
#   nccl         1, 2 and 4 ranks on one GPU through NCCL: the bits of one rank, suites over ranks, graphs
#   mpi          2 and 4 ranks through pinned host memory and MPI: the same bits
#   sanitizer    compute-sanitizer memcheck, racecheck, initcheck and synccheck on each family
#   deadline     killed and stopped ranks under NCCL are errors in time
#   big          tensors of more than 2^31 elements: 36 GB of device memory, 16 GB of the host's
#
# BSD_TEST_SCALE scales the random suites. Needs a launcher of Open MPI for ranks; what is missing is said and
# skipped. Exit status: 0 if all passed, 1 if anything failed or nothing ran.
set -u

source_root=$(cd "$(dirname "$0")/.." && pwd)
build='' logs='' jobs=6 quiet=0
while getopts b:o:j:q option; do
  case $option in
    b) build=$OPTARG ;;
    o) logs=$OPTARG ;;
    j) jobs=$OPTARG ;;
    q) quiet=1 ;;
    *) sed -n '2,/^$/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
  esac
done
shift $((OPTIND - 1))
sections=${*:-conformance check repeats nccl mpi sanitizer deadline big}
[ -n "$build" ] || { [ -x build/bsd_bench ] && build=build || build=.; }
build=$(cd "$build" && pwd) || exit 2
logs=${logs:-$build/gpu-check}
mkdir -p "$logs"
logs=$(cd "$logs" && pwd)

# shellcheck source=tests/mpi-environment.sh
. "$source_root/tests/mpi-environment.sh"
export CK_FORK=no CK_VERBOSITY=normal BSD_CHECKSUM=1 BSD_FLIGHT_FILE=$logs/flight.txt
export srcdir=$source_root builddir=$build BSD_TEST_SCALE=${BSD_TEST_SCALE:-1}
families='simt sm80 sm90'
share=$source_root/tests/mpi/share-gpu.sh
bench=$build/bsd_bench

if [ ! -x "$build/tests/test_kernels" ] || [ ! -x "$build/tests/mpi/survive" ]; then
  make -C "$build" check TESTS= >"$logs/make.log" 2>&1 ||
    { echo "gpu-check: make failed, see $logs/make.log" >&2; exit 1; }
fi

# ---- running ----------------------------------------------------------------------------------

results=$logs/results
: >"$results"

# One test: its output in LOGDIR/NAME.log, its verdict in the results. The name may hold spaces.
try() { # SECONDS NAME COMMAND...
  local limit=$1 name=$2 status=0 start=$SECONDS log verdict=ok
  shift 2
  log=$logs/${name// /_}.log
  timeout -k 5 "$limit" "$@" >"$log" 2>&1 </dev/null || status=$?
  [ "$status" -eq 0 ] || verdict=FAILED
  [ "$status" -ne 77 ] || verdict=skipped
  [ "$status" -ne 124 ] || echo "gpu-check: no end after $limit s" >>"$log"
  printf '%-7s %4d s  %s\n' "$verdict" "$((SECONDS - start))" "$name" >>"$results"
  [ "$quiet" -eq 1 ] && [ "$verdict" = ok ] ||
    printf '%-7s %4d s  %s\n' "$verdict" "$((SECONDS - start))" "$name"
  [ "$verdict" != FAILED ] || why "$log" | sed 's/^/          /'
}

# The lines of a log that say most about a failure.
why() {
  grep -E '^bsd_|:[FE]:|refused|ERROR SUMMARY: [1-9]|========= (Invalid|Race|Error|Uninit|Barrier)|run-mpi:.*failed|gpu-check:|[0-9]: error|rank [0-9]+[:,]' "$1" |
    grep -v 'Checks:' | cut -c1-300 | sort | uniq -c | sort -rn | head -n 4
  [ -s "$1" ] && tail -n 1 "$1" | cut -c1-300
}

# The same beside others, at most $jobs at a time.
also() {
  while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do
    wait -n || :
  done
  try "$@" &
}

# ---- sections ---------------------------------------------------------------------------------

on_gpu() { # FAMILY PROGRAM...
  local family=$1
  shift
  BSD_TEST_BACKEND=cuda BSD_TEST_KERNEL=$family "$@"
}
export -f on_gpu

# Suites that take much device memory run one family after the other.
each_family() { # PROGRAM...
  local family status=0
  for family in $families; do
    echo "== $family"
    on_gpu "$family" "$@" || status=1
  done
  return $status
}
export -f each_family
export families

section_conformance() {
  local family suite
  also 120 "conformance ptx" "$build/tests/gpu/test_ptx"
  also 300 "conformance kernels" "$build/tests/test_kernels"
  BSD_TEST_BACKEND=cuda also 60 "conformance dense" "$build/tests/test_dense"
  also 300 "conformance known_failures" bash -c "each_family '$build/tests/test_known_failures'"
  for family in $families; do
    for suite in attention identities long_rows; do
      also 300 "conformance $suite $family" \
        bash -c "on_gpu $family '$build/tests/test_$suite'"
    done
  done
  wait
}

checked() { # NAME OPTIONS...
  local name=$1
  shift
  also 120 "check $name" "$bench" --backend cuda --check -n 1 -w 0 "$@"
}

section_check() {
  local p='w=700;w=0,r=3,window=90:40,blocks=local(2,2)+random(2,7)' dim
  for dim in 8 40 96 256; do
    checked "simt f32 D $dim" --kernel simt --dtype f32 --dim "$dim" -l 1500 --causal --pattern "$p"
  done
  for dim in 32 64 96 128 256; do
    checked "sm80 bf16 D $dim" --kernel sm80 --dtype bf16 --dim "$dim" -l 1500 --pattern "$p" --causal
  done
  checked "sm80 f16 block 16" --kernel sm80 --dtype f16 --block 16 -l 1500 --kv-heads 2 --pattern "$p"
  checked "sm80 f16 block 32" --kernel sm80 --dtype f16 --block 32 -l 1500 --kv-heads 2 --pattern "$p"
  checked "sm80 bf16 block 256" --kernel sm80 --block 256 -l 3000 --kv-heads 2 --pattern "$p" --batch 2
  for dim in 64 128; do
    checked "sm90 bf16 D $dim" --kernel sm90 --dtype bf16 --dim "$dim" -l 1500 --pattern "$p" --causal
    checked "sm90 f16 D $dim block 128" --kernel sm90 --dtype f16 --dim "$dim" --block 128 -l 3000 \
      --kv-heads 2 --batch 2 --pattern "$p"
  done
  checked "sm90 strided graph" --kernel sm90 -l 8K --density 0.1,0.02 --graph -n 3
  checked "auto longnet graph" -l 8K --preset longnet --causal --graph -n 3
  wait
}

# The digests of a run, one per configuration.
digests() { # RANKS TRANSPORT OPTIONS...
  local ranks=$1 transport=$2 file status=0
  file=$(mktemp)
  shift 2
  # shellcheck disable=SC2086 # the options are a list of words
  timeout -k 5 90 "$MPIRUN" $mpi_options -np "$ranks" sh "$share" "$bench" --backend cuda \
    --transport "$transport" --hash --json "$file" -n 2 -w 1 "$@" >&2 || status=1
  sed -n 's/.*"hash": *"\([0-9a-f]*\)".*/\1/p' "$file" | tr '\n' ' '
  rm -f "$file"
  return $status
}

# Equal digests of so many runs without a launcher: a race in a kernel shows as a bit that differs once.
same_repeats() { # TIMES OPTIONS...
  local times=$1 one='' found i file status=0
  file=$(mktemp)
  shift
  for ((i = 1; i <= times && status == 0; i++)); do
    "$bench" --backend cuda --hash --json "$file" -n 2 -w 1 "$@" >&2 || status=1
    found=$(sed -n 's/.*"hash": *"\([0-9a-f]*\)".*/\1/p' "$file")
    echo "run $i: $found"
    [ -n "$found" ] || { echo "gpu-check: no digest"; status=1; }
    [ "$found" = "${one:=$found}" ] || { echo "gpu-check: run $i differs"; status=1; }
  done
  rm -f "$file"
  return $status
}

# Equal digests for every number of ranks; the first line is one rank's without a transport.
same_bits() { # TRANSPORT RANKS OPTIONS...
  local transport=$1 counts=$2 ranks one found status=0
  shift 2
  one=$(digests 1 self "$@") || { echo "gpu-check: one rank failed"; return 1; }
  [ -n "$one" ] || { echo "gpu-check: no digest"; return 1; }
  echo "1 rank: $one"
  for ranks in $counts; do
    found=$(digests "$ranks" "$transport" "$@") || status=1
    echo "$ranks ranks, $transport: $found"
    [ "$found" = "$one" ] || { echo "gpu-check: $ranks ranks over $transport differ"; status=1; }
  done
  return $status
}
export -f digests same_bits same_repeats
export MPIRUN mpi_options share bench logs

have_launcher() { # SECTION
  command -v "$MPIRUN" >/dev/null 2>&1 && return 0
  echo "skipped         $1: no MPI launcher"
  return 1
}

same_bits_of_families() { # TRANSPORT RANKS
  local family dtype
  local -a problems=(-l '1000,4001' --heads 8 --kv-heads 4 --causal
    --pattern 'w=1000;w=0,r=4,blocks=strided(1:2,density=0.3)'
    --pattern 'blocks=random(3,5)+local(1,1)')
  for family in $families; do
    dtype=bf16
    [ "$family" != simt ] || dtype=f32
    try 200 "$1 bits $family" bash -c 'same_bits "$@"' - "$1" "$2" --kernel "$family" \
      --dtype "$dtype" "${problems[@]}"
  done
}

section_repeats() {
  try 120 "repeats sm90 D 64" bash -c 'same_repeats "$@"' - 6 --kernel sm90 -l 32K --pattern 'blocks=random(51,3)'
  try 120 "repeats sm90 D 128" bash -c 'same_repeats "$@"' - 6 --kernel sm90 -l 16K --dim 128 --block 128 \
    --pattern 'blocks=random(12,3)'
}

section_nccl() {
  have_launcher nccl || return 0
  case $("$bench" --version; "$build/bsd_attend" --version) in
    *nccl*) ;;
    *) echo "skipped         nccl: this build has none"; return ;;
  esac
  same_bits_of_families nccl '1 2 4'
  BSD_SERIALIZE_EXCHANGE=0 try 120 "nccl bits overlapped graph" bash -c 'same_bits "$@"' - nccl 2 \
    --dtype bf16 -l 4096 --causal --pattern 'w=2048;w=0,r=4' --graph
  local suite
  for suite in test_attention test_identities test_known_failures test_transpose mpi/test_trace; do
    BSD_TEST_BACKEND=cuda BSD_TEST_TRANSPORT=nccl try 300 "nccl suite ${suite##*test_}" \
      "$source_root/tests/run-mpi" -n 2,4 -t 140 "$share" "$build/tests/$suite"
  done
  BSD_STAGES=3 BSD_TEST_BACKEND=cuda BSD_TEST_TRANSPORT=nccl try 300 "nccl suite attention, 3 stages" \
    "$source_root/tests/run-mpi" -n 2,4 -t 140 "$share" "$build/tests/test_attention"
}

section_mpi() {
  have_launcher mpi || return 0
  same_bits_of_families mpi '2 4'
  BSD_TEST_BACKEND=cuda try 300 "mpi suite attention" \
    "$source_root/tests/run-mpi" -n 3 -t 140 "$share" "$build/tests/test_attention"
}

section_sanitizer() {
  local family tool dtype
  if ! command -v compute-sanitizer >/dev/null 2>&1; then
    echo "skipped         sanitizer: no compute-sanitizer in the search path"
    return
  fi
  for tool in memcheck racecheck initcheck synccheck; do
    for family in $families; do
      dtype=bf16
      [ "$family" != simt ] || dtype=f32
      also 240 "sanitizer $tool $family" compute-sanitizer --tool "$tool" --error-exitcode 9 \
        "$bench" --backend cuda --kernel "$family" --dtype "$dtype" -l 300 --heads 4 --kv-heads 2 \
        --causal -n 1 -w 0 --pattern 'w=128;w=0,r=2,window=90:9,blocks=local(1,1)+random(1,7)' \
        --pattern 'blocks=strided(1:2,density=0.5)'
    done
  done
  wait
}

section_deadline() {
  have_launcher deadline || return 0
  BSD_TEST_BACKEND=cuda BSD_TEST_TRANSPORT=nccl BSD_TEST_WRAPPER="sh $share" \
    try 400 "deadline nccl" sh "$source_root/tests/mpi/kill-rank.sh" "${BSD_TEST_KILLS:-6}" 40
}

section_big() {
  local -a more=(-l 4300000 --heads 8 --dim 64 --dtype bf16 --check -n 1 -w 0)
  try 300 "big auto" "$bench" --backend cuda "${more[@]}" --pattern 'blocks=local(1,1)'
  try 300 "big simt" "$bench" --backend cuda "${more[@]}" --kernel simt --kv-heads 1 --pattern 'w=256' --pass fwd
}

for section in $sections; do
  case $section in
    conformance | check | repeats | nccl | mpi | sanitizer | deadline | big) ;;
    *) echo "gpu-check: there is no section '$section'" >&2; exit 2 ;;
  esac
  began=$SECONDS
  "section_$section"
  echo "-- $section: $(grep -c "^ok .*  $section" "$results") passed," \
    "$(grep -c "^FAILED .*  $section" "$results") failed ($((SECONDS - began)) s)"
done
passed=$(grep -c '^ok' "$results")
failed=$(grep -c '^FAILED' "$results")
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
