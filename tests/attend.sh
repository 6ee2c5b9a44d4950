#!/bin/sh
# attend.sh - bsd_attend as a user runs it: right results against the fp64 oracle, the same bytes on
# any number of ranks, one sentence for every bad input, and files that are whole or absent.
#
# Runs from `make check` (builddir, srcdir, MPIRUN set); writes below a temporary directory only.
set -u

srcdir=$(cd "${srcdir:-.}" && pwd)
# shellcheck source=tests/programs.sh
. "$srcdir/tests/programs.sh"
OMPI_MCA_ess_singleton_isolated=1 # one rank without mpirun starts no daemon of its own
export OMPI_MCA_ess_singleton_isolated

make_npy() {
  "$build/tests/make_npy" "$@" || exit 99
}

have_mpi=no
if "$build/bsd_attend" --version | grep -q '^transports:.* mpi' &&
  command -v "$MPIRUN" >/dev/null 2>&1; then
  have_mpi=yes
fi

# attend RANKS ARGUMENT...: stdout, stderr in files, the exit status in $status.
attend() {
  ranks=$1
  shift
  status=0
  if [ "$ranks" = 1 ]; then
    timeout 60 "$build/bsd_attend" "$@" >stdout 2>stderr </dev/null || status=$?
  else
    # shellcheck disable=SC2086 # the options are a list of words
    timeout -k 5 60 "$MPIRUN" $mpi_options -np "$ranks" "$build/bsd_attend" "$@" \
      >stdout 2>stderr </dev/null || status=$?
  fi
}

# ---- right results, the same on any number of ranks ----------------------------------------------

outputs() { # NAME GRADIENT
  echo "$1.o.npy $1.lse.npy"
  [ -z "$2" ] || echo "$1.dq.npy $1.dk.npy $1.dv.npy"
}

# case_of NAME LIMIT GRADIENT ORACLE_OPTIONS PATTERN Q K V ATTEND_OPTIONS...: one rank against the
# oracle, then 2, 3 and 5 ranks against one, byte for byte.
case_of() {
  name=$1 limit=$2 gradient=$3 oracle=$4 pattern=$5 q=$6 k=$7 v=$8
  shift 8
  [ -z "$gradient" ] || set -- "$@" --grad "$gradient"
  # shellcheck disable=SC2086 # the options are a list of words
  "$build/tests/oracle_npy" $oracle ${gradient:+-g $gradient} "$pattern" "$q" "$k" "$v" ref ||
    exit 99
  attend 1 --pattern "$pattern" "$q" "$k" "$v" -o one "$@"
  if [ "$status" -ne 0 ]; then
    bad "$name: status $status"
    return
  fi
  for ours in $(outputs one "$gradient"); do
    if "$build/compare_npy" "$ours" "ref.${ours#one.}" "$limit" >stdout 2>stderr; then
      good
    else
      bad "$name: $ours is not what the oracle says"
    fi
  done
  [ "$have_mpi" = yes ] || return
  for ranks in 2 3 5; do
    attend $ranks --pattern "$pattern" "$q" "$k" "$v" -o many "$@"
    [ "$status" -eq 0 ] || bad "$name: status $status on $ranks ranks"
    for ours in $(outputs one "$gradient"); do
      if cmp "$ours" "many.${ours#one.}" >stdout 2>stderr; then
        good
      else
        bad "$name: $ours differs on $ranks ranks"
      fi
    done
    rm -f many.*
  done
}

make_npy q.npy f4 150,4,16 normal:1
make_npy k.npy f4 150,2,16 normal:2
make_npy v.npy f4 150,2,16 normal:3
make_npy do.npy f4 150,4,16 normal:4
make_npy bq.npy f4 2,70,2,8 normal:5
make_npy bk.npy f4 2,70,2,8 normal:6
make_npy bv.npy f4 2,70,2,8 normal:7
make_npy bdo.npy f4 2,70,2,8 normal:12
make_npy hq.npy f2 100,2,32 normal:8
make_npy hk.npy f2 100,2,32 normal:9
make_npy hv.npy f2 100,2,32 normal:10
make_npy hdo.npy f2 100,2,32 normal:11
make_npy cu4.npy i4 5 list:0,40,40,41,150
make_npy cu8.npy i8 3 list:0,75,150

