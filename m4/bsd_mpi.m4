# bsd_mpi.m4 - MPI, found through its compiler wrapper or pkg-config; plain CC compiles everything.
#
# Sets MPI_CFLAGS, MPI_LIBS, MPIRUN, defines HAVE_MPI, conditional BSD_WITH_MPI.

AC_DEFUN([BSD_MPI], [
AC_ARG_WITH([mpi],
  [AS_HELP_STRING([--with-mpi@<:@=PATH@:>@], [MPI transport, from PATH/bin/mpicc or the mpicc in the
    search path (default: where found)])],
  [], [with_mpi=auto])
AC_ARG_VAR([MPICC], [MPI's compiler wrapper, asked only for its flags])
AC_ARG_VAR([MPIRUN], [MPI's launcher, used by the tests])
bsd_mpi=no
bsd_mpi_summary="no (one rank only)"
AS_CASE([$with_mpi],
  [no], [],
  [auto|yes], [bsd_mpi_path=$PATH],
  [AS_IF([test -d "$with_mpi"], [],
     [AC_MSG_ERROR([--with-mpi=$with_mpi: there is no such directory])])
   bsd_mpi_path=$with_mpi/bin])
AS_IF([test "x$with_mpi" != xno], [
  AC_PATH_PROGS([MPICC], [mpicc], [], [$bsd_mpi_path])
  AC_PATH_PROGS([MPIRUN], [mpirun mpiexec], [], [$bsd_mpi_path])
  BSD_MPI_FLAGS
  BSD_MPI_TRY_LINK
  AS_IF([test "x$bsd_mpi" = xyes],
    [BSD_MPI_CUDA_AWARE
     bsd_mpi_summary="yes (${MPICC:-pkg-config}; launcher ${MPIRUN:-none: tests over ranks are skipped})"
     AC_DEFINE([HAVE_MPI], [1], [the MPI transport is built])],
    [MPI_CFLAGS= MPI_LIBS=
     AS_IF([test "x$with_mpi" != xauto],
       [AC_MSG_ERROR([--with-mpi=$with_mpi: no MPI program could be linked (mpicc: ${MPICC:-none found}; Debian and Ubuntu: apt-get install libopenmpi-dev)])])])
])
AC_SUBST([MPI_CFLAGS])
AC_SUBST([MPI_LIBS])
AM_CONDITIONAL([BSD_WITH_MPI], [test "x$bsd_mpi" = xyes])
])

# BSD_MPI_CUDA_AWARE: whether MPI can be asked if it takes device memory (Open MPI's mpi-ext.h, MPICH's
# mpi.h). Defines HAVE_MPI_EXT_H, HAVE_MPIX_QUERY_CUDA_SUPPORT.
AC_DEFUN([BSD_MPI_CUDA_AWARE], [
bsd_saved_libs=$LIBS
bsd_saved_cppflags=$CPPFLAGS
CPPFLAGS="$CPPFLAGS $MPI_CFLAGS"
LIBS="$MPI_LIBS $LIBS"
AC_MSG_CHECKING([for mpi-ext.h])
AC_COMPILE_IFELSE([AC_LANG_PROGRAM([[#include <mpi.h>
#include <mpi-ext.h>]])],
  [AC_MSG_RESULT([yes])
   AC_DEFINE([HAVE_MPI_EXT_H], [1], [MPI has extensions in mpi-ext.h])
   bsd_mpi_ext="#include <mpi-ext.h>"],
  [AC_MSG_RESULT([no])
   bsd_mpi_ext=])
AC_MSG_CHECKING([for MPIX_Query_cuda_support])
AC_LINK_IFELSE([AC_LANG_PROGRAM([[#include <mpi.h>
$bsd_mpi_ext]], [[return MPIX_Query_cuda_support();]])],
  [AC_MSG_RESULT([yes])
   AC_DEFINE([HAVE_MPIX_QUERY_CUDA_SUPPORT], [1], [MPI says whether it is CUDA-aware])],
  [AC_MSG_RESULT([no])])
LIBS=$bsd_saved_libs
CPPFLAGS=$bsd_saved_cppflags
])

# BSD_MPI_FLAGS: the wrapper's own answer (Open MPI's --showme, MPICH's -show), else pkg-config's.
AC_DEFUN([BSD_MPI_FLAGS], [
AS_IF([test "x$MPICC" != x && MPI_CFLAGS=`"$MPICC" --showme:compile 2>/dev/null`],
  [MPI_LIBS=`"$MPICC" --showme:link`],
  [test "x$MPICC" != x && bsd_show=`"$MPICC" -show 2>/dev/null`],
  [dnl The first word is the compiler; the rest serves for compiling and for linking.
   MPI_CFLAGS=`AS_ECHO(["$bsd_show"]) | $SED 's/^@<:@^ @:>@* *//; s/-Wl,@<:@^ @:>@*//g; s/ -l@<:@^ @:>@*//g; s/ -L@<:@^ @:>@*//g'`
   MPI_LIBS=`AS_ECHO(["$bsd_show"]) | $SED 's/^@<:@^ @:>@* *//'`],
  [PKG_CHECK_MODULES([MPI], [ompi-c], [],
     [PKG_CHECK_MODULES([MPI], [mpich], [], [MPI_CFLAGS= MPI_LIBS=])])])
])

# BSD_MPI_TRY_LINK: bsd_mpi=yes if MPI_CFLAGS and MPI_LIBS make a program.
AC_DEFUN([BSD_MPI_TRY_LINK], [
AC_MSG_CHECKING([for MPI_Init in $MPI_LIBS])
bsd_saved_libs=$LIBS
bsd_saved_cppflags=$CPPFLAGS
CPPFLAGS="$CPPFLAGS $MPI_CFLAGS"
LIBS="$MPI_LIBS $LIBS"
AC_LINK_IFELSE([AC_LANG_PROGRAM([[#include <mpi.h>]], [[MPI_Init(0, 0);]])], [bsd_mpi=yes])
LIBS=$bsd_saved_libs
CPPFLAGS=$bsd_saved_cppflags
AC_MSG_RESULT([$bsd_mpi])
])
