#!/bin/sh
# bench.sh - bsd_bench as a user runs it: options judged before anything runs, results that follow the
# JSON schema, the same digest on any number of ranks, lists, presets, scaling, files whole or absent.
#
# Runs from `make check` (builddir, srcdir, MPIRUN set); writes below a temporary directory only.
set -u

srcdir=$(cd "${srcdir:-.}" && pwd)
# shellcheck source=tests/programs.sh
. "$srcdir/tests/programs.sh"

# run RANKS ARGUMENT...: stdout, stderr in files, the exit status in $status.
run() {
  ranks=$1
  shift
  status=0
  if [ "$ranks" = 1 ]; then
    timeout 120 "$build/bsd_bench" "$@" >stdout 2>stderr </dev/null || status=$?
  else
    # shellcheck disable=SC2086 # the options are a list of words
    timeout -k 5 120 "$MPIRUN" $mpi_options -np "$ranks" "$build/bsd_bench" "$@" \
      >stdout 2>stderr </dev/null || status=$?
  fi
}

# judge NAME VALUE...: r.json follows the schema and holds these values (see tests/bench_json.c).
judge() {
  name=$1
  shift
  if [ "$status" -ne 0 ]; then
    bad "$name: status $status"
  elif "$build/tests/bench_json" r.json "$@" >stdout 2>stderr; then
    good
  else
    bad "$name"
  fi
  rm -f last.json
  [ ! -f r.json ] || mv r.json last.json
}

value() { # KEY of the last result judged
  "$build/tests/bench_json" -p last.json "$1"
}