case_of dense 1e-6 do.npy '' 'blocks=full' q.npy k.npy v.npy
case_of longnet 2e-6 do.npy '-c -B 16' 'w=32;w=128,r=2' q.npy k.npy v.npy --causal --block 16
case_of documents 2e-6 do.npy '-c -B 16 -s cu4.npy' 'blocks=local(1,1)+global(1)' \
  q.npy k.npy v.npy --causal --block 16 --cu-seqlens cu4.npy
case_of documents8 2e-6 '' '-B 32 -s cu8.npy' 'w=64' q.npy k.npy v.npy \
  --block 32 --cu-seqlens cu8.npy
case_of zigzag 2e-6 do.npy '-c -B 16' 'blocks=dilated(1:2:4)' q.npy k.npy v.npy \
  --causal --block 16 --layout zigzag
case_of fragments 2e-6 do.npy '-B 16' 'blocks=strided(1:2,rows=3)' q.npy k.npy v.npy \
  --block 16 --layout dilated:1:3
case_of batch 1e-6 '' '-x 0.5' 'w=32' bq.npy bk.npy bv.npy --scale 0.5
case_of half 1e-3 hdo.npy '-c -B 16' 'blocks=random(2,7)' hq.npy hk.npy hv.npy \
  --causal --block 16 --layout zigzag
case_of bfloat 1e-2 bdo.npy '-b -B 16' 'w=64' bq.npy bk.npy bv.npy \
  --dtype bf16 --block 16 --layout dilated:2:8
# Offsets 0 and 1 of 75: most queries are in no branch.
case_of empty 1e-6 '' '-B 16' 'w=150,r=75,offset=mod' q.npy k.npy v.npy --block 16

# The same tokens in version 2 of the format: same bytes out.
attend 1 --pattern w=32 q.npy k.npy v.npy -o one
{
  printf '\223NUMPY\002\000'
  tail -c +9 q.npy | head -c 2
  printf '\000\000'
  tail -c +11 q.npy
} >q2.npy
attend 1 --pattern w=32 q2.npy k.npy v.npy -o two
if [ "$status" -eq 0 ] && cmp one.o.npy two.o.npy; then
  good
else
  bad "a version 2 file gives another result"
fi

# ---- --stats, --help, --version ------------------------------------------------------------------

attend 1 --stats --pattern ' w = 32 ; blocks = local( 1 , 1 ) ' q.npy k.npy v.npy -o one --causal
line='^{"n":150,"batch":1,"heads":4,"kv_heads":2,"dim":16,"dtype":"f32","causal":true,'
line=$line'"pattern":"w=32;blocks=local(1,1)","block":64,"density":[0-9.e-]*,'
line=$line'"active_blocks":[0-9]*,'
line=$line'"ranks":1,"backend":"cpu","kernel":"cpu","transport":"self","layout":"[a-z0-9:]*",'
line=$line'"comm":{"fwd":{"bytes_moved":null,"bytes_lower_bound":0,"bytes_allgather":0,'
line=$line'"exposed_ms":null,'
line=$line'"overlap":null},"bwd":{.*}},"imbalance":1\.0,"plan_ms":[0-9.e-]*}$'
if [ "$status" -eq 0 ] && [ "$(wc -l <stdout)" -eq 1 ] && grep -q "$line" stdout; then
  good
else
  bad "--stats prints another line"
fi
for option in --help --version; do
  attend 1 $option
  if [ "$status" -eq 0 ] && [ -s stdout ] && [ ! -s stderr ]; then
    good
  else
    bad "$option does not print on stdout alone and end with 0"
  fi
