# mpi-environment.sh - sourced by tests/run-mpi and bootstrap: lets the launcher $MPIRUN start more ranks
# than there are cores, as any user. Sets mpi_options.
# shellcheck shell=sh disable=SC2034 # mpi_options is for the script that sources this one

MPIRUN=${MPIRUN-mpirun} # set but empty: a build without MPI
mpi_options=
if "$MPIRUN" --version 2>/dev/null | grep -q 'Open MPI\|OpenRTE\|PRRTE'; then
  mpi_options='--oversubscribe --bind-to none'
  # Waiting ranks give their core away. All are on this host: no TCP, where other jobs may be met.
  # Single-copy transfers and ssh may be missing in containers.
  OMPI_MCA_mpi_yield_when_idle=1
  OMPI_MCA_btl_vader_single_copy_mechanism=none
  OMPI_MCA_plm_rsh_agent=
  OMPI_MCA_btl=^tcp
  OMPI_ALLOW_RUN_AS_ROOT=1
  OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
  PRTE_ALLOW_RUN_AS_ROOT=1
  PRTE_ALLOW_RUN_AS_ROOT_CONFIRM=1
  export OMPI_MCA_mpi_yield_when_idle OMPI_MCA_btl_vader_single_copy_mechanism
  export OMPI_MCA_plm_rsh_agent OMPI_MCA_btl OMPI_ALLOW_RUN_AS_ROOT OMPI_ALLOW_RUN_AS_ROOT_CONFIRM
  export PRTE_ALLOW_RUN_AS_ROOT PRTE_ALLOW_RUN_AS_ROOT_CONFIRM
fi
# hwloc, which Open MPI uses, would look for GPUs on an X display: seconds where "localhost" has no address.
HWLOC_COMPONENTS=${HWLOC_COMPONENTS:--gl}
export HWLOC_COMPONENTS
# Open MPI's own leaks cannot be told apart, since its plugins are gone at the end. The suites without
# MPI judge ours.
ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0
export ASAN_OPTIONS
