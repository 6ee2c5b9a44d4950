#!/bin/sh
# report.sh - bsd_bench --plot as a user runs it: judged before anything runs, figures and one page that needs no
# network, the same page from a run and from its saved JSON, figures without data named with the option that gives it.
#
# Runs from `make check` (builddir, srcdir, MPIRUN set); writes below a temporary directory only.
set -u

srcdir=$(cd "${srcdir:-.}" && pwd)
# shellcheck source=tests/programs.sh
. "$srcdir/tests/programs.sh"

run() { # ARGUMENT...: stdout, stderr in files, the exit status in $status
  status=0
  timeout 120 "$build/bsd_bench" "$@" >stdout 2>stderr </dev/null || status=$?
}

# refused WORDS ARGUMENT...: status 2, one sentence with WORDS on stderr, nothing on stdout, no page.
refused() {
  words=$1
  shift
  run "$@"
  if [ "$status" -eq 2 ] && [ ! -s stdout ] && [ "$(wc -l <stderr)" -eq 1 ] &&
    grep -q "^bsd_bench: .*$words" stderr && [ ! -e out ]; then
    good
  else
    bad "bsd_bench $*: status $status, expected 2 and a sentence with '$words'"
  fi
}

# drawn DIRECTORY FIGURE...: exactly these figures are there, whole, and stand in the page.
drawn() {
  directory=$1
  shift
  found=$(find "$directory" -name '*.svg' | sed 's|.*/||; s|\.svg$||' | LC_ALL=C sort | paste -sd ' ' -)
  wanted=$(printf '%s\n' "$@" | LC_ALL=C sort | paste -sd ' ' -)
  if [ "$status" -ne 0 ] || [ "$found" != "$wanted" ]; then
    bad "$directory: status $status, figures '$found', expected '$wanted'"
    return
  fi
  for figure in "$@"; do
    if grep -q "<figure id=\"$figure\">" "$directory/report.html" &&
      tail -n 2 "$directory/$figure.svg" | grep -q '</svg>' && [ -s "$directory/$figure.gp" ] &&
      [ -s "$directory/$figure.dat" ]; then
      good
    else
      bad "$directory: $figure is not whole, or not in the page"
    fi
  done
}

# self_contained PAGE: one document, nothing fetched, no leftovers.
self_contained() {
  if [ "$(grep -c '<!doctype html>' "$1")" -ne 1 ] || [ "$(tail -n 1 "$1")" != '</html>' ]; then
    bad "$1 is not one whole page"
  elif grep -n '<script\|<link\|<img\|<iframe\|@import\|url(' "$1" >stdout; then
    bad "$1 refers to something outside"
  elif sed 's/xmlns\(:xlink\)\{0,1\}="[^"]*"//g' "$1" | grep -n 'https\{0,1\}:' >stdout; then
    bad "$1 has an address"
  elif [ "$(grep -o ' id=["'\''][^"'\'']*' "$1" | sort | uniq -d | wc -l)" -ne 0 ]; then
    bad "$1: names are not unique"
  else
    good
  fi
}

# ---- refusals -----------------------------------------------------------------------------------

mkdir empty fake
printf '#!/bin/sh\nexit 1\n' >fake/gnuplot
chmod +x fake/gnuplot
path=$PATH
timeout=$(command -v timeout)
without() { # DIRECTORY WORDS: PATH holds nothing but DIRECTORY
  status=0
  PATH=$work/$1 "$timeout" 60 "$build/bsd_bench" -l 64 --plot out >stdout 2>stderr </dev/null || status=$?
  PATH=$path
  if [ "$status" -eq 2 ] && [ ! -s stdout ] && [ "$(wc -l <stderr)" -eq 1 ] && grep -q "$2" stderr &&
    [ ! -e out ]; then
    good
  else
    bad "gnuplot from $1: status $status"
  fi
}
without empty 'gnuplot, which could not be started: No such file'
without fake "svg terminal, which this gnuplot does not have"

refused "needs --plot" --from r.json
refused "so --length cannot" --plot out --from r.json -l 64
refused "so --json cannot" --json r2.json --plot out --from r.json
refused "absent.json" --plot out --from absent.json
echo '{"version": 1, "results": [' >cut.json
refused "cut.json, line" --plot out --from cut.json
echo '{"version": 2, "environment": {}, "results": []}' >newer.json
refused "version is not 1" --plot out --from newer.json
echo '{"version": 1, "environment": {}, "results": [{"n": 64}]}' >poor.json
refused "results.0.: .*batch" --plot out --from poor.json
if ! command -v gnuplot >/dev/null 2>&1; then
  echo "no gnuplot: only the refusals were tested; $passed checks passed, $failed failed"
  [ "$failed" -eq 0 ] && exit 77
  exit 1
fi
refused "No such file" -l 64 --plot absent/out
: >file
refused "not a directory" -l 64 --plot file

# ---- one rank -----------------------------------------------------------------------------------

quick='--heads 2 --dim 16 --block 16 -n 3 -w 1'
go() { # OPTION...
  # shellcheck disable=SC2086 # the options are a list of words
  run $quick "$@"
}

run --baseline dense -l 16 -n 1 -w 0
have_cblas=no
[ "$status" -ne 0 ] || have_cblas=yes

