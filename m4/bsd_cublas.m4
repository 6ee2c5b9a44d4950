# bsd_cublas.m4 - cuBLAS, used only by bsd_bench for the dense baseline on a GPU (BSD_CUDA comes first).
#
# The program loads the library when it wants it: only the header is needed here.
# Defines HAVE_CUBLAS and CUBLAS_DIRECTORY (where the toolkit has the library), conditional
# BSD_WITH_CUBLAS.

AC_DEFUN([BSD_CUBLAS], [
AC_ARG_WITH([cublas],
  [AS_HELP_STRING([--with-cublas], [cuBLAS for bsd_bench's dense baseline on a GPU (default: where CUDA is
    built and the toolkit has it)])],
  [], [with_cublas=auto])
bsd_cublas=no
bsd_cublas_summary="no (bsd_bench has no dense baseline on a GPU)"
AS_IF([test "x$with_cublas" != xno && test "x$bsd_cuda" = xyes], [
  AC_MSG_CHECKING([for cublasGemmStridedBatchedEx in cublas_v2.h])
  bsd_saved_cppflags=$CPPFLAGS
  CPPFLAGS="$CPPFLAGS $CUDA_CFLAGS"
  AC_COMPILE_IFELSE([AC_LANG_PROGRAM([[#include <cublas_v2.h>]],
    [[return cublasGemmStridedBatchedEx == 0 || CUBLAS_COMPUTE_32F == 0;]])], [bsd_cublas=yes])
  CPPFLAGS=$bsd_saved_cppflags
  AC_MSG_RESULT([$bsd_cublas])])
AS_IF([test "x$bsd_cublas" = xyes],
  [bsd_cublas_summary="yes (loaded when it is wanted)"
   AC_DEFINE([HAVE_CUBLAS], [1], [bsd_bench has a dense baseline on a GPU])
   AC_DEFINE_UNQUOTED([CUBLAS_DIRECTORY], ["$bsd_cuda_home/lib64"], [where the toolkit has cuBLAS])],
  [test "x$with_cublas" != xauto && test "x$with_cublas" != xno],
  [AC_MSG_ERROR([--with-cublas: cublas_v2.h of cuBLAS 11 or later was not found beside CUDA])])
AM_CONDITIONAL([BSD_WITH_CUBLAS], [test "x$bsd_cublas" = xyes])
])