done
attend 1 --help
for option in pattern output grad causal cu-seqlens scale dtype stats backend kernel transport \
  layout block tf32 timeout help version; do
  if grep -q -e "--$option" stdout; then
    good
  else
    bad "--help does not tell of --$option"
  fi
done

# ---- bad input: one sentence, status 2, nothing written ------------------------------------------

# Files of an earlier run must stay as they are.
mkdir out
for name in o lse dq dk dv; do
  echo old >out/x.$name.npy
done

# refused RANKS WORDS ARGUMENT...: stderr is one line that holds WORDS.
refused() {
  ranks=$1 words=$2
  shift 2
  [ "$ranks" = 1 ] || [ "$have_mpi" = yes ] || return
  attend "$ranks" "$@"
  lines=$(grep -c '^bsd_attend: ' stderr)
  if [ "$status" -ne 2 ]; then
    bad "status $status in place of 2: $*"
  elif [ "$lines" -ne 1 ] || ! grep -q -F -e "$words" stderr; then
    bad "not one sentence with '$words': $*"
  elif [ -s stdout ]; then
    bad "something on stdout: $*"
  elif [ "$ranks" = 1 ] && [ "$(wc -l <stderr)" -ne 1 ]; then
    bad "more than one line on stderr: $*"
  else
    good
  fi
  for name in o lse dq dk dv; do
    [ "$(cat out/x.$name.npy)" = old ] || bad "out/x.$name.npy was touched: $*"
  done
  [ "$(ls out | wc -l)" -eq 5 ] || bad "files were left in out: $*"
}

make_npy i4.npy i4 150,4,16 ramp
make_npy flat.npy f4 600,16 normal:1
make_npy short.npy f4 149,4,16 normal:1
make_npy wide.npy f4 10,1,257 normal:1
make_npy three.npy f4 150,3,16 normal:1
make_npy none.npy f4 0,4,16 normal:1
make_npy cu_bad.npy i4 3 list:0,99,98
make_npy cu_end.npy i4 2 list:0,149
make_npy cu_first.npy i8 2 list:1,150
head -c 1000 q.npy >cut.npy
head -c 9 q.npy >stub.npy
sed 's/False/True /' q.npy >fortran.npy
sed 's/<f4/>f4/' q.npy >big.npy
echo hello >text.npy
mkdir directory.npy
mkdir -p taken/x.o.npy

files='q.npy k.npy v.npy'
for ranks in 1 2; do
  # shellcheck disable=SC2086 # the files are a list of words
  {
    refused $ranks --pattern $files -o out/x
    refused $ranks '-o is missing' --pattern w=32 $files
    refused $ranks 'nowhere.npy: cannot be opened' --pattern w=32 nowhere.npy k.npy v.npy -o out/x
    refused $ranks 'its shape is (149, 4, 16), expected (150, 4, 16)' --pattern w=32 $files \
      --grad short.npy -o out/x
    refused $ranks 'column 3' --pattern 'w=' $files -o out/x
    refused $ranks 'heads' --pattern 'combine=heads|w=1;w=2;w=3;w=4;w=5' $files -o out/x
  }
