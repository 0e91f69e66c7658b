// a * b + c, rounded once, where the processor may have no instruction for it.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace native {

inline float fused(float a, float b, float c) {
#ifdef __FP_FAST_FMAF
  return std::fma(a, b, c);
#else
  // The product is exact in double. The sum is rounded to odd there, so that rounding it to float gives what one
  // rounding would (Boldo and Melquiond 2008, "Emulation of a FMA and correctly rounded sums: proved algorithms using
  // rounding to odd"). Compilers vectorize this, and not a call of the C library for each lane.
  const double product = static_cast<double>(a) * b, sum = product + c, back = sum - product;
  const double error = (product - (sum - back)) + (c - back);
  // Above 0 if the exact sum is farther from 0; not a number, and so neither, if the sum is not finite.
  const double outwards = error * sum;
  int64_t bits;
  std::memcpy(&bits, &sum, 8);
  const int64_t step = static_cast<int64_t>(outwards > 0) - static_cast<int64_t>(outwards < 0);
  bits += bits & 1 ? 0 : step;
  double odd;
  std::memcpy(&odd, &bits, 8);
  return static_cast<float>(odd);
#endif
}

}  // namespace native
