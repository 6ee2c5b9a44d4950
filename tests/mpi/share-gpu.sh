#!/bin/sh
# share-gpu.sh - runs one rank's program so that ranks of one host may share a GPU over NCCL. For tests only.
#
# usage: mpirun -np N share-gpu.sh PROGRAM [ARGUMENT...]
#
# NCCL refuses two ranks on one GPU. With a host name of its own each rank takes the others for remote, and
# they talk over sockets. Kernels of one rank and waiting kernels of another must then not need each other:
# the exchange is serialised (BSD_SERIALIZE_EXCHANGE=0 in the environment keeps it as it is).
NCCL_HOSTID=rank${OMPI_COMM_WORLD_RANK:-${PMI_RANK:-0}}
NCCL_SOCKET_IFNAME=${NCCL_SOCKET_IFNAME:-lo}
NCCL_NVLS_ENABLE=0
BSD_SERIALIZE_EXCHANGE=${BSD_SERIALIZE_EXCHANGE:-1}
export NCCL_HOSTID NCCL_SOCKET_IFNAME NCCL_NVLS_ENABLE BSD_SERIALIZE_EXCHANGE
exec "$@"