done
# shellcheck disable=SC2086
{
  refused 1 'three: q.npy k.npy v.npy' --pattern w=32 q.npy k.npy -o out/x
  refused 1 'three: q.npy k.npy v.npy' --pattern w=32 $files v.npy -o out/x
  refused 1 "-o is 'out/'" --pattern w=32 $files -o out/
  refused 1 '--unknown' --pattern w=32 $files -o out/x --unknown
  refused 1 'needs a value' $files -o out/x --pattern
  refused 1 'takes no value' --pattern w=32 $files -o out/x --causal=yes
  refused 1 '--block is 48' --pattern w=32 $files -o out/x --block 48
  refused 1 "--backend is 'gpu'" --pattern w=32 $files -o out/x --backend gpu
  refused 1 "--layout is 'ring'" --pattern w=32 $files -o out/x --layout ring
  refused 1 '--scale is 0' --pattern w=32 $files -o out/x --scale 0
  refused 1 "--scale is 'nan'" --pattern w=32 $files -o out/x --scale nan
  refused 1 '--timeout is -1' --pattern w=32 $files -o out/x -T -1
  refused 1 "--dtype is 'f64'" --pattern w=32 $files -o out/x --dtype f64
  refused 1 'expected f2 for --dtype f16' --pattern w=32 $files -o out/x --dtype f16
  refused 1 'expected f4 for --dtype bf16' --pattern w=32 hq.npy hk.npy hv.npy -o out/x --dtype bf16
  refused 1 'its dtype is i4, expected f4 or f2' --pattern w=32 i4.npy i4.npy i4.npy -o out/x
  refused 1 'its dtype is f2, expected f4' --pattern w=32 q.npy hk.npy v.npy -o out/x
  refused 1 'its shape is (600, 16)' --pattern w=32 flat.npy k.npy v.npy -o out/x
  refused 1 'at most 256' --pattern w=32 wide.npy wide.npy wide.npy -o out/x
  refused 1 'no dimension of 0' --pattern w=32 none.npy none.npy none.npy -o out/x
  refused 1 'divides its 4' --pattern w=32 q.npy three.npy three.npy -o out/x
  refused 1 'as in k.npy' --pattern w=32 q.npy k.npy q.npy -o out/x
  refused 1 'cut.npy: holds' --pattern w=32 cut.npy k.npy v.npy -o out/x
  refused 1 'stub.npy: is not a .npy file' --pattern w=32 stub.npy k.npy v.npy -o out/x
  refused 1 'text.npy: is not a .npy file' --pattern w=32 q.npy text.npy v.npy -o out/x
  refused 1 'Fortran' --pattern w=32 fortran.npy k.npy v.npy -o out/x
  refused 1 "'>f4'" --pattern w=32 big.npy k.npy v.npy -o out/x
  refused 1 'not a regular file' --pattern w=32 directory.npy k.npy v.npy -o out/x
  refused 1 'cu_bad.npy: its entry 2 is 98' --pattern w=32 $files -o out/x --cu-seqlens cu_bad.npy
  refused 1 'its last offset is 149' --pattern w=32 $files -o out/x --cu-seqlens cu_end.npy
  refused 1 'its first offset is 1' --pattern w=32 $files -o out/x --cu-seqlens cu_first.npy
  refused 1 'expected i4 or i8' --pattern w=32 $files -o out/x --cu-seqlens q.npy
  refused 1 'one batch entry' --pattern w=32 bq.npy bk.npy bv.npy -o out/x --cu-seqlens cu8.npy
  refused 1 'missing/x.o.npy: cannot be created' --pattern w=32 $files -o missing/x
  refused 1 'taken/x.o.npy: is not a regular file' --pattern w=32 $files -o taken/x
  refused 1 'nowhere.csr' --pattern 'blocks=csr(nowhere.csr)' $files -o out/x
  refused 2 'self' --pattern w=32 $files -o out/x --transport self
}
cp q.npy same.o.npy
attend 1 --pattern w=32 same.o.npy k.npy v.npy -o same
if [ "$status" -eq 2 ] && cmp q.npy same.o.npy; then
  good
else
  bad "an input was replaced by an output"
fi

# ---- a failed run leaves nothing behind ----------------------------------------------------------

# A limit on the size of files stands for a full disk: 32 MiB, beyond what MPI itself needs, for an
# output of 64 MiB. The input is a file with a hole.
make_npy huge.npy f4 16,2,512 value:0
sed 's/(16, 2, 512), }/(65536, 4, 64), }/' huge.npy | head -c 128 >hole.npy
truncate -s 67108992 hole.npy
(
  ulimit -f 65536
  attend 1 --pattern w=32 hole.npy hole.npy hole.npy -o out/x
  [ "$status" -eq 1 ] && grep -q 'out/x.o.npy: cannot get its space: File too large' stderr
)
if [ $? -eq 0 ] && [ "$(ls out | wc -l)" -eq 5 ] && [ "$(cat out/x.o.npy)" = old ]; then
  good
