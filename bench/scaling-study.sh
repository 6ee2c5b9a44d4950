#!/usr/bin/env bash
# scaling-study.sh - correctness, scaling, peers and tuning on the GPUs of one host: two commands, a table.
#
# usage: bench/scaling-study.sh [OPTION...] check|measure|report [SECTION...]
#   -b   a build (default: build); without bsd_bench in it, it is configured and built first
#   -o   where results go (default: scaling)
#   -t   seconds that the command may take (default 570); sections that do not fit are skipped and named
#   -n   most ranks (default: the largest power of two that there are GPUs for)
#   -p   the Python with PyTorch of the peers (default: python3)
#   --rehearse   the same steps with small sizes where there are not several GPUs: 4 ranks on one GPU over NCCL
#                (the exchange serialised) or on CPUs over MPI. Its times mean nothing.
#
# Sections, in this order:
#   check     bits oracle deadline calibrate peers tune
#   measure   strong sparse long weak wide
#   report    the table again and the figures (needs gnuplot, no GPU)
#
# Ranks are 1, 2, 4, ..; those that do not need all GPUs run beside each other on GPUs of their own.
# `measure` runs under the setting that `tune` found the fastest (best_setting), if it was faster than the default.
# In the output directory: summary.txt (the table that is printed), results.csv, strong.json and weak.json
# (as bsd_bench --json, with the efficiency), peers.jsonl, cost.json, raw/ with each run's JSON, log and trace.
# Exit status: 0 unless something failed; a target that is missed is in the table, not in the status.
set -u

source_root=$(cd "$(dirname "$0")/.." && pwd)
build=build out=scaling limit=570 most=0 python=python3 rehearse=0
usage() {
  sed -n '2,/^set -u/s/^# \{0,1\}//p' "$0" | sed '$d' >&2
  exit 2
}
words=()
while [ $# -gt 0 ]; do
  case $1 in
    -b) build=${2:?}; shift ;;
    -o) out=${2:?}; shift ;;
    -t) limit=${2:?}; shift ;;
    -n) most=${2:?}; shift ;;
    -p) python=${2:?}; shift ;;
    --rehearse) rehearse=1 ;;
    -*) usage ;;
    *) words+=("$1") ;;
  esac
  shift
done
[ ${#words[@]} -gt 0 ] || usage
command=${words[0]}
case $command in
  check) sections='bits oracle deadline calibrate peers tune' ;;
  measure) sections='strong sparse long weak wide' ;;
  report) sections='' ;;
  *) usage ;;