go -l 128,256 --density 0.2,0.5 -c --json r.json --plot "it's a report"
drawn "it's a report" predicted time_forward time_backward pattern_1 pattern_2
self_contained "it's a report/report.html"
page="it's a report/report.html"
for words in 'class="verdict good">4 of 4' '<b>Strong scaling</b>: .*<code>--scaling</code> strong' \
  '<b>Bytes between ranks</b>: .*<code>--simulate</code>' 'speed-up against sparsity needs <code>--baseline' 'Half of the 8 predictions' \
  '<dt>TFLOP/s</dt>' 'prefers-color-scheme:dark' 'name="viewport"'; do
  if grep -q "$words" "$page"; then good; else bad "the page has no '$words'"; fi
done
median=$("$build/tests/bench_json" -p r.json fwd.ms)
shown=$(awk -v x="$median" 'BEGIN { printf((x >= 1000 ? "%.0f" : x >= 10 ? "%.1f" : x >= 1 ? "%.2f" : "%.3g"), x) }')
if grep -q "<td>$shown (" "$page"; then good; else bad "the median $median is not in the table as $shown"; fi

cp r.json 'a<b&c.json'
run --plot again --from 'a<b&c.json'
if [ "$status" -eq 0 ] && cmp "$page" again/report.html >stdout 2>stderr; then
  good
else
  bad "the page from saved results is not that of the run"
fi

# A report over an earlier one leaves none of its figures.
printf '0\n0 1\n1 2\n' >'rows<&>.txt'
go -l 48 --pattern 'blocks=csr(rows<&>.txt)' --pass fwd --plot again
drawn again predicted pattern_1
self_contained again/report.html
if grep -q 'csr(rows&lt;&amp;&gt;.txt)' again/report.html && grep -q 'class="verdict">No result' again/report.html
then good; else bad "a name with < and & in the page"; fi

"$build/tests/make_npy" cu.npy i4 4 list:0,33,100,256 || exit 99
go --cu-seqlens cu.npy --causal --pattern w=64,r=2 --json packed.json --plot packed
drawn packed predicted pattern_1
run --plot packed-again --from packed.json
if cmp packed/pattern_1.dat packed-again/pattern_1.dat >stdout 2>stderr; then good; else bad "packed documents"; fi

go -l 256:4K:x4 --preset longnet --pass fwd --plot longnet
drawn longnet predicted time_forward pattern_1

if [ "$have_cblas" = yes ]; then
  go -l 256,512 --density 0.2,0.5 --baseline dense --pass fwd --plot dense
  drawn dense predicted time_forward speedup_forward pattern_1 pattern_2
  if grep -q "title 'dense attention'" dense/time_forward.gp && grep -q '1 / density' dense/speedup_forward.gp
  then good; else bad "the dense baseline is not drawn"; fi
  for type in f32 bf16; do
    run --dtype $type -l 256,512 --density 0.2 --baseline dense --pass fwd -n 1 -w 0 --json $type.json
  done
  run --plot types --from f32.json --from bf16.json
  if grep -q "title 'dense attention, f32'" types/time_forward.gp &&
    grep -q "title 'dense attention, bf16'" types/time_forward.gp
  then good; else bad "dense attention of two types is not two lines"; fi
  go -l 1K,4M --pattern 'blocks=local(0,0)' --pass fwd -n 1 -w 0 --baseline auto --plot memory
  if grep -q 'dense: out of memory ([0-9.]* TiB)' memory/time_forward.svg &&
    grep -q '<td class="bad">OOM</td>' memory/report.html
  then good; else bad "the memory limit is not marked"; fi
fi

# ---- plans and several ranks --------------------------------------------------------------------

go -l 4K --simulate 2,4,64 --pattern 'blocks=local(2,0)+global(1)' --plot plans
drawn plans bytes pattern_1 scaling_strong
go -l 1K --simulate 2,4,8 --scaling weak --pattern w=256 --plot weak-plans
drawn weak-plans bytes pattern_1 scaling_weak
if grep -q "title 'forward (predicted)'" weak-plans/scaling_weak.gp; then good; else bad "predictions look measured"; fi
for series in all-gather 'ring attention' moved; do
  if grep -q "title '$series'" plans/bytes.gp; then good; else bad "bytes without $series"; fi
done

run --transport mpi -l 16 -n 1 -w 0
if [ "$status" -eq 0 ] && command -v "$MPIRUN" >/dev/null 2>&1; then
  status=0
  # shellcheck disable=SC2086 # the options are lists of words
  timeout -k 5 120 "$MPIRUN" $mpi_options -np 4 "$build/bsd_bench" $quick -l 512 --density 0.2 --scaling strong \
    --json strong.json --plot strong >stdout 2>stderr </dev/null || status=$?
  drawn strong scaling_strong bytes pattern_1 predicted
  if grep -q 'In 2 of 2 runs exactly the least' strong/report.html; then good; else bad "bytes in words"; fi
  status=0
  # shellcheck disable=SC2086 # the options are lists of words
  timeout -k 5 120 "$MPIRUN" $mpi_options -np 2 "$build/bsd_bench" $quick -l 512 --pattern w=128 --scaling weak \
    --json weak.json >stdout 2>stderr </dev/null || status=$?
  run --plot both --from strong.json --from weak.json
  if [ -s both/scaling_strong.svg ] && [ -s both/scaling_weak.svg ] && grep -q 'first of 2 runs' both/report.html
  then good; else bad "two files in one report"; fi
fi

echo "$passed checks passed, $failed failed"
[ "$failed" -eq 0 ]