else
  bad "no room for the outputs: not status 1 and nothing written"
fi

if [ -e /dev/full ]; then
  status=0
  "$build/bsd_attend" --help >/dev/full 2>stderr || status=$?
  if [ "$status" -eq 1 ]; then
    good
  else
    bad "--help into a full device gives status $status"
  fi
fi

# whole_or_absent WHAT: of the five outputs out/y.* all are there and whole, or none, and nothing
# else.
make_npy long.npy f4 8192,2,64 normal:1
size=$(wc -c <long.npy)
whole_or_absent() {
  count=$(ls out | grep -c '^y')
  if [ "$count" -eq 0 ]; then
    good
  elif [ "$count" -eq 5 ] && [ "$(wc -c <out/y.o.npy)" -eq "$size" ] &&
    ! ls out | grep -q part; then
    good
  else
    bad "$1 left $(ls out | grep '^y' | tr '\n' ' ')"
  fi
  rm -f out/y.*
}
for moment in 0.2 0.5 1.1; do
  "$build/bsd_attend" --pattern blocks=full long.npy long.npy long.npy --grad long.npy -o out/y \
    >stdout 2>stderr </dev/null &
  process=$!
  sleep $moment
  kill -TERM $process 2>/dev/null
  wait $process 2>/dev/null
  whole_or_absent "a signal after $moment s"
done

# Only under Open MPI is the rank in this variable.
if [ "$have_mpi" = yes ] && [ -n "$mpi_options" ]; then
  cat >killed.sh <<'END'
if [ "$OMPI_COMM_WORLD_RANK" = "$victim" ]; then
  "$@" &
  process=$!
  # Its end in MPI's own start would be the launcher's matter: the outputs are begun after that.
  until ls out/y.*part* >/dev/null 2>&1 || ! kill -0 $process 2>/dev/null; do
    sleep 0.02
  done
  sleep $delay
  kill -KILL $process
  wait $process
else
  exec "$@"
fi
END
  export victim delay
  while read -r victim delay recovery; do
    # shellcheck disable=SC2086 # the options are a list of words
    timeout -k 5 120 "$MPIRUN" $mpi_options $recovery -np 3 sh killed.sh "$build/bsd_attend" \
      -T 2 --pattern blocks=full long.npy long.npy long.npy --grad long.npy -o out/y \
      >stdout 2>stderr </dev/null
    [ $? -ne 124 ] || bad "rank $victim was killed after $delay s and the others never ended"
    whole_or_absent "rank $victim, killed $recovery after $delay s,"
  done <<END
0 0.1
0 0 --enable-recovery
0 0.3 --enable-recovery
1 0 --enable-recovery
1 0.3 --enable-recovery
END

  # What one rank alone finds is told by rank 0, and all return 2.
  mkdir -p elsewhere
  for name in q k; do
    cp $name.npy elsewhere/
  done
  # shellcheck disable=SC2086
  timeout -k 5 30 "$MPIRUN" $mpi_options \
    -np 1 --wdir "$work" "$build/bsd_attend" --pattern w=32 q.npy k.npy v.npy -o "$work/out/y" : \
    -np 1 --wdir "$work/elsewhere" "$build/bsd_attend" --pattern w=32 q.npy k.npy v.npy \
    -o "$work/out/y" >stdout 2>stderr </dev/null
  if [ $? -eq 2 ] && [ "$(grep '^bsd_attend:' stderr)" = \
    'bsd_attend: v.npy: cannot be opened: No such file or directory' ]; then
    good
  else
    bad "an error of rank 1 alone is not told once, with status 2"
  fi
  whole_or_absent 'an error of rank 1 alone'
fi

echo "attend: $passed passed, $failed failed$([ "$have_mpi" = yes ] || echo ', no ranks: no MPI')"
[ "$failed" -eq 0 ]
