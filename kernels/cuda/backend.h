/* backend.h - the CUDA backend's table, for kernels/select.c. */
#ifndef BSD_CUDA_BACKEND_H
#define BSD_CUDA_BACKEND_H

#include "../kernels.h"

extern const bsd_backend_table bsd_cuda_backend;

#endif
