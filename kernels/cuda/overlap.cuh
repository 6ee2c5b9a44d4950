/* overlap.cuh - programmatic dependent launch, for kernels that are launched with bsd_cuda_grid.after_previous.
 *
 * Such a kernel may start before the one before it ends. Below compute capability 9.0 there is no such launch, and
 * nothing here does anything. */
#ifndef BSD_CUDA_OVERLAP_CUH
#define BSD_CUDA_OVERLAP_CUH

/* Until the kernel before this one, if this one was launched to overlap with it, has ended and its writes are
 * visible. */
static __device__ __forceinline__ void bsd_grid_wait() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/* A kernel launched to overlap with this one may take free places once all CTAs have come here. */
static __device__ __forceinline__ void bsd_grid_launch_next() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

#endif
