# bsd_blas.m4 - CBLAS, used only by bsd_bench for the dense baseline on the CPU.
#
# Sets CBLAS_CFLAGS, CBLAS_LIBS, defines HAVE_CBLAS, conditional BSD_WITH_CBLAS.

AC_DEFUN([BSD_BLAS], [
AC_ARG_WITH([cblas],
  [AS_HELP_STRING([--with-cblas@<:@=LIBS@:>@], [CBLAS for bsd_bench's dense baseline; LIBS are linker
    flags such as "-lopenblas" (default: where found)])],
  [], [with_cblas=auto])
bsd_blas=no
bsd_blas_summary="no (bsd_bench has no dense baseline on the CPU)"
AS_IF([test "x$with_cblas" != xno], [
  AS_CASE([$with_cblas],
    [auto|yes], [
      PKG_CHECK_MODULES([CBLAS], [openblas], [], [CBLAS_CFLAGS= CBLAS_LIBS=])
      bsd_candidates="'$CBLAS_LIBS' -lopenblas -lcblas '-lcblas -lblas' -lblas"],
    [CBLAS_CFLAGS= bsd_candidates="'$with_cblas'"])
  bsd_saved_libs=$LIBS
  bsd_saved_cppflags=$CPPFLAGS
  CPPFLAGS="$CPPFLAGS $CBLAS_CFLAGS"
  eval "set x $bsd_candidates"
  shift
  for bsd_libs
  do
    AS_IF([test "x$bsd_libs" = x], [continue])
    AC_MSG_CHECKING([for cblas_sgemm in $bsd_libs])
    LIBS="$bsd_libs $bsd_saved_libs"
    AC_LINK_IFELSE([AC_LANG_PROGRAM([[#include <cblas.h>]], [[
      float x = 1;
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, 1, 1, 1, x, &x, 1, &x, 1, x, &x, 1);]])],
      [bsd_blas=yes])
    AC_MSG_RESULT([$bsd_blas])
    AS_IF([test "x$bsd_blas" = xyes], [break])
  done
  LIBS=$bsd_saved_libs
  CPPFLAGS=$bsd_saved_cppflags
  AS_IF([test "x$bsd_blas" = xyes],
    [CBLAS_LIBS=$bsd_libs
     bsd_blas_summary="yes ($CBLAS_LIBS)"
     AC_DEFINE([HAVE_CBLAS], [1], [CBLAS is there])],
    [CBLAS_CFLAGS= CBLAS_LIBS=
     AS_IF([test "x$with_cblas" != xauto],
       [AC_MSG_ERROR([--with-cblas=$with_cblas: no <cblas.h> with cblas_sgemm could be linked])])])
])
AC_SUBST([CBLAS_CFLAGS])
AC_SUBST([CBLAS_LIBS])
AM_CONDITIONAL([BSD_WITH_CBLAS], [test "x$bsd_blas" = xyes])
])
