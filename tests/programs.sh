# counting.sh - what scripts that test a program count with; read by them, not run. stdout and stderr are files of
# the program's last run, in the current folder.
# shellcheck shell=sh disable=SC2034 # the counts are read by who reads this

passed=0 failed=0
good() {
  passed=$((passed + 1))
}
bad() { # SENTENCE
  failed=$((failed + 1))
  echo "FAIL: $1"
  sed 's/^/    /' stdout stderr 2>/dev/null | head -20
}
