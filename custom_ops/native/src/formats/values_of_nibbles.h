// Codes of four bits that stand for values of a table; low nibbles are elements 0 to 15 of 32.
#pragma once

#include "block.h"

namespace native {
namespace {

using NibbleValues = int8_t[16];

// The same as the kernels multiply signed codes, with something added.
struct Lookup {
  uint8_t bytes[16];
};
constexpr Lookup lookup_of(const NibbleValues& values, int offset) {
  Lookup result{};
  for (int i = 0; i < 16; ++i) result.bytes[i] = static_cast<uint8_t>(values[i] + offset);
  return result;
}

// Of iq4_nl and iq4_xs.
constexpr NibbleValues kNotLinear = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

inline void decode_nibbles(const uint8_t (&codes)[16], const NibbleValues& table, float scale, float* values) {
  for (int i = 0; i < 16; ++i) {
    values[i] = scale * static_cast<float>(table[codes[i] & 15]);
    values[i + 16] = scale * static_cast<float>(table[codes[i] >> 4]);
  }
}

// dots = a block's values * its activations
template <class S>
inline NATIVE_INLINED void dot_values(typename S::Dots& dots, const NibbleValues& table, const CodeLine (&lines)[4],
                                      Reading reading, const typename S::Tokens& x, int b) {
  const Lookup lookup = lookup_of(table, S::code_offset);
  S::for_each([&](int g, int t) NATIVE_INLINED { dots[g][t] = S::I32::all(x.sums(b)[t] * (S::code_offset / 8)); });
  S::template for_each_line<4>([&](int j) NATIVE_INLINED {
    typename S::Codes low[S::groups], high[S::groups];
    for (int g = 0; g < S::groups; ++g) {
      const auto line = S::load_line(lines[j] + g * reading.stride, reading);
      low[g] = look_up(lookup.bytes, low_nibbles(line));
      high[g] = look_up(lookup.bytes, high_nibbles(line));
    }
    for (int t = 0; t < S::tokens; ++t) {
      const auto lower = S::Activations::load(x.codes(b, j) + 4 * t);
      for (int g = 0; g < S::groups; ++g) dots[g][t] = dot_signed(dots[g][t], low[g], lower);
    }
    for (int t = 0; t < S::tokens; ++t) {
      const auto upper = S::Activations::load(x.codes(b, j + 4) + 4 * t);
      for (int g = 0; g < S::groups; ++g) dots[g][t] = dot_signed(dots[g][t], high[g], upper);
    }
  });
}

}  // namespace
}  // namespace native