# refused WORDS ARGUMENT...: status 2, one sentence with WORDS on stderr, nothing on stdout, no file.
refused() {
  words=$1
  shift
  run 1 "$@"
  if [ "$status" -eq 2 ] && [ ! -s stdout ] && [ "$(wc -l <stderr)" -eq 1 ] &&
    grep -q "^bsd_bench: .*$words" stderr && ! ls ./*.json ./*.csv ./*.tmp >/dev/null 2>&1; then
    good
  else
    bad "bsd_bench $*: status $status, expected 2 and a sentence with '$words'"
  fi
}

run 1 --transport mpi -l 16 -n 1 -w 0
have_mpi=no
if [ "$status" -eq 0 ] && command -v "$MPIRUN" >/dev/null 2>&1; then
  have_mpi=yes
fi
run 1 --baseline dense -l 16 -n 1 -w 0
have_cblas=no
[ "$status" -ne 0 ] || have_cblas=yes

# ---- help and version ---------------------------------------------------------------------------

run 1 --help
if [ "$status" -eq 0 ] && [ ! -s stderr ] && grep -q -- --dump-lists stdout; then good; else bad help; fi
run 1 --version
if [ "$status" -eq 0 ] && [ "$(wc -l <stdout)" -eq 1 ]; then good; else bad version; fi

# ---- bad options --------------------------------------------------------------------------------

refused "no option" --nonsense
refused "no option -x" -x
refused "needs a value" --length
refused "takes no value" --causal=1
refused "not an option" -l 64 stray
refused "length" -l 0
refused "length" -l 12x
refused "length" -l 2K:1K:x2
refused "length" -l 1K:2K:x1
refused "length" -l 1K,
refused "heads" --heads 0
refused "does not divide" --heads 6 --kv-heads 4
refused "dim" --dim 257
refused "dim" --dim 0
refused "batch" --batch 0
refused "block" --block 48
refused "dtype" --dtype f64
refused "pass" --pass all
refused "backend" --backend gpu
refused "kernel" --kernel fast
refused "simt" --kernel simt
refused "transport" --transport tcp
refused "nccl" --transport nccl
refused "layout" --layout dilated:0:1
refused "seed" --seed -1
refused "baseline" --baseline yes
refused "iters" -n 0
refused "warmup" -w -1
refused "timeout" -T 0
refused "preset" --preset fast
refused "scaling" --scaling both
refused "simulate" --simulate 0
refused "column 8" --pattern 'blocks=fool'
refused "pattern" --pattern ''
refused "pattern" --density 0
refused "pattern" --density 1.5
refused "density" --density x
refused "density" --density 0.1,,0.2
refused "branches" --pattern 'combine=heads| w=16; w=32; w=64' --heads 2
refused "csr" --pattern 'blocks=csr(absent.txt)'
refused "CUDA graph" --graph
refused "L2 cache of a GPU, but the backend is cpu" --cold
refused "so --cold cannot be had" --cold --simulate 2
refused "simulate" --simulate 4 --check
refused "simulate" --simulate 4 --hash
refused "simulate" --simulate 4 --graph
refused "simulate" --simulate 4 --trace t.json
refused "one configuration" -l 64,128 --dump-lists lists
refused "only one of" --json - --csv -
refused "only one of" --trace - --dump-lists -
refused "--json and --csv name the same file" --json r.json --csv r.json
mkdir folder
refused "is a directory" --json folder
refused "name of an output file is empty" --dump-lists '' -l 64
refused "No such file" --json absent/r.json
refused "No such file" --csv absent/r.csv
refused "No such file" --trace absent/t.json
refused "No such file" --dump-lists absent/lists -l 64
refused "absent.npy" --cu-seqlens absent.npy
printf '0 1\n\n' >rows.txt
refused "csr" --pattern 'blocks=csr(rows.txt)' -l 256
"$build/tests/make_npy" cu.npy i4 4 list:0,100,100,256 || exit 99
"$build/tests/make_npy" cu7.npy i8 5 list:0,33,33,500,700 || exit 99
"$build/tests/make_npy" down.npy i8 4 list:0,200,100,256 || exit 99
"$build/tests/make_npy" float.npy f4 4 list:0,1,2,3 || exit 99
refused "decrease" --cu-seqlens down.npy
refused "f4" --cu-seqlens float.npy
refused "end at 256" --cu-seqlens cu.npy -l 512
refused "batch" --cu-seqlens cu.npy --batch 2
[ "$have_cblas" = yes ] || refused "no CBLAS" --baseline dense

# ---- results ------------------------------------------------------------------------------------

quick='--heads 2 --dim 16 -n 3 -w 1 --json r.json'
# shellcheck disable=SC2086 # the options are a list of words
go() { # RANKS OPTION...
  ranks=$1
  shift
  run "$ranks" $quick "$@"
}

run 1 -n 1 -w 0 -l 64 --json r.json
judge defaults count=1 n=64 batch=1 heads=8 kv_heads=8 dim=64 block=64 dtype='"f32"' causal=false \
  pattern='"blocks=strided(1:2,density=0.1)"' ranks=1 backend='"cpu"' kernel='"cpu"' \
  transport='"self"' hash=null check=null baseline.status='"none"' baseline.bytes=null \
  speedup.fwd=null fwd.ms='>0' bwd.ms='>0' comm.fwd.overlap=null comm.fwd.exposed_ms=null \
  predicted.efficiency=1.0 predicted.fwd_ms='>0' host_us.fwd=null host_us.graph_bwd=null active_blocks=8 imbalance=1.0
go 1 -l 96,200:400:x2 --pattern w=64 --density 0.5,1 --pattern 'blocks=full' --causal
judge nesting count=12 results.0.n=96 results.0.pattern='"w=64"' \
  results.1.pattern='"blocks=full"' results.2.pattern='"blocks=strided(1:2,density=0.5)"' \
  results.3.pattern='"blocks=strided(1:2,density=1)"' results.4.n=200 results.8.n=400 causal=true \
  density=1.0 active_pairs=160400
go 1 -l 130 --pass fwd -c --hash --batch 2 --kv-heads 1 --dtype bf16
judge forward bwd=null comm.bwd=null predicted.fwd_ms='>0' predicted.bwd_ms=null \
  check.pass=true check.dq=null check.o='>0' hash=set dtype='"bf16"' kv_heads=1 batch=2
go 1 -l 130 --pass bwd -c --dtype f16
judge backward fwd=null comm.fwd=null check.pass=true check.o=null check.dv='>0'
go 1 --cu-seqlens cu.npy -c --block 16 --pattern 'w=64,r=2;blocks=random(2,7)+global(1)' --causal
judge documents n=256 check.pass=true block=16
printf '0\n0 1\n\n2 3\n' >rows.txt
go 1 -l 60 -c --block 16 --pattern 'blocks=csr(rows.txt)+local(0,0)'
judge csr check.pass=true active_blocks=12
go 1 -l 16000 --dim 8 --heads 1 -c --pattern 'w=64;w=512,r=8' --block 16
cp stdout sampled
judge sample check.pass=true check.rows='>9' check.keys='>3' check.kv_heads=1 check.from_library=false
if grep -q '^# checked: [0-9]* query rows and [0-9]* keys of each of 1 KV heads' sampled; then
  good
else
  bad "the table does not say what was sampled"
fi

run 1 -l 64 -n 1 -w 0
if [ "$(tail -n 1 stdout)" = OK ] && grep -q '^# kernel cpu, layout' stdout &&
  [ "$(grep -vc '^#' stdout)" -eq 2 ]; then good; else bad table; fi
run 1 -l 64 -n 1 -w 0 --json - 2>stderr
"$build/tests/bench_json" stdout count=1 2>>stderr && good || bad "json on stdout"
# What is no regular file stays what it is; a link leads to the file that is replaced.
mkfifo pipe
cat pipe >piped.json &
run 1 -l 64 --heads 1 -n 1 -w 0 --json pipe
wait
if [ "$status" -eq 0 ] && [ -p pipe ] && "$build/tests/bench_json" piped.json >/dev/null; then
  good
else
  bad "a pipe for --json: status $status"
fi
: >aim.json
ln -s aim.json link.json
run 1 -l 64 --heads 1 -n 1 -w 0 --json link.json
if [ "$status" -eq 0 ] && [ -h link.json ] && "$build/tests/bench_json" aim.json >/dev/null; then
  good
else
  bad "a link for --json: status $status"
fi
rm -f pipe piped.json link.json aim.json

run 1 -l 64,128 -n 1 -w 0 --csv -
if [ "$status" -eq 0 ] && [ "$(wc -l <stdout)" -eq 3 ] && head -n 1 stdout | grep -q '^n,batch,'; then
  good
else
  bad "csv on stdout"
fi

# traced RANKS RUNS: t.json has a row for each rank and stream with that many runs (see tests/trace_json.c).
traced() {
  if "$build/tests/trace_json" t.json "$1" "$2" >stdout 2>stderr; then good; else bad "trace"; fi
  rm -f t.json
}
go 1 -l 96,130 --trace t.json --pattern 'w=64;w=96,r=2'
judge "traced on one rank" comm.fwd.exposed_ms=null comm.bwd.overlap=null
traced 1 4

# ---- the dense baseline -------------------------------------------------------------------------

if [ "$have_cblas" = yes ]; then
  go 1 -l 192 --baseline dense --causal
  judge baseline baseline.status='"ok"' baseline.fwd_ms='>0' baseline.bwd_ms='>0' \
    baseline.bytes='>589823' speedup.fwd='>0' speedup.bwd='>0'
  go 1 -l 4M --pattern 'blocks=local(0,0)' --heads 1 --dim 1 --block 16 --pass fwd -n 1 -w 0 \
    --baseline auto
  judge oom baseline.status='"oom"' baseline.fwd_ms=null baseline.bytes='>64000000000000' speedup.fwd=null
fi

# ---- presets ------------------------------------------------------------------------------------

go 1 --preset longnet -l 1000,9000 --pass fwd
judge longnet count=2 results.0.pattern='"w=1000"' \
  results.1.pattern='"w=2048;w=4096,r=2;w=8192,r=4"'
go 1 --preset seed -l 2K --baseline auto
judge seed count=3 batch=4 bwd=null dtype='"f32"' heads=2 \
  results.0.pattern='"blocks=strided(1:2,density=0.1)"' \
  results.2.pattern='"blocks=strided(1:2,density=0.02)"'
run 1 --preset seed -l 256,512 --batch 1 --heads 1 --dim 8 -n 1 -w 0
rows=6
[ "$have_cblas" = no ] || rows=8
if [ "$status" -eq 0 ] && [ "$(grep -c block-sparse stdout)" -eq 6 ] &&
  [ "$(grep -c '^  [0-9]* x1 ' stdout)" -eq "$rows" ] &&
  grep -q 'sequence length.*implementation.*time (ms).*memory (MB).*speedup' stdout; then
  good
else
  bad "the seed report's table"
fi

# ---- lists --------------------------------------------------------------------------------------

go 1 -l 80 --heads 1 --block 16 --causal --pattern 'w=64,window=20:-1;blocks=dilated(2)' \
  --dump-lists lists --pass fwd
judge lists active_blocks=18
cat >expected <<'EOF'
0 0 0 0 0: 0
0 0 0 0 1: 0 1
0 0 0 0 2: 0 1 2
0 0 0 0 3: 1 2 3
0 0 0 1 0: 0
1 0 0 0 0: 0
1 0 0 0 1: 1
1 0 0 0 2: 0 2
1 0 0 0 3: 1 3
1 0 0 0 4: 2 4
EOF
if cmp expected lists >stdout 2>stderr; then good; else bad "the lists are not those expected"; fi
go 1 -l 700 --block 16 --dump-lists lists --pass fwd --cu-seqlens cu7.npy --causal \
  --pattern 'combine=heads| w=100,r=3,blocks=random(3,9)+local(1,0); window=40:0,blocks=strided(1:3,density=0.3)'
judge "lists of documents" n=700
if [ "$(sed 's/.*: //' lists | wc -w)" = "$(value active_blocks)" ]; then
  good
else
  bad "the lists do not hold active_blocks columns"
fi
run 1 -l 64 --heads 1 --pattern 'w=16,r=2' --block 16 --dump-lists - -n 1 -w 0
if [ "$(cat stdout)" = "$(printf '0 0 0 %d 0: 0\n' 0 1 2 3)" ]; then good; else bad "lists on stdout"; fi

# ---- cost models --------------------------------------------------------------------------------

run 1 --calibrate cost.model --dim 16 --block 32
if [ "$status" -eq 0 ] && [ "$(grep -c ' % ' stdout)" -eq 26 ] && grep -q '^OK' stdout; then
  good
else
  bad calibrate
fi
go 1 -l 4K --block 32 --cost-model cost.model
judge "a measured cost model" predicted.fwd_ms='>0' predicted.bwd_ms='>0'
cat >rates.model <<'EOF_RATES'
{"version": 1, "host_ranks": 0, "links": {"host": null, "network": null}, "rates": [
  {"kernel": "cpu", "pass": "fwd", "dtype": "f32", "dim": 16, "block": 64, "launch_ns": 0, "row_ns": 0,
   "block_ns": 1000, "alone_ns": 0, "tail_ns": 0, "byte_ns": 0}]}
EOF_RATES
go 1 -l 640 --pattern 'blocks=full' --cost-model rates.model
judge "a written cost model" predicted.fwd_ms=0.2
sed 's/"cpu"/"sm90"/' rates.model >gpu.model
go 1 -l 640 --pattern 'blocks=full' --simulate 1 --cost-model gpu.model
judge "rates of another machine" predicted.fwd_ms=0.2
rm -f gpu.model
go 1 -l 640 --pattern 'blocks=full' --rate 0.001
judge rate predicted.fwd_ms=52.4288 predicted.bwd_ms=131.072
refused "absent.model: .*No such file" --cost-model absent.model
echo '{"version": 1' >bad.text
refused "bad.text: .*expected a cost model" --cost-model bad.text
sed 's/"block_ns": 1000, //' rates.model >bad.text
refused "bad.text: rates.0.: block_ns is missing" --cost-model bad.text
sed 's/1000/-1/' rates.model >bad.text
refused "block_ns is negative" --cost-model bad.text
sed 's/"cpu"/"gpu"/' rates.model >bad.text
refused "kernel is 'gpu', expected" --cost-model bad.text
rm -f cost.model rates.model bad.text
refused "link" --link 200
refused "link" --link 200,5/25,10
refused "rate" --rate fast
refused "configurations of its own" --calibrate cost.model --simulate 2

# ---- plans without runs -------------------------------------------------------------------------

go 1 -l 4K --simulate 1,8 --pattern 'blocks=dilated(1:2)' --layout contiguous
judge simulate count=2 ranks=8 fwd=null bwd=null comm.fwd.bytes_moved=null check=null \
  comm.fwd.bytes_lower_bound='>0' results.0.comm.fwd.bytes_lower_bound=0 plan_ms='>0' \
  predicted.fwd_ms='>0' predicted.efficiency='>0' simulation.planned=8 stages='>1' active_blocks=628 imbalance='>1'
simulated=$(value comm.fwd.bytes_lower_bound),$(value comm.bwd.bytes_lower_bound),$(value imbalance)

go 1 -l 64K --block 16 --simulate 16,300 --pattern 'w=512;w=4K,r=4' --scaling strong \
  --link 20,2/5,20@8 --rate 0.1 --layout contiguous
judge "a sample of many ranks" count=2 results.0.simulation.planned=16 simulation.planned='>60' \
  scaling='"strong"' scaling_efficiency.fwd='>0' predicted.efficiency='>0' imbalance='>1'
go 1 -l 2K --simulate 8 --pattern w=512 --scaling weak --rate 0.1
judge "weak scaling without an exchange" n=16384 comm.fwd.bytes_lower_bound=0 \
  scaling_efficiency.fwd=1.0 scaling_efficiency.bwd=1.0 stages=1

# ---- several ranks ------------------------------------------------------------------------------

if [ "$have_mpi" = yes ]; then
  go 8 -l 4K --pattern 'blocks=dilated(1:2)' --layout contiguous -n 1 -w 0
  judge "eight ranks" ranks=8 transport='"mpi"'
  ran=$(value comm.fwd.bytes_moved),$(value comm.bwd.bytes_moved),$(value imbalance)
  if [ "$ran" = "$simulated" ]; then good; else bad "simulated $simulated, run $ran"; fi

  # The example of bench/README.md.
  run 2 -l 512 --heads 1 --pattern 'blocks=local(1,0)' --layout contiguous -n 1 -w 0 --json r.json
  judge "the README's example" active_blocks=15 active_pairs=61440 density=0.234375 imbalance='>1.0666' \
    comm.fwd.bytes_moved=32768 comm.bwd.bytes_moved=66048 comm.fwd.bytes_allgather=262144 \
    comm.bwd.bytes_allgather=524288

  for options in '--pattern w=100;w=300,r=3 --batch 2' '--density 0.2 --causal --layout zigzag' \
    '--pattern blocks=random(3,1) --dtype bf16 --kv-heads 1 --layout dilated:1:48'; do
    first=
    for ranks in 1 2 3 4; do
      # shellcheck disable=SC2086 # the options are a list of words
      go $ranks -l 500 --block 16 --hash -c $options
      judge "$options on $ranks ranks" hash=set ranks=$ranks check.pass=true
      hash=$(value hash)
      [ -n "$first" ] || first=$hash
      if [ "$hash" = "$first" ]; then good; else bad "$options: another digest on $ranks ranks"; fi
    done
  done
  go 2 -l 500 --block 16 --hash --density 0.2 --causal --seed 1
  judge seed-option hash=set
  if [ "$(value hash)" != "$first" ]; then good; else bad "--seed changes nothing"; fi

  # shellcheck disable=SC2086 # the options are a list of words
  timeout -k 5 120 "$MPIRUN" $mpi_options -np 1 "$build/bsd_bench" -l 256 -n 1 : \
    -np 1 -x BSD_CPU_ISA=baseline "$build/bsd_bench" -l 256 -n 1 >stdout 2>stderr </dev/null
  status=$?
  if [ "$status" -ne 0 ] && grep -q "another architecture than rank 0" stderr; then
    good
  else
    bad "ranks of different architectures: status $status"
  fi

  for ranks in 2 4; do
    go $ranks -l 700 --trace t.json --density 0.2 --pattern 'w=128;w=0,r=4' --block 16
    judge "traced on $ranks ranks" count=2 comm.fwd.exposed_ms='>0' comm.bwd.exposed_ms='>0' \
      comm.fwd.overlap=set comm.bwd.overlap=set
    traced $ranks 4
  done
  run 2 --calibrate cost.model --dim 16 --block 32
  if [ "$status" -eq 0 ] && grep -q '^# host: latency' stdout && grep -q '"gb_per_s": [1-9]\|"gb_per_s": 0.0*[1-9]' cost.model
  then
    good
  else
    bad "calibrate on two ranks"
  fi
  go 2 -l 4K --block 32 --cost-model cost.model
  judge "links of a cost model" predicted.efficiency='>0' predicted.fwd_ms='>0'
  rm -f cost.model
  go 3 -l 600 --scaling strong --pass fwd
  judge strong count=3 results.0.ranks=1 results.1.ranks=2 results.2.ranks=3 n=600 \
    results.0.scaling_efficiency.fwd=1.0 scaling_efficiency.fwd='>0'
  go 2 -l 600 --scaling weak --pass fwd --pattern w=128
  judge weak count=2 results.0.n=600 results.1.n=1200
  go 2 -l 4K --simulate 8 --pattern 'blocks=dilated(1:2)' --layout contiguous
  judge "simulated on two ranks" ranks=8 active_blocks=628
  both=$(value comm.fwd.bytes_lower_bound),$(value comm.bwd.bytes_lower_bound),$(value imbalance)
  if [ "$both" = "$simulated" ]; then good; else bad "simulated $simulated, on two ranks $both"; fi
  if [ "$have_cblas" = yes ]; then
    go 2 -l 192 --baseline dense --kv-heads 1
    judge "baseline on two ranks" baseline.status='"ok"' baseline.fwd_ms='>0'
  fi
  run 2 --transport self -l 64
  if [ "$status" -eq 2 ] && [ "$(grep -c 'for one rank' stderr)" -eq 1 ]; then
    good
  else
    bad "--transport self on two ranks"
  fi

  # A rank dies in mid-exchange over TCP; where MPI then writes to its socket, a signal comes.
  if "$MPIRUN" --help all 2>/dev/null | grep -q enable-recovery; then
    printf 'echo $$ >pid.$OMPI_COMM_WORLD_RANK\nexec "$@"\n' >rank.sh
    # shellcheck disable=SC2086 # the options are a list of words
    OMPI_MCA_btl=tcp,self timeout -k 5 60 "$MPIRUN" $mpi_options --enable-recovery -np 2 sh rank.sh \
      "$build/bsd_bench" -l 4K -n 1000000 -w 0 -T 2 --heads 1 --dim 16 >stdout 2>stderr </dev/null &
    while kill -0 $! && [ ! -s pid.0 -o ! -s pid.1 ]; do sleep 0.1; done
    sleep 1
    kill -PIPE "$(cat pid.0)"
    kill -KILL "$(cat pid.1)"
    wait $!
    if grep -q '^bsd_bench: rank 0: ' stderr; then good; else bad "a rank dies under TCP"; fi
  fi
fi

echo "$passed checks passed, $failed failed"
[ "$failed" -eq 0 ]
