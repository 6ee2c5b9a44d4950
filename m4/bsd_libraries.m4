# bsd_libraries.m4 - the small libraries: needed ones (BSD_LIBRARY) and Check for the tests.

# BSD_LIBRARY(NAME, PKG-CONFIG MODULE, DEBIAN PACKAGE): NAME_CFLAGS and NAME_LIBS, or an error.
AC_DEFUN([BSD_LIBRARY], [
PKG_CHECK_MODULES([$1], [$2], [],
  [AC_MSG_ERROR([$2 is needed and was not found (Debian and Ubuntu: apt-get install $3)])])
])

# BSD_CHECK: CHECK_CFLAGS, CHECK_LIBS and the conditional BSD_WITH_CHECK.
AC_DEFUN([BSD_CHECK], [
PKG_CHECK_MODULES([CHECK], [check],
  [bsd_check=yes bsd_check_summary="yes (Check)"],
  [bsd_check=no bsd_check_summary="scripts only: Check was not found (check)"])
AM_CONDITIONAL([BSD_WITH_CHECK], [test "x$bsd_check" = xyes])
])
