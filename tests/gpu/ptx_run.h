/* ptx_run.h - launches a kernel again and again and compares what it writes; for the files of sm80/ and sm90/. */
#ifndef TESTS_GPU_PTX_RUN_H
#define TESTS_GPU_PTX_RUN_H

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <functional>
#include <vector>

#include "ptx_cases.h"

/* Throws unless the call succeeded. */
void ptx_require(cudaError_t status, const char *call);

/* Device memory that holds a copy of host data. */
template <typename T> class ptx_buffer {
public:
  explicit ptx_buffer(const std::vector<T> &host) : bytes_(host.size() * sizeof(T)) {
    ptx_require(cudaMalloc(&data_, bytes_), "cudaMalloc");
    ptx_require(cudaMemcpy(data_, host.data(), bytes_, cudaMemcpyHostToDevice), "cudaMemcpy");
  }
  ptx_buffer(const ptx_buffer &) = delete;
  ptx_buffer &operator=(const ptx_buffer &) = delete;
  ~ptx_buffer() {
    cudaFree(data_);
  }
  T *get() const {
    return data_;
  }
  size_t bytes() const {
    return bytes_;
  }

private:
  T *data_ = nullptr;
  size_t bytes_;
};

/* Calls `launch` PTX_LAUNCHES times with an output of expected.size() floats, all NaN before each launch. An
 * element is right if it is within `tolerance` times the expected value, or if both are NaN: not written. */
ptx_report ptx_run(const std::vector<float> &expected, const std::function<void(float *)> &launch,
                   double tolerance = 0);

/* The report of `body`, or of the exception that left it. */
ptx_report ptx_guard(const std::function<ptx_report()> &body);

/* Small integers from -most to most, the same for the same seed. */
std::vector<float> ptx_integers(size_t count, int most, unsigned seed);

template <typename T> std::vector<T> ptx_narrow(const std::vector<float> &values) {
  std::vector<T> narrow;
  for (float v : values)
    narrow.push_back(T(v));
  return narrow;
}

/* [rows][columns] = a [rows][depth] times b [depth][columns]. */
std::vector<float> ptx_multiply_matrices(const std::vector<float> &a, const std::vector<float> &b,
                                         int rows, int depth, int columns);
std::vector<float> ptx_transpose(const std::vector<float> &a, int rows, int columns);

#endif
