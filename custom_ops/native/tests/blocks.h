// What the blocks of a file mean, element by element, and apart from how the kernels hold them.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "formats.h"

namespace reference {

using namespace native;

// A float16, as IEEE 754 defines it.
inline double from_half(const uint8_t* bytes) {
  const int bits = bytes[0] | bytes[1] << 8, exponent = bits >> 10 & 31, fraction = bits & 1023;
  const double magnitude = exponent == 0    ? std::ldexp(fraction, -24)
                           : exponent < 31  ? std::ldexp(1024 + fraction, exponent - 25)
                           : fraction != 0 ? std::numeric_limits<double>::quiet_NaN()
                                            : std::numeric_limits<double>::infinity();
  return bits >> 15 ? -magnitude : magnitude;
}

// Where the float16s of a block are, in bytes.
inline std::vector<int> halves_of(Encoding encoding) {
  switch (encoding) {
    case Q4_1::encoding:
    case Q5_1::encoding:
    case Q4_K::encoding:
    case Q5_K::encoding: return {0, 2};
    case Q2_K::encoding: return {80, 82};
    case Q3_K::encoding: return {108};
    case Q6_K::encoding: return {208};
    case MXFP4::encoding: return {};
    default: return {0};
  }
}

// 32 values `scale * code + offset * times`, of which each half has its own `times`. Scales of 16 values are in the
// codes.
struct Block {
  double scale = 0, offset = 0;
  int codes[32] = {}, times[2] = {1, 1};

  double value(int i) const { return scale * codes[i]; }
  double offset_of(int i) const { return offset * times[i / 16]; }
};

// Of 32 elements to a block.
inline Block small_block(Encoding encoding, const uint8_t* block) {
  constexpr int e2m1[] = {0, 1, 2, 3, 4, 6, 8, 12}, not_linear[] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                                                    1,    13,   25,  38,  53,  69,  89,  113};
  Block result;
  const std::vector<int> halves = halves_of(encoding);
  result.scale = halves.empty() ? std::ldexp(1.0, block[0] - 128) : from_half(block);
  if (halves.size() > 1) result.offset = from_half(block + 2);
  const bool fifths = encoding == Q5_0::encoding || encoding == Q5_1::encoding;
  const uint8_t* after = block + (halves.empty() ? 1 : 2 * halves.size());
  const uint8_t* codes = after + (fifths ? 4 : 0);
  for (int i = 0; i < 32; ++i) {
    int code = encoding == Q8_0::encoding ? static_cast<int8_t>(codes[i]) : codes[i % 16] >> (i < 16 ? 0 : 4) & 15;
    if (fifths) code += 16 * (after[i / 8] >> (i % 8) & 1);
    if (encoding == Q4_0::encoding) code -= 8;
    if (encoding == Q5_0::encoding) code -= 16;
    if (encoding == IQ4_NL::encoding) code = not_linear[code];
    if (encoding == MXFP4::encoding) code = code < 8 ? e2m1[code] : -e2m1[code - 8];
    if (encoding == IQ4_XS::encoding) code = not_linear[code];
    result.codes[i] = code;
  }
  return result;
}

// Part `part` of a block of 256, 32 elements.
inline Block part_of_large_block(Encoding encoding, const uint8_t* block, int part) {
  Block result;
  // What q4_k and q5_k have of six bits: the scales, then the minimums.
  const auto six_bits = [&](int minimum) {
    const uint8_t* of = block + 4 + 4 * minimum;
    return part < 4 ? of[part] & 63 : (block[8 + part] >> (4 * minimum) & 15) + 16 * (of[part - 4] >> 6);
  };
  const auto nibble = [&](const uint8_t* codes, int i) { return codes[part / 2 * 32 + i] >> (part % 2 * 4) & 15; };
  const auto two_bits = [&](const uint8_t* codes, int i) { return codes[part / 4 * 32 + i] >> (part % 4 * 2) & 3; };
  if (encoding == IQ4_XS::encoding) {
    uint8_t small[18] = {block[0], block[1]};
    std::copy(block + 8 + 16 * part, block + 24 + 16 * part, small + 2);
    result = small_block(encoding, small);
    const int high = (block[2] | block[3] << 8) >> (2 * part) & 3;
    result.scale *= (block[4 + part / 2] >> (part % 2 * 4) & 15) + 16 * high - 32;
    return result;
  }
  const std::vector<int> halves = halves_of(encoding);
  result.scale = from_half(block + halves[0]);
  if (halves.size() > 1) result.offset = -from_half(block + halves[1]);
  for (int half = 0; half < 2; ++half)
    if (encoding == Q2_K::encoding) result.times[half] = block[2 * part + half] >> 4;
  if (encoding == Q4_K::encoding || encoding == Q5_K::encoding) {
    result.scale *= six_bits(0);
    result.offset *= six_bits(1);
  }
  for (int i = 0; i < 32; ++i) {
    const int scale = 2 * part + i / 16;
    int& code = result.codes[i];
    if (encoding == Q4_K::encoding) code = nibble(block + 16, i);
    if (encoding == Q5_K::encoding) code = nibble(block + 48, i) + 16 * (block[16 + i] >> part & 1);
    if (encoding == Q2_K::encoding) code = two_bits(block + 16, i) * (block[scale] & 15);
    if (encoding == Q3_K::encoding) {
      const int low = block[96 + scale % 8] >> (scale < 8 ? 0 : 4) & 15;
      const int high = block[104 + scale % 4] >> (scale / 4 * 2) & 3;
      code = (two_bits(block + 32, i) + 4 * (block[i] >> part & 1) - 4) * (low + 16 * high - 32);
    }
    if (encoding == Q6_K::encoding) {
      const int of_half = part % 4, low = block[64 * (part / 4) + 32 * (of_half % 2) + i] >> (of_half < 2 ? 0 : 4) & 15;
      const int high = block[128 + 32 * (part / 4) + i] >> (2 * of_half) & 3;
      code = (low + 16 * high - 32) * static_cast<int8_t>(block[192 + scale]);
    }
  }
  return result;
}

inline std::vector<Block> row_of(Encoding encoding, const uint8_t* row, int64_t columns) {
  std::vector<Block> blocks;
  const int64_t width = block_columns(encoding), bytes = row_bytes(encoding, width);
  for (int64_t i = 0; i < columns; i += 32) {
    const uint8_t* block = row + i / width * bytes;
    const auto part = static_cast<int>(i % width / 32);
    blocks.push_back(width == 32 ? small_block(encoding, block) : part_of_large_block(encoding, block, part));
  }
  return blocks;
}

}  // namespace reference
