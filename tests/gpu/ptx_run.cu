/* ptx_run.cu - launches a kernel again and again and compares what it writes. See ptx_run.h. */
#include "ptx_run.h"

#include <cmath>
#include <cstdio>
#include <limits>
#include <stdexcept>
#include <string>

void ptx_require(cudaError_t status, const char *call) {
  if (status != cudaSuccess)
    throw std::runtime_error(std::string(call) + ": " + cudaGetErrorString(status));
}

static __global__ void count_unequal(const uint32_t *x, const uint32_t *y, size_t count,
                                     unsigned long long *unequal) {
  for (size_t i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x)
    if (x[i] != y[i])
      atomicAdd(unequal, 1ull);
}

static void compare(const std::vector<float> &found, const std::vector<float> &expected,
                    double tolerance, ptx_report *report) {
  for (size_t i = 0; i < expected.size(); i++) {
    const double x = found[i], y = expected[i];
    const bool right =
        std::isnan(y) ? std::isnan(x) : x == y || std::fabs(x - y) <= tolerance * std::fabs(y);
    if (right)
      continue;
    if (report->wrong++ == 0) {
      report->first = static_cast<int64_t>(i);
      report->found = x;
      report->expected = y;
    }
  }
}

ptx_report ptx_run(const std::vector<float> &expected, const std::function<void(float *)> &launch,
                   double tolerance) {
  ptx_report report = {};
  const std::vector<float> nothing(expected.size(), std::numeric_limits<float>::quiet_NaN());
  const ptx_buffer<float> first(nothing), later(nothing);
  const ptx_buffer<unsigned long long> unequal(std::vector<unsigned long long>(1, 0));
  for (int i = 0; i < PTX_LAUNCHES; i++) {
    const ptx_buffer<float> &out = i == 0 ? first : later;
    ptx_require(cudaMemsetAsync(out.get(), 0xff, out.bytes()), "cudaMemsetAsync");
    launch(out.get());
    ptx_require(cudaGetLastError(), "launch");
    if (i > 0)
      count_unequal<<<32, 256>>>(reinterpret_cast<const uint32_t *>(first.get()),
                                 reinterpret_cast<const uint32_t *>(later.get()), expected.size(),
                                 unequal.get());
  }
  std::vector<float> found(expected.size());
  unsigned long long count = 0;
  ptx_require(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  ptx_require(cudaMemcpy(found.data(), first.get(), first.bytes(), cudaMemcpyDeviceToHost),
              "cudaMemcpy");
  ptx_require(cudaMemcpy(&count, unequal.get(), sizeof count, cudaMemcpyDeviceToHost),
              "cudaMemcpy");
  compare(found, expected, tolerance, &report);
  report.unequal = static_cast<int64_t>(count);
  return report;
}

ptx_report ptx_guard(const std::function<ptx_report()> &body) {
  try {
    return body();
  } catch (const std::exception &problem) {
    ptx_report report = {};
    std::snprintf(report.failure, sizeof report.failure, "%s", problem.what());
    return report;
  }
}

std::vector<float> ptx_integers(size_t count, int most, unsigned seed) {
  std::vector<float> values;
  uint32_t state = 2654435761u * (seed + 1);
  for (size_t i = 0; i < count; i++) {
    state = state * 1664525u + 1013904223u;
    values.push_back(static_cast<float>(static_cast<int>((state >> 8) % (2 * most + 1)) - most));
  }
  return values;
}

std::vector<float> ptx_multiply_matrices(const std::vector<float> &a, const std::vector<float> &b,
                                         int rows, int depth, int columns) {
  std::vector<float> product(static_cast<size_t>(rows) * columns, 0);
  for (int i = 0; i < rows; i++)
    for (int k = 0; k < depth; k++)
      for (int j = 0; j < columns; j++)
        product[i * columns + j] += a[i * depth + k] * b[k * columns + j];
  return product;
}

std::vector<float> ptx_transpose(const std::vector<float> &a, int rows, int columns) {
  std::vector<float> turned(a.size());
  for (int i = 0; i < rows; i++)
    for (int j = 0; j < columns; j++)
      turned[j * rows + i] = a[i * columns + j];
  return turned;
}
