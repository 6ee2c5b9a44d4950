# bsd_cuda.m4 - the CUDA compiler, its runtime library and the GPU architectures it can build.
#
# Sets NVCC, CUDA_CFLAGS, CUDA_LIBS and three lists of -gencode flags, one per folder of kernels/cuda:
#   NVCC_GENCODE_ALL   simt/ and what lies in kernels/cuda itself: every architecture asked for
#   NVCC_GENCODE_SM80  sm80/: machine code for sm_80 and PTX, which later GPUs compile when they load it
#   NVCC_GENCODE_SM90  sm90/: machine code for sm_90a alone
# Defines HAVE_CUDA, HAVE_SM80, HAVE_SM90; conditionals BSD_WITH_CUDA, BSD_WITH_SM80, BSD_WITH_SM90.

AC_DEFUN([BSD_CUDA], [
AC_ARG_WITH([cuda],
  [AS_HELP_STRING([--with-cuda@<:@=PATH@:>@], [CUDA kernels, from the toolkit in PATH (default: where
    found: nvcc in the search path, CUDA_HOME, /usr/local/cuda)])],
  [], [with_cuda=auto])
AC_ARG_WITH([cuda-arch],
  [AS_HELP_STRING([--with-cuda-arch=LIST], [GPU architectures, e.g. "80 90a" (default: all that nvcc
    can build of 61 75 80 86 89 90a 100 120)])],
  [], [with_cuda_arch=auto])
AC_ARG_VAR([NVCC], [CUDA's compiler])
AC_ARG_VAR([NVCCFLAGS], [further flags for NVCC])
bsd_cuda=no
bsd_cuda_summary="no (CPU only)"
CUDA_CFLAGS= CUDA_LIBS=
NVCC_GENCODE_ALL= NVCC_GENCODE_SM80= NVCC_GENCODE_SM90= NVCC_COMPRESS=

AS_IF([test "x$with_cuda" != xno], [
  AS_CASE([$with_cuda],
    [auto|yes], [bsd_cuda_path=$PATH$PATH_SEPARATOR${CUDA_HOME:-/usr/local/cuda}/bin$PATH_SEPARATOR/usr/local/cuda/bin],
    [bsd_cuda_path=$with_cuda/bin])
  AC_PATH_PROG([NVCC], [nvcc], [], [$bsd_cuda_path])
  AS_IF([test "x$NVCC" = x],
    [AS_IF([test "x$with_cuda" != xauto],
       [AC_MSG_ERROR([--with-cuda=$with_cuda: no nvcc in $bsd_cuda_path])])
     bsd_cuda_summary="no (nvcc was not found; CPU only)"],
    [BSD_CUDA_RUNTIME
     AS_IF([test "x$bsd_cuda" = xyes], [BSD_CUDA_ARCHITECTURES],
       [AS_IF([test "x$with_cuda" != xauto],
          [AC_MSG_ERROR([--with-cuda=$with_cuda: no program could be linked with the CUDA runtime of $bsd_cuda_home])])
        bsd_cuda_summary="no (the runtime of $bsd_cuda_home could not be linked; CPU only)"])])
])
AS_IF([test "x$bsd_cuda" = xno && test "x$with_cuda_arch" != xauto],
  [AC_MSG_ERROR([--with-cuda-arch is given but CUDA is not built: $bsd_cuda_summary])])
AC_SUBST([CUDA_CFLAGS])
AC_SUBST([CUDA_LIBS])
AC_SUBST([NVCC_COMPRESS])
AC_SUBST([NVCC_GENCODE_ALL])
AC_SUBST([NVCC_GENCODE_SM80])
AC_SUBST([NVCC_GENCODE_SM90])
AM_CONDITIONAL([BSD_WITH_CUDA], [test "x$bsd_cuda" = xyes])
AM_CONDITIONAL([BSD_WITH_SM80], [test "x$NVCC_GENCODE_SM80" != x])
AM_CONDITIONAL([BSD_WITH_SM90], [test "x$NVCC_GENCODE_SM90" != x])
])

# BSD_CUDA_RUNTIME: the runtime beside NVCC, linked statically where that is possible, so that the
# library loads on a machine without CUDA and meets no other version of the runtime in the process.
AC_DEFUN([BSD_CUDA_RUNTIME], [
bsd_cuda_nvcc=`readlink -f "$NVCC" 2>/dev/null || AS_ECHO(["$NVCC"])`
bsd_cuda_home=`AS_DIRNAME(["$bsd_cuda_nvcc"])`
bsd_cuda_home=`AS_DIRNAME(["$bsd_cuda_home"])`
AS_CASE([$with_cuda], [auto|yes], [], [bsd_cuda_home=$with_cuda])
CUDA_CFLAGS="-isystem $bsd_cuda_home/include"
bsd_saved_libs=$LIBS
bsd_saved_cppflags=$CPPFLAGS
CPPFLAGS="$CPPFLAGS $CUDA_CFLAGS"
for bsd_runtime in "-lcudart_static -lrt -lpthread -ldl" "-lcudart"
do
  for bsd_lib in lib64 lib lib/x86_64-linux-gnu targets/x86_64-linux/lib
  do
    CUDA_LIBS="-L$bsd_cuda_home/$bsd_lib $bsd_runtime -lstdc++"
    AC_MSG_CHECKING([for the CUDA runtime in $CUDA_LIBS])
    LIBS="$CUDA_LIBS $bsd_saved_libs"
    AC_LINK_IFELSE([AC_LANG_PROGRAM([[#include <cuda_runtime_api.h>]],
      [[int n; return cudaGetDeviceCount(&n) != cudaSuccess;]])], [bsd_cuda=yes])
    AC_MSG_RESULT([$bsd_cuda])
    AS_IF([test "x$bsd_cuda" = xyes], [break 2])
  done
done
LIBS=$bsd_saved_libs
CPPFLAGS=$bsd_saved_cppflags
])

# BSD_CUDA_ARCHITECTURES: which of the list NVCC can build, and the flags for each folder.
AC_DEFUN([BSD_CUDA_ARCHITECTURES], [
AS_IF([test "x$with_cuda_arch" = xauto || test "x$with_cuda_arch" = xyes],
  [bsd_wanted="61 75 80 86 89 90a 100 120" bsd_explicit=no],
  [bsd_wanted=`AS_ECHO(["$with_cuda_arch"]) | tr ',;' '  '` bsd_explicit=yes])
AC_MSG_CHECKING([for GPU architectures that $NVCC builds])
bsd_built= bsd_last=
AS_ECHO(["__global__ void kernel() {}"]) > conftest.cu
for bsd_arch in $bsd_wanted
do
  AS_IF(["$NVCC" --dryrun -gencode=arch=compute_$bsd_arch,code=sm_$bsd_arch -c conftest.cu -o conftest.o >/dev/null 2>&1],
    [bsd_built="$bsd_built $bsd_arch"
     NVCC_GENCODE_ALL="$NVCC_GENCODE_ALL -gencode=arch=compute_$bsd_arch,code=sm_$bsd_arch"
     AS_CASE([$bsd_arch],
       [90a], [NVCC_GENCODE_SM90="-gencode=arch=compute_90a,code=sm_90a"],
       [*[[a-z]]], [],
       [bsd_last=$bsd_arch
        AS_IF([test "$bsd_arch" -ge 80],
          [NVCC_GENCODE_SM80="-gencode=arch=compute_80,code=sm_80 -gencode=arch=compute_80,code=compute_80"])])],
    [test "$bsd_explicit" = yes],
    [AC_MSG_RESULT([no])
     AC_MSG_ERROR([--with-cuda-arch: $NVCC cannot build for $bsd_arch])])
done
rm -f conftest.cu conftest.o
AS_IF([test "x$NVCC_GENCODE_SM90" != x],
  [NVCC_GENCODE_SM80="-gencode=arch=compute_80,code=sm_80 -gencode=arch=compute_80,code=compute_80"])
dnl PTX of the last one lets GPUs that come later run simt/.
AS_IF([test "x$bsd_last" != x],
  [NVCC_GENCODE_ALL="$NVCC_GENCODE_ALL -gencode=arch=compute_$bsd_last,code=compute_$bsd_last"])
AC_MSG_RESULT([$bsd_built])
AS_IF([test "x$bsd_built" = x], [AC_MSG_ERROR([$NVCC builds for none of: $bsd_wanted])])
dnl Machine code for many GPUs takes much room; nvcc 12.8 and later compress it well.
AC_MSG_CHECKING([whether $NVCC compresses for size])
AS_ECHO(["__global__ void kernel() {}"]) > conftest.cu
AS_IF(["$NVCC" --compress-mode=size --dryrun -c conftest.cu -o conftest.o >/dev/null 2>&1],
  [NVCC_COMPRESS=--compress-mode=size
   AC_MSG_RESULT([yes])],
  [AC_MSG_RESULT([no])])
rm -f conftest.cu conftest.o
AC_DEFINE([HAVE_CUDA], [1], [the CUDA backend is built])
AS_IF([test "x$NVCC_GENCODE_SM80" != x], [AC_DEFINE([HAVE_SM80], [1], [kernels/cuda/sm80 is built])])
AS_IF([test "x$NVCC_GENCODE_SM90" != x], [AC_DEFINE([HAVE_SM90], [1], [kernels/cuda/sm90 is built])])
bsd_cuda_summary="yes ($NVCC; simt:$bsd_built"
AS_IF([test "x$NVCC_GENCODE_SM80" != x], [bsd_cuda_summary="$bsd_cuda_summary; sm80"])
AS_IF([test "x$NVCC_GENCODE_SM90" != x], [bsd_cuda_summary="$bsd_cuda_summary; sm90"])
bsd_cuda_summary="$bsd_cuda_summary)"
])
