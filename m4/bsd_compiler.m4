# bsd_compiler.m4 - the project's compiler flags, warnings as errors, sanitizers.

# BSD_COMPILER_FLAGS: sets BSD_CFLAGS (every C file of the project) and BSD_HIDDEN_CFLAGS (the library).
AC_DEFUN([BSD_COMPILER_FLAGS], [
AC_ARG_ENABLE([werror],
  [AS_HELP_STRING([--enable-werror], [compiler warnings are errors (as in CI)])],
  [bsd_werror=$enableval], [bsd_werror=no])

BSD_CFLAGS=
dnl gnu11 and contraction: without fused multiply-add the CPU kernels are half as fast.
m4_foreach_w([bsd_flag], [-std=gnu11 -ffp-contract=fast -Wall -Wextra -Wstrict-prototypes -Wmissing-prototypes],
  [BSD_COMPILER_FLAG([BSD_CFLAGS], bsd_flag)])
dnl Without OpenMP its pragmas, and what only they use, mean nothing.
AS_IF([test "x$OPENMP_CFLAGS" = x],
  [BSD_CFLAGS="$BSD_CFLAGS -Wno-unknown-pragmas -Wno-unused-parameter -Wno-unused-variable"])
AS_IF([test "x$bsd_werror" = xyes], [BSD_CFLAGS="$BSD_CFLAGS -Werror"])
BSD_HIDDEN_CFLAGS=
BSD_COMPILER_FLAG([BSD_HIDDEN_CFLAGS], [-fvisibility=hidden])
AC_SUBST([BSD_CFLAGS])
AC_SUBST([BSD_HIDDEN_CFLAGS])
])

# BSD_COMPILER_FLAG(VARIABLE, FLAG): appends FLAG to VARIABLE if the compiler takes it.
AC_DEFUN([BSD_COMPILER_FLAG], [
AS_VAR_PUSHDEF([bsd_cache], [bsd_cv_cc_flag_$2])
AC_CACHE_CHECK([whether $CC accepts $2], [bsd_cache], [
  bsd_saved_cflags=$CFLAGS
  CFLAGS="$CFLAGS -Werror $2"
  AC_COMPILE_IFELSE([AC_LANG_PROGRAM()],
    [AS_VAR_SET([bsd_cache], [yes])], [AS_VAR_SET([bsd_cache], [no])])
  CFLAGS=$bsd_saved_cflags
])
AS_VAR_IF([bsd_cache], [yes], [$1="$$1 $2"])
AS_VAR_POPDEF([bsd_cache])
])

# BSD_SANITIZERS: --enable-sanitizers (address and undefined behaviour), --enable-tsan (threads) or
# --enable-fuzzers (conditional BSD_WITH_FUZZERS).
AC_DEFUN([BSD_SANITIZERS], [
AC_ARG_ENABLE([sanitizers],
  [AS_HELP_STRING([--enable-sanitizers], [build with address and undefined behaviour sanitizers])],
  [], [enable_sanitizers=no])
AC_ARG_ENABLE([tsan],
  [AS_HELP_STRING([--enable-tsan], [build with the thread sanitizer (with CC=clang, whose OpenMP
    library it can see into)])],
  [], [enable_tsan=no])
AS_IF([test "x$enable_sanitizers" = xyes && test "x$enable_tsan" = xyes],
  [AC_MSG_ERROR([--enable-sanitizers and --enable-tsan exclude each other])])
bsd_sanitizers=none
bsd_flags=
AS_IF([test "x$enable_sanitizers" = xyes], [
  bsd_sanitizers="address undefined"
  bsd_flags="-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer"])
AS_IF([test "x$enable_tsan" = xyes], [
  bsd_sanitizers=thread
  bsd_flags="-fsanitize=thread -fno-omit-frame-pointer"])
AC_ARG_ENABLE([fuzzers],
  [AS_HELP_STRING([--enable-fuzzers], [build tests/fuzz, run by make fuzz (needs CC=clang; with the
    address and undefined behaviour sanitizers)])],
  [], [enable_fuzzers=no])
AS_IF([test "x$enable_fuzzers" = xyes], [
  bsd_sanitizers="fuzzer address undefined"
  bsd_flags="-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer"])
AM_CONDITIONAL([BSD_WITH_FUZZERS], [test "x$enable_fuzzers" = xyes])
AS_IF([test "x$bsd_sanitizers" != xnone], [
  bsd_saved_cflags=$CFLAGS
  CFLAGS="$CFLAGS $bsd_flags"
  AC_LINK_IFELSE([AC_LANG_PROGRAM()], [],
    [AC_MSG_ERROR([$CC cannot link with $bsd_flags])])
  CFLAGS=$bsd_saved_cflags
  BSD_CFLAGS="$BSD_CFLAGS $bsd_flags"])
AC_SUBST([BSD_SANITIZER_FLAGS], [$bsd_flags])
])
