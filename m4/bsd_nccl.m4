# bsd_nccl.m4 - NCCL, the transport between GPUs; needs CUDA (BSD_CUDA comes first).
#
# Sets NCCL_CFLAGS, NCCL_LIBS, defines HAVE_NCCL, conditional BSD_WITH_NCCL.

AC_DEFUN([BSD_NCCL], [
AC_ARG_WITH([nccl],
  [AS_HELP_STRING([--with-nccl@<:@=PATH@:>@], [NCCL transport, from PATH/include and PATH/lib (default:
    where found, if CUDA is built)])],
  [], [with_nccl=auto])
bsd_nccl=no
bsd_nccl_summary="no"
NCCL_CFLAGS= NCCL_LIBS=
AS_IF([test "x$with_nccl" != xno && test "x$bsd_cuda" != xyes], [
  AS_IF([test "x$with_nccl" != xauto],
    [AC_MSG_ERROR([--with-nccl=$with_nccl: NCCL needs CUDA, which is not built: $bsd_cuda_summary])])
  bsd_nccl_summary="no (needs CUDA)"
  with_nccl=no])
AS_IF([test "x$with_nccl" != xno], [
  AS_CASE([$with_nccl],
    [auto|yes], [bsd_places="- ${NCCL_HOME:--} $bsd_cuda_home"],
    [bsd_places=$with_nccl])
  bsd_saved_libs=$LIBS
  bsd_saved_cppflags=$CPPFLAGS
  for bsd_place in $bsd_places
  do
    for bsd_lib in lib lib64
    do
      AS_CASE([$bsd_place],
        [-], [NCCL_CFLAGS= NCCL_LIBS=-lnccl],
        [NCCL_CFLAGS="-isystem $bsd_place/include"
         NCCL_LIBS="-L$bsd_place/$bsd_lib -R$bsd_place/$bsd_lib -lnccl"])
      bsd_link=`AS_ECHO(["$NCCL_LIBS"]) | $SED 's/-R/-Wl,-rpath,/'`
      AC_MSG_CHECKING([for ncclCommInitRankConfig in $NCCL_LIBS])
      CPPFLAGS="$bsd_saved_cppflags $NCCL_CFLAGS $CUDA_CFLAGS"
      LIBS="$bsd_link $CUDA_LIBS $bsd_saved_libs"
      AC_LINK_IFELSE([AC_LANG_PROGRAM([[#include <nccl.h>]],
        [[ncclComm_t c; ncclUniqueId id; ncclConfig_t k = NCCL_CONFIG_INITIALIZER;
          return ncclCommInitRankConfig(&c, 1, id, 0, &k);]])], [bsd_nccl=yes])
      AC_MSG_RESULT([$bsd_nccl])
      AS_IF([test "x$bsd_nccl" = xyes], [break 2])
    done
  done
  LIBS=$bsd_saved_libs
  CPPFLAGS=$bsd_saved_cppflags
  AS_IF([test "x$bsd_nccl" = xyes],
    [bsd_nccl_summary="yes ($NCCL_LIBS)"
     AC_DEFINE([HAVE_NCCL], [1], [the NCCL transport is built])],
    [NCCL_CFLAGS= NCCL_LIBS=
     bsd_nccl_summary="no (nccl.h and libnccl 2.14 or later were not found)"
     AS_IF([test "x$with_nccl" != xauto],
       [AC_MSG_ERROR([--with-nccl=$with_nccl: no program could be linked with NCCL 2.14 or later])])])
])
AC_SUBST([NCCL_CFLAGS])
AC_SUBST([NCCL_LIBS])
AM_CONDITIONAL([BSD_WITH_NCCL], [test "x$bsd_nccl" = xyes])
])