esac
[ ${#words[@]} -eq 1 ] || sections=${words[*]:1}

mkdir -p "$out/raw" "$build" || exit 1
out=$(cd "$out" && pwd)
build=$(cd "$build" && pwd)
bench=$build/bsd_bench
# shellcheck source=tests/mpi-environment.sh
. "$source_root/tests/mpi-environment.sh"
export NCCL_NVLS_ENABLE=0 BSD_FLIGHT_FILE=$out/flight.txt

# ---- the machine ------------------------------------------------------------------------------

gpus=$(nvidia-smi -L 2>/dev/null | grep -c '^GPU' || :)
cores=$(nproc)
wrapper=() backend=cuda transport=nccl graph=--graph
if [ "$gpus" -lt 2 ] && [ "$rehearse" -eq 0 ] && [ "$command" != report ]; then
  echo "scaling-study: $gpus GPU(s) here: several are needed, or --rehearse" >&2
  exit 2
fi
if [ "$gpus" -ge 2 ]; then
  highest=1
  while [ $((2 * highest)) -le "$gpus" ]; do highest=$((2 * highest)); done
elif [ "$gpus" -eq 1 ]; then
  highest=4 wrapper=(sh "$source_root/tests/mpi/share-gpu.sh")
  graph='' # the exchange is serialised: the host waits for it
else
  highest=4 backend=cpu transport=mpi graph=''
fi
[ "$most" -eq 0 ] || highest=$most
counts=''
for ((p = 1; p <= highest; p *= 2)); do counts="$counts $p"; done

njobs=$(($(echo "$counts" | wc -w) - 1)) # that run beside each other

# Sizes: `unit` stands for 256K tokens.
layouts='auto contiguous zigzag dilated:1:64'
unit=262144 few=20000 rows=26 blocks='64 128' shapes='32:128 8:128 32:64' base=8:64 iterations=5
if [ "$rehearse" -eq 1 ]; then
  iterations=2 layouts='auto zigzag'
  if [ "$backend" = cuda ]; then
    unit=16384 few=3000 shapes=32:128
  else
    unit=1024 few=900 rows=6 blocks='16 32' shapes=4:16 base=2:16
  fi
fi

# ---- running ----------------------------------------------------------------------------------

left() {
  echo $((limit - SECONDS))
}

failures=$out/raw/failures
: >"$failures"
say() {
  printf '[%3d s] %s\n' "$SECONDS" "$*"
}

# One launch: its results in raw/NAME-pRANKS.json. On GPUs FIRST .. of this host.
launch() { # NAME RANKS FIRST SECONDS OPTIONS...
  local name=$1 ranks=$2 first=$3 longest=$4 file threads transport_now=$transport status=0
  shift 4
  [ "$(left)" -gt 8 ] || { echo "$name on $ranks: no time left" >>"$failures"; return 1; }
  [ "$longest" -le "$(left)" ] || longest=$(left)
  file=$out/raw/$name-p$ranks
  rm -f "$file.json"
  [ "$ranks" -gt 1 ] || transport_now=self
  if [ "$gpus" -ge 2 ]; then
    CUDA_VISIBLE_DEVICES=$(seq -s , "$first" $((first + ranks - 1)))
    export CUDA_VISIBLE_DEVICES
  fi
  case $name in
    strong-longnet* | strong-strided*) set -- "$@" --trace "$file.trace" ;;
  esac
  threads=$((cores / (ranks * (ranks == highest ? 1 : njobs))))
  OMP_NUM_THREADS=$((threads > 0 ? threads : 1)) timeout -k 5 "$longest" \
    "$MPIRUN" $mpi_options -np "$ranks" "${wrapper[@]}" "$bench" --backend "$backend" \
    --transport "$transport_now" -T 60 --json "$file.json" "$@" >"$file.log" 2>&1 </dev/null || status=$?
  [ "$status" -eq 0 ] && return 0
  echo "$name on $ranks: status $status: $(grep -h '^bsd_bench' "$file.log" | head -n 1 | cut -c1-200)" >>"$failures"
  return 1
}

# The same on every number of ranks: all GPUs first, then the smaller numbers beside each other (in a rehearsal
# all of them: what they run on is shared anyway). The option
# LENGTHS stands for `lengths` (with `multiply`=1: times the ranks).
curve() { # NAME SECONDS OPTIONS...
  local name=$1 longest=$2 ranks first=0 n list option
  shift 2
  for ranks in $(echo "$counts" | tr ' ' '\n' | sort -rn); do
    list=''
    for n in $lengths; do list=$list,$((n * (multiply ? ranks : 1))); done
    local -a now=()
    for option in "$@"; do
      [ "$option" != LENGTHS ] || option=${list#,}
      now+=("$option")
    done
    if [ "$gpus" -ge 2 ] && [ "$ranks" -eq "$highest" ]; then
      launch "$name" "$ranks" 0 "$longest" "${now[@]}"
    else
      launch "$name" "$ranks" "$first" "$longest" "${now[@]}" &
      first=$((first + ranks))
    fi
  done
  wait
}

# LongNet's pattern for a length, as --preset longnet makes it.
longnet() { # LENGTH
  local w=2048 r=1 text=''
  [ "$1" -ge 2048 ] || { echo "w=$1"; return; }
  while [ "$w" -le "$1" ]; do
    text="$text;w=$w"
    [ "$r" -eq 1 ] || text=$text,r=$r
    w=$((2 * w)) r=$((2 * r))
  done
  echo "${text#;}"
}

model() { # the option that makes plans with this machine's constants
  [ ! -s "$out/cost.json" ] || echo "--cost-model $out/cost.json"
}

# A pattern's scaling curve at one shape. MULTIPLY 1: weak.
scale() { # NAME SECONDS MULTIPLY LENGTHS SHAPE BLOCK PATTERN...
  local name=$1 longest=$2 multiply=$3 lengths=$4 shape=$5 block=$6
  shift 6
  # shellcheck disable=SC2046 # options are lists of words
  curve "$name" "$longest" -l LENGTHS --heads "${shape%:*}" --dim "${shape#*:}" --block "$block" \
    -n "$iterations" -w 2 $graph $(model) "$@"
}

# ---- sections: check ----------------------------------------------------------------------------

section_bits() {
  local dtype layout causal multiply=0 lengths="$few $((3 * few + 77))"
  for dtype in bf16 f32; do
    for causal in '' --causal; do
      for layout in $layouts; do
        # shellcheck disable=SC2086 # causal is an option or none
        curve "bits-$dtype-${layout//:/_}${causal:+-causal}" 60 -l LENGTHS --kv-heads 4 --heads 8 \
          --dtype "$dtype" --layout "$layout" $causal --hash -n 1 -w 0 \
          --pattern "$(longnet $((2 * few)))" --pattern "blocks=strided(1:2,rows=$rows)"
      done
    done
  done
  [ -z "$graph" ] || multiply=0 lengths=$few curve bits-graph 60 -l LENGTHS --kv-heads 4 --heads 8 \
    --dtype bf16 --hash -n 1 -w 0 --graph --pattern "$(longnet $((2 * few)))" \
    --pattern "blocks=strided(1:2,rows=$rows)"
}

section_oracle() {
  local dtype
  for dtype in bf16 f32; do
    launch "oracle-$dtype" "$highest" 0 90 -l "$((few - 1)),$unit" --dtype "$dtype" -c -n 1 -w 0 \
      --heads 8 --kv-heads 2 --causal --pattern "$(longnet "$unit")" \
      --pattern "blocks=strided(1:2,rows=$rows)"
  done
}

section_deadline() {
  local -a settings=(BSD_TEST_BACKEND="$backend")
  [ "$backend" = cpu ] || settings+=(BSD_TEST_TRANSPORT=nccl BSD_TEST_WRAPPER="${wrapper[*]}")
  [ -x "$build/tests/mpi/survive" ] || { echo "deadline: tests/mpi/survive is not built" >>"$failures"; return; }
  env "${settings[@]}" builddir="$build" timeout -k 5 "$(left)" \
    sh "$source_root/tests/mpi/kill-rank.sh" "${BSD_TEST_KILLS:-4}" 40 >"$out/raw/deadline.log" 2>&1 ||
    echo "deadline: see raw/deadline.log" >>"$failures"
}

section_calibrate() {
  local status=0
  OMP_NUM_THREADS=$((cores / highest > 0 ? cores / highest : 1)) timeout -k 5 "$(($(left) < 120 ? $(left) : 120))" \
    "$MPIRUN" $mpi_options -np "$highest" "${wrapper[@]}" "$bench" --backend "$backend" \
    --transport "$transport" --calibrate "$out/cost.json" >"$out/raw/calibrate.log" 2>&1 </dev/null || status=$?
  [ "$status" -eq 0 ] && return
  rm -f "$out/cost.json"
  echo "calibrate: status $status: $(grep -h '^bsd_bench' "$out/raw/calibrate.log" | head -n 1)" >>"$failures"
}

peer() { # RANKS FIRST OPTIONS...
  local ranks=$1 first=$2 device=cuda
  shift 2
  if [ "$gpus" -ge 2 ]; then
    CUDA_VISIBLE_DEVICES=$(seq -s , "$first" $((first + ranks - 1)))
    export CUDA_VISIBLE_DEVICES
  fi
  [ "$backend" = cuda ] || device=cpu
  MASTER_PORT=$((29600 + ranks)) OMP_NUM_THREADS=1 GLOO_SOCKET_IFNAME=lo timeout -k 5 "$(left)" \
    "$MPIRUN" $mpi_options -np "$ranks" "${wrapper[@]}" "$python" "$source_root/bench/peers/distributed.py" \
    --device "$device" --iters "$iterations" --json "$out/peers.jsonl" "$@" \
    >>"$out/raw/peers-p$ranks.log" 2>&1 </dev/null ||
    echo "peers on $ranks: $(grep -h 'Error\|distributed.py:' "$out/raw/peers-p$ranks.log" | tail -n 1 | cut -c1-200)" >>"$failures"
}

section_peers() {
  local ranks first=0
  rm -f "$out/peers.jsonl" "$out"/raw/peers-p*.log
  peer "$highest" 0 --n 768 --check --heads 2
  peer "$highest" 0 --n "$unit" $((4 * unit)) --heads "${base%:*}" --dim "${base#*:}"
  for ranks in $counts; do
    [ "$ranks" -lt "$highest" ] || continue
    peer "$ranks" "$first" --n "$unit" --heads "${base%:*}" --dim "${base#*:}" &
    first=$((first + ranks))
  done
  wait
}

# What only several GPUs can show: `tune-SETTING-VALUE`; the settings are environment variables.
section_tune() {
  local setting n=$((4 * unit)) variants='BSD_STAGES=1 BSD_STAGES=2 BSD_STAGES=3'
  [ "$backend" = cpu ] || variants="$variants BSD_SM_MARGIN=4 BSD_SM_MARGIN=8 BSD_SM_MARGIN=16
    NCCL_MAX_P2P_NCHANNELS=2 NCCL_MAX_P2P_NCHANNELS=8 NCCL_MAX_P2P_NCHANNELS=16 NCCL_BUFFSIZE=1048576
    NCCL_BUFFSIZE=16777216 NCCL_P2P_NVL_CHUNKSIZE=131072 NCCL_P2P_NVL_CHUNKSIZE=2097152"
  for setting in BSD_STAGES=auto $variants; do
    # shellcheck disable=SC2046 # options are lists of words
    (export "${setting?}" && launch "tune-${setting/=/-}" "$highest" 0 60 -l "$n" --heads "${base%:*}" \
      --dim "${base#*:}" --block "${blocks%% *}" -n "$iterations" -w 2 $graph $(model) --hash \
      --pattern "$(longnet "$n")" --pattern "blocks=strided(1:2,rows=$rows)")
  done
}

# ---- sections: measure ----------------------------------------------------------------------------

section_strong() {
  local block
  for block in $blocks; do
    scale "strong-longnet-b$block" 120 0 "$unit $((4 * unit))" $base "$block" --preset longnet
    scale "strong-strided-b$block" 120 0 "$unit $((4 * unit))" $base "$block" \
      --pattern "blocks=strided(1:2,rows=$rows)"
  done
}

section_sparse() {
  scale strong-density 90 0 "$unit" $base "${blocks%% *}" --density 0.05
}

section_long() {
  scale strong-long 120 0 $((16 * unit)) $base "${blocks##* }" --preset longnet
}

section_weak() {
  local lengths="$unit $((2 * unit)) $((4 * unit)) $((8 * unit))"
  scale weak-longnet 120 1 "$lengths" $base "${blocks##* }" --preset longnet
  scale weak-strided 120 1 "$lengths" $base "${blocks##* }" --pattern "blocks=strided(1:2,rows=$rows)"
}

section_wide() {
  local shape block
  for shape in $shapes; do
    for block in $(echo "$blocks" | tr ' ' '\n' | sort -rn); do
      scale "strong-wide-longnet-${shape/:/x}-b$block" 120 0 "$unit $((4 * unit))" "$shape" "$block" \
        --preset longnet
      scale "strong-wide-strided-${shape/:/x}-b$block" 120 0 "$unit $((4 * unit))" "$shape" "$block" \
        --pattern "blocks=strided(1:2,rows=$rows)"
    done
  done
}

# ---- the whole ----------------------------------------------------------------------------------

build_it() {
  local targets='bsd_bench tests/mpi/survive'
  [ ! -x "$bench" ] || return 0
  say "building in $build"
  if ! { (cd "$source_root" && ./bootstrap) && (cd "$build" && "$source_root/configure" &&
    make -j "$cores" $targets); } >"$out/raw/build.log" 2>&1; then
    echo "scaling-study: the build failed, see $out/raw/build.log" >&2
    exit 1
  fi
}

summarise() {
  local status=0 file
  local -a from=()
  python3 "$source_root/bench/scaling_table.py" "$out" "$highest" "$rehearse" || status=1
  for file in "$out/strong.json" "$out/weak.json"; do
    [ ! -s "$file" ] || from+=(--from "$file")
  done
  if [ ${#from[@]} -gt 0 ] && command -v gnuplot >/dev/null 2>&1; then
    "$bench" --plot "$out/report" "${from[@]}" >"$out/raw/report.log" 2>&1 || { echo "the figures failed, see raw/report.log"; status=1; }
  fi
  return $status
}

for section in $sections; do
  case $section in
    bits | oracle | deadline | calibrate | peers | tune | strong | sparse | long | weak | wide) ;;
    *) echo "scaling-study: there is no section '$section'" >&2; exit 2 ;;
  esac
done
build_it
if [ "$command" = measure ] && [ -s "$out/best_setting" ]; then
  export "$(cat "$out/best_setting")"
  say "with $(cat "$out/best_setting")"
fi
if [ "$gpus" -gt 0 ]; then nvidia-smi topo -m >"$out/topology.txt" 2>&1; fi
for section in $sections; do
  if [ "$(left)" -lt 10 ]; then
    echo "$section: no time left" >>"$failures"
    continue
  fi
  say "$section"
  "section_$section"
done
summarise
status=$?
if [ -s "$failures" ]; then
  echo "not run, or failed:"
  sort "$failures" | head -n 12 | sed 's/^/  /'
  status=1
fi
say "$command done"
exit $status
