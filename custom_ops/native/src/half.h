// float16 where the processor may have no instructions for it, and bfloat16.
#pragma once

#include <cstdint>
#include <cstring>

namespace native {

inline float from_half(uint16_t bits) {
  const uint32_t sign = (bits & 0x8000u) << 16, exponent = bits >> 10 & 31, fraction = bits & 0x3ffu;
  const float small = static_cast<float>(fraction) * 0x1p-24f;  // zero and subnormals
  uint32_t wide;
  std::memcpy(&wide, &small, 4);
  if (exponent != 0) wide = (exponent == 31 ? 255u : exponent + 112) << 23 | fraction << 13;
  wide |= sign;
  float value;
  std::memcpy(&value, &wide, 4);
  return value;
}

// The upper half of a float.
inline float from_bfloat(uint16_t bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &wide, 4);
  return value;
}

}  // namespace native
